//! docs/operations.md explains the warnings and errors of the log, and no others.

use std::collections::BTreeMap;

use crate::markdown::{Page, section};
use crate::source::{files, read};

/// The folders of crates that are tools. Their log lines are for the person who runs them, and no page explains them.
const TOOLS: [&str; 5] = ["bench", "drill", "model", "testkit", "tests"];

/// The messages of `tracing::warn!` and `tracing::error!` in the service's sources, with the place of each.
fn log_lines() -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    for file in files().into_iter().filter(|file| !TOOLS.iter().any(|tool| file.starts_with(tool))) {
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
    let page = read("docs/operations.md");
    let cells = Page::of(section(&page, "Reading the log")).first_cells;
    let told: Vec<String> = cells
        .into_iter()
        .filter(|cell| !cell.text.starts_with("a line"))
        .flat_map(|cell| cell.codes)
        .collect();
    let untold: Vec<_> =
        log.iter().filter(|(line, _)| !told.iter().any(|told| line.starts_with(told.as_str()))).collect();
    assert!(untold.is_empty(), "docs/operations.md does not explain {untold:#?}");
    let unknown: Vec<_> =
        told.iter().filter(|told| !log.keys().any(|line| line.starts_with(told.as_str()))).collect();
    assert!(unknown.is_empty(), "docs/operations.md explains what is never logged: {unknown:#?}");
}
