//! The log of `run`: a copy of its lines in the folder with the data, for `trace`.

use std::path::{Path, PathBuf};

/// The log of the running or last run, and of the run before.
const NAME: &str = "hongyan.log";
const BEFORE: &str = "hongyan.log.1";

/// Begins a log. That of the run before is kept under another name, older ones are not.
#[cfg(feature = "stack")]
pub(super) fn begin(folder: &Path) -> std::io::Result<()> {
    use std::fs::{self, File};

    fs::create_dir_all(folder)?;
    let log = folder.join(NAME);
    if log.exists() {
        fs::rename(&log, folder.join(BEFORE))?;
    }
    hongyan::telemetry::copy_to(File::create(log)?);
    Ok(())
}

/// The logs that are there, older lines first.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    [BEFORE, NAME].map(|name| folder.join(name)).into_iter().filter(|log| log.exists()).collect()
}
