//! The settings of the stack, for `run`, `lambda` and `env`.

use std::path::Path;
use std::process::ExitCode;

use hongyan::config::{Config, ConfigError, minimal};

use crate::cli::settings::variable;

/// Reports faults in the environment's settings before any server is started.
pub(super) fn check() -> Result<(), ConfigError> {
    let jwks = variable("JWT_JWKS_URL").is_some();
    // The minimal settings stand in for those that only a running stack can give.
    let stand_in = |name: &str| minimal(name).filter(|_| !(jwks && name == "JWT_SECRET"));
    Config::from_lookup(|name| variable(name).or_else(|| stand_in(name))).map(drop)
}

/// The variables that functions in processes of their own need besides the environment of this process: the servers
/// of `env`, and the address for pushes.
pub(super) fn of_functions(env: &[(&'static str, String)], endpoint: &str) -> Vec<(String, String)> {
    let pushes = [("PUSH_ENDPOINT", endpoint.to_owned())];
    let missing = env.iter().chain(&pushes).filter(|(name, _)| variable(name).is_none());
    missing.map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// `env`: prints the settings as `KEY=value` lines.
pub(super) fn print(folder: &Path) -> anyhow::Result<ExitCode> {
    for (name, value) in hongyan_stack::saved_env(folder)? {
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
