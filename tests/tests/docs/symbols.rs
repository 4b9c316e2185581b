//! Names in backticks, in pages and comments, are names of the code.
//!
//! A text in backticks is one of these, and each has its rule:
//!
//! - A key of Redis: the code makes it.
//! - A method and a route: the description of the API has it.
//! - A path of Rust, as owner and member: a file that defines the owner has the member.
//! - One word. In a comment of Rust: the file itself has it as a name; or it is defined as an item, a field or a parameter in
//!   the crate, or in a crate below if it is no common word (it has `_` or a capital). Or it is a whole text of the code,
//!   a setting, a metric, a column, or a key of a script, an event or a settings file. Elsewhere: any file has it.
//! - One word with dots or dashes: a text of the code or the name of a file has it as it is.
//! - Anything else, as a piece of JSON or SQL: any file has those of its words that only a program can have.
//!
//! Files, folders and commands of `./dev` have checks of their own.

use std::collections::BTreeSet;

use crate::comments::parts;
use crate::markdown::Page;
use crate::openapi::operations;
use crate::source::{Tree, extension};
use crate::vocabulary::{Scope, Vocabulary, is_name, is_of_code, words};

/// Names that pages and comments need and that our code does not have, by the reason.
const FOREIGN: [(&str, &[&str]); 9] = [
    (
        "a crate or a program that a decision did not choose",
        &[
            "aws-msk-iam-sasl-signer",
            "comrak",
            "fred",
            "lychee",
            "metrics_cloudwatch_embedded",
            "mysql_async",
            "rskafka",
        ],
    ),
    (
        "a key that older versions made: the decisions and the updates tell of it",
        &["msg:memories", "msg:memory-since", "msg:unread-complete:*", "msg:unread-complete:{userId}"],
    ),
    (
        "of AWS",
        &[
            "AmazonMSK_",
            "DELETE /@connections/{id}",
            "LastProcessingResult",
            "POST /@connections/{id}",
            "delete-function-concurrency",
            "kafka.REGION.amazonaws.com",
            "topic-partition",
        ],
    ),
    ("an option of Cargo, Docker and SAM", &["--env-file", "--guided"]),
    ("headers of HTTP", &["Location", "Vary"]),
    ("of Java, which other services are written in", &["Math.abs", "String.hashCode", "hashCode"]),
    (
        "of Redis, MySQL and the system",
        &["TCP_NODELAY", "WATCH", "allkeys-lru", "cjson", "max_prepared_stmt_count", "run_id"],
    ),
    ("of Rust's standard library", &["AsyncFn"]),
    ("made of a setting's default", &["im-message-dead-letter-redrive"]),
];

/// Programs whose commands the pages mention. The words of such a command belong to the program.
const PROGRAMS: [&str; 10] =
    ["aws", "cargo", "docker", "git", "kill", "mysql", "redis-cli", "sam", "systemctl", "websocat"];

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"];

/// All that a text in backticks may name.
struct Names {
    vocabulary: Vocabulary,
    /// `METHOD /path`, without the names of parameters.
    routes: BTreeSet<String>,
    /// Without the names of their variable parts.
    keys: BTreeSet<String>,
}

impl Names {
    /// The names in a text in backticks that nothing has.
    fn unknown<'a>(&self, code: &'a str, scope: Scope<'_>) -> Vec<&'a str> {
        let code = code.trim();
        let first = code.split(' ').next().unwrap_or_default();
        let bare = code.trim_start_matches(['-', '$', '@', '\'', '!']).trim_end_matches(['(', ')', '!']);
        let path: Vec<&str> = bare.split("::").collect();
        let is_known = if METHODS.contains(&first) && code.contains(['/', '…']) {
            self.has_route(first, code[first.len()..].trim())
        } else if PROGRAMS.contains(&first) && code != first {
            true
        } else if code.contains("msg:") {
            let words = code.split_whitespace().map(|word| word.trim_matches(['"', ',']));
            return words.filter(|word| word.starts_with("msg:") && !self.has_key(word)).collect();
        } else if let Some(part) = part_of(bare) {
            self.vocabulary.has_part(part)
        } else if is_name(bare) {
            self.vocabulary.has_word(bare, scope)
        } else if path.len() > 1 && path.iter().all(|part| is_name(part)) {
            self.vocabulary.has_path(&path, scope)
        } else if is_compound(bare) {
            let fields: Vec<&str> = bare.split('.').collect();
            let is_option =
                code.starts_with("--") && self.vocabulary.has_word(&bare.replace('-', "_"), Scope::All);
            is_option
                || fields.iter().all(|field| is_name(field) && self.vocabulary.has_word(field, scope))
                || self.vocabulary.has_compound(bare)
        } else {
            let is_json = code.starts_with(['{', '"', ',']);
            let keys = code.split('"').skip(1).step_by(2).filter(|key| is_json && is_name(key));
            let names = words(code).filter(|word| is_of_code(word)).chain(keys);
            return names.filter(|name| !self.vocabulary.has_word(name, Scope::All)).collect();
        };
        if is_known { Vec::new() } else { vec![code] }
    }

