//! The load generator (`./dev bench`) against the whole runtime: it does what it says, and its report adds up. How fast
//! anything is, is not tested here.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use clap::Parser as _;
use hongyan_bench::{Load, Options, Report, Scenario};
use hongyan_testkit::TestApp;

fn options(test: &TestApp, arguments: &[&str]) -> Options {
    let target = format!("http://{}", test.runtime().addr());
    let fixed = ["bench", "--target", &target, "--users", "10"];
    let mut options = Options::parse_from(fixed.iter().chain(arguments));
    options.secret = Some(test.settings["JWT_SECRET"].clone());
    options.servers = Some(test.config.clone());
    options
}

async fn bench(test: &TestApp, arguments: &[&str]) -> Report {
    hongyan_bench::run(&options(test, arguments)).await.unwrap()
}

fn only(report: &Report) -> &Load {
    assert_eq!(report.loads.len(), 1, "{report}");
    &report.loads[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_counted_once() {
    let test = TestApp::builder().with_metrics().start().await;

    let report =
        bench(&test, &["mixed", "--rate", "40", "--seconds", "2", "--warm-up", "1", "--connections", "8"])
            .await;

    println!("{report}");
    let load = only(&report);
    let counted: Vec<(&str, u64)> =
        load.latencies.iter().map(|line| (line.what, line.latency.count)).collect();
    assert_eq!(counted, [("send", 40), ("query", 32), ("read", 4), ("recall", 4), ("all", 80)]);
    assert_eq!((load.requests, load.unanswered), (80, 0));
    assert!(load.errors.is_empty(), "{:?}", load.errors);
    assert_eq!(load.overdue, 0);
    for line in &load.latencies {
        let latency = line.latency;
        let rising = [0.0, latency.p50, latency.p90, latency.p99, latency.p999, latency.max];
        assert!(rising.is_sorted() && latency.p50 > 0.0, "{line:?}");
    }
    assert!(load.persist_lag.is_some_and(|lag| lag.count > 0 && lag.p50 > 0.0), "{load:?}");
    assert!(load.rows_a_second.is_some_and(|rows| rows > 0.0), "{load:?}");
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    let json = &json["loads"][0];
    assert_eq!((&json["scenario"], &json["rate"]), (&"mixed".into(), &40.into()));
    assert!(json["latencies"][0]["p99"].is_number(), "{json}");
    // Each second that ended has its point, and no answer is in two of them.
    assert!(load.timeline.iter().map(|point| point.answered).sum::<u64>() <= 80, "{:?}", load.timeline);
    // 5 pairs with 30 messages each to be read, 10 sends of the warm-up (and one for its only recall), 40 of the load.
    let checked = report.checked.as_ref().unwrap();
    assert!(checked.holds() && checked.accepted >= 150 + 50, "{checked:?}");
    assert!(report.is_good(), "{report}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_sends_as_much_as_is_answered() {
    let test = TestApp::builder().start().await;

    let report = bench(&test, &["send", "--closed", "4", "--seconds", "1", "--warm-up", "0"]).await;

    println!("{report}");
    let load = only(&report);
    assert_eq!((load.rate, load.connections, load.unanswered), (None, 4, 0));
    assert!(load.errors.is_empty(), "{:?}", load.errors);
    assert!(load.requests > 4, "{report}");
    let checked = report.checked.as_ref().unwrap();
    assert_eq!((checked.accepted, checked.rows, checked.more_rows), (load.requests, load.requests, 0));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_not_in_mysql_are_missed() {
    let test = TestApp::builder().without_trigger().start().await;

    let report = bench(&test, &["query", "--rate", "10", "--seconds", "1", "--warm-up", "0"]).await;

    let checked = report.checked.as_ref().unwrap();
    assert_eq!((checked.accepted, checked.rows, checked.missing), (150, 0, 150));
    assert_eq!(checked.missing_ids.len(), 10);
    assert!(!report.is_good() && report.to_string().contains("NOT every accepted message once"), "{report}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_a_request_costs_each_server_and_how_they_flush() {
    let test = TestApp::builder().start().await;

    let report = bench(&test, &["--rate", "50", "--seconds", "1", "--warm-up", "0"]).await;

    println!("{report}");
    let costs = &only(&report).costs;
    let names: Vec<_> = costs.iter().map(|cost| cost.process).collect();
    assert_eq!(names, ["service", "Redis", "MySQL", "Kafka", "generator"]);
    // The service runs in the generator's process here, so that nobody can tell the two apart.
    assert!(costs[0].unavailable.as_ref().unwrap().contains("own process"), "{costs:?}");
    for cost in costs[1..4].iter().filter(|_| cfg!(target_os = "linux")) {
        assert!(cost.cpu_us.is_some() && cost.memory_mb.unwrap() > 1.0, "{cost:?}");
    }
    let setting = |name: &str| {
        let found = report.flush_settings.iter().find(|setting| setting.name == name);
        found.unwrap_or_else(|| unreachable!("no {name} in {:?}", report.flush_settings)).value.as_str()
    };
    assert_eq!(setting("appendfsync"), "everysec");
    assert_eq!(setting("innodb_flush_log_at_trx_commit"), "1");
    assert_eq!(setting("acks"), "all");
    assert!(!setting("sync_binlog").is_empty() && !setting("flush.messages").is_empty());
    assert!(report.servers.iter().any(|server| server.starts_with("Redis ")), "{:?}", report.servers);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_is_measured_by_itself() {
    let test = TestApp::builder().start().await;

    let report = bench(&test, &["--rate", "20", "--seconds", "1", "--warm-up", "0", "--bare", "1"]).await;

    println!("{report}");
    for bare in &report.bare {
        assert!(bare.a_second.is_some_and(|rate| rate > 0.0), "{bare:?}");
    }
    let names: Vec<_> = report.bare.iter().map(|bare| bare.server).collect();
    assert_eq!(names, ["Redis", "Kafka", "MySQL"]);
    assert!(report.ratio().is_some_and(|ratio| ratio > 0.0), "{report}");
    // Its own table and topic are gone.
    let tables: Vec<(String,)> =
        sqlx::query_as("SHOW TABLES LIKE 'hongyan_bench%'").fetch_all(&test.mysql).await.unwrap();
    assert!(tables.is_empty(), "{tables:?}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ladder_ends_with_the_first_rate_that_breaks_the_p99() {
    let test = TestApp::builder().start().await;
    let file = tempfile::NamedTempFile::with_suffix(".svg").unwrap();
    // Nothing that goes to Kafka and back takes less than 0.1 ms.
    let plot = ["--plot", file.path().to_str().unwrap()];
    let ladder = ["--ladder", "--step", "1", "--p99", "0.1", "--warm-up", "0"];
    let options = options(&test, &[&ladder[..], &plot[..]].concat());

    let report = hongyan_bench::run(&options).await.unwrap();
    hongyan_bench::write_files(&options, &report).unwrap();

    assert_eq!((report.steps().count(), report.highest_kept()), (1, None), "{report}");
    assert!(report.to_string().contains("no rate of the ladder had P99 <= 0.1 ms"), "{report}");
    let svg = std::fs::read_to_string(file.path()).unwrap();
    assert!(svg.contains("Latency over rate"), "{svg}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_run_measures_each_scenario_and_writes_its_tables_and_plots() {
    let test = TestApp::builder().start().await;
    let folder = tempfile::tempdir().unwrap();
    let full =
        ["--full", folder.path().to_str().unwrap(), "--seconds", "1", "--rate", "20", "--connections", "4"];
    let ladder = ["--step", "1", "--p99", "0.1", "--warm-up", "0"];
    let options = options(&test, &[&full[..], &ladder[..]].concat());

    let report = hongyan_bench::run(&options).await.unwrap();
    hongyan_bench::write_files(&options, &report).unwrap();

    let loads: Vec<_> = report.loads.iter().map(|load| (load.scenario, load.rate, load.step)).collect();
    let both = |scenario| [(scenario, Some(20), false), (scenario, None, false)];
    let mut wanted = both(Scenario::Send).to_vec();
    wanted.push((Scenario::Send, Some(250), true));
    wanted.extend(both(Scenario::Query));
    wanted.extend(both(Scenario::Mixed));
    assert_eq!(loads, wanted, "{report}");
    assert!(report.is_good(), "{report}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(json["loads"].as_array().unwrap().len(), wanted.len());
    assert!(
        read("tables.md").contains("| mixed, closed loop, 4 connections for 1 s |"),
        "{}",
        read("tables.md")
    );
    assert!(read("plots.svg").contains("Latency over rate"), "{}", read("plots.svg"));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_goes_away_ends_the_bench_with_what_was_measured() {
    let test = TestApp::builder().start().await;
    let options = options(&test, &["--rate", "50", "--seconds", "600", "--warm-up", "0"]);

    let mysql = test.mysql.clone();
    let stop = async {
        let rows = "SELECT COUNT(*) FROM message";
        while sqlx::query_scalar::<_, i64>(rows).fetch_one(&mysql).await.unwrap() < 20 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        test.stop().await;
    };
    let (report, ()) = tokio::join!(hongyan_bench::run(&options), stop);

    let report = report.unwrap();
    let load = only(&report);
    assert!(load.requests >= 20 && load.requests < 50 * 600, "{report}");
    assert!(load.latencies[0].latency.count >= 20, "{report}");
    assert!(report.ended.as_ref().unwrap().contains("cannot be reached any more"), "{report}");
    assert!(!report.is_good() && report.to_string().contains("ENDED before all was measured"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_when_the_figures_are_not_those_of_the_service() {
    let test = TestApp::builder().start().await;
    // One connection cannot carry so much.
    let overload = ["send", "--rate", "1500", "--seconds", "1", "--warm-up", "0", "--connections", "1"];
    let report = bench(&test, &overload).await;
    let load = only(&report);
    assert!(load.warnings.iter().any(|text| text.contains("all 1 connections were busy")), "{report}");
    assert!(load.warnings.iter().any(|text| text.contains("not the 1500 that were asked for")), "{report}");
    assert!(load.connection_wait_ms.p99 > 2.0 && load.reached < 1_500.0, "{report}");
    // A token signed with another key: each request counts as an error with the code of its answer.
    let mut options = options(&test, &["--seconds", "1", "--warm-up", "0", "--rate", "10"]);
    options.secret = Some("x".repeat(32));
    let report = hongyan_bench::run(&options).await.unwrap();
    let errors: Vec<_> =
        only(&report).errors.iter().map(|error| (error.code.as_str(), error.count)).collect();
    assert_eq!(errors, [("401 unauthorized", 10)]);
    test.stop().await;
}
