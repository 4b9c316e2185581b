//! Clients that try to use up the memory of the process: heads and bodies that never end, heads that are too long,
//! sockets without a request. The memory of the process stays bounded, and other callers are served again as soon as
//! these clients are gone.

use std::time::{Duration, Instant};

use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::caller::{Caller, Outcome};
use crate::program::until;

/// The number of clients of each kind.
const CLIENTS: usize = 300;

/// Each body announces a mebibyte and sends this much of it. All bodies together exceed the limit of all bodies (64
/// MiB).
const PART_OF_A_BODY: usize = 400 * 1024;

/// How long a client waits for a refusal. A body that finds room gets no answer. All clients send at the same time,
/// so the wait covers the time in which the process reads all of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// The memory that the process may use beyond its use before the attack, in MiB: the bodies, as much again for
/// buffers, and the connections.
const MORE_MB: u64 = 192;

/// The memory and the open files of a process.
#[derive(Debug)]
struct Footprint {
    memory_mb: u64,
    files: usize,
}

impl Footprint {
    /// `None` on a system without `/proc`.
    fn of(pid: Pid) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let memory_kb: u64 = line.split_whitespace().next()?.parse().ok()?;
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        Some(Self { memory_mb: memory_kb / 1024, files })
    }
}

async fn open(caller: &Caller, words: &str) -> TcpStream {
    let mut socket = TcpStream::connect(caller.address).await.unwrap();
    socket.write_all(words.as_bytes()).await.unwrap();
    socket
}

/// Sends a body until the server takes no more. Returns the status if the body is refused.
async fn fill(mut socket: TcpStream) -> (TcpStream, Option<String>) {
    let mut answer = [0; 12];
    let sent = socket.write_all(&vec![b' '; PART_OF_A_BODY]).await;
    let answered = tokio::time::timeout(PATIENCE, socket.read_exact(&mut answer)).await;
    let refused = matches!(answered, Ok(Ok(_))).then(|| String::from_utf8_lossy(&answer).into_owned());
    assert!(sent.is_ok() || refused.is_some() || answered.is_ok(), "cut off without an answer: {sent:?}");
    (socket, refused)
}

/// Sends all kinds of attack at once against the process `pid`.
pub(crate) async fn takes_bounded_memory(pid: Pid, alice: &Caller) {
    let Some(before) = Footprint::of(pid) else { return };
    let mut held = Vec::new();
    for _ in 0..CLIENTS {
        held.push(open(alice, "").await);
        held.push(open(alice, "POST /messages HTTP/1.1\r\nHost: hongyan\r\nX-Never-Ends: ").await);
        let long = format!("GET /unread HTTP/1.1\r\nHost: hongyan\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
        held.push(open(alice, &long).await);
    }
    let announced = format!(
        "POST /messages HTTP/1.1\r\nHost: hongyan\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 1048576\r\n\r\n",
        alice.token
    );
    let mut filling = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let socket = open(alice, &announced).await;
        filling.spawn(fill(socket));
    }
    let mut most = before.memory_mb;
    let mut refused = Vec::new();
    while let Some(filled) = filling.join_next().await {
        let (socket, answer) = filled.unwrap();
        held.push(socket);
        refused.extend(answer);
        most = most.max(Footprint::of(pid).unwrap().memory_mb);
    }
    assert!(refused.iter().all(|answer| answer == "HTTP/1.1 503"), "{refused:?}");
    assert!((1..CLIENTS).contains(&refused.len()), "{} of {CLIENTS} bodies found no room", refused.len());
    assert!(most < before.memory_mb + MORE_MB, "{} MB became {most} MB", before.memory_mb);

    drop(held);
    let gone = Instant::now();
    until("other callers are served again", || async {
        matches!(alice.send("after the attack").await, Outcome::Answer(200 | 201, _))
    })
    .await;
    assert!(gone.elapsed() < Duration::from_secs(5), "served again only after {:?}", gone.elapsed());
    until("all connections are closed", || async { Footprint::of(pid).unwrap().files < before.files + 32 })
        .await;
    println!("{before:?}, at most {most} MB, then {:?}", Footprint::of(pid));
}
