//! Links lead to pages and parts that exist, and their labels name nothing else.

use crate::citations::is_rule;
use crate::markdown::Page;
use crate::source::{Tree, extension, resolved};

/// The faults of the links of all pages.
fn faults(tree: &Tree) -> Vec<String> {
    tree.pages().flat_map(|(path, text)| faults_of(path, &Page::of(text), tree)).collect()
}

fn faults_of(path: &str, page: &Page, tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, label) in &page.broken {
        faults.push(format!("{path}:{line}: [{label}] has no target"));
    }
    for link in
        page.links.iter().filter(|link| !link.target.contains("://") && !link.target.starts_with("mailto:"))
    {
        let (file, part) = match link.target.split_once('#') {
            Some((file, part)) => (file, Some(part)),
            None => (link.target.as_str(), None),
        };
        let linked = if file.is_empty() { path.to_owned() } else { resolved(path, file) };
        let mut fault = |what: String| faults.push(format!("{path}:{}: {what}", link.line));
        if !tree.0.contains_key(&linked) && !is_folder(&linked, tree) {
            fault(format!("{} leads nowhere", link.target));
            continue;
        }
        if let Some(part) = part
            && !tree.0.get(&linked).is_some_and(|text| Page::of(text).anchors.contains(part))
        {
            fault(format!("{linked} has no part #{part}"));
        }
        if let Some(part) = part
            && let Some(other) = other_rule(&link.label, part)
        {
            fault(format!("the label says {other}, the link leads to #{part}"));
        }
        if let Some(other) = other_file(&link.label, &linked) {
            fault(format!("the label says {other}, the link leads to {linked}"));
        }
    }
    faults
}

fn is_folder(path: &str, tree: &Tree) -> bool {
    let folder = format!("{path}/");
    path.is_empty() || tree.0.keys().any(|file| file.starts_with(&folder))
}

/// The file or the decision that a label names, if the link leads to another one.
fn other_file<'a>(label: &'a str, linked: &str) -> Option<&'a str> {
    let words = || label.split(|char: char| char.is_whitespace() || "`'\"(),;".contains(char));
    // The 2.0 of a version is no file.
    let is_file = |word: &&str| {
        extension(word.trim_end_matches(['.', ':'])).starts_with(|it: char| it.is_ascii_lowercase())
    };
    let leads_there =
        |word: &str| format!("/{linked}").ends_with(&format!("/{}", word.trim_end_matches(['.', ':'])));
    let file = words().filter(is_file).find(|word| !leads_there(word.trim_start_matches("../")));
    let decision = linked.rsplit('/').next().and_then(|name| name.split_once('-')).map(|(number, _)| number);
    let decision =
        decision.filter(|_| linked.contains("decisions/")).and_then(|number| number.parse::<u32>().ok());
    let is_other =
        |word: &&str| word.parse::<u32>().is_ok_and(|number| decision.is_some_and(|it| it != number));
    file.or_else(|| words().find(is_other))
}

/// The rule that a label names, as R7, if the link leads to the part of another one.
fn other_rule<'a>(label: &'a str, part: &str) -> Option<&'a str> {
    let linked = part.split('-').next().map(str::to_uppercase).filter(|first| is_rule(first))?;
    label.split(|char: char| !char.is_ascii_alphanumeric()).find(|word| is_rule(word) && *word != linked)
}

#[test]
fn every_link_leads_somewhere_and_its_label_says_where() {
    let tree = Tree::of_repository();
    assert!(tree.pages().count() > 50, "the pages are not found");
    let faults = faults(&tree);
    assert!(faults.is_empty(), "{faults:#?}");
}

#[cfg(test)]
mod tests {
    use super::faults;
    use crate::source::Tree;

    /// The faults of a page beside another one (with the parts "One part" and "R7. Rule"), a decision and a source.
    fn faults_of(text: &str) -> Vec<String> {
        faults(&Tree::sample([
            ("docs/page.md", text),
            ("docs/other.md", "# Other\n\n## One part\n\n## R7. Rule\n"),
            ("docs/decisions/0012-why.md", "# 12. Why\n"),
            ("shared/src/cache.rs", ""),
        ]))
    }

    #[test]
    fn good_links_pass() {
        let good = "# Page\n\n[a](other.md), [b](other.md#one-part), [c](#page), [`other.md`](other.md), [d](decisions/),\n\
                    [decision 12](decisions/0012-why.md), [e](https://example.com/none.md), [R7](other.md#r7-rule), [`cache.rs`](../shared/src/cache.rs)\n";
        assert_eq!(faults_of(good), [""; 0]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        assert_eq!(faults_of("[a](gone.md)"), ["docs/page.md:1: gone.md leads nowhere"]);
        assert_eq!(faults_of("\n[a][gone]"), ["docs/page.md:2: [gone] has no target"]);
        assert_eq!(faults_of("[a][b]\n\n[b]: gone.md"), ["docs/page.md:1: gone.md leads nowhere"]);
    }

    #[test]
    fn a_broken_anchor_is_found() {
        assert_eq!(
            faults_of("[a](other.md#two-parts)"),
            ["docs/page.md:1: docs/other.md has no part #two-parts"]
        );
        assert_eq!(faults_of("# Page\n[a](#other)"), ["docs/page.md:2: docs/page.md has no part #other"]);
    }

    #[test]
    fn a_label_that_names_another_file_is_found() {
        let wrong = "docs/page.md:1: the label says page.md, the link leads to docs/other.md";
        assert_eq!(faults_of("[`page.md`](other.md)"), [wrong]);
        assert_eq!(faults_of("[the page.md](other.md#one-part)"), [wrong]);
        let wrong = "docs/page.md:1: the label says 13, the link leads to docs/decisions/0012-why.md";
        assert_eq!(faults_of("[decision 13](decisions/0012-why.md)"), [wrong]);
        let wrong = "docs/page.md:1: the label says R8, the link leads to #r7-rule";
        assert_eq!(faults_of("[R8](other.md#r7-rule)"), [wrong]);
    }
}
