//! The decisions are numbered without a gap, and listed.

use crate::source::{files_below, read};

#[test]
fn the_decisions_are_numbered_and_listed() {
    let list = read("docs/decisions/README.md");
    let mut expected = 1;
    for path in files_below("docs/decisions") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        assert_eq!(name.split('-').next(), Some(format!("{expected:04}").as_str()), "{name}");
        let title = read(&path).lines().next().unwrap().trim_start_matches("# ").to_owned();
        let (number, title) = title.split_once(". ").expect("a number and a title");
        assert_eq!(number, expected.to_string(), "{name}");
        assert!(
            list.contains(&format!("| [{number}]({name}) | {title} |")),
            "{name} is not listed as it is titled"
        );
        expected += 1;
    }
}
