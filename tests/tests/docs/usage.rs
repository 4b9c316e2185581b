//! The usage text of `./dev` and the table of README.md have the same commands.

use std::collections::BTreeSet;

use crate::markdown::{Page, section};
use crate::source::read;

/// The word after `start`, of each line that begins with `start`.
fn first_words<'a>(lines: impl Iterator<Item = &'a str>, start: &str) -> BTreeSet<String> {
    let words = lines.filter_map(|line| line.strip_prefix(start)?.split(' ').next());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_usage_text_and_the_table_have_the_same_commands() {
    let dev = read("dev");
    let usage = dev.split("Usage: ./dev COMMAND").nth(1).unwrap().split("\nTEXT\n").next().unwrap();
    let table = Page::of(section(&read("README.md"), "Commands")).first_cells;

    let in_usage = first_words(usage.lines(), "  ");
    let in_table = first_words(table.iter().flat_map(|cell| &cell.codes).map(String::as_str), "./dev ");

    assert!(in_usage.len() > 10, "{in_usage:?}");
    assert_eq!(in_table, in_usage);
}
