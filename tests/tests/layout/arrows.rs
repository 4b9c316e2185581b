//! Arrows between the files of a crate: the first file uses a name that the second declares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source::{Module, Sources};

/// One file uses names of another.
#[derive(Debug)]
pub(crate) struct Arrow {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
    pub(crate) names: BTreeSet<String>,
}

/// All arrows of a crate. `mod child;` makes no arrow, and neither does `pub use child::Name;`: an arrow leads to the file that
/// declares the name, through any number of files that only re-export it.
pub(crate) fn all(sources: &Sources) -> Vec<Arrow> {
    let mut arrows: BTreeMap<(usize, usize), BTreeSet<String>> = BTreeMap::new();
    for (number, module) in sources.modules.iter().enumerate() {
        let imports = module.imports.iter().filter(|import| !import.public && import.name.is_some());
        for path in imports.map(|import| &import.path).chain(&module.paths) {
            for file in declared_in(sources, number, path) {
                if file != module.file {
                    arrows.entry((module.file, file)).or_default().insert(path.join("::"));
                }
            }
        }
    }
    let path = |file: usize| sources.files[file].path.clone();
    arrows.into_iter().map(|((from, to), names)| Arrow { from: path(from), to: path(to), names }).collect()
}

/// The first names of those paths in a file that lead out of this crate: the names of other crates, among others.
pub(crate) fn outside(sources: &Sources, file: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let modules = sources.modules.iter().enumerate();
    for (number, module) in modules.filter(|(_, module)| sources.files[module.file].path == file) {
        for path in module.imports.iter().map(|import| &import.path).chain(&module.paths) {
            let Some(first) = path.first() else { continue };
            if path.len() > 1 && !is_known(module, first) && declared_in(sources, number, path).is_empty() {
                names.insert(first.clone());
            }
        }
    }
    names
}

fn is_known(module: &Module, name: &str) -> bool {
    matches!(name, "crate" | "self" | "super" | "Self")
        || module.items.contains(name)
        || module.children.contains_key(name)
        || module.imports.iter().any(|import| {
            import.name.as_deref() == Some(name) && import.path.first().is_some_and(|first| first != name)
        })
}

/// The files that declare the item a path in a module leads to. There are several if a type and a function share the name,
/// and none for an item of another crate, for a module, and for a local variable.
fn declared_in(sources: &Sources, module: usize, path: &[String]) -> BTreeSet<usize> {
    let mut search = Search { sources, seen: BTreeSet::new(), files: BTreeSet::new() };
    search.from(module, path);
    search.files
}

struct Search<'a> {
    sources: &'a Sources,
    /// The searches already made: modules may import each other's names.
    seen: BTreeSet<(usize, Vec<String>)>,
    files: BTreeSet<usize>,
}

impl Search<'_> {
    /// Follows a path as it is written in a module.
    fn from(&mut self, module: usize, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        match first.as_str() {
            "crate" => self.within(0, rest),
            "self" => self.within(module, rest),
            "super" => {
                if let Some(parent) = self.sources.modules[module].parent {
                    // `super::super::a`: the second `super` is relative to the parent.
                    if rest.first().is_some_and(|next| next == "super") {
                        self.from(parent, rest);
                    } else {
                        self.within(parent, rest);
                    }
                }
            }
            _ => self.within(module, path),
        }
    }

    /// Follows an import of a module; `rest` is the part of a path after the imported name.
    fn through(&mut self, number: usize, import: &[String], rest: &[String]) {
        let whole: Vec<String> = import.iter().chain(rest).cloned().collect();
        let Some((first, below)) = whole.split_first() else { return };
        if matches!(first.as_str(), "crate" | "self" | "super") {
            self.from(number, &whole);
            return;
        }
        // The first name is a module or an item here, or comes from another import. The name that this import itself brings
        // into the module does not count: `use redis::aio as redis`.
        let module = &self.sources.modules[number];
        if let Some(child) = module.children.get(first) {
            self.within(*child, below);
        } else if module.items.contains(first) {
            self.files.insert(module.file);
        } else {
            let others = module.imports.iter().filter(|other| other.name.as_ref() == Some(first));
            for other in others.filter(|other| other.path.first() != Some(first)) {
                self.through(number, &other.path, below);
            }
        }
    }

    /// Finds the first name of a path among the children, items and imports of a module.
    fn within(&mut self, number: usize, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        if !self.seen.insert((number, path.to_vec())) {
            return;
        }
        let module = &self.sources.modules[number];
        let mut found = false;
        if let Some(child) = module.children.get(first) {
            found = true;
            self.within(*child, rest);
        }
        // More of the path follows, so the name is the name of a module here, though a function may share it.
        if module.items.contains(first) && (rest.is_empty() || !found) {
            found = true;
            self.files.insert(module.file);
        }
        for import in module.imports.iter().filter(|import| import.name.as_ref() == Some(first)) {
            found = true;
            self.through(number, &import.path, rest);
        }
        if !found {
            for import in module.imports.iter().filter(|import| import.name.is_none()) {
                self.through(number, &import.path, path);
            }
        }
    }
}
