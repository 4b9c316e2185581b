//! The pages and the code say the same: settings, Redis keys, routes, metrics, log lines, commands, files and links.
//! Needs no server.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: what cannot be read ends the test")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hongyan::config::Config;
use hongyan::{secret, telemetry::metric};

#[path = "docs/openapi.rs"]
mod openapi;

/// Folders that hold nothing of ours.
const NOT_OURS: [&str; 3] = ["target", ".git", ".local"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `folder`, as a path from the root.
fn files_below(folder: &str) -> Vec<PathBuf> {
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

/// README.md and all of docs/.
fn pages() -> Vec<PathBuf> {
    let docs = files_below("docs").into_iter().filter(|path| path.extension().is_some_and(|end| end == "md"));
    std::iter::once(PathBuf::from("README.md")).chain(docs).collect()
}

/// The part of a page under `heading`, up to the next one of its rank.
fn section(page: &str, heading: &str) -> String {
    let rank = heading.chars().take_while(|char| *char == '#').count();
    let ends = |line: &str| line.starts_with('#') && line.find(' ').is_some_and(|hashes| hashes <= rank);
    let lines: Vec<&str> =
        page.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !ends(line)).collect();
    assert!(!lines.is_empty(), "there is no part {heading:?}");
    lines.join("\n")
}

/// The page without what lies between lines of three backticks.
fn without_blocks(page: &str) -> String {
    let mut inside = false;
    let prose = page.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    prose.collect::<Vec<_>>().join("\n")
}

/// What stands between single backticks.
fn in_backticks(text: &str) -> Vec<&str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The first cells of the rows of all tables.
fn first_cells(text: &str) -> Vec<&str> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    rows.map(|row| row.split(" | ").next().unwrap_or_default()).collect()
}

