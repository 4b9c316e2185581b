//! The program as a user runs it: started, used from another terminal, stopped, killed, and started with faults.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, outside of the functions that clippy knows as such"
)]

mod attack;
mod caller;
mod check_config;
mod lambda;
mod migrate;
mod program;
mod redrive;
mod serve;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nix::sys::signal::Signal;
use sqlx::{Connection as _, MySqlConnection};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;

use caller::{Caller, HalfSent, Outcome, id_of};
use program::{Background, Running, ended, failure_of, hongyan, output_of, processes, until};

/// Each stack takes much memory, so at most two run at a time.
static STACKS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(2);

/// The number of sends under way at the same time.
const WORKERS: usize = 16;
/// The number of sends in the test that kills the process.
const SENDS: usize = 5_000;

/// The settings that `env` prints, as a shell reads them.
async fn settings(folder: &Path) -> BTreeMap<String, String> {
    let text = output_of(hongyan(folder, ["env"])).await;
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').expect("KEY=value");
        (name.to_owned(), value.to_owned())
    };
    text.lines().map(pair).collect()
}

async fn caller(folder: &Path, running: &Running) -> Caller {
    Caller::new(running.address, output_of(hongyan(folder, ["token", "1"])).await.trim())
}

/// The id and content of each row whose content begins with `prefix`.
async fn rows(url: &str, prefix: &str) -> Vec<(i64, String)> {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    let query = "SELECT id, content FROM message WHERE status = 1 AND content LIKE CONCAT(?, '%')";
    sqlx::query_as(query).bind(prefix).fetch_all(&mut connection).await.unwrap()
}

fn no_process_is_left(folder: &Path) {
    assert_eq!(processes(folder), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_kept_through_a_stop_a_kill_and_a_restart() {
    let _turn = STACKS.acquire().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let running = Running::start(folder, &[]).await;
    for server in ["Redis ", "M", "Apache Kafka "] {
        let line = running.greeting.iter().find(|line| line.starts_with(server));
        let named = line.is_some_and(|line| line.contains(" at 127.0.0.1:") && line.contains('.'));
        assert!(named, "a line with the version of {server}: {:#?}", running.greeting);
    }
    let before = settings(folder).await;
    let alice = caller(folder, &running).await;
    let first = alice.sent("鸿雁 🪿").await;
    until("the message is persisted", || async {
        alice.finds(first).await.expect("it is shown")["persistStatus"] == "PERSISTED"
    })
    .await;
    another_terminal(folder).await;
    a_second_start_is_refused(folder, &running).await;
    assert!(alice.finds(first).await.is_some(), "the first one goes on");
    redrive::killed_in_the_middle_it_goes_on(folder, &before).await;
    trace::is_followed_through_every_stage(folder, &before, &alice).await;
    attack::takes_bounded_memory(running.pid(), &alice).await;
    let drained = sigterm_finishes_what_was_accepted(folder, running, &alice).await;

    let running = Running::start(folder, &[]).await;
    let settings_now = settings(folder).await;
    assert_eq!(settings_now, before, "the same addresses and passwords as before");
    let alice = caller(folder, &running).await;
    let message = alice.finds(first).await.expect("the history is still there");
    assert_eq!((&message["content"], &message["persistStatus"]), (&"鸿雁 🪿".into(), &"PERSISTED".into()));
    every_answer_is_a_row(&settings_now["MYSQL_URL"], "drained ", &drained).await;

    kill_in_the_middle_of_sends(folder, running).await;
    no_process_is_left(folder);
}

/// Runs `token`, `env`, `stack` and `dlq` on the data folder of a running process.
async fn another_terminal(folder: &Path) {
    let ours = settings(folder).await;
    for name in ["REDIS_URL", "MYSQL_URL", "KAFKA_BOOTSTRAP_SERVERS", "JWT_SECRET"] {
        assert!(ours.contains_key(name), "{ours:?}");
    }
    let mut shell = Command::new("/bin/sh");
    shell
        .args([
            "-c",
            r#"set -a; eval "$("$0" env)"; set +a; printenv MYSQL_URL"#,
            env!("CARGO_BIN_EXE_hongyan"),
        ])
        .env("HONGYAN_DATA", folder);
    assert_eq!(output_of(shell).await.trim(), ours["MYSQL_URL"]);

    for user in ["0", "alice", "9223372036854775808"] {
        let refused = ended(hongyan(folder, ["token", user])).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.starts_with(&format!("error: invalid value '{user}'")), "{refused:?}");
        assert_eq!(refused.stdout, "");
    }
    let status = output_of(hongyan(folder, ["stack", "status"])).await;
    assert_eq!(status.lines().count(), 3, "{status}");
    let versions = output_of(hongyan(folder, ["stack", "versions"])).await;
    for server in ["Redis: ", "MySQL: ", "Kafka: "] {
        assert!(versions.contains(server), "{versions}");
    }
    let none = ended(hongyan(folder, ["dlq", "list"])).await;
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""), "{none:?}");
    assert_eq!(none.stderr, "No dead letter in im-message-dead-letter matches.\n");
    let line = failure_of(hongyan(folder, ["dlq", "show", "0/0"])).await;
    assert_eq!(line, "im-message-dead-letter has no record 0/0");

    let nowhere = tempfile::tempdir().unwrap();
    for arguments in [&["env"] as &[&str], &["token", "1"], &["stack", "status"], &["dlq", "list"]] {
        let line = failure_of(hongyan(nowhere.path(), arguments)).await;
        assert!(line.contains(nowhere.path().to_str().unwrap()), "{line}");
    }
}

