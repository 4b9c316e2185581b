//! Every name in the code that a symbol in backticks may refer to.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::comments::{Parts, parts};
use crate::source::{Tree, extension};

/// Rust keywords before the name of an item.
const ITEMS: [&str; 9] = ["struct", "enum", "trait", "type", "union", "mod", "fn", "const", "static"];

/// The names of one Rust file.
#[derive(Default)]
struct Source {
    /// The identifiers of its code.
    names: HashSet<String>,
    /// The types and modules that it defines, implements or is.
    owners: HashSet<String>,
    /// Its items, fields, parameters and variables with a type.
    defined: HashSet<String>,
    /// The words of its texts: of texts without spaces all, of prose and SQL those that only a program has.
    texts: HashSet<String>,
}

/// The names of a tree.
pub(crate) struct Vocabulary {
    sources: BTreeMap<String, Source>,
    /// The folder of each crate of the workspace, with those that it may name: itself and its dependencies.
    crates: BTreeMap<String, BTreeSet<String>>,
    /// The names of the workspace's crates, with `_` as in code.
    packages: HashSet<String>,
    /// The names of dependencies, with `_` as in code.
    dependencies: HashSet<String>,
    /// The words of tables, scripts, events, settings files and descriptions.
    data: HashSet<String>,
    /// The words of shell and Python.
    programs: HashSet<String>,
    /// Words with dots and dashes in lower case, from all texts and from the names of files.
    compounds: BTreeSet<String>,
}

/// Where a comment or a page stands: it may use the names of its crate and of those below, or all.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// A comment in this file of Rust.
    Source(&'a str),
    /// A page, or a comment in another language.
    All,
}

impl Vocabulary {
    pub(crate) fn of(tree: &Tree) -> Self {
        let crates = crates(tree);
        let mut all = Self {
            sources: BTreeMap::new(),
            packages: packages(tree),
            dependencies: dependencies(tree),
            crates,
            data: HashSet::new(),
            programs: HashSet::new(),
            compounds: BTreeSet::new(),
        };
        for (path, text) in &tree.0 {
            all.compounds.extend(path.split('/').map(str::to_lowercase));
            match parts(path, text) {
                Some(parts) if extension(path) == "rs" => all.add_source(path, parts),
                Some(parts) => all.add_other(path, &parts.texts),
                None if ["json", "txt"].contains(&extension(path)) => {
                    all.add_other(path, &text.lines().map(str::to_owned).collect::<Vec<_>>());
                }
                None => {}
            }
        }
        all
    }

    fn add_source(&mut self, path: &str, parts: Parts) {
        let mut source = Source::default();
        let tokens = &parts.tokens;
        for (at, token) in tokens.iter().enumerate() {
            let token = token.as_str();
            let next = |ahead: usize| tokens.get(at + ahead).map_or("", String::as_str);
            if ITEMS.contains(&token) {
                source.owners.insert(next(1).to_owned());
            }
            if is_name(token) && next(1) == ":" && next(2) != ":" {
                source.defined.insert(token.to_owned());
            }
            if token == "impl" {
                let header =
                    tokens[at..].iter().take_while(|token| !["{", ";", "where"].contains(&token.as_str()));
                source.owners.extend(header.filter(|token| is_name(token)).cloned());
            }
        }
        source.owners.extend(modules(path));
        source.defined.extend(source.owners.iter().cloned());
        source.names = parts.tokens.into_iter().filter(|token| is_name(token)).collect();
        // The docs test quotes wrong names on purpose.
        let texts = if path.starts_with("tests/tests/docs/") { Vec::new() } else { parts.texts };
        for text in &texts {
            let is_prose = text.contains(char::is_whitespace);
            source.texts.extend(
                words(text).filter(|word| !is_prose || is_of_code(word) || is_loud(word)).map(str::to_owned),
            );
            self.compounds.extend(compounds(text));
        }
        self.sources.insert(path.to_owned(), source);
    }

    fn add_other(&mut self, path: &str, lines: &[String]) {
        for line in lines {
            self.compounds.extend(compounds(line));
            let texts: Vec<&str> = match extension(path) {
                "yaml" | "json" => entries(line),
                _ => vec![line],
            };
            let of_code = words(line).filter(|word| is_of_code(word)).map(str::to_owned);
            let plain = texts.into_iter().flat_map(words).map(str::to_owned);
            let is_data = ["sql", "lua", "yaml", "json", "toml", "conf", "cnf", "properties", "xml"]
                .contains(&extension(path));
            let set = if is_data { &mut self.data } else { &mut self.programs };
            set.extend(of_code.chain(plain));
        }
    }

