//! The GitHub workflows run the project's own scripts, with the Rust version that Cargo.toml asks for. A release, the binary
//! and the descriptions of the API have one version.

use std::collections::BTreeSet;

use hongyan_testkit::yaml;
use serde_json::Value;

use crate::source::{read, root};

const CI: &str = ".github/workflows/ci.yml";
const RELEASE: &str = ".github/workflows/release.yml";

fn workflow(path: &str) -> Value {
    yaml::read(&read(path))
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
    for path in [CI, RELEASE] {
        for (name, job) in workflow(path)["jobs"].as_object().unwrap() {
            // A job without a container only moves files.
            let Some(image) = job["container"].as_str() else { continue };
            assert_eq!(versions_after(image, "rust:"), wanted, "{path}: {name}: {image}");
        }
    }
    assert!(workflow(CI)["jobs"]["checks"]["container"].is_string());
    assert!(workflow(RELEASE)["jobs"]["build"]["container"].is_string());
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
    let workflow = workflow(CI);

    let lines = lines_that_run(&workflow);

    assert_eq!(lines, BTreeSet::from([".ci/run", "./dev lint --advisories"]));
    assert!(root().join(".ci/run").exists());
}

#[test]
fn a_release_is_made_by_the_command_that_a_person_has() {
    let workflow = workflow(RELEASE);

    let lines = lines_that_run(&workflow);

    assert!(lines.contains("./dev release ${{ matrix.options }} --lambda"), "{lines:?}");
    let options: Vec<_> =
        workflow["jobs"]["build"]["strategy"]["matrix"]["include"].as_array().unwrap().iter().collect();
    assert_eq!(
        options.iter().map(|one| one["options"].as_str().unwrap()).collect::<Vec<_>>(),
        ["--x86-64", "--arm64"]
    );
}

#[test]
fn the_binary_and_the_descriptions_have_one_version() {
    let cargo = read("Cargo.toml");
    let version =
        cargo.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"')).unwrap();

    for path in ["docs/openapi.yaml", "docs/asyncapi.yaml"] {
        assert_eq!(yaml::read(&read(path))["info"]["version"], version, "{path}");
    }
}
