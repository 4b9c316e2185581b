//! `serve`: listeners, tables that are not up to date, and a stop under load, over servers that are there already.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{Connection as _, MySqlConnection};
use tokio::net::TcpStream;

use crate::caller::{Caller, HalfSent, Outcome};
use crate::program::{Background, Running, ended, failure_of, hongyan, output_of, until};
use crate::{Load, STACKS, every_answer_is_a_row, migrate, no_process_is_left, settings};

type Settings = BTreeMap<String, String>;

/// A process that serves, and its internal listener.
struct Serving {
    running: Running,
    internal: Caller,
    alice: Caller,
}

impl Serving {
    async fn start(folder: &Path, given: &Settings, more: &[(&str, &str)]) -> Self {
        let given = given.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<(&str, &str)> = given.chain(more.iter().copied()).collect();
        let running = Running::start_as(folder, &["serve", "--internal-listen", "127.0.0.1:0"], &all).await;
        let internal: SocketAddr = running
            .greeting
            .iter()
            .find_map(|line| line.strip_prefix("/health, /ready, /metrics: http://"))
            .expect("it says where its internal listener is")
            .parse()
            .unwrap();
        let mut token = hongyan(folder, ["token", "1"]);
        token.envs(all);
        let token = output_of(token).await;
        let alice = Caller::new(running.address, token.trim());
        Self { running, internal: Caller::new(internal, ""), alice }
    }

