//! Markdown, as `pulldown-cmark` reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use pulldown_cmark::{BrokenLink, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd};

/// The parts of a text that the checks look at. Lines count from 1.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) headings: Vec<Heading>,
    /// The names under which a part can be linked to, as GitHub makes them.
    pub(crate) anchors: BTreeSet<String>,
    pub(crate) links: Vec<Link>,
    /// The labels `[text][label]` without a target, with their lines.
    pub(crate) broken: Vec<(usize, String)>,
    /// The texts in single backticks, with their lines.
    pub(crate) codes: Vec<(usize, String)>,
    /// The first cells of the rows of all tables, without the rows of headings.
    pub(crate) first_cells: Vec<Cell>,
}

pub(crate) struct Heading {
    pub(crate) text: String,
    level: HeadingLevel,
    range: Range<usize>,
}

pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) label: String,
    pub(crate) target: String,
}

/// A cell of a table.
#[derive(Clone, Default)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) codes: Vec<String>,
}

impl Page {
    pub(crate) fn of(text: &str) -> Self {
        let mut page = Self::default();
        let mut broken = Vec::new();
        let mut note = |link: BrokenLink<'_>| {
            // A lone `[word]` is prose, or a name for rustdoc. A full or collapsed reference wants a target.
            if matches!(link.link_type, LinkType::Reference | LinkType::Collapsed) {
                broken.push((line_of(text, link.span.start), link.reference.into_string()));
            }
            None
        };
        let parser = Parser::new_with_broken_link_callback(text, options(), Some(&mut note));
        let mut heading: Option<(HeadingLevel, String)> = None;
        let mut open_link: Option<Link> = None;
        let mut cell: Option<(bool, Cell)> = None;
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut cells_before = 0;
        for (event, range) in parser.into_offset_iter() {
            let line = line_of(text, range.start);
            match event {
                Event::Start(Tag::Heading { level, .. }) => heading = Some((level, String::new())),
                Event::End(TagEnd::Heading(_)) => {
                    let (level, title) = heading.take().unwrap();
                    let anchor = anchor(&title);
                    let number = seen.entry(anchor.clone()).and_modify(|number| *number += 1).or_default();
                    page.anchors.insert(if *number == 0 { anchor } else { format!("{anchor}-{number}") });
                    page.headings.push(Heading { text: title, level, range });
                }
                Event::Start(Tag::Link { ref dest_url, .. } | Tag::Image { ref dest_url, .. }) => {
                    open_link = Some(Link { line, label: String::new(), target: dest_url.to_string() });
                }
                Event::End(TagEnd::Link | TagEnd::Image) => page.links.extend(open_link.take()),
                Event::Start(Tag::TableRow) => cells_before = 0,
                Event::Start(Tag::TableHead) => cells_before = 1,
                Event::Start(Tag::TableCell) => {
                    cell = Some((cells_before == 0, Cell::default()));
                    cells_before += 1;
                }
                Event::End(TagEnd::TableCell) => {
                    page.first_cells.extend(cell.take().filter(|(first, _)| *first).map(|(_, cell)| cell));
                }
                Event::Code(ref code) => {
                    page.codes.push((line, code.to_string()));
                    if let Some((_, cell)) = &mut cell {
                        cell.codes.push(code.to_string());
                    }
                }
                _ => {}
            }
            if let Event::Text(piece) | Event::Code(piece) = &event {
                let texts =
                    [heading.as_mut().map(|(_, text)| text), open_link.as_mut().map(|link| &mut link.label)];
                texts.into_iter().flatten().for_each(|text| text.push_str(piece));
                if let Some((_, cell)) = &mut cell {
                    cell.text.push_str(piece);
                }
            }
        }
        page.broken = broken;
        page
    }
}

fn options() -> Options {
    Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
}

/// The line of a place in a text, from 1.
pub(crate) fn line_of(text: &str, place: usize) -> usize {
    text[..place].matches('\n').count() + 1
}

/// The name under which a heading can be linked to.
pub(crate) fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The part of a page under a heading, up to the next one of its rank.
pub(crate) fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let headings = Page::of(text).headings;
    let (index, found) = headings
        .iter()
        .enumerate()
        .find(|(_, it)| it.text == heading)
        .unwrap_or_else(|| panic!("there is no part {heading:?}"));
    let next = headings[index + 1..].iter().find(|next| next.level <= found.level);
    &text[found.range.end..next.map_or(text.len(), |next| next.range.start)]
}

#[test]
fn the_parts_of_a_page_are_found() {
    let page = Page::of(
        "# A `code` title\n\nSee [the *page*](a.md#b) and [b][] and [c][d], not [e].\n\n```\n[no](link) `no`\n# none\n```\n\n\
         | key | of |\n|---|---|\n| `a\\|b` or `c` | `d` |\n\n## Twice\n## Twice\n",
    );
    let links: Vec<_> =
        page.links.iter().map(|link| (link.line, link.label.as_str(), link.target.as_str())).collect();
    assert_eq!(links, [(3, "the page", "a.md#b")]);
    assert_eq!(page.broken, [(3, "b".to_owned()), (3, "d".to_owned())]);
    assert_eq!(page.anchors.iter().collect::<Vec<_>>(), ["a-code-title", "twice", "twice-1"]);
    let codes: Vec<_> = page.codes.iter().map(|(line, code)| (*line, code.as_str())).collect();
    assert_eq!(codes, [(1, "code"), (12, "a|b"), (12, "c"), (12, "d")]);
    assert_eq!(page.first_cells.len(), 1);
    assert_eq!(page.first_cells[0].codes, ["a|b", "c"]);
    assert_eq!(page.first_cells[0].text, "a|b or c");
}

#[test]
fn a_part_ends_before_the_next_heading_of_its_rank() {
    let text = "# Page\n\n## One\n\na\n\n### Deeper\n\nb\n\n## Two\n\nc\n";
    assert_eq!(section(text, "One").trim(), "a\n\n### Deeper\n\nb");
    assert_eq!(section(text, "Two").trim(), "c");
}
