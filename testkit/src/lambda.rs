//! The functions as real Lambda binaries: Lambda's APIs for one application, and a process for each function.
//!
//! `cargo lambda watch` serves the APIs and starts no function (`--only-lambda-apis`). The test starts the binaries
//! itself with its own settings, and can freeze, end and inspect their processes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hongyan_runtime::functions;
use hongyan_runtime::invoke_api::InvokeApi;
use hongyan_stack::emulator::{Emulator, EmulatorOptions};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// How long a function may take to end after SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(30);

/// How long a test waits for an invocation.
const INVOKE_LIMIT: Duration = Duration::from_secs(30);

/// The variable that, set to `lambda`, makes every [`crate::TestApp`] run its functions here, except for tests that
/// need them in their own process.
const VARIABLE: &str = "HONGYAN_TEST_FUNCTIONS";

/// True if the functions run as Lambda binaries, as in `./dev test --lambda`.
pub(crate) fn wanted() -> bool {
    match std::env::var(VARIABLE).as_deref() {
        Ok("lambda") => true,
        Err(_) | Ok("") => false,
        Ok(other) => panic!("{VARIABLE} is {other:?}; it must be lambda, or not set"),
    }
}

/// Lambda's APIs for the functions of one application.
pub struct Lambda {
    /// Taken when stopped.
    emulator: Option<Emulator>,
    log: Log,
}

impl Lambda {
    /// Starts the APIs. No function runs yet.
    pub async fn start() -> Self {
        let log = Log::default();
        let sink = log.clone();
        let options = EmulatorOptions {
            project: Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
            port: 0,
            starts_functions: false,
            environment: Vec::new(),
            sink: Arc::new(move |line| sink.push(line)),
        };
        let emulator = Emulator::start(options).await.expect("cargo lambda watch; ./dev setup installs it");
        Self { emulator: Some(emulator), log }
    }

    fn emulator(&self) -> &Emulator {
        self.emulator.as_ref().expect("it was not stopped")
    }

    /// The Invoke API.
    pub fn api(&self) -> InvokeApi {
        InvokeApi::new(self.url())
    }

    /// Posts `event` to the Invoke API unchanged. Returns the status and the answer, which is JSON.
    pub async fn invoke(&self, function: &'static str, event: impl Into<Bytes>) -> (u16, Value) {
        self.call(function, event).await
    }

    /// As [`Self::invoke`], for use in another task.
    pub fn call<E: Into<Bytes>>(
        &self,
        function: &'static str,
        event: E,
    ) -> impl Future<Output = (u16, Value)> + Send + 'static + use<E> {
        let url = format!("{}2015-03-31/functions/{function}/invocations", self.url());
        let request = http::Request::post(url).body(Full::new(event.into())).expect("a request");
        let invoked = async {
            let client = Client::builder(TokioExecutor::new()).build_http();
            let (head, body) = client.request(request).await.expect("the Invoke API answers").into_parts();
            (head.status, body.collect().await.expect("a body").to_bytes())
        };
        async move {
            let invoked = tokio::time::timeout(INVOKE_LIMIT, invoked).await;
            let (status, body) = invoked.unwrap_or_else(|_| panic!("no answer of {function}"));
            let answer = serde_json::from_slice(&body);
            (status.as_u16(), answer.unwrap_or_else(|error| panic!("{function}: {error}: {body:?}")))
        }
    }

    /// Posts the event of an HTTP request. Returns the status and the body of the response in the function's answer.
    pub async fn request(&self, function: &'static str, event: &Value) -> (u16, Value) {
        let (invoked, answer) = self.invoke(function, event.to_string()).await;
        assert_eq!(invoked, 200, "{function}: {answer}");
        let status = answer["statusCode"].as_u64().and_then(|status| status.try_into().ok());
        let body = answer["body"].as_str().unwrap_or("null");
        (status.expect("a status"), serde_json::from_str(body).expect("a body of JSON"))
    }

    /// The address of the Invoke API.
    pub fn url(&self) -> url::Url {
        self.emulator().url()
    }

    /// Starts a process of `function` that takes `concurrency` invocations at a time.
    pub fn environment(
        &self,
        function: &'static str,
        settings: &BTreeMap<&'static str, String>,
        concurrency: u32,
    ) -> Environment {
        self.environment_of(Command::new(binary(function)), function, settings, concurrency)
    }

    /// Starts a process of another program in place of `function`.
    pub fn environment_of(
        &self,
        mut command: Command,
        function: &'static str,
        settings: &BTreeMap<&'static str, String>,
        concurrency: u32,
    ) -> Environment {
        command
            .env_clear()
            .envs(settings)
            .env("AWS_LAMBDA_RUNTIME_API", self.emulator().runtime_api(function))
            .env("AWS_LAMBDA_FUNCTION_NAME", function)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_MAX_CONCURRENCY", concurrency.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("the function {function}: {error}"));
        let mut readers = JoinSet::new();
        readers.spawn(read(child.stdout.take().expect("a pipe"), self.log.clone()));
        readers.spawn(read(child.stderr.take().expect("a pipe"), self.log.clone()));
        Environment { function, child, readers }
    }

    /// Starts a process of every function.
    pub fn every_function(
        &self,
        settings: &BTreeMap<&'static str, String>,
        concurrency: u32,
    ) -> Vec<Environment> {
        let start = |function| self.environment(function, settings, concurrency);
        functions::FUNCTIONS.names().map(start).collect()
    }

    /// The number of lines with `text` in the output of the functions.
    pub fn lines_with(&self, text: &str) -> usize {
        self.log.lines().iter().filter(|line| line.contains(text)).count()
    }

    /// The metrics that the functions wrote, one object a line (CloudWatch's embedded metric format).
    pub fn metrics(&self) -> Vec<Value> {
        let lines = self.log.lines().into_iter().filter(|line| line.contains("\"_aws\""));
        lines.map(|line| serde_json::from_str(&line).expect("a line of metrics is JSON")).collect()
    }

    /// Ends the APIs. End the functions before.
    pub async fn stop(mut self) {
        if let Some(emulator) = self.emulator.take() {
            emulator.stop().await;
        }
    }
}

