//! Circles: files from which arrows lead back to the same file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::arrows::Arrow;

/// The largest sets of files in which arrows lead from every file to every other.
pub(crate) fn all(arrows: &[Arrow]) -> Vec<BTreeSet<&Path>> {
    let mut next: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for arrow in arrows {
        next.entry(&arrow.from).or_default().insert(&arrow.to);
    }
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        next.keys().map(|file| (*file, reached_from(file, &next))).collect();
    let mut circles: Vec<BTreeSet<&Path>> = Vec::new();
    for (file, files) in &reached {
        if files.contains(file) && !circles.iter().any(|circle| circle.contains(file)) {
            let back = |other: &&Path| reached.get(other).is_some_and(|files| files.contains(file));
            circles.push(files.iter().copied().filter(back).collect());
        }
    }
    circles
}

fn reached_from<'a>(file: &Path, next: &BTreeMap<&'a Path, BTreeSet<&'a Path>>) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&'a Path> = next.get(file).into_iter().flatten().copied().collect();
    while let Some(file) = waiting.pop() {
        if reached.insert(file) {
            waiting.extend(next.get(file).into_iter().flatten());
        }
    }
    reached
}
