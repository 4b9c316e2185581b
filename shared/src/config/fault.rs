//! Wrong settings.

/// Everything that is wrong with the settings, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", faults.join("\n"))]
pub struct ConfigError {
    /// One line for each fault; each begins with the name of its variable.
    pub faults: Vec<String>,
}
