//! `run` and `lambda`: serve everything in the foreground until Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::net::TcpListener;

use super::lambda::Lambda;
use super::settings;
use crate::cli::log;
use crate::cli::signals::{INTERRUPTED, Signals};
use crate::cli::text::called;
use crate::gateway::Page;
use crate::invoke_api::InvokeApi;
use crate::runtime::{Host, Runtime, RuntimeOptions};
use crate::{gateway, prometheus};
use hongyan_stack::emulator::{Emulator, EmulatorError};
use hongyan_stack::{Stack, StackOptions};

/// Serves until the first SIGINT or SIGTERM, then stops in order. A second signal ends this process at once, and the
/// servers with it. With `lambda` the functions run as processes of their own.
pub(super) async fn run(
    folder: PathBuf,
    listen: SocketAddr,
    lambda: Option<Lambda>,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    // Check everything that needs no server first: a failure then leaves nothing to stop.
    settings::check()?;
    let listener = gateway::bind(listen).await?;
    if let Some(lambda) = lambda {
        lambda.check().await?;
    }
    log::begin(&folder)?;
    let options = StackOptions::new(&folder).with_environment(std::env::vars())?;
    eprintln!("Starting Redis, MySQL and Kafka. Their data and logs: {}", folder.display());
    let stack = tokio::select! {
        stack = Box::pin(Stack::start(options)) => stack?,
        // The servers end with this process.
        () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let served = Box::pin(serve(&stack, listener, lambda, &mut signals)).await;
    let stopped = signals.or_end(stack.stop()).await;
    served?;
    stopped?;
    eprintln!("Stopped. The data stays in {}", folder.display());
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    stack: &Stack,
    listener: TcpListener,
    lambda: Option<Lambda>,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let env = stack.env();
    let settings = settings::read(&env)?;
    for line in stack.versions().await {
        println!("{line}");
    }
    let mut emulator = None;
    if let Some(lambda) = lambda {
        emulator = tokio::select! {
            started = Box::pin(lambda.start(&env, listener.local_addr()?)) => Some(started?),
            () = signals.next() => return Ok(()),
        };
    }
    let mut options = RuntimeOptions::new(settings.config, listener);
    options.gateway = settings.gateway;
    options.gateway.page = page(options.listener.local_addr()?);
    options.metrics = Some(prometheus::install()?);
    if let Some(emulator) = &emulator {
        options.host = Host::InvokeApi(InvokeApi::new(emulator.url()));
    }
    let served = serve_until_told(options, emulator.as_mut(), signals).await;
    if let Some(emulator) = emulator {
        // The functions stop last: they finish the requests and batches that were accepted.
        signals.or_end(emulator.stop()).await;
    }
    served
}

/// The page gives tokens to its visitors only if nobody but this machine can reach the page, and if the secret of the tokens was made
/// for this machine.
fn page(listens: SocketAddr) -> Page {
    let own_secret = ["JWT_SECRET", "JWT_JWKS_URL"].iter().all(|name| std::env::var_os(name).is_none());
    if listens.ip().is_loopback() && own_secret { Page::WithTokens } else { Page::Plain }
}

/// Serves until a signal comes, or until the process that hosts the functions ends.
async fn serve_until_told(
    options: RuntimeOptions,
    emulator: Option<&mut Emulator>,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let runtime = tokio::select! {
        runtime = Box::pin(Runtime::start(options)) => runtime?,
        () = signals.next() => return Ok(()),
    };
    let invoke_api = emulator.as_ref().map(|emulator| {
        format!(
            "Its functions are Lambda binaries, built and started when first invoked at {}.\n",
            emulator.url()
        )
    });
    println!(
        "Hongyan is ready at http://{0} (WebSocket: ws://{0}/ws). Ctrl-C stops it.\n{1}\
         Open http://{0}/?users=1,2 in a browser: two users, side by side.\n\
         Or, in another terminal:\n  \
         TOKEN=$({2} token 1); curl -sS http://{0}/messages -H \"Authorization: Bearer $TOKEN\" \
         -H 'Content-Type: application/json' -d '{{\"toId\":\"2\",\"content\":\"你好\",\"msgType\":1}}'",
        runtime.addr(),
        invoke_api.unwrap_or_default(),
        called(),
    );
    let ended = tokio::select! {
        () = signals.next() => None,
        error = ended(emulator) => Some(error),
    };
    eprintln!("Stopping: what was accepted is finished first. Ctrl-C again ends it at once.");
    signals.or_end(runtime.stop()).await;
    ended.map_or(Ok(()), |error| Err(error.into()))
}

/// Waits until the emulator ends by itself. Without an emulator, waits forever.
async fn ended(emulator: Option<&mut Emulator>) -> EmulatorError {
    match emulator {
        Some(emulator) => emulator.ended().await,
        None => std::future::pending().await,
    }
}
