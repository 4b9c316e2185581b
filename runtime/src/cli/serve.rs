//! `serve`: gateway, trigger and schedule over servers that are there already, in the foreground, until SIGTERM.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use hongyan::config::Reader;

use super::settings::variable;
use super::signals::Signals;
use crate::runtime::{OldTables, Runtime, RuntimeOptions};
use crate::settings::ServeSettings;
use crate::{gateway, prometheus};

#[derive(Args)]
pub(super) struct Options {
    /// Where clients come to [env: HONGYAN_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where /health, /ready, /metrics and @connections are [env: HONGYAN_INTERNAL_LISTEN] [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS")]
    internal_listen: Option<SocketAddr>,
}

impl Options {
    fn settings(&self) -> anyhow::Result<ServeSettings> {
        let mut reader = Reader::new(|name: &str| {
            let option = match name {
                "HONGYAN_LISTEN" => self.listen,
                "HONGYAN_INTERNAL_LISTEN" => self.internal_listen,
                _ => None,
            };
            option.map(|address| address.to_string()).or_else(|| variable(name))
        });
        let settings = ServeSettings::read(&mut reader);
        Ok(reader.finish(settings)?)
    }
}

/// Serves until the first SIGINT or SIGTERM, then stops in order; the second ends it at once.
pub(super) async fn serve(options: Options) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let settings = options.settings()?;
    let listener = gateway::bind(settings.listen).await?;
    let internal = gateway::bind_internal(settings.internal_listen).await?;
    let internal_address = internal.local_addr()?;

    let mut options = RuntimeOptions::new(settings.config, listener);
    options.internal = Some(internal);
    options.gateway = settings.gateway;
    options.old_tables = OldTables::Refuse;
    options.metrics = Some(prometheus::install()?);
    let runtime = tokio::select! {
        runtime = Box::pin(Runtime::start(options)) => runtime?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    println!("/health, /ready, /metrics: http://{internal_address}");
    println!("Hongyan is ready at http://{0} (WebSocket: ws://{0}/ws).", runtime.addr());

    signals.next().await;
    let (stop, delay) = (settings.stop, settings.stop_delay);
    eprintln!(
        "Stopping within {} s: /ready says no, new connections are taken for {} s more, and what was accepted is \
         finished. Another signal ends it at once.",
        stop.as_secs(),
        delay.as_secs()
    );
    runtime.leave();
    let stopped = tokio::time::timeout(stop, async {
        tokio::time::sleep(delay).await;
        runtime.stop().await;
    });
    signals.or_end(stopped).await.with_context(|| {
        format!(
            "not stopped within {} s (HONGYAN_STOP_SECONDS): what was under way is cut off",
            stop.as_secs()
        )
    })?;
    eprintln!("Stopped.");
    Ok(ExitCode::SUCCESS)
}
