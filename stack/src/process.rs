//! One server process: its pid is kept in a file, so that a later start finds it again.
//!
//! Uses `std::process` instead of tokio's: the runtime that starts a tokio child must reap it, but one stack is
//! shared by tests with a runtime each.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::{Doing as _, StackError};
use super::files::last_lines;
use super::server_kind::ServerKind;
use super::wait;

/// The command that starts a server, and the folder for its pid and log.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) kind: ServerKind,
    /// The folder of the server. It is part of the command line, by which the process is recognised.
    pub(super) folder: PathBuf,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

impl Launch {
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("pid")
    }

    /// The last lines of the log.
    pub(super) fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(self.log())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().map_or_else(|error| format!("(cannot be read: {error})"), |text| last_lines(&text, 8))
    }

    /// Starts the server in a process group of its own. Ctrl-C at the terminal must not reach the server, because the
    /// runtime finishes accepted requests first.
    pub(super) fn spawn(&self) -> Result<Process, StackError> {
        let doing = || format!("cannot start {}", self.kind);
        let log = self.log();
        if log.exists() {
            fs::rename(&log, self.folder.join("log.previous")).doing(doing)?;
        }
        let out = File::create(&log).doing(doing)?;
        let err = out.try_clone().doing(doing)?;
        // The shell writes its own pid and then becomes the server. So the server never runs without a pid on file.
        let child = Command::new("/bin/sh")
            .args(["-c", r#"echo "$$" >"$0" && exec "$@""#])
            .arg(self.pid_file())
            .arg(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .doing(doing)?;
        Ok(Process { pid: pid_of(child.id()), child: Some(child), folder: self.folder.clone() })
    }
}

fn pid_of(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap_or(i32::MAX))
}

/// A running server process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: Pid,
    /// The child to reap, if this process started the server.
    child: Option<Child>,
    folder: PathBuf,
}

impl Process {
    /// The process of an earlier run over this server's folder, if it still runs.
    pub(super) fn find(folder: &Path) -> Option<Self> {
        let pid = fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok().filter(|pid| *pid > 1)?;
        let process = Self { pid: Pid::from_raw(pid), child: None, folder: folder.to_owned() };
        process.is_ours().then_some(process)
    }

    /// True if this process started the server, false if it found the server running.
    pub(super) fn was_started(&self) -> bool {
        self.child.is_some()
    }

    /// True if the process has our folder on its command line. The pid may meanwhile belong to another program.
    fn is_ours(&self) -> bool {
        command_line(self.pid).is_some_and(|line| {
            let folder = self.folder.as_os_str().as_encoded_bytes();
            line.windows(folder.len() + 1).any(|part| part.starts_with(folder) && part.ends_with(b"/"))
        })
    }

    /// How the process ended; `None` while it runs.
    pub(super) fn ended(&mut self) -> Option<String> {
        match &mut self.child {
            Some(child) => match child.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => Some(status.to_string()),
                Err(error) => Some(error.to_string()),
            },
            None => (!self.is_ours()).then(|| "ended".to_owned()),
        }
    }

    pub(super) fn signal(&mut self, signal: Signal) -> Result<(), StackError> {
        if self.ended().is_some() {
            return Ok(());
        }
        kill(self.pid, signal).doing(|| format!("cannot send {signal} to process {}", self.pid))
    }

    /// Waits for the end of the process. False if it does not end within the limit.
    pub(super) async fn wait(&mut self, limit: Duration) -> bool {
        let ended = wait::until(limit, || {
            let ended = self.ended().map(drop).ok_or_else(|| "it runs".to_owned());
            std::future::ready(Ok::<_, Infallible>(ended))
        });
        matches!(ended.await, Ok(Ok(())))
    }

    /// Asks the process to end and waits. Kills it if it does not end in time.
    pub(super) async fn stop(&mut self) -> Result<(), StackError> {
        self.signal(Signal::SIGTERM)?;
        // A stopped process must continue to receive SIGTERM.
        self.signal(Signal::SIGCONT)?;
        if self.wait(Duration::from_secs(30)).await { Ok(()) } else { self.kill().await }
    }

    /// Ends the process by SIGKILL, as a crash would.
    pub(super) async fn kill(&mut self) -> Result<(), StackError> {
        self.signal(Signal::SIGKILL)?;
        if self.wait(Duration::from_secs(30)).await {
            return Ok(());
        }
        Err(std::io::Error::from(std::io::ErrorKind::TimedOut))
            .doing(|| format!("process {} does not end, even by SIGKILL", self.pid))
    }
}

fn command_line(pid: Pid) -> Option<Vec<u8>> {
    if Path::new("/proc/self/cmdline").exists() {
        return fs::read(format!("/proc/{pid}/cmdline")).ok();
    }
    let output = Command::new("ps").args(["-ww", "-o", "args=", "-p", &pid.to_string()]).output().ok()?;
    Some(output.stdout)
}
