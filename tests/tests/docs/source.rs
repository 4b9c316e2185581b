//! The files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours.
pub(crate) const NOT_OURS: [&str; 3] = ["target", ".git", ".local"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `folder`, as a path from the root.
pub(crate) fn files_below(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let ours = !NOT_OURS.iter().any(|name| entry.file_name() == *name);
            match entry.file_type().unwrap() {
                kind if kind.is_dir() && ours => folders.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path().strip_prefix(root()).unwrap().to_owned()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

/// README.md, the other pages beside it, and all of docs/.
pub(crate) fn pages() -> Vec<PathBuf> {
    let beside = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(PathBuf::from);
    let docs = files_below("docs").into_iter().filter(|path| path.extension().is_some_and(|end| end == "md"));
    beside.into_iter().chain(docs).collect()
}
