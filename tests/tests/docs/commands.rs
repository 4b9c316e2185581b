//! The commands of `./dev` that pages and comments show exist.

use std::collections::BTreeSet;

use crate::comments::parts;
use crate::source::{Tree, extension};

/// The commands that the file `dev` tells apart.
fn commands(dev: &str) -> BTreeSet<&str> {
    let choices = dev.split("case ${1:-} in").nth(1).expect("the commands of ./dev").lines();
    let choices = choices.filter_map(|line| line.trim().split_once(')')).map(|(choices, _)| choices);
    choices.flat_map(|choices| choices.split('|')).map(str::trim).collect()
}

/// The commands that a text shows and that do not exist.
fn unknown<'a>(text: &'a str, commands: &BTreeSet<&str>) -> Vec<&'a str> {
    let shown = text.split("./dev ").skip(1);
    let shown =
        shown.map(|rest| rest.split(|char: char| !char.is_ascii_lowercase()).next().unwrap_or_default());
    // `./dev COMMAND` is a form and not a command.
    shown.filter(|word| !word.is_empty() && !commands.contains(word)).collect()
}

#[test]
fn every_command_exists() {
    let tree = Tree::of_repository();
    let commands = commands(&tree.0["dev"]);
    let mut faults = Vec::new();
    for (path, text) in &tree.0 {
        let comments = parts(path, text).unwrap_or_default().comments.into_iter().map(|comment| comment.text);
        let page = (extension(path) == "md").then(|| text.clone());
        for text in comments.chain(page) {
            faults.extend(unknown(&text, &commands).iter().map(|word| format!("{path}: ./dev {word}")));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let commands = commands("case ${1:-} in\n  run) go ;;\n  stack | env) go ;;\nesac");
    assert_eq!(unknown("`./dev run` and ./dev stack up, ./dev COMMAND, then ./dev ran.", &commands), ["ran"]);
}
