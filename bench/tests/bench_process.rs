//! The binary behind `./dev bench` with its own servers and service: it leaves nothing running, however it ends.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long servers may take to end after their service.
const LIMIT: Duration = Duration::from_mins(1);

/// A running bench, and the folder of its servers.
struct Bench {
    process: Child,
    folder: PathBuf,
    lines: BufReader<std::process::ChildStderr>,
}

impl Bench {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_hongyan-bench"))
            .args(arguments)
            // Servers that are given, or in containers, would not end with it.
            .env("HONGYAN_STACK", "native")
            .env_remove("REDIS_URL")
            .env_remove("MYSQL_URL")
            .env_remove("KAFKA_BOOTSTRAP_SERVERS")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap());
        let line = line_with(&mut lines, "Their data and logs: ");
        let folder = PathBuf::from(line.trim_end().rsplit(": ").next().unwrap());
        Self { process, folder, lines }
    }

    /// Waits until the bench has measured something: the title of a load is printed before the load has a connection.
    fn measures(mut self) -> Self {
        line_with(&mut self.lines, "send, open loop");
        line_with(&mut self.lines, "/s  P50");
        self
    }

    fn end(mut self, process: Pid, signal: Signal) -> (Output, PathBuf) {
        kill(process, signal).unwrap();
        // A process that writes to a closed pipe is ended by the write.
        std::io::copy(&mut self.lines, &mut std::io::sink()).unwrap();
        (self.process.wait_with_output().unwrap(), self.folder)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }
}

/// Reads until a line with this text.
fn line_with(lines: &mut impl BufRead, text: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the bench ended before it said: {text}");
        if line.contains(text) {
            return line;
        }
    }
}

/// The processes with this folder on their command line.
fn processes_over(folder: &Path) -> Vec<(Pid, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // A process may end while it is looked at.
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        Some((Pid::from_raw(pid), line.replace('\0', " ")))
    });
    lines.filter(|(_, line)| line.contains(folder.to_str().unwrap())).collect()
}

/// Waits until no process runs over this folder.
fn nothing_runs_over(folder: &Path) {
    let began = Instant::now();
    while !processes_over(folder).is_empty() {
        assert!(began.elapsed() < LIMIT, "still running: {:?}", processes_over(folder));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_service_that_is_killed_ends_the_bench_with_its_figures_and_status_1() {
    let bench = Bench::start(&["--rate", "50", "--seconds", "600", "--warm-up", "0"]).measures();
    let all = processes_over(&bench.folder);
    let service = all.iter().find(|(_, line)| line.contains("--data")).unwrap().0;

    let (output, folder) = bench.end(service, Signal::SIGKILL);

    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(
        report.contains("ENDED before all was measured") && report.contains("CPU µs/request"),
        "{report}"
    );
    nothing_runs_over(&folder);
    assert!(!folder.exists());
}

#[test]
fn an_interrupted_bench_stops_its_servers_and_removes_their_folder() {
    let bench = Bench::start(&["--rate", "50", "--seconds", "600", "--warm-up", "0"]).measures();
    let pid = bench.pid();

    let (output, folder) = bench.end(pid, Signal::SIGINT);

    assert_eq!(output.status.code(), Some(1));
    assert!(!folder.exists());
    // The shell that guards the servers ends just after the service.
    nothing_runs_over(&folder);
}

#[test]
fn a_bench_that_is_killed_leaves_no_server_running() {
    // Kill the bench while the servers start, when there is most to clean up.
    let bench = Bench::start(&[]);
    let pid = bench.pid();

    kill(pid, Signal::SIGKILL).unwrap();

    nothing_runs_over(&bench.folder);
    let Bench { mut process, folder, .. } = bench;
    assert!(!process.wait().unwrap().success());
    // No process is left to remove the folder.
    if folder.exists() {
        std::fs::remove_dir_all(folder).unwrap();
    }
}
