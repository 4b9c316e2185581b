//! The packages of the workspace, from `cargo metadata`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// One package.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Relative to the root of the workspace.
    pub(crate) folder: PathBuf,
    /// The root file of each target (library, binary, test), relative to the root of the workspace.
    pub(crate) roots: Vec<PathBuf>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One dependency of a package: normal, for tests, or for the build script.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) optional: bool,
}

impl Package {
    pub(crate) fn is_function(&self) -> bool {
        self.folder.starts_with("functions")
    }
}

impl Dependency {
    /// The name of the dependency in Rust paths.
    pub(crate) fn crate_name(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// All packages of the workspace.
pub(crate) fn all() -> Vec<Package> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--no-deps", "--offline"]).current_dir(workspace());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let path = |value: &Value| PathBuf::from(text(value)).strip_prefix(workspace()).unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter().map(|package| Package {
        name: text(&package["name"]),
        folder: path(&package["manifest_path"]).parent().unwrap().to_owned(),
        roots: package["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|target| path(&target["src_path"]))
            .collect(),
        dependencies: package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| Dependency { name: text(&line["name"]), optional: line["optional"] == true })
            .collect(),
    });
    packages.collect()
}

/// The text of a file of the workspace, if there is such a file.
pub(crate) fn text(path: &Path) -> Option<String> {
    fs::read_to_string(workspace().join(path)).ok()
}

/// Every Rust file below a folder, relative to the root of the workspace.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![workspace().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path.strip_prefix(workspace()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
