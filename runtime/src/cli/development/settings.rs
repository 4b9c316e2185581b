//! The settings of the stack, for `run`, `lambda` and `env`.

use std::path::Path;
use std::process::ExitCode;

use hongyan::config::{Config, ConfigError, Reader, minimal};

use crate::cli::settings::variable;
use crate::gateway::GatewayOptions;

/// The default of `CORS_ORIGINS` in development: the pages of any web server on this machine, such as that of a build tool.
const THIS_MACHINE: &str = "http://localhost:*,http://127.0.0.1:*,http://[::1]:*";

/// The settings of a process that serves with the servers of a stack.
pub(super) struct OfStack {
    pub(super) config: Config,
    pub(super) gateway: GatewayOptions,
}

/// The settings of the environment and of the stack whose servers are in `env`.
pub(super) fn read(env: &[(&'static str, String)]) -> Result<OfStack, ConfigError> {
    let mut reader = Reader::new(|name: &str| {
        let of_stack = || env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        let of_development = || (name == "CORS_ORIGINS").then(|| THIS_MACHINE.to_owned());
        variable(name).or_else(of_stack).or_else(of_development)
    });
    let settings = OfStack { config: Config::read(&mut reader), gateway: GatewayOptions::read(&mut reader) };
    reader.finish(settings)
}

/// Reports faults in the environment's settings before any server is started.
pub(super) fn check() -> Result<(), ConfigError> {
    let jwks = variable("JWT_JWKS_URL").is_some();
    // The minimal settings stand in for those that only a running stack can give.
    let stand_in = |name: &str| minimal(name).filter(|_| !(jwks && name == "JWT_SECRET"));
    let mut reader = Reader::new(|name: &str| variable(name).or_else(|| stand_in(name)));
    Config::read(&mut reader);
    GatewayOptions::read(&mut reader);
    reader.finish(())
}

/// The variables that functions in processes of their own need besides the environment of this process: the servers
/// of `env`, and the address for pushes.
pub(super) fn of_functions(env: &[(&'static str, String)], endpoint: &str) -> Vec<(String, String)> {
    let pushes = [("PUSH_ENDPOINT", endpoint.to_owned())];
    let missing = env.iter().chain(&pushes).filter(|(name, _)| variable(name).is_none());
    missing.map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// `env`: prints the settings as `KEY=value` lines, or as one JSON object.
pub(super) fn print(folder: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let env = hongyan_stack::saved_env(folder)?;
    if json {
        let object = env.into_iter().map(|(name, value)| (name, value.into()));
        println!("{}", serde_json::Value::Object(object.collect()));
        return Ok(ExitCode::SUCCESS);
    }
    for (name, value) in env {
        println!("{name}={}", quoted(&value));
    }
    Ok(ExitCode::SUCCESS)
}

/// Quotes a value only if a shell needs it, so that `--env-file` of Docker, which knows no quotes, can read most
/// lines too.
fn quoted(value: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./:@,%+=".contains(char);
    if value.chars().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::cors::Origins;

    #[test]
    fn pages_of_this_machine_may_call_in_development() {
        assert!(Origins::parse(THIS_MACHINE).is_some());
    }

    #[test]
    fn values_are_quoted_only_where_a_shell_needs_it() {
        assert_eq!(quoted("redis://:pw@127.0.0.1:6379/1"), "redis://:pw@127.0.0.1:6379/1");
        assert_eq!(quoted("mysql://h/d?a=1&b=2"), "'mysql://h/d?a=1&b=2'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
