//! Links lead to pages and parts that exist, and files that are named exist.

use crate::markdown::{anchor, in_backticks, without_blocks};
use crate::source::{files_below, pages, read, root};

#[test]
fn every_file_that_is_named_exists() {
    let files: Vec<String> = files_below(".").iter().map(|path| format!("/{}", path.display())).collect();
    for page in pages() {
        for word in in_backticks(&without_blocks(&read(&page))) {
            let is_file =
                [".rs", ".lua", ".sql", ".sh", ".xml", ".yaml"].iter().any(|end| word.ends_with(end));
            if is_file && !word.contains(['*', '{', ' ']) {
                let end = format!("/{word}");
                let found = files.iter().any(|file| file.ends_with(&end));
                assert!(found, "{}: there is no {word}", page.display());
            }
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        let text = without_blocks(&read(&page));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, part) =
                target.split_once('#').map_or((target, None), |(file, part)| (file, Some(part)));
            let linked = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(root().join(&linked).exists(), "{}: {target}", page.display());
            if let Some(part) = part {
                let linked = read(&linked);
                let headings = linked.lines().filter(|line| line.starts_with('#'));
                let found =
                    headings.map(|line| anchor(line.trim_start_matches(['#', ' ']))).any(|it| it == part);
                assert!(found, "{}: {target}", page.display());
            }
        }
    }
}