    async fn ready(&self) -> Option<(u16, Value)> {
        match self.internal.request(Method::GET, "/ready", String::new()).await {
            Outcome::Answer(status, body) => Some((status, body)),
            Outcome::Refused | Outcome::Cut => None,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_over_servers_that_are_there_already() {
    let _turn = STACKS.acquire().await.unwrap();
    let (servers, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (servers, folder) = (servers.path(), folder.path());
    let _stopped_at_the_end = Background(servers);
    output_of(hongyan(servers, ["stack", "up"])).await;
    let mut given = settings(servers).await;
    lists_for_programs(servers, &given).await;
    dead_letters_need_kafka_alone(folder, &given).await;

    let (server, _) = given["MYSQL_URL"].rsplit_once('/').unwrap();
    let url = format!("{server}/hongyan_production");
    let mut connection = MySqlConnection::connect(&given["MYSQL_URL"]).await.unwrap();
    sqlx::raw_sql("CREATE DATABASE hongyan_production").execute(&mut connection).await.unwrap();
    given.insert("MYSQL_URL".to_owned(), url.clone());

    let mut early = hongyan(folder, ["serve", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"]);
    early.envs(&given);
    let line = failure_of(early).await;
    assert!(line.starts_with("MYSQL_URL: the tables are not up to date: "), "{line}");
    assert!(line.ends_with("beginning with 0001 message; run `hongyan migrate`"), "{line}");
    migrate::brings_an_empty_database_up_to_date(folder, &url).await;

    let serving = Serving::start(folder, &given, &[("HONGYAN_STOP_DELAY_SECONDS", "2")]).await;
    each_path_is_at_its_listener(&serving).await;
    the_limits_are_settings(folder, &given).await;
    a_push_arrives(folder, &given, &serving).await;
    let drained = a_stop_is_announced_and_loses_nothing(serving).await;

    let serving = Serving::start(folder, &given, &[("HONGYAN_STOP_DELAY_SECONDS", "0")]).await;
    every_answer_is_a_row(&url, "announced ", &drained).await;
    a_stop_is_bounded_in_time(folder, &given).await;
    serving.running.interrupt();
    let (status, lines) = serving.running.end().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    output_of(hongyan(servers, ["stack", "down"])).await;
    no_process_is_left(servers);
}

/// `env` and `stack status` print JSON for a program.
async fn lists_for_programs(servers: &Path, given: &Settings) {
    let env: Settings = serde_json::from_str(&output_of(hongyan(servers, ["env", "--json"])).await).unwrap();
    assert_eq!(&env, given);
    let status = output_of(hongyan(servers, ["stack", "status", "--json"])).await;
    let status: Vec<BTreeMap<String, Option<String>>> = serde_json::from_str(&status).unwrap();
    let names: Vec<&str> = status.iter().filter_map(|server| server["server"].as_deref()).collect();
    assert_eq!(names, ["Redis", "MySQL", "Kafka"]);
    assert!(
        status.iter().all(|server| server["answer"].is_some() && server["error"].is_none()),
        "{status:?}"
    );
}

async fn dead_letters_need_kafka_alone(folder: &Path, given: &Settings) {
    let with = |arguments: &[&str], names: &[&str]| {
        let mut command = hongyan(folder, arguments);
        command.envs(names.iter().map(|name| (*name, &given[*name])));
        command
    };
    let kafka = "KAFKA_BOOTSTRAP_SERVERS";
    for arguments in [&["dlq", "list"] as &[&str], &["dlq", "list", "--json"]] {
        let listed = ended(with(arguments, &[kafka])).await;
        assert_eq!((listed.code, listed.stdout.as_str()), (Some(0), ""), "{listed:?}");
    }
    let redrive = ["dlq", "redrive", "--dry-run"];
    assert_eq!(output_of(with(&redrive, &[kafka])).await, "would be sent back: 0, refused: 0\n");
    let checked = ["dlq", "redrive", "--dry-run", "--check"];
    let line = failure_of(with(&checked, &[kafka])).await;
    assert!(line.contains(folder.to_str().unwrap()), "MYSQL_URL is needed, and no stack says it: {line}");
    let said = output_of(with(&checked, &[kafka, "MYSQL_URL"])).await;
    assert_eq!(said, "would be sent back: 0, refused: 0\n");
}

async fn each_path_is_at_its_listener(serving: &Serving) {
    let connection = "/@connections/nobody";
    for (path, inside) in [("/health", 200), ("/ready", 200), ("/metrics", 200), (connection, 410)] {
        let ask = async |caller: &Caller| caller.request(Method::GET, path, String::new()).await;
        assert!(matches!(ask(&serving.alice).await, Outcome::Answer(404, _)), "{path} is public");
        let answer = ask(&serving.internal).await;
        assert!(matches!(&answer, Outcome::Answer(status, _) if *status == inside), "{path}: {answer:?}");
    }
    assert_eq!(serving.ready().await, Some((200, json!({ "status": "ready" }))));
    let with_token = Caller::new(serving.internal.address, &serving.alice.token);
    for path in ["/unread", "/ws", "/"] {
        let answer = with_token.request(Method::GET, path, String::new()).await;
        assert!(matches!(&answer, Outcome::Answer(404, _)), "{path}: {answer:?}");
    }
    let answer = serving.internal.request(Method::POST, "/ready", String::new()).await;
    assert!(matches!(answer, Outcome::Answer(405, _)), "{answer:?}");
    let answer = serving.alice.request(Method::GET, "/unread", String::new()).await;
    assert!(matches!(answer, Outcome::Answer(200, _)), "{answer:?}");
}

async fn the_limits_are_settings(folder: &Path, given: &Settings) {
    let serving = Serving::start(
        folder,
        given,
        &[("GATEWAY_MAX_BODY_BYTES", "1024"), ("HONGYAN_STOP_DELAY_SECONDS", "0")],
    )
    .await;
    let outcome = serving.alice.send(&"x".repeat(2_000)).await;
    assert!(matches!(outcome, Outcome::Answer(413, _)), "{outcome:?}");
    serving.running.signal(Signal::SIGTERM);
    let (status, lines) = serving.running.end().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
}

/// The function that sends reaches the receiver's WebSocket by way of the internal listener.
async fn a_push_arrives(folder: &Path, given: &Settings, serving: &Serving) {
    let mut token = hongyan(folder, ["token", "2"]);
    token.envs(given);
    let url = format!("ws://{}/ws?token={}", serving.alice.address, output_of(token).await.trim());
    let (mut bob, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let id = serving.alice.sent("pushed").await;
    let pushed = tokio::time::timeout(Duration::from_secs(10), bob.next()).await.expect("a push comes");
    let pushed: Value = serde_json::from_str(pushed.unwrap().unwrap().to_text().unwrap()).unwrap();
    assert_eq!((&pushed["type"], &pushed["data"]["id"]), (&json!("MESSAGE"), &json!(id.to_string())));
}

/// SIGTERM under load: `/ready` says no while new connections are still served, then they are refused while what was
/// accepted is finished, and `/ready` still answers.
async fn a_stop_is_announced_and_loses_nothing(serving: Serving) -> crate::Ledger {
    let load = Load::start(&serving.alice, "announced").await;
    serving.running.signal(Signal::SIGTERM);
    let stopping = Some((503, json!({ "status": "stopping" })));
    until("/ready says no", || async { serving.ready().await == stopping }).await;
    Caller::new(serving.alice.address, &serving.alice.token).sent("over a new connection").await;
    assert_eq!(serving.ready().await, stopping);
    let address = serving.alice.address;
    until("new connections are refused", || async { TcpStream::connect(address).await.is_err() }).await;
    assert_eq!(serving.ready().await, stopping, "what was accepted is not finished yet");
    let ledger = load.finish().await;
    let (status, lines) = serving.running.end().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert_eq!(lines.last().map(String::as_str), Some("Stopped."), "{lines:#?}");
    println!("SIGTERM: {} answered, {} not taken", ledger.answered.len(), ledger.unanswered.len());
    ledger
}

/// A client that never finishes its request does not hold a stop up.
async fn a_stop_is_bounded_in_time(folder: &Path, given: &Settings) {
    let limits = [("HONGYAN_STOP_SECONDS", "8"), ("HONGYAN_STOP_DELAY_SECONDS", "0")];
    let serving = Serving::start(folder, given, &limits).await;
    let _never_finished = HalfSent::start(&serving.alice, "never finished").await;
    let begun = Instant::now();
    serving.running.signal(Signal::SIGTERM);
    let (status, lines) = serving.running.end().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}: {lines:#?}", begun.elapsed());
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("they are cut off")), "{lines:#?}");
}
