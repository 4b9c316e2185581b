//! Comments cite pages and parts of pages that exist, and pages and comments name files that exist.

use crate::comments::{Comment, parts};
use crate::markdown::{Page, anchor, line_of};
use crate::source::{Tree, extension};

/// The ends of names of files that a text may name, `.md` aside.
const FILES: [&str; 14] =
    ["rs", "lua", "sql", "sh", "py", "yaml", "yml", "toml", "json", "xml", "conf", "cnf", "properties", "h"];

/// Files that are named and are not ours, with the reason.
const FOREIGN: [(&str, &str); 1] = [("server.properties", "the settings file of Kafka's own distribution")];

/// The characters of a path.
fn is_path(char: char) -> bool {
    char.is_ascii_alphanumeric() || "_-./#".contains(char)
}

/// Each word of a text that looks like a path, with its place.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text[rest..].find(is_path)?;
        let end = text[start..].find(|char| !is_path(char)).map_or(text.len(), |end| start + end);
        rest = end;
        Some((start, text[start..end].trim_end_matches(['.', '#'])))
    })
}

/// The faults of the pages that a comment of the file `path` cites. Behind the name of a page may stand `#` and the
/// anchor of a part, headings in quotes, or the names of rules, as R7 and P2.
fn faults_of_comment(path: &str, comment: &Comment, tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let text = &comment.text;
    for (start, word) in words(text) {
        let (name, part) = word.split_once('#').map_or((word, None), |(name, part)| (name, Some(part)));
        let is_address = word.starts_with("//") && text[..start].ends_with(':');
        if extension(name) != "md" || is_address {
            continue;
        }
        let line = comment.line + line_of(text, start) - 1;
        let pages = tree.named(name, path);
        if pages.is_empty() {
            faults.push(format!("{path}:{line}: there is no {name}"));
            continue;
        }
        let after = &text[start + word.len()..];
        let headings = headings_after(after);
        for wanted in
            part.map(str::to_owned).into_iter().chain(headings.iter().map(|heading| anchor(heading)))
        {
            if !pages.iter().any(|(_, page)| Page::of(page).anchors.contains(&wanted)) {
                faults.push(format!("{path}:{line}: {name} has no part #{wanted}"));
            }
        }
        for rule in rules_after(after) {
            if !pages.iter().any(|(_, page)| has_rule(&Page::of(page), rule)) {
                faults.push(format!("{path}:{line}: {name} has no rule {rule}"));
            }
        }
    }
    faults
}

/// The names of rules, a capital letter and a number, between the name of a page and the end of the brackets.
fn rules_after(text: &str) -> impl Iterator<Item = &str> {
    let cited = text.split([')', '/']).next().unwrap_or_default();
    let words = cited.split(|char: char| !char.is_ascii_alphanumeric());
    words.filter(|word| is_rule(word) && text.contains(')'))
}

/// True for the name of a rule, as R7 and P2.
pub(crate) fn is_rule(word: &str) -> bool {
    let digits = word.trim_start_matches(|char: char| char.is_ascii_uppercase());
    word.len() == digits.len() + 1 && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// True if a page has a rule as a heading (`R7. …`) or as the first cell of a table's row.
fn has_rule(page: &Page, rule: &str) -> bool {
    let heading = format!("{rule}. ");
    page.headings.iter().any(|it| it.text.starts_with(&heading))
        || page.first_cells.iter().any(|it| it.text == rule)
}

/// The headings in quotes that directly follow the name of a page.
fn headings_after(text: &str) -> Vec<String> {
    let mut headings = Vec::new();
    let mut rest = text.trim_start_matches('`');
    loop {
        rest = rest.trim_start_matches([',', ';']).trim_start();
        rest = rest.strip_prefix("and ").unwrap_or(rest);
        let Some((heading, after)) = rest.strip_prefix('"').and_then(|quoted| quoted.split_once('"')) else {
            return headings;
        };
        headings.push(heading.split_whitespace().collect::<Vec<_>>().join(" "));
        rest = after;
    }
}

/// The files and folders that a text names in backticks, and that do not exist.
fn faults_of_names(path: &str, first_line: usize, page: &Page, tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, code) in &page.codes {
        if code.starts_with('/') || !code.chars().all(is_path) || FOREIGN.iter().any(|(name, _)| name == code)
        {
            continue;
        }
        let is_file = extension(code) == "md" || FILES.contains(&extension(code));
        let top = code.split('/').next().unwrap_or_default();
        let is_below_a_folder =
            code.contains('/') && tree.0.keys().any(|path| path.starts_with(&format!("{top}/")));
        if (is_file || is_below_a_folder) && !tree.has(code) {
            faults.push(format!("{path}:{}: there is no {code}", first_line + line - 1));
        }
    }
    faults
}