/// An execution environment: a process of one function.
pub struct Environment {
    /// The name of the function.
    pub function: &'static str,
    child: Child,
    readers: JoinSet<()>,
}

impl Environment {
    /// The process id.
    pub fn pid(&self) -> Pid {
        let pid = self.child.id().expect("the process has not been waited for");
        Pid::from_raw(pid.try_into().expect("a pid"))
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the process runs");
    }

    /// The process's open connections to this port, as the inode numbers of their sockets.
    pub fn connections(&self, port: u16) -> BTreeSet<u64> {
        let folder = PathBuf::from(format!("/proc/{}", self.pid()));
        let table = std::fs::read_to_string(folder.join("net/tcp")).expect("Linux");
        let open: BTreeSet<u64> =
            table.lines().skip(1).filter_map(|line| established_to(port, line)).collect();
        let files = std::fs::read_dir(folder.join("fd")).expect("the process runs");
        files
            .filter_map(|file| {
                let target = file.ok()?.path().read_link().ok()?;
                target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
            })
            .filter(|socket| open.contains(socket))
            .collect()
    }

    /// True if the process still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Ends the process by SIGTERM, as Lambda does, and waits for its end.
    pub async fn stop(mut self) -> ExitStatus {
        if self.runs() {
            self.signal(Signal::SIGTERM);
        }
        let ended = tokio::time::timeout(END_LIMIT, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("{} does not end", self.function)).expect("a child");
        while self.readers.join_next().await.is_some() {}
        assert_eq!(status.signal(), None, "{} handles SIGTERM itself", self.function);
        status
    }
}

/// Ends all of them at the same time.
pub async fn stop_all(environments: Vec<Environment>) {
    let mut ending: JoinSet<ExitStatus> = environments.into_iter().map(Environment::stop).collect();
    while let Some(ended) = ending.join_next().await {
        let status = ended.expect("the function ends");
        assert!(status.success(), "{status}");
    }
}

/// The inode number of the socket in a line of `/proc/net/tcp`, if the line is of an open connection to this port.
fn established_to(port: u16, line: &str) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (remote, state, socket) = (fields.get(2)?, fields.get(3)?, fields.get(9)?);
    let remote_port = u16::from_str_radix(remote.split_once(':')?.1, 16).ok()?;
    // The state 01 is ESTABLISHED.
    (remote_port == port && *state == "01").then(|| socket.parse().ok())?
}

/// The binary of a function, in the folder of this test's binary.
fn binary(function: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this program's path");
    let folder = test.parent().and_then(Path::parent).expect("target/debug/deps/test");
    let binary = folder.join(function);
    assert!(binary.exists(), "{} is not built: cargo build --workspace --bins --tests", binary.display());
    binary
}

async fn read(stream: impl AsyncRead + Unpin, log: Log) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.push(&line);
    }
}

/// The output of the functions. Shown when a test fails.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, line: &str) {
        self.0.lock().push(line.to_owned());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in self.log.lines() {
                eprintln!("  | {line}");
            }
        }
    }
}