    /// The sources whose names may be used there.
    fn visible<'a>(&'a self, scope: Scope<'a>) -> impl Iterator<Item = (&'a String, &'a Source)> {
        let seen = match scope {
            Scope::Source(path) => self.crate_of(path).and_then(|folder| self.crates.get(folder)),
            Scope::All => None,
        };
        self.sources.iter().filter(move |(path, _)| {
            seen.is_none_or(|seen| self.crate_of(path).is_some_and(|folder| seen.contains(folder)))
        })
    }

    /// The folder of the crate that a file belongs to.
    fn crate_of(&self, path: &str) -> Option<&str> {
        let folders = self.crates.keys().map(String::as_str);
        folders
            .filter(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
            .max_by_key(|folder| folder.len())
    }

    /// True if the code has this name, as far as `scope` may use it.
    pub(crate) fn has_word(&self, word: &str, scope: Scope<'_>) -> bool {
        let in_rust = match scope {
            Scope::Source(file) => {
                // A common word is some variable's name in every crate, and says nothing there.
                let is_common = !word.contains(|char: char| char == '_' || char.is_ascii_uppercase());
                let own = self.crate_of(file);
                let defines = |(path, source): (&String, &Source)| {
                    source.defined.contains(word) && (!is_common || self.crate_of(path) == own)
                };
                self.sources.get(file).is_some_and(|source| source.names.contains(word))
                    || self.visible(scope).any(defines)
            }
            Scope::All => self.sources.values().any(|source| source.names.contains(word)),
        };
        in_rust
            || self.sources.values().any(|source| source.texts.contains(word))
            || self.data.contains(word)
            || self.dependencies.contains(word)
            || self.packages.contains(word)
            || ((matches!(scope, Scope::All) || is_of_code(word)) && self.programs.contains(word))
    }

    /// True if a name begins with this word, which ends with `_`, or ends with this word, which begins with `_`.
    pub(crate) fn has_part(&self, part: &str) -> bool {
        let rust = self.sources.values().flat_map(|source| source.names.iter().chain(&source.texts));
        let mut all = rust.chain(&self.data).chain(&self.programs);
        all.any(|name| match part.strip_suffix('_') {
            Some(_) => name.starts_with(part),
            None => name.ends_with(part),
        })
    }

    /// True if a path of Rust leads to a name: a file that defines the owner has the member.
    pub(crate) fn has_path(&self, path: &[&str], scope: Scope<'_>) -> bool {
        let of_file = |name: &str| match scope {
            Scope::Source(file) => self.sources.get(file).is_some_and(|source| source.names.contains(name)),
            Scope::All => false,
        };
        match path {
            [] | ["std" | "core" | "alloc", ..] => true,
            [first, rest @ ..] if self.packages.contains(*first) => self.has_path(rest, Scope::All),
            [first, ..] if self.dependencies.contains(*first) => true,
            ["Self", rest @ ..] => rest.iter().all(|name| of_file(name)),
            ["self" | "super" | "crate", rest @ ..] => self.has_path(rest, scope),
            [name] => self
                .visible(scope)
                .any(|(_, source)| source.names.contains(*name) || source.owners.contains(*name)),
            [.., owner, member] => self.visible(scope).any(|(_, source)| {
                source.owners.contains(*owner)
                    && (source.names.contains(*member) || source.owners.contains(*member))
            }),
        }
    }

    /// True if a word with dots or dashes is anywhere. One that ends with `…` or `*` may be the beginning of another, and one
    /// that ends with a number an example of the word without the number.
    pub(crate) fn has_compound(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        let unnumbered = word.trim_end_matches(|char: char| char.is_ascii_digit()).trim_end_matches('-');
        if self.compounds.contains(unnumbered) {
            return true;
        }
        match word.strip_suffix(['…', '*']) {
            Some(start) => {
                self.compounds.range(start.to_owned()..).next().is_some_and(|next| next.starts_with(start))
            }
            None => self.compounds.contains(&word),
        }
    }
}

