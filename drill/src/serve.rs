//! The local runtime as a process of the drill: it can be killed and frozen, and its clock can be set.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hongyan::clock::Clock;
use hongyan::config::Config;
use hongyan_runtime::runtime::{Runtime, RuntimeOptions};
use hongyan_runtime::{gateway, prometheus};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What it prints once it serves.
pub(crate) const READY: &str = "ready";

/// What sets its clock: followed by an offset in ms.
pub(crate) const CLOCK: &str = "clock ";

/// How it serves.
#[derive(Debug, Clone, Copy)]
pub struct Serve {
    /// Where its gateway listens.
    pub listen: SocketAddr,
    /// The longest pause between two tries of a batch.
    pub longest_pause: Duration,
    /// By how much its clock is ahead of the machine's at first, in ms.
    pub clock_ms: i64,
}

/// Serves with the settings of the environment until standard input or SIGTERM ends it. A line `clock -5000` sets its clock
/// back by 5 s.
pub async fn serve(how: Serve) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let config = Config::from_lookup(|name| std::env::var(name).ok())?;
    let offset = Arc::new(AtomicI64::new(how.clock_ms));
    let mut options = RuntimeOptions::new(config, gateway::bind(how.listen).await?);
    options.clock = Clock::shifted(offset.clone());
    options.metrics = Some(prometheus::install()?);
    if let Some(trigger) = &mut options.trigger {
        trigger.longest_pause = how.longest_pause;
    }
    let runtime = Runtime::start(options).await?;
    writeln!(std::io::stdout(), "{READY}")?;
    let mut lines = lines_of_input();
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => {
                    let ms = line.strip_prefix(CLOCK).and_then(|ms| ms.parse().ok());
                    offset.store(ms.with_context(|| format!("what is {line:?}"))?, Ordering::SeqCst);
                    writeln!(std::io::stdout(), "{READY}")?;
                }
                None => break,
            },
            _ = terminate.recv() => break,
        }
    }
    runtime.stop().await;
    Ok(())
}

/// Read by a thread of its own, which ends with the process: a read cannot be called off.
fn lines_of_input() -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
