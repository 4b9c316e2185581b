//! The settings of a command: variables of the environment first, then the settings of the running stack.

use std::path::Path;

use hongyan::config::{Config, ConfigError};
#[cfg(feature = "stack")]
use hongyan_stack::StackError;

/// The settings for a process that uses the servers of `env`. Variables of the environment come first.
pub(super) fn read<K: AsRef<str>>(env: &[(K, String)]) -> Result<Config, ConfigError> {
    Config::from_lookup(|name| {
        variable(name)
            .or_else(|| env.iter().find(|(key, _)| key.as_ref() == name).map(|(_, value)| value.clone()))
    })
}

/// The settings of the stack that runs over `folder`, for a command in another terminal. If the environment names all
/// three servers, as in a deployment, no stack needs to run.
#[cfg(feature = "stack")]
pub(super) fn of_running_stack(folder: &Path) -> anyhow::Result<Config> {
    let named =
        ["REDIS_URL", "MYSQL_URL", "KAFKA_BOOTSTRAP_SERVERS"].map(variable).iter().all(Option::is_some);
    match hongyan_stack::saved_env(folder) {
        Ok(env) => Ok(read(&env)?),
        Err(StackError::NotUp { .. }) if named => Ok(read::<&str>(&[])?),
        Err(error) => Err(error.into()),
    }
}

/// The settings of the environment alone: this build was made without the feature `stack`.
#[cfg(not(feature = "stack"))]
pub(super) fn of_running_stack(_folder: &Path) -> anyhow::Result<Config> {
    Ok(read::<&str>(&[])?)
}

/// The value of an environment variable. An empty value counts as not set.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
