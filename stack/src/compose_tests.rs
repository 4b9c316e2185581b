//! Tests that `compose.yaml` runs the servers with the settings of the native stack.

use std::collections::BTreeMap;
use std::path::Path;

use super::{kafka, mysql, redis};

const COMPOSE: &str = include_str!("../../compose.yaml");

/// The lines of one service in `compose.yaml`.
fn service(name: &str) -> Vec<&'static str> {
    let head = format!("  {name}:");
    let lines = COMPOSE.lines().skip_while(|line| *line != head).skip(1);
    lines.take_while(|line| line.is_empty() || line.starts_with("   ")).collect()
}

fn environment(name: &str) -> BTreeMap<String, String> {
    service(name)
        .into_iter()
        .filter_map(|line| line.strip_prefix("      ")?.split_once(": "))
        .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

#[test]
fn kafka_has_every_setting_of_the_native_one() {
    let environment = environment("kafka");
    let settings =
        kafka::SETTINGS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    for (key, value) in settings {
        let variable = format!("KAFKA_{}", key.replace('.', "_").to_uppercase());
        assert_eq!(environment.get(&variable).map(String::as_str), Some(value), "{variable}");
    }
}

#[test]
fn kafka_is_of_the_version_that_maven_gives() {
    let image = format!("    image: apache/kafka:{}", kafka::VERSION);
    assert!(service("kafka").contains(&image.as_str()));
}

#[test]
fn redis_and_mysql_read_the_very_files_of_the_native_ones() {
    for (name, file, settings) in [
        ("redis", "./stack/servers/redis.conf", redis::SETTINGS),
        ("mysql", "./stack/servers/mysql.cnf", mysql::SETTINGS),
    ] {
        let mount = format!("      - {file}:");
        assert!(service(name).iter().any(|line| line.starts_with(&mount)), "{name} mounts {file}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        assert_eq!(std::fs::read_to_string(path).unwrap(), settings);
    }
    for line in ["appendonly yes", "appendfsync everysec", "maxmemory 2gb", "maxmemory-policy volatile-lru"] {
        assert!(redis::SETTINGS.lines().any(|setting| setting == line), "{line}");
    }
    assert!(mysql::SETTINGS.contains("\ninnodb_flush_log_at_trx_commit = 1\n"));
}

#[test]
fn each_server_is_pinned_checked_kept_and_on_the_loopback_only() {
    for name in ["redis", "mysql", "kafka"] {
        let lines = service(name);
        let value =
            |key: &str| lines.iter().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_default();
        let (_, tag) = value("image: ").split_once(':').expect("a version");
        assert!(tag.split('.').count() >= 3 && tag != "latest", "{name} {tag}");
        assert!(value("ports: ").starts_with("[\"127.0.0.1:${"), "{name}");
        assert!(lines.contains(&"    healthcheck:"), "{name}");
        assert!(
            lines.iter().any(|line| line.starts_with(&format!("      - {name}:/"))),
            "{name} has a volume"
        );
    }
}
