//! The GitHub workflow runs the project's own scripts, with the Rust version that Cargo.toml asks for.

use std::collections::BTreeSet;

use hongyan_testkit::yaml;
use serde_json::Value;

use crate::source::{read, root};

fn workflow() -> Value {
    yaml::read(&read(".github/workflows/ci.yml"))
}

/// Every `run` line of every job.
fn lines_that_run(workflow: &Value) -> BTreeSet<&str> {
    let jobs = workflow["jobs"].as_object().unwrap().values();
    let steps = jobs.flat_map(|job| job["steps"].as_array().unwrap());
    steps.filter_map(|step| step["run"].as_str()).collect()
}

/// The version that stands directly after `mark`, at each place where `mark` stands.
fn versions_after<'a>(text: &'a str, mark: &str) -> BTreeSet<&'a str> {
    let end =
        |rest: &str| rest.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(rest.len());
    text.split(mark).skip(1).map(|rest| rest[..end(rest)].trim_end_matches('.')).collect()
}

#[test]
fn every_place_names_the_same_rust_version() {
    let cargo = read("Cargo.toml");

    let wanted = versions_after(&cargo, "rust-version = \"");

    assert_eq!(wanted.len(), 1, "{wanted:?}");
    assert_eq!(versions_after(&read("README.md"), "[Rust](https://rustup.rs) "), wanted, "README.md");
    for (name, job) in workflow()["jobs"].as_object().unwrap() {
        let image = job["container"].as_str().unwrap();
        assert_eq!(versions_after(image, "rust:"), wanted, "{name}: {image}");
    }
}

/// A toolchain file would make rustup download a second Rust on a machine that has a newer one.
#[test]
fn no_toolchain_is_pinned() {
    for name in ["rust-toolchain", "rust-toolchain.toml"] {
        assert!(!root().join(name).exists(), "{name}");
    }
}

#[test]
fn the_workflow_runs_what_a_person_can_run() {
    let workflow = workflow();

    let lines = lines_that_run(&workflow);

    assert_eq!(lines, BTreeSet::from([".ci/run", "./dev lint --advisories"]));
    assert!(root().join(".ci/run").exists());
}
