//! Where the data of this project lies.

use std::path::PathBuf;

use clap::Args;
use hongyan::config::Config;

use super::settings;

/// Where things lie.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The folder with the servers' data, logs and passwords [default: .local at the root of the project]
    #[arg(long, global = true, env = "HONGYAN_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
}

impl Place {
    /// This folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { data: Some(folder.into()) }
    }

    /// The settings of the stack that runs there, where the environment does not say otherwise.
    pub fn settings(&self) -> anyhow::Result<Config> {
        settings::of_running_stack(&self.folder())
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| project().join(".local"))
    }
}

/// The project that this binary was built from; elsewhere (it was moved) the folder one stands in.
pub(super) fn project() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).canonicalize().unwrap_or_default()
}
