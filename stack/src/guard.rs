//! A small shell process that ends the servers when this process has ended, even by SIGKILL.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::unistd::Pid;
use parking_lot::Mutex;

use super::error::{Doing as _, StackError};

/// The guard process. Dropping it makes the guard end the servers that still run.
#[derive(Debug)]
pub(super) struct Guard(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    child: Child,
    pipe: Option<ChildStdin>,
    pids: BTreeMap<String, Pid>,
}

impl Guard {
    /// Starts the guard. With `remove` the guard ends the servers at once and deletes the folder, as a test wants it.
    pub(super) fn start(folder: &Path, remove: bool) -> Result<Self, StackError> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", include_str!("guard.sh"), "hongyan-guard"])
            .arg(folder)
            .arg(if remove { "remove" } else { "stop" })
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .doing(|| "cannot start the guard of the servers".into())?;
        let pipe = child.stdin.take();
        Ok(Self(Mutex::new(Inner { child, pipe, pids: BTreeMap::new() })))
    }

    /// Notes that the server `name` runs as this process, or not at all.
    pub(super) fn watch(&self, name: &str, pid: Option<Pid>) -> Result<(), StackError> {
        let mut inner = self.0.lock();
        match pid {
            Some(pid) => inner.pids.insert(name.to_owned(), pid),
            None => inner.pids.remove(name),
        };
        let line = inner.pids.values().fold("pids".to_owned(), |line, pid| format!("{line} {pid}"));
        inner.tell(&line)
    }

    /// Notes that the servers run in this Docker project.
    pub(super) fn watch_docker(&self, project: &str) -> Result<(), StackError> {
        self.0.lock().tell(&format!("compose {project}"))
    }

    /// Ends the guard after all servers were stopped in good order.
    pub(super) fn dismiss(&self) -> Result<(), StackError> {
        let mut inner = self.0.lock();
        inner.tell("done")?;
        inner.pipe = None;
        inner.child.wait().doing(|| "the guard of the servers".into())?;
        Ok(())
    }
}

impl Inner {
    fn tell(&mut self, line: &str) -> Result<(), StackError> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        writeln!(pipe, "{line}").doing(|| "cannot reach the guard of the servers".into())
    }
}
