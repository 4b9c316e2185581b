//! The commands that the pages show exist, and the table of README.md has all of them.

use std::collections::BTreeSet;

use crate::markdown::{first_cells, in_backticks, section};
use crate::source::{pages, read};

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

/// The first word after `start` of each line that begins with it.
fn first_words<'a>(lines: impl Iterator<Item = &'a str>, start: &str) -> BTreeSet<&'a str> {
    lines
        .filter_map(|line| line.strip_prefix(start)?.split(' ').next())
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn the_usage_text_and_the_table_have_the_same_commands() {
    let dev = read("dev");
    let usage =
        dev.split("Usage: ./dev COMMAND").nth(1).and_then(|rest| rest.split("\nTEXT\n").next()).unwrap();
    let table = section(&read("README.md"), "## Commands");

    let in_usage = first_words(usage.lines(), "  ");
    let in_table = first_words(first_cells(&table).into_iter().flat_map(in_backticks), "./dev ");

    assert!(in_usage.len() > 10, "{in_usage:?}");
    assert_eq!(in_table, in_usage);
}
