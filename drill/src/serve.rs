//! The local runtime as a process of the drill, which kills it, freezes it and sets its clock.

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

/// The line that the process prints once it serves.
pub(crate) const READY: &str = "ready";

/// The beginning of an input line that sets the clock. An offset in ms follows.
pub(crate) const CLOCK: &str = "clock ";

/// The options of a serving process.
#[derive(Debug, Clone, Copy)]
pub struct Serve {
    /// The address of the gateway.
    pub listen: SocketAddr,
    /// The longest pause between two tries of a batch.
    pub longest_pause: Duration,
    /// By how many ms the clock is ahead of the machine's clock at first.
    pub clock_ms: i64,
}

/// Serves with the settings of the environment until the end of standard input or SIGTERM. An input line `clock
/// -5000` sets the clock back by 5 s.
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
    let runtime = Box::pin(Runtime::start(options)).await?;
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

/// Reads standard input on a separate thread, which ends with the process: a blocking read cannot be cancelled.
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
