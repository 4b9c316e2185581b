//! The files of the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The text of each file by its path from the root, with `/` between folders. Samples of tests are trees as well.
#[derive(Default)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, String>);

impl Tree {
    /// Every file of the repository.
    pub(crate) fn of_repository() -> Self {
        let text = |path: PathBuf| {
            let bytes =
                fs::read(root().join(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.to_str().unwrap().to_owned(), String::from_utf8_lossy(&bytes).into_owned())
        };
        Self(files().into_iter().map(text).collect())
    }

    /// A tree of these files.
    pub(crate) fn sample<const N: usize>(files: [(&str, &str); N]) -> Self {
        Self(files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect())
    }

    /// The pages: every `.md` file.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        files.filter(|(path, _)| extension(path) == "md")
    }

    /// True if a file or a folder of the repository has this path, or a path that ends with it.
    pub(crate) fn has(&self, end: &str) -> bool {
        let end = end.trim_matches('/');
        self.0.keys().any(|path| {
            let starts = path.match_indices(end).map(|(start, _)| start);
            starts.into_iter().any(|start| {
                let after = path.as_bytes().get(start + end.len());
                (start == 0 || path.as_bytes()[start - 1] == b'/') && matches!(after, None | Some(b'/'))
            })
        })
    }

    /// The pages that a name stands for: the file itself, seen from the root or from the folder of the file that names
    /// it, and otherwise all whose path ends with the name.
    pub(crate) fn named<'a>(&'a self, name: &str, from: &str) -> Vec<(&'a str, &'a str)> {
        let exact = [name.to_owned(), resolved(from, name)];
        if let Some((path, text)) = exact.iter().find_map(|path| self.0.get_key_value(path)) {
            return vec![(path, text)];
        }
        let end = format!("/{name}");
        let files = self.0.iter().filter(|(path, _)| path.ends_with(&end));
        files.map(|(path, text)| (path.as_str(), text.as_str())).collect()
    }
}

/// The path that a relative link of the file `from` leads to.
pub(crate) fn resolved(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The end of a file's name, without the dot; empty for `dev` and `.gitignore`.
pub(crate) fn extension(path: &str) -> &str {
    Path::new(path).extension().and_then(|end| end.to_str()).unwrap_or_default()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file, as a path from the root: as Git lists them, new ones with them, or by a walk where the sources were
/// unpacked without Git.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut files = if root().join(".git").exists() { listed() } else { walked() };
    files.sort();
    files
}

/// The files that Git knows or would add. Where there is no Git, or it refuses the folder because somebody else owns it, as in
/// a container, the walk finds the same files.
fn listed() -> Vec<PathBuf> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(list).current_dir(root()).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        return walked();
    };
    let names = String::from_utf8(output.stdout).unwrap();
    // A file that was deleted and not committed yet is still listed.
    names.split_terminator('\0').map(PathBuf::from).filter(|path| root().join(path).is_file()).collect()
}

/// The files of all folders but Git's own and those that `.gitignore` names.
fn walked() -> Vec<PathBuf> {
    let ignored = read(".gitignore");
    let ignored: Vec<PathBuf> = ignored.lines().map(|line| root().join(line.trim_matches('/'))).collect();
    let mut folders = vec![root()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let ours = entry.file_name() != ".git" && !ignored.contains(&entry.path());
            match entry.file_type().unwrap() {
                kind if kind.is_dir() && ours => folders.push(entry.path()),
                kind if kind.is_file() && ours => {
                    files.push(entry.path().strip_prefix(root()).unwrap().to_owned());
                }
                _ => {}
            }
        }
    }
    files
}

/// The files below `folder`, as paths from the root.
pub(crate) fn files_below(folder: &str) -> Vec<PathBuf> {
    files().into_iter().filter(|path| path.starts_with(folder)).collect()
}

#[test]
fn without_git_the_same_files_are_found() {
    let walked = walked();
    let missed: Vec<_> = files().into_iter().filter(|path| !walked.contains(path)).collect();
    assert!(missed.is_empty(), "the walk misses {missed:?}");
    let foreign =
        walked.iter().find(|path| ["target", ".git", ".local"].iter().any(|folder| path.starts_with(folder)));
    assert_eq!(foreign, None, "the walk enters a folder that is not ours");
}

#[test]
fn a_link_is_resolved_from_the_folder_of_its_page() {
    assert_eq!(resolved("docs/decisions/0001-a.md", "../model.md"), "docs/model.md");
    assert_eq!(resolved("README.md", "docs/"), "docs");
    assert_eq!(resolved("docs/a.md", "../../outside.md"), "../outside.md");
}

#[test]
fn a_name_is_a_whole_part_of_a_path() {
    let tree = Tree::sample([("shared/src/cache.rs", ""), ("docs/model.md", "")]);
    assert!(tree.has("cache.rs") && tree.has("src/cache.rs") && tree.has("shared/src/") && tree.has("docs"));
    assert!(!tree.has("ache.rs") && !tree.has("shared/sr") && !tree.has("cache"));
}