async fn a_second_start_is_refused(folder: &Path, running: &Running) {
    let line = failure_of(hongyan(folder, ["run", "--listen", "127.0.0.1:0"])).await;
    assert!(line.contains(folder.to_str().unwrap()) && line.contains("process "), "{line}");

    let other = tempfile::tempdir().unwrap();
    let address = running.address.to_string();
    let line = failure_of(hongyan(other.path(), ["run", "--listen", &address])).await;
    assert!(line.contains(&address) && line.contains("HONGYAN_LISTEN"), "{line}");
    no_process_is_left(other.path());
}

/// The sends that were answered, and those that were not.
#[derive(Debug, Default)]
struct Ledger {
    answered: BTreeMap<i64, String>,
    unanswered: BTreeSet<String>,
}

impl Ledger {
    fn note(&mut self, content: String, outcome: Outcome) {
        match outcome {
            Outcome::Answer(200 | 201, message) => {
                self.answered.insert(id_of(&message), content);
            }
            Outcome::Answer(503, _) | Outcome::Refused | Outcome::Cut => {
                self.unanswered.insert(content);
            }
            Outcome::Answer(..) => panic!("{content}: {outcome:?}"),
        }
    }

    fn add(&mut self, other: Self) {
        self.answered.extend(other.answered);
        self.unanswered.extend(other.unanswered);
    }
}

/// Sends under way: some wait for the rest of their bodies, and others come as fast as possible.
struct Load {
    prefix: &'static str,
    half_sent: Vec<HalfSent>,
    workers: JoinSet<Ledger>,
}

impl Load {
    /// Returns once requests are answered. The contents begin with `prefix`.
    async fn start(alice: &Caller, prefix: &'static str) -> Self {
        let mut half_sent = Vec::new();
        for number in 0..WORKERS {
            half_sent.push(HalfSent::start(alice, &format!("{prefix} half {number}")).await);
        }
        let answers = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            // Each worker has its own connection, which it keeps open.
            let (caller, answers) = (Caller::new(alice.address, &alice.token), answers.clone());
            workers.spawn(async move {
                let mut ledger = Ledger::default();
                for number in 0.. {
                    let content = format!("{prefix} {worker} {number}");
                    let outcome = caller.send(&content).await;
                    let refused = matches!(outcome, Outcome::Refused);
                    answers.fetch_add(1, Ordering::Relaxed);
                    ledger.note(content, outcome);
                    if refused {
                        break;
                    }
                }
                ledger
            });
        }
        until("requests flow", || async { answers.load(Ordering::Relaxed) > 10 * WORKERS }).await;
        Self { prefix, half_sent, workers }
    }

    /// Sends the rest of each body, expects an answer, and waits until new sends are refused.
    async fn finish(mut self) -> Ledger {
        let mut ledger = Ledger::default();
        for (number, half) in self.half_sent.into_iter().enumerate() {
            ledger.answered.insert(half.finish().await, format!("{} half {number}", self.prefix));
        }
        while let Some(worker) = self.workers.join_next().await {
            ledger.add(worker.unwrap());
        }
        ledger
    }
}

