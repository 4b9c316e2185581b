//! The settings of a command: variables of the environment first, then the settings of the running stack.

use std::path::Path;

use hongyan::config::Config;
#[cfg(feature = "stack")]
use hongyan_stack::StackError;

/// The servers of the whole service.
const SERVERS: [&str; 3] = ["REDIS_URL", "MYSQL_URL", "KAFKA_BOOTSTRAP_SERVERS"];

/// Finds the value of a variable.
pub(super) type Lookup = Box<dyn Fn(&str) -> Option<String>>;

/// The settings of the stack that runs over `folder`, for a command in another terminal.
pub(super) fn of_running_stack(folder: &Path) -> anyhow::Result<Config> {
    Ok(Config::from_lookup(lookup(folder, &SERVERS)?)?)
}

/// The variables of the environment and of the stack that runs over `folder`. Where the environment names all servers that
/// are needed, such as those of a deployment, no stack has to run.
#[cfg(feature = "stack")]
pub(super) fn lookup(folder: &Path, needed: &[&str]) -> anyhow::Result<Lookup> {
    let env = match hongyan_stack::saved_env(folder) {
        Ok(env) => env,
        Err(StackError::NotUp { .. }) if needed.iter().all(|name| variable(name).is_some()) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    Ok(Box::new(move |name| {
        variable(name).or_else(|| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
    }))
}

/// The variables of the environment: this build knows no stack.
#[cfg(not(feature = "stack"))]
#[expect(clippy::unnecessary_wraps, reason = "the other build may find no stack")]
pub(super) fn lookup(_folder: &Path, _needed: &[&str]) -> anyhow::Result<Lookup> {
    Ok(Box::new(variable))
}

/// The value of an environment variable. An empty value counts as not set.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
