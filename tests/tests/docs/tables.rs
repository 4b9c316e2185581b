//! The tables of settings, Redis keys and metrics.

use std::cell::RefCell;
use std::collections::BTreeSet;

use hongyan::config::Reader;
use hongyan::{secret, telemetry::metric};
use hongyan_runtime::settings::ServeSettings;

use crate::markdown::{Page, section};
use crate::source::{Tree, read};
use crate::symbols::{redis_keys, shape};

/// The page and the heading of the table of Redis keys.
const KEYS: (&str, &str) = ("docs/contract.md", "Keys");

/// The texts in backticks in the first cells of the tables of a part of a page.
fn told(page: &str, heading: &str) -> BTreeSet<String> {
    Page::of(section(&read(page), heading)).first_cells.into_iter().flat_map(|cell| cell.codes).collect()
}

#[test]
fn the_settings_table_has_what_the_code_asks_for_and_nothing_else() {
    let asked = RefCell::new(BTreeSet::from([secret::SETTINGS.to_owned(), secret::KAFKA_SASL.to_owned()]));
    // The settings need not be good ones. With SCRAM, the code asks for all of them.
    let mut reader = Reader::new(|name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        (name == "KAFKA_SECURITY").then(|| "sasl_scram".to_owned())
    });
    ServeSettings::read(&mut reader);
    drop(reader);
    assert_eq!(told("README.md", "Settings"), asked.into_inner());
}

#[test]
fn the_table_of_redis_keys_has_every_key_and_nothing_else() {
    let keys = redis_keys(&Tree::of_repository());
    assert!(keys.len() > 10, "{keys:?}");
    let told: BTreeSet<String> = told(KEYS.0, KEYS.1).iter().map(|key| shape(key)).collect();
    assert_eq!(told, keys);
}

#[test]
fn every_metric_is_told() {
    let page = read("docs/operations.md");
    let part = Page::of(section(&page, "Metrics and alarms"));
    let names: BTreeSet<&str> = metric::ALL.iter().map(|metric| metric.name).collect();
    let told: BTreeSet<&str> = part
        .codes
        .iter()
        .map(|(_, word)| word.as_str())
        .filter(|word| word.starts_with("hongyan_"))
        .collect();
    assert_eq!(told, names);
}
