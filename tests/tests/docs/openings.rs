//! No sentence of a comment begins with a relative word: such an opening hides the subject.

use crate::comments::{Comment, parts};
use crate::source::Tree;

/// A sentence that begins with one of these words has a whole clause as its subject.
const RELATIVE: [&str; 8] =
    ["What", "Whatever", "Whoever", "Whether", "Which", "Whichever", "Whose", "Those"];

/// The place of each sentence in a comment that begins with a relative word.
fn wrong(tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    // A migration that was applied must not change: its checksum is in the database.
    let files = tree.0.iter().filter(|(path, _)| !path.starts_with("migrations/"));
    for (path, text) in files {
        for Comment { line, text } in parts(path, text).unwrap_or_default().comments {
            for opening in openings(&text) {
                if RELATIVE.iter().any(|word| is_first_word(opening, word)) {
                    let of_text = text.lines().next().unwrap_or_default();
                    wrong.push(format!("{path}: the comment at line {line} ({of_text}): {opening}"));
                }
            }
        }
    }
    wrong
}

/// The first words of each sentence and of each line.
fn openings(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().flat_map(|line| line.split(['.', ':', ';']));
    lines.map(|sentence| sentence.trim_start_matches(|char: char| !char.is_alphanumeric()))
}

fn is_first_word(sentence: &str, word: &str) -> bool {
    sentence.strip_prefix(word).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

#[test]
fn no_sentence_of_a_comment_begins_with_a_relative_word() {
    let wrong = wrong(&Tree::of_repository());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_relative_word_is_found_where_a_sentence_begins() {
    let tree = Tree::sample([
        ("a.rs", "/// What is sent.\nfn a() {} // One. Whoever reads\n// it: whether. Whats\n"),
        ("a.lua", "-- One which is kept,\n-- Which is not.\n"),
        ("dev", "#!/bin/sh\n# (Those that wait.)\n# That is\n"),
    ]);
    let places = wrong(&tree);
    let found: Vec<&str> = places.iter().filter_map(|place| place.rsplit(": ").next()).collect();
    assert_eq!(found, ["Which is not", "What is sent", "Whoever reads", "Those that wait"]);
}