    fn has_route(&self, method: &str, path: &str) -> bool {
        // Where there is GET, the local runtime answers HEAD.
        let method = if method == "HEAD" { "GET" } else { method };
        let path = shape(path.split('?').next().unwrap_or_default());
        match path.strip_prefix('…') {
            Some(end) => self.routes.iter().any(|route| route.starts_with(method) && route.ends_with(end)),
            None => self.routes.contains(&format!("{method} {path}")),
        }
    }

    /// True for a key that exists. `msg:detail` and `msg:detail:*` stand for all keys that begin so, `msg:detail:7` for one.
    fn has_key(&self, key: &str) -> bool {
        let key = shape(key);
        let start = key.trim_end_matches(['*', ':']);
        let example = key.trim_end_matches(|char: char| char.is_ascii_digit());
        self.keys.contains(&key)
            || self.keys.contains(&format!("{example}{{}}"))
            || self
                .keys
                .iter()
                .any(|known| known.strip_prefix(start).is_some_and(|rest| rest.starts_with(':')))
            || key == "msg:"
    }
}

/// The beginning or the end of a name that a text stands for: `KAFKA_*`, `loose_`, `…_seconds`.
fn part_of(code: &str) -> Option<&str> {
    let part = code.trim_matches(['*', '…']);
    Some(part).filter(|part| is_name(part) && (part.starts_with('_') || part.ends_with('_')))
}

/// True for one word, with dots or dashes or without.
fn is_compound(code: &str) -> bool {
    code.chars().all(|char| char.is_ascii_alphanumeric() || "_-.…*".contains(char))
        && code.starts_with(|char: char| char.is_ascii_alphabetic())
}

/// A key or a route without the names of its variable parts: `msg:detail:{}`.
pub(crate) fn shape(key: &str) -> String {
    let mut shape = String::new();
    let mut inside = false;
    for char in key.chars() {
        inside = (inside || char == '{') && char != '}';
        if !inside || char == '{' {
            shape.push(char);
        }
    }
    shape
}

/// Each text in backticks that has a name which nothing has: its place, the text and the name.
fn unknown(tree: &Tree, names: &Names) -> Vec<(String, String, String)> {
    let mut unknown = Vec::new();
    for (path, text) in &tree.0 {
        let mut look = |first_line: usize, text: &str, scope| {
            let codes = Page::of(text).codes.into_iter().filter(|(_, code)| !is_file(code, tree));
            for (line, code) in codes {
                let place = format!("{path}:{}", first_line + line - 1);
                let found = names.unknown(&code, scope).into_iter();
                unknown.extend(found.map(|name| (place.clone(), code.clone(), name.to_owned())));
            }
        };
        let scope = if extension(path) == "rs" { Scope::Source(path) } else { Scope::All };
        if extension(path) == "md" {
            look(1, text, scope);
        }
        for comment in parts(path, text).unwrap_or_default().comments {
            look(comment.line, &comment.text, scope);
        }
    }
    unknown
}

/// True for the name of a file or a folder that exists.
fn is_file(code: &str, tree: &Tree) -> bool {
    !code.contains(' ') && code.contains(['/', '.']) && tree.has(code)
}

/// The keys of Redis as the code makes them, without the names of their variable parts.
pub(crate) fn redis_keys(tree: &Tree) -> BTreeSet<String> {
    let source = tree.0["shared/src/cache/keys.rs"].split("#[cfg(test)]").next().unwrap();
    let texts = parts("keys.rs", source).unwrap().texts.into_iter().filter(|text| text.starts_with("msg:"));
    // A text that ends with a colon is only the beginning of others.
    texts.filter(|text| !text.ends_with(':')).map(|text| shape(&text)).collect()
}

