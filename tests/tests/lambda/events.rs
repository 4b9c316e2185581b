//! `cargo lambda invoke` for every file in `events/`: first the files that README.md shows, in its order.

use std::collections::{BTreeMap, BTreeSet};

use hongyan::telemetry::metric::{self, Metric};
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
    assert_every_function_told_its_metrics(&house.lambda.metrics());
    house.close().await;
}

/// Each function has told figures of itself and its version, and no line has words of a message or more than known labels.
fn assert_every_function_told_its_metrics(lines: &[Value]) {
    let all: BTreeMap<&str, &Metric> = metric::ALL.iter().map(|metric| (metric.name, metric)).collect();
    for line in lines {
        assert_eq!((&line["stack"], &line["version"]), (&json!("hongyan"), &json!("1")), "{line}");
        let told = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(told["Namespace"], "Hongyan");
        assert_eq!(told["Dimensions"].as_array().map(Vec::len), Some(2), "{line}");
        let (of_stack, of_version) = (&told["Dimensions"][0], &told["Dimensions"][1]);
        assert_eq!(of_stack[0], "stack");
        assert_eq!(of_version.as_array().unwrap()[..3], ["stack", "function", "version"]);
        let dimensions = [of_stack, of_version].into_iter().flat_map(|set| set.as_array().unwrap());
        let metrics = told["Metrics"].as_array().unwrap().iter().map(|metric| &metric["Name"]);
        let named: BTreeSet<&str> = dimensions.chain(metrics).map(|name| name.as_str().unwrap()).collect();
        let fields: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let unnamed: Vec<_> = fields.difference(&named).filter(|field| **field != "_aws").collect();
        assert!(unnamed.is_empty(), "{line}: {unnamed:?} is neither a dimension nor a metric");
        assert!(!line.to_string().contains("你好"), "{line}");
    }
    let told_by = |function: &str, name: &str| {
        assert!(all.contains_key(name), "{name}");
        lines.iter().any(|line| line["function"] == function && line.get(name).is_some())
    };
    for function in FUNCTIONS.names() {
        assert!(told_by(function, metric::MYSQL_CONNECTIONS), "{function} told nothing of itself");
    }
    for function in FUNCTIONS.http.iter().map(|function| function.name).chain([FUNCTIONS.websocket.name]) {
        assert!(told_by(function, metric::RESPONSES), "{function} counted no answer");
    }
    assert!(told_by(FUNCTIONS.schedule.name, metric::PENDING_OLDEST_SECONDS));
    assert!(told_by("query", metric::HISTORY_SECONDS));
}
