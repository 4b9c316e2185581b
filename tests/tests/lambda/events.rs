//! `cargo lambda invoke` for every file in `events/`: first the files that README.md shows, in its order.

use hongyan_runtime::functions::{self, FUNCTIONS};
use hongyan_testkit::lambda::stop_all;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{House, sample};

/// The function and the file of each line in README.md, in order.
fn shown() -> Vec<(String, String)> {
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

/// The files that README.md does not show, each with its function.
fn others(shown: &[(String, String)]) -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../events");
    let files =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter(|file| shown.iter().all(|(_, other)| other != file)).collect();
    files.sort();
    files.into_iter().map(|file| (function_of(&sample(&file)).to_owned(), file)).collect()
}

/// The function of an event, recognised by fields that AWS sets.
fn function_of(event: &Value) -> &'static str {
    let route = functions::routes().iter().find(|route| event["routeKey"] == route.key);
    if let Some(route) = route {
        return route.function.name;
    }
    if event["requestContext"]["connectionId"].is_string() {
        return FUNCTIONS.websocket.name;
    }
    if event["detail-type"].is_string() { FUNCTIONS.schedule.name } else { FUNCTIONS.kafka.name }
}

/// The outcome of each file, after the files before it: the answer, or the end of the function's error. A sample of
/// the HTTP API that is not listed succeeds.
fn expected(file: &str) -> Result<Option<Value>, &'static str> {
    Ok(Some(match file {
        "send-not-json.json" => json!(400),
        "send-without-authorizer.json" | "connect.json" => json!(401),
        "disconnect.json" => json!(200),
        "ping.json" | "websocket-not-json.json" => json!(410),
        "kafka-no-records.json" => return Err("no records"),
        "kafka-other-source.json" => return Err("aws:sqs"),
        "schedule.json" => json!(false),
        file if file.starts_with("kafka-") => json!({"batchItemFailures": []}),
        _ => return Ok(None),
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_can_be_handed_to_its_function() {
    let house = House::open().await;
    let environments = house.lambda.every_function(&house.settings([]), 1);
    let url = house.lambda.url();
    let port = url.port().unwrap().to_string();
    // On a machine without IPv6, `cargo lambda invoke` must be told the address.
    let elsewhere = ["--invoke-address", "127.0.0.1"];
    let elsewhere = elsewhere.iter().filter(|_| url.host_str() == Some("127.0.0.1"));
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let shown = shown();
    for (function, file) in shown.iter().cloned().chain(others(&shown)) {
        let event = function_of(&sample(&file));
        assert!(event == function, "README.md hands {file}, an event of {event}, to {function}");
        let mut command = Command::new("cargo-lambda");
        command.args(["lambda", "invoke", &function, "--data-file", &format!("events/{file}")]);
        command.args(["--invoke-port", &port]).args(elsewhere.clone()).current_dir(root);
        let output = command.output().await.unwrap();
        let (answer, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match expected(&file) {
            Err(says) => {
                assert!(!output.status.success() && error.contains(says), "{file}: {answer}{error}");
                // The functions fail with a general error type, whose name would not help.
                assert!(error.starts_with("Error: FunctionError"), "{error}");
            }
            Ok(expected) => {
                assert!(output.status.success(), "{file}: {error}");
                let answer: Value = serde_json::from_str(&answer).unwrap();
                let told = [&answer["statusCode"], &answer["skipped"], &answer];
                let told = told.into_iter().find(|value| !value.is_null()).unwrap();
                match expected {
                    Some(expected) => assert_eq!(*told, expected, "{file}: {answer}"),
                    None => assert!((200..300).contains(&told.as_i64().unwrap()), "{file}: {answer}"),
                }
            }
        }
    }
    stop_all(environments).await;
    house.close().await;
}
