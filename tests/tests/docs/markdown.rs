//! Parts of a page of Markdown.

/// The part of a page under `heading`, up to the next one of its rank.
pub(crate) fn section(page: &str, heading: &str) -> String {
    let rank = heading.chars().take_while(|char| *char == '#').count();
    let ends = |line: &str| line.starts_with('#') && line.find(' ').is_some_and(|hashes| hashes <= rank);
    let lines: Vec<&str> =
        page.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !ends(line)).collect();
    assert!(!lines.is_empty(), "there is no part {heading:?}");
    lines.join("\n")
}

/// The page without what lies between lines of three backticks.
pub(crate) fn without_blocks(page: &str) -> String {
    let mut inside = false;
    let prose = page.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    prose.collect::<Vec<_>>().join("\n")
}

/// What stands between single backticks.
pub(crate) fn in_backticks(text: &str) -> Vec<&str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The first cells of the rows of all tables.
pub(crate) fn first_cells(text: &str) -> Vec<&str> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    rows.map(|row| row.split(" | ").next().unwrap_or_default()).collect()
}

/// The name under which a heading can be linked to.
pub(crate) fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