/// Sends SIGTERM while some sends wait for the rest of their bodies and others come as fast as possible.
async fn sigterm_finishes_what_was_accepted(folder: &Path, running: Running, alice: &Caller) -> Ledger {
    let load = Load::start(alice, "drained").await;
    running.signal(Signal::SIGTERM);
    until("new connections are refused", || async { TcpStream::connect(alice.address).await.is_err() }).await;
    let ledger = load.finish().await;
    let (status, lines) = running.end().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(lines.last().is_some_and(|line| line.starts_with("Stopped.")), "{lines:#?}");
    no_process_is_left(folder);
    println!("SIGTERM: {} answered, {} not taken", ledger.answered.len(), ledger.unanswered.len());
    ledger
}

/// Waits until each answered send is a row, and checks that no other send is.
async fn every_answer_is_a_row(url: &str, prefix: &str, ledger: &Ledger) {
    until("the answered sends are in MySQL", || async {
        let rows: BTreeMap<i64, String> = rows(url, prefix).await.into_iter().collect();
        ledger.answered.keys().all(|id| rows.contains_key(id))
    })
    .await;
    let rows: BTreeMap<i64, String> = rows(url, prefix).await.into_iter().collect();
    assert_eq!(rows, ledger.answered, "a send without an answer was not accepted");
}

/// Sends each of `contents`, [`WORKERS`] at a time. Calls `at_half` when half of [`SENDS`] have been answered.
async fn send_all(
    caller: &Caller,
    contents: Vec<String>,
    at_half: impl Fn() + Send + Sync + 'static,
) -> Ledger {
    let contents = Arc::new(parking_lot::Mutex::new(contents));
    let (answers, at_half) = (Arc::new(AtomicUsize::new(0)), Arc::new(at_half));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (caller, contents) = (caller.clone(), contents.clone());
        let (answers, at_half) = (answers.clone(), at_half.clone());
        workers.spawn(async move {
            let mut ledger = Ledger::default();
            loop {
                let Some(content) = contents.lock().pop() else { return ledger };
                let outcome = caller.send(&content).await;
                let answered = matches!(outcome, Outcome::Answer(..));
                ledger.note(content, outcome);
                if answered && answers.fetch_add(1, Ordering::Relaxed) + 1 == SENDS / 2 {
                    at_half();
                }
            }
        });
    }
    let mut ledger = Ledger::default();
    while let Some(worker) = workers.join_next().await {
        ledger.add(worker.unwrap());
    }
    ledger
}

