//! The settings of the stack, for `run`, `lambda` and `env`.

use std::path::Path;
use std::process::ExitCode;

use hongyan::config::{Config, ConfigError, Reader};

use crate::cli::settings::variable;
use crate::gateway::GatewayOptions;

/// A value that stands in for one the stack will give.
const STAND_IN: [(&str, &str); 4] = [
    ("REDIS_URL", "redis://127.0.0.1/1"),
    ("MYSQL_URL", "mysql://127.0.0.1/hongyan"),
    ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
    ("JWT_SECRET", "a stand-in of thirty-two characters"),
];

/// The settings of a process that serves with the servers of a stack.
pub(super) struct OfStack {
    pub(super) config: Config,
    pub(super) gateway: GatewayOptions,
}

/// The settings of the environment and of the stack whose servers are in `env`.
pub(super) fn read(env: &[(&'static str, String)]) -> Result<OfStack, ConfigError> {
    let mut reader = Reader::new(|name: &str| {
        variable(name).or_else(|| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone()))
    });
    let settings = OfStack { config: Config::read(&mut reader), gateway: GatewayOptions::read(&mut reader) };
    reader.finish(settings)
}

/// Finds what is wrong with the environment before any server is started.
pub(super) fn check() -> Result<(), ConfigError> {
    let jwks = variable("JWT_JWKS_URL").is_some();
    let mut reader = Reader::new(|name: &str| {
        variable(name).or_else(|| {
            let (_, value) =
                STAND_IN.into_iter().find(|(key, _)| *key == name && !(jwks && name == "JWT_SECRET"))?;
            Some(value.to_owned())
        })
    });
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

/// `env`: `KEY=value` lines, or one object.
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

    #[test]
    fn values_are_quoted_only_where_a_shell_needs_it() {
        assert_eq!(quoted("redis://:pw@127.0.0.1:6379/1"), "redis://:pw@127.0.0.1:6379/1");
        assert_eq!(quoted("mysql://h/d?a=1&b=2"), "'mysql://h/d?a=1&b=2'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
