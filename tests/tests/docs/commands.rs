//! The commands that the pages show exist.

use std::collections::BTreeSet;

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
