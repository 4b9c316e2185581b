//! `cargo lambda invoke`, as README.md shows it, for every file in `events/`.

use std::collections::BTreeSet;

use hongyan_testkit::lambda::stop_all;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::House;

/// The lines of README.md: function and file.
fn lines() -> Vec<(String, String)> {
    let readme = include_str!("../../../README.md");
    let commands = readme.lines().filter_map(|line| line.strip_prefix("cargo lambda invoke "));
    commands
        .map(|rest| {
            let (function, rest) = rest.split_once(" --data-file events/").unwrap();
            let file = rest.split_whitespace().next().unwrap();
            (function.to_owned(), file.to_owned())
        })
        .collect()
}

/// What each file makes of its function, with the stores as the lines above it left them: the answer, or how the error
/// of the function ends.
fn expected(file: &str) -> Result<Value, &'static str> {
    Ok(match file {
        "send.json" | "send-base64.json" => json!(201),
        "send-not-json.json" => json!(400),
        "send-without-authorizer.json" | "connect.json" => json!(401),
        "delete.json" => json!(204),
        "recall.json" | "query.json" | "query-before.json" | "query-after.json" | "query-changes.json"
        | "read.json" | "unread.json" | "disconnect.json" => json!(200),
        "ping.json" | "websocket-not-json.json" => json!(410),
        "kafka-msk.json"
        | "kafka-self-managed.json"
        | "kafka-broken-records.json"
        | "kafka-odd-envelopes.json" => {
            json!({"batchItemFailures": []})
        }
        "kafka-no-records.json" => return Err("no records"),
        "kafka-other-source.json" => return Err("aws:sqs"),
        "schedule.json" => json!(false),
        other => panic!("nothing is expected of events/{other}"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_can_be_handed_to_its_function_as_the_readme_shows() {
    let house = House::open().await;
    let environments = house.lambda.every_function(&house.settings([]), 1);
    let url = house.lambda.url();
    let port = url.port().unwrap().to_string();
    // Where the machine has no IPv6, `cargo lambda invoke` has to be told.
    let elsewhere = ["--invoke-address", "127.0.0.1"];
    let elsewhere = elsewhere.iter().filter(|_| url.host_str() == Some("127.0.0.1"));
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut handed = BTreeSet::new();
    for (function, file) in lines() {
        let mut command = Command::new("cargo-lambda");
        command.args(["lambda", "invoke", &function, "--data-file", &format!("events/{file}")]);
        command.args(["--invoke-port", &port]).args(elsewhere.clone()).current_dir(root);
        let output = command.output().await.unwrap();
        let (answer, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match expected(&file) {
            Err(says) => {
                assert!(!output.status.success() && error.contains(says), "{file}: {answer}{error}");
                // The functions fail with an error of no type of their own; its name would help nobody.
                assert!(error.starts_with("Error: FunctionError"), "{error}");
            }
            Ok(expected) => {
                assert!(output.status.success(), "{file}: {error}");
                let answer: Value = serde_json::from_str(&answer).unwrap();
                let told = [&answer["statusCode"], &answer["skipped"], &answer];
                assert_eq!(
                    told.into_iter().find(|value| !value.is_null()),
                    Some(&expected),
                    "{file}: {answer}"
                );
            }
        }
        handed.insert(file);
    }
    let files = std::fs::read_dir(format!("{root}/events")).unwrap();
    let files: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(handed, files, "README.md has a line for each file");
    stop_all(environments).await;
    house.close().await;
}
