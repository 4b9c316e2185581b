//! One server process: started with its pid on file, found again, signalled, waited for.
//!
//! `std::process` rather than tokio's: a tokio child is reaped by the runtime that started it, but a stack is shared by
//! tests that each have a runtime of their own.

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

/// What is run, and where its pid and log are kept.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) kind: ServerKind,
    /// The server's own folder; it stands on the command line, so a process can be told by it.
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

    /// Starts the server in a process group of its own, so that Ctrl-C at the terminal does not reach it: the runtime
    /// drains first.
    pub(super) fn spawn(&self) -> Result<Process, StackError> {
        let doing = || format!("cannot start {}", self.kind);
        let log = self.log();
        if log.exists() {
            fs::rename(&log, self.folder.join("log.previous")).doing(doing)?;
        }
        let out = File::create(&log).doing(doing)?;
        let err = out.try_clone().doing(doing)?;
        // The shell writes its pid and becomes the server: there is no moment at which it runs with no pid on file.
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

/// A running server.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: Pid,
    /// Present if this process started it, and so must reap it.
    child: Option<Child>,
    folder: PathBuf,
}

impl Process {
    /// The process that an earlier run left behind over this server's folder, if it still runs.
    pub(super) fn find(folder: &Path) -> Option<Self> {
        let pid = fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok().filter(|pid| *pid > 1)?;
        let process = Self { pid: Pid::from_raw(pid), child: None, folder: folder.to_owned() };
        process.is_ours().then_some(process)
    }

    /// True if this process started it, rather than found it.
    pub(super) fn was_started(&self) -> bool {
        self.child.is_some()
    }

    /// A pid may have been given to a stranger since it was written down; only a process with our folder on its command
    /// line is ours.
    fn is_ours(&self) -> bool {
        command_line(self.pid).is_some_and(|line| {
            let folder = self.folder.as_os_str().as_encoded_bytes();
            line.windows(folder.len() + 1).any(|part| part.starts_with(folder) && part.ends_with(b"/"))
        })
    }

    /// How it ended, or `None` while it runs.
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

    /// Waits until it has ended; false if it has not within the limit.
    pub(super) async fn wait(&mut self, limit: Duration) -> bool {
        let ended = wait::until(limit, || {
            let ended = self.ended().map(drop).ok_or_else(|| "it runs".to_owned());
            std::future::ready(Ok::<_, Infallible>(ended))
        });
        matches!(ended.await, Ok(Ok(())))
    }

    /// Asks it to end, waits, and insists where it does not.
    pub(super) async fn stop(&mut self) -> Result<(), StackError> {
        self.signal(Signal::SIGTERM)?;
        // A stopped process does not see the request.
        self.signal(Signal::SIGCONT)?;
        if self.wait(Duration::from_secs(30)).await { Ok(()) } else { self.kill().await }
    }

    /// Ends it at once, as a crash would.
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
