//! A short drill with a fixed seed: every fault once, and two at the same time. `./dev drill` does the same at length.

use std::path::PathBuf;
use std::time::Duration;

use hongyan_drill::{Drill, Pace, drill};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_resurrected_whatever_fails() {
    let logs = tempfile::tempdir().unwrap();
    let short = Drill {
        faults: Vec::new(),
        mixes: 2,
        at_least: Duration::ZERO,
        seed: 4,
        pace: Pace::short(),
        program: PathBuf::from(env!("CARGO_BIN_EXE_hongyan-drill")),
        logs: logs.path().to_owned(),
    };
    let report = drill(&short, std::future::pending(), |line| println!("{line}")).await.unwrap();
    println!("{report}");
    if !report.is_clean() {
        let logs = logs.keep();
        panic!("the log stays in {}:\n{}", logs.display(), report.offences().join("\n"));
    }
}
