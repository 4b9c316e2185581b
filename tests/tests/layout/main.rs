//! The layout of the source: no circle of files that use each other, one style of module files, and dependencies between
//! crates in one direction only. Needs no server.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: a source that cannot be read ends the test"
)]

mod arrows;
mod circles;
mod package;
mod samples;
mod source;

use std::collections::BTreeSet;
use std::path::Path;

use arrows::Arrow;
use package::Package;
use source::Sources;

/// The domain modules of `shared`. They only compute: they neither read nor write outside their process.
const DOMAIN: [&str; 6] = ["clock", "event", "id", "message", "snowflake", "worker"];

/// The modules of `shared` that a domain module may use besides those in [`DOMAIN`]. They only compute too.
const USED_BY_DOMAIN: [&str; 2] = ["json", "error"];

/// The external crates that a domain module may use: none of them reads or writes outside the process.
const PURE_CRATES: [&str; 8] =
    ["base64", "chrono", "proptest", "rand", "serde", "serde_json", "sha2", "thiserror"];

fn package(name: &str) -> Package {
    let found = package::all().into_iter().find(|package| package.name == name);
    found.unwrap_or_else(|| panic!("there is no package {name}"))
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut found = Vec::new();
    for package in package::all() {
        for root in &package.roots {
            let sources = Sources::read(root, package::text).unwrap();
            let arrows = arrows::all(&sources);
            for circle in circles::all(&arrows) {
                found.push(describe(&circle, &arrows));
            }
        }
    }
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
}

/// Names the files of a circle, and for each the names that it uses of another file of the circle.
fn describe(circle: &BTreeSet<&Path>, arrows: &[Arrow]) -> String {
    let within = arrows
        .iter()
        .filter(|arrow| circle.contains(&*arrow.from) && circle.contains(&*arrow.to))
        .map(|arrow| {
            let names: Vec<&str> = arrow.names.iter().map(String::as_str).collect();
            format!("  {} -> {}: {}\n", arrow.from.display(), arrow.to.display(), names.join(", "))
        });
    format!("circle of {} files\n{}", circle.len(), within.collect::<String>())
}

#[test]
fn a_module_is_a_file_beside_its_folder() {
    for package in package::all() {
        let mut in_a_module = BTreeSet::new();
        for root in &package.roots {
            let sources = Sources::read(root, package::text).unwrap();
            for file in sources.files {
                assert!(!file.by_path_attribute, "{}: `#[path]` on a module", file.path.display());
                in_a_module.insert(file.path);
            }
        }
        for file in package::rust_files(&package.folder) {
            assert!(!file.ends_with("mod.rs"), "{}: must be a file beside its folder", file.display());
            assert!(in_a_module.contains(&file), "{}: no `mod` names this file", file.display());
        }
    }
}

#[test]
fn arrows_between_crates_point_one_way() {
    let names: BTreeSet<String> = package::all().into_iter().map(|package| package.name).collect();
    for package in package::all() {
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for dependency in package.dependencies.iter().filter(|used| names.contains(&used.name)) {
            used.insert(&dependency.name);
            if dependency.name == "hongyan-stack" && package.name == "hongyan-runtime" {
                assert!(
                    dependency.optional,
                    "a production build of hongyan-runtime is without hongyan-stack"
                );
            }
        }
        let allowed = may_use(&package, &names);
        let wrong: Vec<_> = used.iter().filter(|name| !allowed.contains(**name)).collect();
        assert!(wrong.is_empty(), "{} must not depend on {wrong:?}", package.name);
    }
}

/// The packages of the workspace that `package` may depend on, directly.
fn may_use<'a>(package: &Package, names: &'a BTreeSet<String>) -> BTreeSet<&'a str> {
    let functions = package::all();
    let functions: BTreeSet<&str> = functions
        .iter()
        .filter(|package| package.is_function())
        .map(|package| package.name.as_str())
        .collect();
    let allowed = |name: &str| match package.name.as_str() {
        "hongyan" | "hongyan-stack" | "hongyan-model" => false,
        "hongyan-runtime" => name == "hongyan" || name == "hongyan-stack" || functions.contains(name),
        "hongyan-testkit" | "hongyan-bench" => {
            !matches!(name, "hongyan-tests" | "hongyan-drill" | "hongyan-model") && name != package.name
        }
        "hongyan-drill" => !matches!(name, "hongyan-tests" | "hongyan-model"),
        "hongyan-tests" => true,
        // A message that Kafka has lost is written by the compensator, with the consumer's own code.
        "hongyan-scheduled-compensator" => matches!(name, "hongyan" | "hongyan-kafka-consumer"),
        _ if package.is_function() => name == "hongyan",
        other => panic!("say here which crates {other} may depend on"),
    };
    names.iter().map(String::as_str).filter(|name| allowed(name)).collect()
}

#[test]
fn domain_modules_import_nothing_that_reads_or_writes() {
    let root = package("hongyan").roots.into_iter().find(|root| root.ends_with("src/lib.rs")).unwrap();
    let sources = Sources::read(&root, package::text).unwrap();
    let module_of = |file: &Path| file.file_stem().unwrap().to_string_lossy().into_owned();
    let domain = |file: &Path| DOMAIN.contains(&module_of(file).as_str());
    let found: BTreeSet<String> = sources
        .files
        .iter()
        .map(|file| module_of(&file.path))
        .filter(|name| DOMAIN.contains(&name.as_str()))
        .collect();
    assert_eq!(found, DOMAIN.into_iter().map(str::to_owned).collect());
    for arrow in arrows::all(&sources).iter().filter(|arrow| domain(&arrow.from)) {
        let to = module_of(&arrow.to);
        let allowed = DOMAIN.contains(&to.as_str()) || USED_BY_DOMAIN.contains(&to.as_str());
        assert!(allowed, "{} uses {:?} of {}", arrow.from.display(), arrow.names, arrow.to.display());
    }
    let mut packages = package("hongyan").dependencies;
    packages.retain(|dependency| !PURE_CRATES.contains(&dependency.crate_name().as_str()));
    for file in sources.files.iter().filter(|file| domain(&file.path)) {
        for name in arrows::outside(&sources, &file.path) {
            let wrong = packages.iter().any(|dependency| dependency.crate_name() == name);
            assert!(!wrong, "{} uses the crate {name}", file.path.display());
        }
    }
}