/// True for an identifier.
pub(crate) fn is_name(word: &str) -> bool {
    word.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
        && word.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

/// True for a word that only a program can have: with `_`, or with a capital after a small letter.
pub(crate) fn is_of_code(word: &str) -> bool {
    let small = word.find(|char: char| char.is_ascii_lowercase());
    is_name(word)
        && (word.trim_matches('_').contains('_')
            || small.is_some_and(|at| word[at..].contains(|char: char| char.is_ascii_uppercase())))
}

/// True for a word of SQL or of a protocol: `VALUES`.
fn is_loud(word: &str) -> bool {
    word.len() > 1 && !word.contains(|char: char| char.is_ascii_lowercase())
}

/// The identifiers in a text.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_').filter(|word| is_name(word))
}

/// The words with dots or dashes in a text, and their parts between dots, in lower case.
fn compounds(text: &str) -> Vec<String> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
    let words = text.split(|char: char| !is_part(char)).map(|word| word.trim_matches(['-', '.']));
    let parts = words.clone().flat_map(|word| word.split('.'));
    words.chain(parts).filter(|word| word.contains(['-', '.'])).map(str::to_lowercase).collect()
}

/// The keys and the values without spaces of a line of YAML or JSON. The others are prose.
fn entries(line: &str) -> Vec<&str> {
    let mut entries = Vec::new();
    for (at, piece) in line.split('"').enumerate() {
        let is_quoted = at % 2 == 1;
        let is_list = !is_quoted && piece.contains(['{', '[']);
        for item in piece.split(|char: char| is_list && "{}[],".contains(char)) {
            let item = item.trim().trim_start_matches("- ").trim_end_matches(':');
            entries.extend(item.split(": ").filter(|word| !word.contains(' ')));
        }
    }
    entries
}

/// The modules that a file stands for: itself, and the folders of its crate above.
fn modules(path: &str) -> Vec<String> {
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    let start = parts.iter().rposition(|part| ["src", "tests"].contains(part)).map_or(0, |at| at + 1);
    let folder = parts[..start.max(1) - 1].last().map(|folder| (*folder).replace('-', "_"));
    parts[start..].iter().map(|part| (*part).to_owned()).chain(folder).collect()
}

/// The crates of the workspace that one names as dependencies, itself and theirs among them.
fn crates(tree: &Tree) -> BTreeMap<String, BTreeSet<String>> {
    let manifests = tree.0.iter().filter_map(|(path, text)| Some((path.strip_suffix("/Cargo.toml")?, text)));
    let manifests: BTreeMap<&str, &String> = manifests.collect();
    let folders: BTreeMap<&str, &str> = tree
        .0
        .get("Cargo.toml")
        .map(|root| {
            root.lines()
                .filter_map(|line| Some((line.split_once(" = { path = \"")?.0, line.split('"').nth(1)?)))
                .collect()
        })
        .unwrap_or_default();
    let direct = |folder: &str| -> Vec<&str> {
        let names = manifests.get(folder).into_iter().flat_map(|text| text.lines());
        let names = names.filter_map(|line| line.split(['.', ' ', '=']).next());
        names.filter_map(|name| folders.get(name).copied()).collect()
    };
    let mut crates = BTreeMap::new();
    for folder in manifests.keys() {
        let mut seen = BTreeSet::new();
        let mut next = vec![*folder];
        while let Some(folder) = next.pop() {
            if seen.insert(folder.to_owned()) {
                next.extend(direct(folder));
            }
        }
        crates.insert((*folder).to_owned(), seen);
    }
    crates
}

/// The names of the crates of the workspace, with `_` for `-`.
fn packages(tree: &Tree) -> HashSet<String> {
    let manifests = tree.0.iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
    let names =
        manifests.flat_map(|(_, text)| text.lines()).filter_map(|line| line.strip_prefix("name = \""));
    names.map(|name| name.trim_end_matches('"').replace('-', "_")).collect()
}

/// The dependencies that are not crates of the workspace, with `_` for `-`.
fn dependencies(tree: &Tree) -> HashSet<String> {
    let root = tree.0.get("Cargo.toml").map(String::as_str).unwrap_or_default();
    let table = root.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let lines = table.lines().take_while(|line| !line.starts_with('['));
    let foreign = lines.filter(|line| !line.contains("path = "));
    foreign.filter_map(|line| Some(line.split_once(" = ")?.0.replace('-', "_"))).collect()
}