/// The faults of the citations and of the names of files in the whole tree.
fn faults(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in &tree.0 {
        if extension(path) == "md" {
            faults.extend(faults_of_names(path, 1, &Page::of(text), tree));
        }
        for comment in parts(path, text).unwrap_or_default().comments {
            faults.extend(faults_of_comment(path, &comment, tree));
            let mut page = Page::of(&comment.text);
            page.codes.retain(|(_, code)| extension(code) != "md");
            faults.extend(faults_of_names(path, comment.line, &page, tree));
        }
    }
    faults
}

#[test]
fn every_page_and_file_that_is_named_exists() {
    let faults = faults(&Tree::of_repository());
    assert!(faults.is_empty(), "{faults:#?}");
}

#[cfg(test)]
mod tests {
    use super::faults;
    use crate::source::Tree;

    /// The faults of one file beside a page with a part "One part".
    fn faults_of(path: &str, text: &str) -> Vec<String> {
        faults(&Tree::sample([
            (path, text),
            ("docs/page.md", "# Page\n\n## One part\n\n## R1. Rule\n\n| | |\n|---|---|\n| P2 | Promise |\n"),
            ("shared/src/a.rs", ""),
        ]))
    }

    #[test]
    fn good_citations_pass() {
        let good = "//! See `page.md`, docs/page.md#one-part and `page.md`, \"Page\" and \"One\n//! part\" (`a.rs`, `src/a.rs`).\n\
                    //! (`page.md`, R1, P2).\n\
                    fn b() {} // Not https://example.com/gone.md, `/gone.rs` or `gone.rs and more`.\n";
        assert_eq!(faults_of("shared/src/b.rs", good), [""; 0]);
    }

    #[test]
    fn a_page_that_does_not_exist_is_found_in_every_language() {
        let comments = [
            ("shared/src/b.rs", "//! (`gone.md`, \"x\")."),
            ("shared/src/b.rs", "/* docs/gone.md */"),
            ("shared/src/b.lua", "-- gone.md"),
            ("migrations/0001_b.sql", "-- gone.md"),
            ("deploy/b.sh", "# gone.md"),
            ("template.yaml", "a: b # gone.md"),
            ("Cargo.toml", "# gone.md"),
            ("dev", "#!/bin/sh\n# gone.md"),
        ];
        for (path, text) in comments {
            let faults = faults_of(path, text);
            assert!(faults.iter().any(|fault| fault.contains("gone.md")), "{path}: {text}: {faults:?}");
        }
    }

    #[test]
    fn a_part_that_does_not_exist_is_found() {
        let wrong = "//! One line,\n//! then page.md#two-parts.";
        assert_eq!(
            faults_of("shared/src/b.rs", wrong),
            ["shared/src/b.rs:2: page.md has no part #two-parts"]
        );
        let wrong = "// (`page.md`, \"One part\", \"Two parts\")";
        assert_eq!(
            faults_of("shared/src/b.rs", wrong),
            ["shared/src/b.rs:1: page.md has no part #two-parts"]
        );
        let wrong = "// (`page.md`, P2 and R1 to R2)";
        assert_eq!(faults_of("shared/src/b.rs", wrong), ["shared/src/b.rs:1: page.md has no rule R2"]);
    }

    #[test]
    fn a_file_or_folder_that_does_not_exist_is_found() {
        assert_eq!(faults_of("docs/b.md", "\n`gone.rs`"), ["docs/b.md:2: there is no gone.rs"]);
        assert_eq!(
            faults_of("shared/src/b.rs", "\n/// `shared/gone`"),
            ["shared/src/b.rs:2: there is no shared/gone"]
        );
    }
}
