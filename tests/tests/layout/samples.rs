//! Tests of the checker itself, on small crates given as text. Most of them are wrong on purpose.

use std::path::Path;

use super::source::Sources;
use super::{arrows, circles};

/// The circles of a crate whose files are given as (path, text).
fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let text = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned())
    };
    let sources = Sources::read(Path::new(files[0].0), text).unwrap();
    let arrows = arrows::all(&sources);
    let circles = circles::all(&arrows);
    circles.into_iter().map(|files| files.iter().map(|file| file.display().to_string()).collect()).collect()
}

/// A crate with the modules `a` and `b`.
fn of_two(a: &str, b: &str) -> Vec<Vec<String>> {
    circles_of(&[("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", b)])
}

#[test]
fn one_way_is_no_circle() {
    assert!(of_two("pub struct A;", "use crate::a::A; fn b(_: A) {}").is_empty());
}

#[test]
fn two_files_that_import_each_other_are_a_circle() {
    let circle = of_two("use crate::b::B; pub struct A(B);", "use crate::a::A; pub struct B(Box<A>);");
    assert_eq!(circle, [["a.rs", "b.rs"]]);
}

#[test]
fn paths_in_code_count_like_imports() {
    let circle = of_two("pub fn a() { super::b::b() }", "pub fn b() { crate::a::a() }");
    assert_eq!(circle, [["a.rs", "b.rs"]]);
}

#[test]
fn an_imported_module_counts_by_the_names_that_are_used_of_it() {
    assert!(of_two("use crate::b; pub fn a() {}", "use crate::a; pub fn b() { a::a() }").is_empty());
    let circle = of_two("use crate::b; pub fn a() { b::b() }", "use crate::a; pub fn b() { a::a() }");
    assert_eq!(circle, [["a.rs", "b.rs"]]);
}

#[test]
fn paths_in_macros_and_attributes_count() {
    let b = "use crate::a::A; pub fn b() -> bool { true }";
    assert_eq!(of_two("pub struct A; fn a() { assert!(crate::b::b()) }", b), [["a.rs", "b.rs"]]);
    let a = r#"#[derive(Deserialize)] pub struct A { #[serde(with = "crate::b::b")] field: u8 }"#;
    assert_eq!(of_two(a, b), [["a.rs", "b.rs"]]);
}

#[test]
fn three_files_in_a_round_are_a_circle() {
    let circle = circles_of(&[
        ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
        ("src/a.rs", "use crate::b::B; pub struct A;"),
        ("src/b.rs", "use crate::c::{self, C as Third}; pub struct B;"),
        ("src/c.rs", "use super::a::A; pub struct C;"),
        ("src/d.rs", "use super::a::A; fn d() {}"),
    ]);
    assert_eq!(circle, [["src/a.rs", "src/b.rs", "src/c.rs"]]);
}

#[test]
fn a_parent_and_a_child_that_use_each_other_are_a_circle() {
    let child = ("a/child.rs", "use super::A; pub(super) fn child(_: &A) {}");
    let circle = circles_of(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod child; pub struct A; fn a(a: &A) { child::child(a) }"),
        child,
    ]);
    assert_eq!(circle, [["a/child.rs", "a.rs"]]);
    let circle = circles_of(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod child; pub use child::child; pub struct A;"),
        child,
    ]);
    assert!(circle.is_empty(), "handing a name on is no use of it: {circle:?}");
    let a = "mod child; pub use child::child; pub struct A; fn a() { child(&A) }";
    assert_eq!(circles_of(&[("lib.rs", "mod a;"), ("a.rs", a), child]), [["a/child.rs", "a.rs"]]);
}

#[test]
fn a_name_that_is_handed_on_belongs_to_the_file_that_declares_it() {
    let circle = circles_of(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod one; mod two; pub use one::One; pub use two::*;"),
        ("a/one.rs", "use super::Two; pub struct One(Two);"),
        ("a/two.rs", "use crate::a::*; pub struct Two(Box<One>);"),
    ]);
    assert_eq!(circle, [["a/one.rs", "a/two.rs"]]);
}

#[test]
fn tests_beside_the_code_and_in_a_file_below_are_no_circle() {
    let circle = circles_of(&[
        ("lib.rs", "mod a;"),
        (
            "a.rs",
            "pub fn a() {} #[cfg(test)] mod tests; #[cfg(test)] mod more { use super::*; fn t() { a() } }",
        ),
        ("a/tests.rs", "use super::*; #[test] fn t() { a() }"),
    ]);
    assert!(circle.is_empty(), "{circle:?}");
}

#[test]
fn a_block_of_a_file_has_its_files_in_a_folder_of_its_name() {
    let circle = circles_of(&[
        ("lib.rs", "mod a { pub mod b; pub struct A; fn a() { b::b() } }"),
        ("a/b.rs", "pub fn b() -> super::A { super::A }"),
    ]);
    assert_eq!(circle, [["a/b.rs", "lib.rs"]]);
}

#[test]
fn crates_of_others_are_told_from_modules() {
    let files = [
        ("lib.rs", "mod a; mod redis;"),
        ("redis.rs", "pub struct Own;"),
        (
            "a.rs",
            "use ::sqlx as x; use rdkafka::A; use crate::redis::Own; fn a(_: Own) { tokio::spawn(A::new()) }",
        ),
    ];
    let text = |path: &Path| {
        files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
    };
    let sources = Sources::read(Path::new("lib.rs"), text).unwrap();
    let names: Vec<String> = arrows::outside(&sources, Path::new("a.rs")).into_iter().collect();
    assert_eq!(names, ["rdkafka", "tokio"]);
}
