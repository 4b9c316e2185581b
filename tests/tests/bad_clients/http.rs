//! Requests made from the description of the HTTP API, good and bad.

use std::path::Path;

use hongyan_runtime::functions;
use hongyan_testkit::TestApp;
use tokio::process::Command;

use super::Effort;

/// A user without any of the conversations in the examples of the description.
const CALLER: i64 = 7_340_033;
/// The number of requests for each route in the short run.
const EXAMPLES: &str = "15";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_description_says_is_so_and_nothing_else_is_taken() {
    let test = TestApp::builder().with_metrics().start().await;
    let effort = Effort::asked();
    let caller = test.user(CALLER);
    let mut arguments = vec!["--seed".to_owned(), effort.seed.to_string()];
    match effort.time {
        Some(time) => arguments.extend(["--max-time".to_owned(), time.as_secs().to_string()]),
        None => arguments.extend(["--max-examples".to_owned(), EXAMPLES.to_owned()]),
    }
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/run.sh");
    let output = Command::new(run)
        .arg(format!("http://{}", test.runtime().addr()))
        .args(arguments)
        .env("TOKEN", &caller.token)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    println!("{}{}", said(output.stdout), said(output.stderr));
    assert!(output.status.success(), "{}: see above", output.status);

    // The requests reached the functions: each route has answered one with success, and none has failed.
    let metrics = caller.get("/metrics").await.text;
    let answers = |path: &str, class: char| {
        let beginning = format!("hongyan_http_seconds_count{{route=\"{path}\",status=\"{class}");
        metrics.lines().any(|line| line.starts_with(&beginning))
    };
    for route in functions::routes() {
        assert!(answers(route.path, '2'), "{} has taken nothing", route.path);
        assert!(!answers(route.path, '5'), "{} has failed", route.path);
    }
    test.stop().await;
}
