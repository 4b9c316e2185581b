//! The load generator (`./dev bench`) against the whole runtime: it sends the requests, and its report adds up. Speed
//! is not tested here.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use clap::Parser as _;
use hongyan_bench::{Options, Report};
use hongyan_testkit::TestApp;

async fn bench(test: &TestApp, arguments: &[&str]) -> Report {
    let target = format!("http://{}", test.runtime().addr());
    let fixed = ["bench", "--target", &target, "--users", "10"];
    let mut options = Options::parse_from(fixed.iter().chain(arguments));
    options.secret = Some(test.settings["JWT_SECRET"].clone());
    hongyan_bench::run(&options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_counted_once() {
    let test = TestApp::builder().with_metrics().start().await;
    let report =
        bench(&test, &["mixed", "--rate", "40", "--seconds", "2", "--warm-up", "1", "--connections", "8"])
            .await;
    println!("{report}");
    let counted: Vec<(&str, u64)> =
        report.latencies.iter().map(|line| (line.what, line.latency.count)).collect();
    assert_eq!(counted, [("send", 40), ("query", 32), ("read", 4), ("recall", 4), ("all", 80)]);
    assert_eq!((report.requests, report.unanswered), (80, 0));
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert_eq!(report.overdue, 0);
    for line in &report.latencies {
        let latency = line.latency;
        let rising = [0.0, latency.p50, latency.p90, latency.p99, latency.p999, latency.max];
        assert!(rising.is_sorted() && latency.p50 > 0.0, "{line:?}");
    }
    assert!(report.persist_lag.is_some_and(|lag| lag.count > 0 && lag.p50 > 0.0), "{report:?}");
    assert!(report.rows_a_second.is_some_and(|rows| rows > 0.0), "{report:?}");
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!((&json["scenario"], &json["rate"]), (&"mixed".into(), &40.into()));
    assert!(json["latencies"][0]["p99"].is_number(), "{json}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_when_the_figures_are_not_those_of_the_service() {
    let test = TestApp::builder().start().await;
    // One connection cannot carry so many requests.
    let overload = ["send", "--rate", "1500", "--seconds", "1", "--warm-up", "0", "--connections", "1"];
    let report = bench(&test, &overload).await;
    assert!(report.warnings.iter().any(|text| text.contains("all 1 connections were busy")), "{report}");
    assert!(report.warnings.iter().any(|text| text.contains("not the 1500 that were asked for")), "{report}");
    assert!(report.connection_wait_ms.p99 > 2.0 && report.reached < 1_500.0, "{report}");
    // A token signed with another key: each request counts as an error with the code of its answer.
    let mut options = Options::parse_from(["bench", "--seconds", "1", "--warm-up", "0", "--rate", "10"]);
    options.target = Some(format!("http://{}", test.runtime().addr()).parse().unwrap());
    options.secret = Some("x".repeat(32));
    let report = hongyan_bench::run(&options).await.unwrap();
    let errors: Vec<_> = report.errors.iter().map(|error| (error.code.as_str(), error.count)).collect();
    assert_eq!(errors, [("401 unauthorized", 10)]);
    test.stop().await;
}