/// `msg:detail:{id}` as `msg:detail:{}`, whatever the name of the part.
fn shape(key: &str) -> String {
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

/// The settings where only what has no default is set.
fn default_config() -> Config {
    let needed = [
        ("REDIS_URL", "redis://127.0.0.1/1"),
        ("MYSQL_URL", "mysql://127.0.0.1/hongyan"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
    ];
    let find = |wanted: &str| needed.iter().find(|(name, _)| *name == wanted);
    Config::from_lookup(|name| find(name).map(|(_, value)| (*value).to_owned())).unwrap()
}

#[test]
fn the_settings_table_has_what_the_code_asks_for_and_nothing_else() {
    let asked = RefCell::new(BTreeSet::from([secret::SETTINGS.to_owned(), secret::KAFKA_SASL.to_owned()]));
    // Whether the settings are good does not matter; with SCRAM, all of them are looked at.
    let _ = Config::from_lookup(|name| {
        asked.borrow_mut().insert(name.to_owned());
        (name == "KAFKA_SECURITY").then(|| "sasl_scram".to_owned())
    });
    let table = section(&read("README.md"), "## Settings");
    let told: BTreeSet<String> =
        first_cells(&table).into_iter().flat_map(in_backticks).map(str::to_owned).collect();
    assert_eq!(told, asked.into_inner());
}

#[test]
fn the_table_of_redis_keys_has_every_key_and_nothing_else() {
    let source = read("shared/src/cache/keys.rs");
    let source = source.split("#[cfg(test)]").next().unwrap();
    let keys = source.split('"').skip(1).step_by(2).filter(|literal| literal.starts_with("msg:"));
    // What ends with a colon is only the beginning of others.
    let keys: BTreeSet<String> = keys.filter(|key| !key.ends_with(':')).map(shape).collect();
    assert!(keys.len() > 10, "{keys:?}");
    let table = section(&read("docs/contract.md"), "## Keys");
    let told: BTreeSet<String> = first_cells(&table).into_iter().flat_map(in_backticks).map(shape).collect();
    assert_eq!(told, keys);
}

#[test]
fn every_metric_is_told() {
    let page = read("docs/operations.md");
    let table = section(&page, "## Metrics and alarms");
    let names: BTreeSet<&str> = metric::ALL.iter().map(|metric| metric.name).collect();
    let told: BTreeSet<&str> =
        in_backticks(&table).into_iter().filter(|word| word.starts_with("hongyan_")).collect();
    assert_eq!(told, names);
}

/// The messages of `tracing::warn!` and `tracing::error!` in the service's sources, with the place of each.
fn log_lines() -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    for file in ["shared/src", "functions", "runtime/src", "stack/src"].into_iter().flat_map(files_below) {
        let is_test = file.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests"));
        if is_test || file.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        let source = read(&file);
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for call in ["tracing::warn!(", "tracing::error!("] {
            for (start, _) in source.match_indices(call) {
                if let Some(message) = message_of(&source[start + call.len()..]) {
                    lines.insert(message, file.display().to_string());
                }
            }
        }
    }
    lines
}

/// The last text of a call's arguments, unless it begins with a value.
fn message_of(arguments: &str) -> Option<String> {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    let (mut literal, mut last) = (String::new(), None);
    for char in arguments.chars() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => {
                if quoted {
                    last = Some(std::mem::take(&mut literal));
                }
                quoted = !quoted;
            }
            _ if quoted => literal.push(char),
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    last.filter(|message| !message.starts_with('{'))
}

#[test]
fn every_warning_and_error_of_the_log_is_explained() {
    let log = log_lines();
    assert!(log.len() > 40, "{log:?}");
    let part = section(&read("docs/operations.md"), "## Reading the log");
    let told: Vec<&str> = first_cells(&part)
        .into_iter()
        .filter(|cell| !cell.starts_with("a line"))
        .flat_map(in_backticks)
        .collect();
    let untold: Vec<_> =
        log.iter().filter(|(line, _)| !told.iter().any(|told| line.starts_with(told))).collect();
    assert!(untold.is_empty(), "docs/operations.md does not explain {untold:#?}");
    let unknown: Vec<_> =
        told.iter().filter(|told| !log.keys().any(|line| line.starts_with(**told))).collect();
    assert!(unknown.is_empty(), "docs/operations.md explains what is never logged: {unknown:#?}");
}

#[test]
fn every_command_exists() {
    let dev = read("dev");
    let choices = dev.split("case ${1:-} in").nth(1).expect("the commands of ./dev").lines();
    let choices = choices.filter_map(|line| line.trim().split_once(')')).map(|(choices, _)| choices);
    let commands: BTreeSet<&str> = choices.flat_map(|choices| choices.split('|')).map(str::trim).collect();
    for page in pages() {
        let text = read(&page);
        for rest in text.split("./dev ").skip(1) {
            let word: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            // `./dev COMMAND` is a form and not a command.
            let form = word.is_empty();
            assert!(form || commands.contains(word.as_str()), "{}: ./dev {word}", page.display());
        }
    }
}

#[test]
fn every_file_that_is_named_exists() {
    let files: Vec<String> = files_below(".").iter().map(|path| format!("/{}", path.display())).collect();
    for page in pages() {
        for word in in_backticks(&without_blocks(&read(&page))) {
            let is_file =
                [".rs", ".lua", ".sql", ".sh", ".xml", ".yaml"].iter().any(|end| word.ends_with(end));
            if is_file && !word.contains(['*', '{', ' ']) {
                let end = format!("/{word}");
                let found = files.iter().any(|file| file.ends_with(&end));
                assert!(found, "{}: there is no {word}", page.display());
            }
        }
    }
}

/// The name under which a heading can be linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        let text = without_blocks(&read(&page));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, part) =
                target.split_once('#').map_or((target, None), |(file, part)| (file, Some(part)));
            let linked = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(root().join(&linked).exists(), "{}: {target}", page.display());
            if let Some(part) = part {
                let linked = read(&linked);
                let headings = linked.lines().filter(|line| line.starts_with('#'));
                let found =
                    headings.map(|line| anchor(line.trim_start_matches(['#', ' ']))).any(|it| it == part);
                assert!(found, "{}: {target}", page.display());
            }
        }
    }
}

#[test]
fn the_decisions_are_numbered_and_listed() {
    let list = read("docs/decisions/README.md");
    let mut expected = 1;
    for path in files_below("docs/decisions") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        assert_eq!(name.split('-').next(), Some(format!("{expected:04}").as_str()), "{name}");
        let title = read(&path).lines().next().unwrap().trim_start_matches("# ").to_owned();
        let (number, title) = title.split_once(". ").expect("a number and a title");
        assert_eq!(number, expected.to_string(), "{name}");
        assert!(
            list.contains(&format!("| [{number}]({name}) | {title} |")),
            "{name} is not listed as it is titled"
        );
        expected += 1;
    }
}
