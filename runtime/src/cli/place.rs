//! The folder with the data of the servers.

use std::path::PathBuf;

use clap::Args;
use hongyan::config::Config;

use super::settings;

/// The folder with the data of the servers.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The folder with the servers' data, logs and passwords [default: .local at the root of the project]
    #[arg(long, global = true, env = "HONGYAN_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
}

impl Place {
    /// The data is in `folder`.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { data: Some(folder.into()) }
    }

    /// The settings of the stack that runs over this folder. Variables of the environment come first.
    pub fn settings(&self) -> anyhow::Result<Config> {
        settings::of_running_stack(&self.folder())
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| project().join(".local"))
    }
}

/// The root of the project that this binary was built from. If the project has moved, the current folder.
pub(super) fn project() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).canonicalize().unwrap_or_default()
}