/// Kills the process by SIGKILL at half of 5,000 sends and starts it again over the same data. Sends without an
/// answer are repeated with the same `clientMsgId`, as clients do.
async fn kill_in_the_middle_of_sends(folder: &Path, running: Running) {
    // The compensator sends again the records that Kafka had not acknowledged. It must not wait minutes for that
    // here.
    let quick = [("IM_COMPENSATE_AFTER_SECONDS", "5")];
    let alice = caller(folder, &running).await;
    let contents: Vec<String> = (0..SENDS).map(|number| format!("killed {number}")).collect();
    let running = Arc::new(running);
    let victim = running.clone();
    let ledger = send_all(&alice, contents, move || victim.signal(Signal::SIGKILL)).await;
    let accepted = ledger.answered;
    assert!(accepted.len() >= SENDS / 2, "{} were accepted", accepted.len());
    assert!(!ledger.unanswered.is_empty(), "the process died while sends were under way");
    let running = Arc::into_inner(running).expect("no send is under way");
    let (status, _) = running.end().await;
    assert_eq!(status.code(), None, "killed: {status}");

    let running = Running::start(folder, &quick).await;
    let alice = caller(folder, &running).await;
    let mut left: Vec<String> = ledger.unanswered.into_iter().collect();
    let mut again = BTreeMap::new();
    while !left.is_empty() {
        let ledger = send_all(&alice, left, || ()).await;
        again.extend(ledger.answered);
        left = ledger.unanswered.into_iter().collect();
    }
    let url = settings(folder).await["MYSQL_URL"].clone();
    let start = Instant::now();
    until("every send is in MySQL", || async {
        let rows = rows(&url, "killed ").await;
        rows.into_iter().map(|(_, content)| content).collect::<BTreeSet<_>>().len() == SENDS
    })
    .await;
    let rows = rows(&url, "killed ").await;
    let by_id: BTreeMap<i64, &str> = rows.iter().map(|(id, content)| (*id, content.as_str())).collect();
    let lost = accepted.iter().filter(|(id, content)| by_id.get(id) != Some(&content.as_str())).count();
    let doubled = rows.len() - rows.iter().map(|(_, content)| content).collect::<BTreeSet<_>>().len();
    println!(
        "kill -9: {} accepted, {} sent again, {lost} lost, {doubled} doubled; all in MySQL {:?} after the last answer",
        accepted.len(),
        again.len(),
        start.elapsed()
    );
    assert_eq!((lost, doubled), (0, 0));
    assert_eq!(rows.len(), SENDS);

    running.interrupt();
    let (status, lines) = running.end().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    no_process_is_left(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_one_clear_line_and_leaves_nothing_running() {
    let _turn = STACKS.acquire().await.unwrap();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |folder: &Path| hongyan(folder, ["run", "--listen", "127.0.0.1:0"]);

    let mut command = run(other.path());
    command.env("JWT_SECRET", "too short");
    let line = failure_of(command).await;
    assert!(line.starts_with("JWT_SECRET ") && !line.contains("too short"), "{line}");
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0, "no server was started");

    let mut command = run(other.path());
    command.env("HONGYAN_STACK", "podman");
    assert_eq!(failure_of(command).await, "HONGYAN_STACK: must be native or docker");

    let _servers = Background(folder.path());
    output_of(hongyan(folder.path(), ["stack", "up"])).await;
    let given = settings(folder.path()).await;

    // Only Redis is given. The stack has started the other two by the time Redis answers.
    let mut command = run(other.path());
    command.env("REDIS_URL", given["REDIS_URL"].replace("redis://:", "redis://:wrong"));
    let line = failure_of(command).await;
    assert!(line.starts_with("REDIS_URL: Redis refuses the user or the password"), "{line}");
    no_process_is_left(other.path());

    let mut connection = MySqlConnection::connect(&given["MYSQL_URL"]).await.unwrap();
    let (server, _) = given["MYSQL_URL"].rsplit_once('/').unwrap();
    for (database, statement, reason) in [
        ("hongyan_table", "CREATE TABLE message (id BIGINT PRIMARY KEY)", "message"),
        (
            "hongyan_history",
            "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
             installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, \
             checksum BLOB NOT NULL, execution_time BIGINT NOT NULL) \
             SELECT 1 AS version, 'message' AS description, TRUE AS success, x'00' AS checksum, 1 AS execution_time",
            "migration 1",
        ),
    ] {
        let prepared = format!("CREATE DATABASE {database}; USE {database}; {statement}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(prepared)).execute(&mut connection).await.unwrap();
        let mut command = run(other.path());
        command.envs(&given);
        command.env("MYSQL_URL", format!("{server}/{database}"));
        let line = failure_of(command).await;
        assert!(line.starts_with("mysql: store.migrate: ") && line.contains(reason), "{line}");
        no_process_is_left(other.path());
    }

    output_of(hongyan(folder.path(), ["stack", "down"])).await;
    no_process_is_left(folder.path());
    let mut command = run(folder.path());
    command.env("KAFKA_PARTITIONS", "12");
    let line = failure_of(command).await;
    assert!(line.starts_with("KAFKA_PARTITIONS: topic im-message-private has 10 partitions"), "{line}");
    no_process_is_left(folder.path());
}