#[test]
fn every_symbol_exists() {
    let tree = Tree::of_repository();
    let names = Names {
        vocabulary: Vocabulary::of(&tree),
        routes: operations().into_keys().map(|route| shape(&route)).collect(),
        keys: redis_keys(&tree),
    };
    let unknown = unknown(&tree, &names);
    let foreign: Vec<&str> = FOREIGN.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let faults: Vec<String> = unknown
        .iter()
        .filter(|(_, _, name)| !foreign.contains(&name.as_str()))
        .map(|(place, code, name)| format!("{place}: `{code}`: nothing is called {name}"))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let is_needed = |foreign: &str| unknown.iter().any(|(_, _, name)| name == foreign);
    let stale: Vec<_> = foreign.into_iter().filter(|foreign| !is_needed(foreign)).collect();
    assert!(stale.is_empty(), "these exceptions are not needed: {stale:?}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Names, unknown};
    use crate::source::Tree;
    use crate::vocabulary::Vocabulary;

    /// The unknown names of one more file in a small workspace: `runtime` depends on `shared`, and not on `model`.
    fn unknown_in(path: &str, text: &str) -> Vec<String> {
        let mut tree = Tree::sample([
            (
                "Cargo.toml",
                "[workspace.dependencies]\nhongyan = { path = \"shared\" }\nhongyan-model = { path = \"model\" }\nserde-json = \"1\"\n",
            ),
            ("shared/Cargo.toml", "[package]\nname = \"hongyan\"\n"),
            ("model/Cargo.toml", "[package]\nname = \"hongyan-model\"\n"),
            (
                "runtime/Cargo.toml",
                "[package]\nname = \"hongyan-runtime\"\n\n[dependencies]\nhongyan.workspace = true\n",
            ),
            (
                "shared/src/cache.rs",
                "/// Written in `gone_too`.\npub struct Cache { epoch: u64 }\nimpl Cache {\n    pub fn mark_sent(late: bool) {\n        \
                 let step = say(\"cache.send: a gone word\", \"hit\", \"im-topic\");\n    }\n}\n",
            ),
            ("shared/src/other.rs", "fn unrelated() {}\n"),
            ("model/src/lib.rs", "pub fn step() {}\npub fn of_the_model() {}\n"),
            ("migrations/0001_a.sql", "-- gone\nCREATE TABLE message (conv_id BIGINT);\n"),
            ("events/send.json", "{\"clientMsgId\": \"a sentence of words\"}\n"),
            ("deploy/run.sh", "# gone\nARCH_NAME=arm\n"),
        ]);
        tree.0.insert(path.to_owned(), text.to_owned());
        let names = Names {
            vocabulary: Vocabulary::of(&tree),
            routes: BTreeSet::from(["GET /unread".to_owned(), "POST /messages/{}/recall".to_owned()]),
            keys: BTreeSet::from(["msg:detail:{}".to_owned(), "msg:epoch".to_owned()]),
        };
        let found = unknown(&tree, &names).into_iter().filter(|(place, _, _)| place.starts_with(path));
        found.map(|(place, _, name)| format!("{}: {name}", place.rsplit(':').next().unwrap())).collect()
    }

    #[test]
    fn names_that_exist_pass() {
        let good = "# Page\n\n`Cache`, `Cache::mark_sent`, `mark_sent()`, `hongyan::cache`, `std::any::thing`, `serde_json::any`, `late`,\n\
                    `conv_id`, `UNIQUE (conv_id)`, `clientMsgId`, `{\"clientMsgId\":1}`, `ARCH_NAME=x86`, `ARCH_*`, `…_sent`, `hit`,\n\
                    `cache.send`, `im-topic`, `im-topic-3`, `msg:detail:{id}`, `msg:detail:*`, `msg:detail`, `msg:epoch`,\n\
                    `GET /unread`, `HEAD /unread?x=1`, `POST …/recall`, `aws theirs-alone OfTheirs`, `cache.rs`, `shared/src`, `3_5`, `<br>`\n\n\
                    ```text\ngone_too\n```\n";
        assert_eq!(unknown_in("docs/page.md", good), [""; 0]);
        let good = "//! `Cache::mark_sent` of `hongyan::cache`, `super::cache`, `own`, `Self::own`, [`hit`].\nfn own() {}\n";
        assert_eq!(unknown_in("runtime/src/lane.rs", good), [""; 0]);
    }

    #[test]
    fn a_name_that_nothing_has_is_found_in_pages() {
        for name in [
            "gone_too",
            "Gone",
            "gone",
            "sentence",
            "Cache::gone",
            "Cache::unrelated",
            "hongyan::gone",
            "gone.too",
            "im-gone",
            "cache.gone",
            "--gone-too",
            "gone_*",
            "…_gone",
            "msg:gone",
            "msg:detai:{id}",
            "GET /gone",
            "GET …/gone",
            "POST /unread",
        ] {
            assert_eq!(
                unknown_in("docs/page.md", &format!("# Page\n\nA `{name}`.\n")),
                [format!("3: {name}")]
            );
        }
        assert_eq!(unknown_in("docs/page.md", "`INDEX (conv_id, gone_id)`"), ["1: gone_id"]);
        assert_eq!(unknown_in("docs/page.md", "`{\"gone\":1}`"), ["1: gone"]);
    }

    #[test]
    fn a_name_that_nothing_has_is_found_in_comments() {
        for (path, text) in [
            ("shared/src/a.rs", "/// A\n/// `gone_too`."),
            ("shared/src/a.lua", "-- A\n-- `gone_too`."),
            ("migrations/0002_a.sql", "-- A\n-- `gone_too`."),
            ("deploy/a.sh", "# A\n# `gone_too`."),
            ("template.yaml", "# A\n# `gone_too`."),
            ("dev", "#!/bin/sh\n# `gone_too`."),
        ] {
            assert_eq!(unknown_in(path, text), ["2: gone_too"], "{path}");
        }
    }

    #[test]
    fn a_comment_of_rust_names_what_its_crate_can_see() {
        // A function of this name is in another crate, and a variable in a crate below.
        assert_eq!(unknown_in("runtime/src/lane.rs", "//! `step` looks."), ["1: step"]);
        assert_eq!(unknown_in("runtime/src/lane.rs", "//! `of_the_model` looks."), ["1: of_the_model"]);
        assert_eq!(unknown_in("shared/src/b.rs", "//! `Self::mark_sent` looks."), ["1: Self::mark_sent"]);
        assert_eq!(unknown_in("docs/page.md", "`step`, `of_the_model`"), [""; 0]);
    }
}
