//! A short drill with a fixed seed: every fault once, and two at the same time. `./dev drill` does the same for
//! longer. Three drills run in parallel on servers of their own, because most of a drill is waiting.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test; the helpers beside it are part of it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use hongyan_drill::{Drill, Fault, Faults, Pace, drill};

async fn nothing_is_lost_doubled_or_resurrected(faults: Vec<Faults>) {
    let logs = tempfile::tempdir().unwrap();
    let short = Drill {
        faults,
        mixes: 0,
        at_least: Duration::ZERO,
        seed: 4,
        pace: Pace::short(),
        program: PathBuf::from(env!("CARGO_BIN_EXE_hongyan-drill")),
        logs: logs.path().to_owned(),
    };
    let drilled = drill(&short, std::future::pending(), |line| println!("{line}"));
    let offences = match Box::pin(drilled).await {
        Ok(report) => {
            println!("{report}");
            if report.is_clean() {
                return;
            }
            report.offences().join("\n")
        }
        Err(error) => format!("{error:#}"),
    };
    print_warnings(logs.path());
    panic!("the log stays in {}:\n{offences}", logs.keep().display());
}

/// Prints the last warnings of each process: a machine that runs checks keeps the output of a test, and no file.
fn print_warnings(logs: &Path) {
    const LINES: usize = 60;
    for file in std::fs::read_dir(logs).unwrap() {
        let file = file.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        let warnings: Vec<&str> =
            text.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR ")).collect();
        println!("{}:", file.display());
        println!("{}", warnings[warnings.len().saturating_sub(LINES)..].join("\n"));
    }
}

/// Every second fault for one Redis server, starting with fault `first`, and a mix of two.
fn half(first: usize, mix: &str) -> Vec<Faults> {
    let all = Fault::all().filter(|fault| !fault.needs_a_cluster());
    let mut faults: Vec<Faults> = all.skip(first).step_by(2).map(|fault| Faults(vec![fault])).collect();
    faults.push(mix.parse().unwrap());
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_of_the_first_half() {
    Box::pin(nothing_is_lost_doubled_or_resurrected(half(0, "kafka-freeze+mysql-kill"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_of_the_second_half() {
    Box::pin(nothing_is_lost_doubled_or_resurrected(half(1, "redis-kill+consumer-rebalance"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_redis_cluster_does() {
    let faults = Fault::all().filter(|fault| fault.needs_a_cluster()).map(|fault| Faults(vec![fault]));
    Box::pin(nothing_is_lost_doubled_or_resurrected(faults.collect())).await;
}
