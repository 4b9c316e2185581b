//! `check-config`: every fault at once, and what counts without secrets.

use serde_json::Value;

use crate::program::{ended, hongyan, output_of};

const SECRET: &str = "a secret of more than thirty-two bytes";
const COMPLETE: [(&str, &str); 4] = [
    ("REDIS_URL", "redis://:hunter2@127.0.0.1:6379/1"),
    ("MYSQL_URL", "mysql://hongyan:hunter2@127.0.0.1:3306/hongyan"),
    ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
    ("JWT_SECRET", SECRET),
];

#[tokio::test]
async fn every_fault_is_said_at_once_and_what_counts_is_shown_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let command = |arguments: &[&str]| {
        let mut command = hongyan(folder.path(), ["check-config"].iter().chain(arguments));
        command.envs(COMPLETE);
        command
    };
    let shown = output_of(command(&[])).await;
    for line in [
        "REDIS_URL=redis://:(hidden)@127.0.0.1:6379/1",
        "JWT_SECRET=(hidden)",
        "JWT_JWKS_URL (not set)",
        "KAFKA_PARTITIONS=10 (default)",
        "GATEWAY_MAX_CONNECTIONS=4096 (default)",
        "HONGYAN_INTERNAL_LISTEN=127.0.0.1:8081 (default)",
        "HONGYAN_STOP_SECONDS=25 (default)",
    ] {
        assert!(shown.lines().any(|found| found == line), "no {line} in {shown}");
    }
    assert!(!shown.contains("hunter2") && !shown.contains(SECRET), "{shown}");

    let mut wrong = command(&["--json"]);
    wrong
        .env_remove("MYSQL_URL")
        .env("REDIS_URL", "http://:hunter2@h/")
        .env("GATEWAY_MAX_CONNECTIONS", "0")
        .env("HONGYAN_LISTEN", "localhost:8080")
        .env("LOG_LEVEL", "loud=loud");
    let refused = ended(wrong).await;
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), ""), "{refused:?}");
    let shown: Value = serde_json::from_str(&refused.stdout).unwrap();
    let variables = ["REDIS_URL", "MYSQL_URL", "GATEWAY_MAX_CONNECTIONS", "HONGYAN_LISTEN", "LOG_LEVEL"];
    let faults = shown["faults"].as_array().unwrap();
    assert_eq!(faults.len(), variables.len(), "{faults:?}");
    for (fault, variable) in faults.iter().zip(variables) {
        assert!(fault.as_str().unwrap().starts_with(&format!("{variable} must be ")), "{fault}");
    }
    let settings = shown["settings"].as_array().unwrap();
    let named = |name: &str| settings.iter().find(|setting| setting["name"] == name);
    assert_eq!(named("KAFKA_WAIT_MS").unwrap()["value"], "200");
    assert_eq!(named("KAFKA_WAIT_MS").unwrap()["isDefault"], true);
    assert!(variables.iter().all(|name| named(name).is_none()), "a wrong value counts for nothing");
    assert!(!refused.stdout.contains("hunter2"), "{refused:?}");

    let mut wrong = command(&[]);
    wrong.env_remove("JWT_SECRET").env("KAFKA_PARTITIONS", "many");
    let refused = ended(wrong).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let lines: Vec<&str> = refused.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{refused:?}");
    assert!(
        lines[0].starts_with("error: KAFKA_PARTITIONS must be ")
            && lines[1].starts_with("error: JWT_SECRET ")
    );

    // A process that serves says the same, before it touches a server.
    let mut serve = hongyan(folder.path(), ["serve"]);
    serve.envs(COMPLETE).env_remove("JWT_SECRET").env("KAFKA_PARTITIONS", "many");
    let serve = ended(serve).await;
    assert_eq!((serve.code, serve.stderr), (Some(1), refused.stderr));
}

#[tokio::test]
async fn the_usage_names_the_command_as_it_was_called() {
    let folder = tempfile::tempdir().unwrap();
    let usage = output_of(hongyan(folder.path(), ["migrate", "--help"])).await;
    assert!(usage.contains("Usage: hongyan migrate "), "{usage}");
    let mut by_dev = hongyan(folder.path(), ["dlq", "list", "--help"]);
    by_dev.arg0("./dev");
    let usage = output_of(by_dev).await;
    assert!(usage.contains("Usage: ./dev dlq list "), "{usage}");
}
