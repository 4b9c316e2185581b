//! `hongyan lambda`: the same API, with every function as a process behind `cargo lambda watch`.

use std::collections::BTreeSet;
use std::path::Path;

use hongyan_runtime::functions;
use nix::sys::signal::Signal;
use tokio::net::TcpListener;

use crate::program::{Running, failure_of, hongyan, until};
use crate::{STACKS, caller, no_process_is_left, settings};

const ANY_PORT: [&str; 3] = ["lambda", "--invoke-port", "0"];

/// The functions whose processes use the Redis at this URL.
fn functions_of(redis_url: &str) -> BTreeSet<&'static str> {
    let ours = format!("REDIS_URL={redis_url}\0");
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let folder = entry.ok()?.path();
        let environment = std::fs::read(folder.join("environ")).ok()?;
        let name = folder.join("exe").read_link().ok()?.file_name()?.to_str()?.to_owned();
        let used = String::from_utf8_lossy(&environment).contains(&ours);
        functions::FUNCTIONS.names().find(|function| used && *function == name)
    });
    processes.collect()
}

async fn goes_its_way(content: &str, folder: &Path, running: &Running) {
    let alice = caller(folder, running).await;
    let id = alice.sent(content).await;
    until("the message is persisted", || async {
        alice.finds(id).await.expect("it is shown")["persistStatus"] == "PERSISTED"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_run_behind_the_invoke_api_and_end_with_the_command() {
    let _turn = STACKS.acquire().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let running = Running::start_as(folder, &ANY_PORT, &[]).await;
    goes_its_way("first", folder, &running).await;
    let redis_url = settings(folder).await["REDIS_URL"].clone();
    let running_now = functions_of(&redis_url);
    assert_eq!(
        running_now,
        BTreeSet::from(["kafka-consumer", "query", "send"]),
        "only the invoked functions run"
    );
    running.interrupt();
    let (status, lines) = running.end().await;
    assert!(status.success(), "{status}");
    let ended = lines.iter().filter(|line| line.contains("Graceful shutdown completed")).count();
    assert_eq!(ended, 3, "each function stopped in good order: {lines:#?}");
    assert_eq!(functions_of(&redis_url), BTreeSet::new());
    no_process_is_left(folder);

    let running = Running::start_as(folder, &ANY_PORT, &[]).await;
    goes_its_way("second", folder, &running).await;
    running.signal(Signal::SIGKILL);
    running.end().await;
    until("the functions and the servers have ended too", || async {
        functions_of(&redis_url).is_empty() && crate::processes(folder).is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_it_from_starting_is_said_before_any_server_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let lambda =
        |port: &str| hongyan(folder.path(), ["lambda", "--listen", "127.0.0.1:0", "--invoke-port", port]);
    let line = failure_of(lambda(&port)).await;
    assert!(
        line.starts_with(&format!("127.0.0.1:{port} is in use")) && line.contains("--invoke-port"),
        "{line}"
    );

    let mut command = lambda("0");
    command.env("PATH", "/usr/bin:/bin");
    let line = failure_of(command).await;
    assert!(line.starts_with("cargo-lambda is not installed; `./dev lambda`"), "{line}");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "no server was started");
}
