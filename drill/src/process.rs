//! A process of the local runtime, seen from outside.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::serve::{CLOCK, READY, Serve};

/// How long a start may take: migrations, the first contact with Kafka, a busy machine.
const START_LIMIT: Duration = Duration::from_mins(1);

/// How long a stop in good order may take.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// The program, its settings, and its log.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The binary of this crate.
    pub(crate) path: PathBuf,
    /// The whole environment.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) serve: Serve,
    pub(crate) log: PathBuf,
}

/// A runtime that can be ended and started again at the same address.
#[derive(Debug)]
pub(crate) struct RuntimeProcess {
    program: Program,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    pid: Pid,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl RuntimeProcess {
    pub(crate) async fn begin(program: Program) -> anyhow::Result<Self> {
        let mut process = Self { program, running: None };
        process.start().await?;
        Ok(process)
    }

    /// The address of the runtime's gateway.
    pub(crate) fn address(&self) -> SocketAddr {
        self.program.serve.listen
    }

    /// Starts the runtime and waits until it serves.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.program.log)?;
        let Serve { listen, longest_pause, clock_ms } = self.program.serve;
        let mut child = Command::new(&self.program.path)
            .arg("runtime")
            .args(["--listen", &listen.to_string()])
            .args(["--longest-pause-ms", &longest_pause.as_millis().to_string()])
            .args(["--clock-ms", &clock_ms.to_string()])
            .env_clear()
            .envs(self.program.settings.iter().map(|(name, value)| (name, value)))
            // Ctrl-C at the terminal goes to the drill, which stops the runtime in good order.
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.path.display()))?;
        let (Some(pid), Some(input), Some(output)) = (child.id(), child.stdin.take(), child.stdout.take())
        else {
            bail!("the runtime ended at once");
        };
        let pid = Pid::from_raw(i32::try_from(pid)?);
        let mut running = Running { child, pid, input, output: BufReader::new(output).lines() };
        running.ready(START_LIMIT).await.with_context(|| self.told_in_its_log())?;
        self.running = Some(running);
        Ok(())
    }

    /// Ends the runtime by SIGKILL.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut running) = self.running.take() {
            running.child.kill().await?;
        }
        Ok(())
    }

    /// Stops the runtime in good order.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        // A frozen process must continue to receive the signal.
        kill(running.pid, Signal::SIGCONT)?;
        kill(running.pid, Signal::SIGTERM)?;
        let ended = tokio::time::timeout(STOP_LIMIT, running.child.wait()).await;
        let status =
            ended.ok().context("the runtime does not stop").with_context(|| self.told_in_its_log())??;
        if !status.success() {
            bail!("the runtime ended with {status}; {}", self.told_in_its_log());
        }
        Ok(())
    }

    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let running = self.running.as_ref().context("the runtime does not run")?;
        Ok(kill(running.pid, signal)?)
    }

    /// Puts the runtime's clock forward by `ms`, relative to its clock without a fault. 0 sets it right again.
    pub(crate) async fn shift_clock(&mut self, ms: i64) -> anyhow::Result<()> {
        let offset_ms = self.program.serve.clock_ms + ms;
        let running = self.running.as_mut().context("the runtime does not run")?;
        running.input.write_all(format!("{CLOCK}{offset_ms}\n").as_bytes()).await?;
        running.ready(START_LIMIT).await
    }

    /// The process id while the runtime runs.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// How the runtime ended, if it ended by itself.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let running = self.running.as_mut()?;
        let status = running.child.try_wait().ok()??;
        Some(format!("the runtime ended with {status}; {}", self.told_in_its_log()))
    }

    fn told_in_its_log(&self) -> String {
        let log = std::fs::read_to_string(&self.program.log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        format!("{} ends with:\n  {}", self.program.log.display(), last.join("\n  "))
    }
}

impl Running {
    /// Waits until the runtime reports that it is ready.
    async fn ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let line = tokio::time::timeout(limit, self.output.next_line()).await;
        match line.ok().context("the runtime is not ready in time")?? {
            Some(line) if line == READY => Ok(()),
            Some(line) => bail!("the runtime says {line:?}"),
            None => bail!("the runtime ended"),
        }
    }
}
