//! The error of wrong settings.

/// All faults of the settings.
#[derive(Debug, thiserror::Error)]
#[error("{}", faults.join("\n"))]
pub struct ConfigError {
    /// One line for each fault; a line begins with the name of its variable.
    pub faults: Vec<String>,
}
