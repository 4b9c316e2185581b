//! `run`: everything, in the foreground, until Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::settings;
use crate::runtime::{Runtime, RuntimeOptions};
use crate::stack::{Stack, StackOptions};
use crate::{gateway, prometheus};

/// What a shell reports of a command that ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Serves until the first SIGINT or SIGTERM, then stops in order; the second ends it at once, and the servers with it.
pub(super) async fn run(folder: PathBuf, listen: SocketAddr) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    // What can be found out without a server is found out first: then nothing has to be stopped again.
    settings::check()?;
    let listener = gateway::bind(listen).await?;
    let options = StackOptions::new(&folder).with_environment(std::env::vars())?;
    eprintln!("Starting Redis, MySQL and Kafka. Their data and logs: {}", folder.display());
    let stack = tokio::select! {
        stack = Box::pin(Stack::start(options)) => stack?,
        // The servers end with this process.
        () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let served = serve(&stack, listener, &mut signals).await;
    let stopped = finish(stack.stop(), &mut signals).await;
    served?;
    stopped?;
    eprintln!("Stopped. The data stays in {}", folder.display());
    Ok(ExitCode::SUCCESS)
}

async fn serve(stack: &Stack, listener: TcpListener, signals: &mut Signals) -> anyhow::Result<()> {
    let config = settings::read(&stack.env())?;
    for line in stack.versions().await {
        println!("{line}");
    }
    let mut options = RuntimeOptions::new(config, listener);
    options.metrics = Some(prometheus::install()?);
    let runtime = tokio::select! {
        runtime = Box::pin(Runtime::start(options)) => runtime?,
        () = signals.next() => return Ok(()),
    };
    println!(
        "Hongyan is ready at http://{0} (WebSocket: ws://{0}/ws). Ctrl-C stops it.\n\
         Next, in another terminal:\n  \
         TOKEN=$(./dev token 1); curl -sS http://{0}/messages -H \"Authorization: Bearer $TOKEN\" \
         -H 'Content-Type: application/json' -d '{{\"toId\":\"2\",\"content\":\"你好\",\"msgType\":1}}'",
        runtime.addr()
    );
    signals.next().await;
    eprintln!("Stopping: what was accepted is finished first. Ctrl-C again ends it at once.");
    finish(runtime.stop(), signals).await;
    Ok(())
}

/// Waits for `work`, but no longer than until the next signal.
async fn finish<T>(work: impl Future<Output = T>, signals: &mut Signals) -> T {
    tokio::select! {
        done = work => done,
        () = signals.next() => {
            eprintln!("Ended at once: what was under way is cut off.");
            std::process::exit(i32::from(INTERRUPTED));
        }
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
