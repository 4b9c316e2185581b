//! `cargo lambda watch` as a child process: Lambda's Invoke API and Runtime API on one port.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;
use url::Url;

/// The program. `./dev` puts its pinned version first on the path.
const PROGRAM: &str = "cargo-lambda";

/// How long the emulator may take to listen. It first asks cargo for the project's binaries, and another cargo may
/// hold the lock.
const START_LIMIT: Duration = Duration::from_mins(2);

/// How long a stop waits for the functions. They finish their invocations and their producer first, as
/// `hongyan::lambda` does.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// How many of the last lines printed are kept, for an error.
const KEPT_LINES: usize = 20;

/// Receives each line that the emulator, cargo and the functions print.
pub type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// The options of `cargo lambda watch`.
pub struct EmulatorOptions {
    /// The root of the project. Its binaries are the functions.
    pub project: PathBuf,
    /// The port on the loopback address; 0 takes any free port.
    pub port: u16,
    /// True: the emulator builds and starts a function when it is first invoked, and again after a change. False: the
    /// caller starts the functions.
    pub starts_functions: bool,
    /// Variables for the emulator, and so for the functions that it starts, in addition to the environment of this
    /// process.
    pub environment: Vec<(String, String)>,
    /// Receives the printed lines.
    pub sink: Sink,
}

/// The emulator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// `cargo-lambda` is not installed.
    #[error("cargo-lambda is not installed; `./dev lambda` installs it, or says how")]
    Missing,
    /// Another program listens on the port.
    #[error(
        "{0} is in use by another program; choose another port with --invoke-port or HONGYAN_INVOKE_PORT"
    )]
    InUse(SocketAddr),
    /// The emulator ended instead of listening, or did not listen in time.
    #[error("cargo lambda watch {what}; it said last:\n{tail}")]
    Failed {
        /// The event, in words.
        what: String,
        /// The last lines that the emulator printed.
        tail: String,
    },
    /// A system call failed.
    #[error("cargo lambda watch cannot be started: {0}")]
    Io(#[from] std::io::Error),
}

/// A running emulator. It ends when dropped, and with this process.
pub struct Emulator {
    address: SocketAddr,
    url: Url,
    shell: Child,
    /// The emulator's standard input, a pipe. Closing the pipe ends the emulator.
    leash: Option<ChildStdin>,
    /// The tasks that read the output. They end once the emulator and all functions have ended.
    readers: JoinSet<()>,
    tail: Tail,
}

/// Checks, without starting anything, that an emulator can start on this port.
pub async fn check(port: u16) -> Result<(), EmulatorError> {
    installed().ok_or(EmulatorError::Missing)?;
    free_address(port).await.map(drop)
}

impl Emulator {
    /// Starts the emulator and waits until it listens.
    pub async fn start(options: EmulatorOptions) -> Result<Self, EmulatorError> {
        let program = installed().ok_or(EmulatorError::Missing)?;
        let address = free_address(options.port).await?;
        let url = Url::parse(&format!("http://{address}")).map_err(std::io::Error::other)?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", include_str!("emulator.sh"), "hongyan-emulator"])
            .arg(program)
            .args(["lambda", "watch", "--invoke-address", &address.ip().to_string()])
            .args(["--invoke-port", &address.port().to_string()])
            // Without `--wait` the emulator would start the binary of a project that has only one.
            .arg("--wait")
            .args((!options.starts_functions).then_some("--only-lambda-apis"))
            .current_dir(&options.project)
            .envs(options.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at the terminal must not reach the emulator: accepted requests are finished first.
            .process_group(0);
        // Remove the variables that cargo has set for this process. With them, the emulator's cargo would build some
        // crates again.
        for (name, _) in std::env::vars_os() {
            if of_cargo(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        let mut shell = command.spawn()?;
        let (tail, mut readers) = (Tail::default(), JoinSet::new());
        if let Some(stream) = shell.stdout.take() {
            readers.spawn(read(stream, options.sink.clone(), tail.clone()));
        }
        if let Some(stream) = shell.stderr.take() {
            readers.spawn(read(stream, options.sink, tail.clone()));
        }
        let leash = shell.stdin.take();
        let mut emulator = Self { address, url, shell, leash, readers, tail };
        emulator.listens().await?;
        Ok(emulator)
    }

    /// The address of the Invoke API.
    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API` for a process that is to be this function.
    pub fn runtime_api(&self, function: &str) -> String {
        format!("http://{}/.rt/{function}", self.address)
    }

    /// Waits until the emulator ends by itself, which is an error.
    pub async fn ended(&mut self) -> EmulatorError {
        match self.shell.wait().await {
            Ok(status) => self.failed(format!("ended ({status})")),
            Err(error) => EmulatorError::Io(error),
        }
    }

    /// Ends the emulator and waits until the functions that it started have ended too.
    pub async fn stop(mut self) {
        self.leash = None;
        let gone = async {
            while self.readers.join_next().await.is_some() {}
            self.shell.wait().await
        };
        match tokio::time::timeout(STOP_LIMIT, gone).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "emulator.stop: waiting for the end of the emulator failed");
            }
            Err(_) => tracing::warn!(
                "emulator.stop: functions still run after 15 s; they are left to end by themselves"
            ),
        }
    }

    async fn listens(&mut self) -> Result<(), EmulatorError> {
        let listens = async {
            while TcpStream::connect(self.address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let outcome = tokio::select! {
            () = listens => return Ok(()),
            () = tokio::time::sleep(START_LIMIT) => None,
            ended = self.shell.wait() => Some(ended?),
        };
        let Some(status) = outcome else {
            return Err(self.failed("does not listen after 2 minutes".to_owned()));
        };
        // Read the rest of the output first.
        while self.readers.join_next().await.is_some() {}
        Err(self.failed(format!("ended ({status})")))
    }

    fn failed(&self, what: String) -> EmulatorError {
        EmulatorError::Failed { what, tail: self.tail.to_string() }
    }
}

/// True if `cargo run` and `cargo test` set this variable to tell a program about its package.
fn of_cargo(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
}

/// The program, if it is on the path.
fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
}

/// A loopback address with a free port. Another program may still take the port, since the emulator cannot be handed
/// a listener. IPv6 is preferred, because `cargo lambda invoke` asks ::1 by default; some machines have no IPv6.
async fn free_address(port: u16) -> Result<SocketAddr, EmulatorError> {
    let four = free(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    match free(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        Err(EmulatorError::Io(_)) => Ok(four),
        six => six,
    }
}

/// The address, with a free port if the port was 0.
async fn free(address: SocketAddr) -> Result<SocketAddr, EmulatorError> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener.local_addr()?),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(EmulatorError::InUse(address)),
        Err(error) => Err(error.into()),
    }
}

async fn read(stream: impl AsyncRead + Unpin, sink: Sink, tail: Tail) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        sink(&line);
        tail.push(line);
    }
}

/// The last lines that the emulator printed.
#[derive(Clone, Default)]
struct Tail(Arc<Mutex<Vec<String>>>);

impl Tail {
    fn push(&self, line: String) {
        let mut lines = self.0.lock();
        if lines.len() == KEPT_LINES {
            lines.remove(0);
        }
        lines.push(line);
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.lock().join("\n"))
    }
}
