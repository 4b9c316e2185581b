//! The Chinese pages show the same commands, tables and names as the English pages. The text around them is not
//! compared.

use std::collections::BTreeSet;

use crate::markdown::{Page, section};
use crate::source::{Tree, read};

/// Each English page with its Chinese one. `docs/operations.zh.md` is only about the alarms: `tests/tests/ops.rs` compares it.
const PAGES: [(&str, &str); 4] = [
    ("docs/deploy.md", "docs/deploy.zh.md"),
    ("docs/deploy-machine.md", "docs/deploy-machine.zh.md"),
    ("docs/deploy-kubernetes.md", "docs/deploy-kubernetes.zh.md"),
    ("docs/glossary.md", "docs/glossary.zh.md"),
];

/// The parts of README.md that README.zh-CN.md has, with their headings there.
const README: [(&str, &str); 3] =
    [("Run it", "运行"), ("As Lambda functions", "作为 Lambda 函数"), ("Commands", "命令")];

/// The lines in the blocks of code, without comments.
fn commands(text: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside && !line.starts_with('#') {
            let line = line.split(" #").next().unwrap_or_default().trim_end();
            found.extend((!line.is_empty()).then_some(line));
        }
    }
    found
}

/// The texts in backticks in the first cell of each row. A row without them counts too.
fn rows(page: &Page) -> Vec<&[String]> {
    page.first_cells.iter().map(|cell| cell.codes.as_slice()).collect()
}

/// The names in backticks, each once.
fn names(page: &Page) -> BTreeSet<&str> {
    page.codes.iter().map(|(_, name)| name.as_str()).collect()
}

fn compare(which: &str, english: &str, chinese: &str) {
    assert_eq!(commands(chinese), commands(english), "{which}: commands");
    let (english, chinese) = (Page::of(english), Page::of(chinese));
    assert_eq!(rows(&chinese), rows(&english), "{which}: first columns");
    let (wanted, found) = (names(&english), names(&chinese));
    let missing: Vec<_> = wanted.difference(&found).collect();
    let added: Vec<_> = found.difference(&wanted).collect();
    assert!(missing.is_empty() && added.is_empty(), "{which}: missing {missing:?}, added {added:?}");
}

#[test]
fn the_chinese_pages_have_the_commands_tables_and_names_of_the_english_ones() {
    for (english, chinese) in PAGES {
        compare(chinese, &read(english), &read(chinese));
    }
}

#[test]
fn the_chinese_readme_has_the_commands_tables_and_names_of_the_english_one() {
    for (english, chinese) in README {
        compare(chinese, section(&read("README.md"), english), section(&read("README.zh-CN.md"), chinese));
    }
}

#[test]
fn the_chinese_glossary_has_every_word() {
    let words = |page: &str| -> Vec<String> {
        Page::of(&read(page)).first_cells.into_iter().map(|cell| cell.text).collect()
    };

    assert_eq!(words("docs/glossary.zh.md"), words("docs/glossary.md"));
}

#[test]
fn every_chinese_page_is_compared() {
    let tree = Tree::of_repository();
    let found: BTreeSet<&str> =
        tree.0.keys().map(String::as_str).filter(|path| path.ends_with(".zh.md")).collect();
    let compared = PAGES.iter().map(|(_, chinese)| *chinese).chain(["docs/operations.zh.md"]).collect();

    assert_eq!(found, compared);
}

#[test]
fn commands_are_found_without_their_comments() {
    let text = "a\n```sh\n# no\nb   # why\n   ```\n```sh\n\nc '#1'\n```\n";

    assert_eq!(commands(text), ["b", "c '#1'"]);
}
