//! The load generator (`./dev bench`).
//!
//! The load is an open loop: requests leave at a constant rate, whether earlier ones were answered or not, and a
//! latency counts from the moment when the request was due. A stalling service is charged for every request that had
//! to wait. A closed loop of "send, wait, send" would hide that (coordinated omission).

mod load;
mod lookout;
mod options;
mod pool;
mod report;
mod scenario;
pub mod service;
mod users;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser as _;

pub use options::{Options, Scenario};
pub use report::{Latency, Line, Report};

use load::Load;
use lookout::Lookout;
use pool::Pool;
use scenario::Talk;
use service::Service;
use users::Users;

/// How long the last answers may take after the last request has left.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// Reads the command line, measures, and prints the report.
pub fn main() -> ExitCode {
    let options = Options::parse();
    let work = || -> anyhow::Result<Report> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::select! {
                report = run(&options) => report,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted; nothing is reported"),
            }
        })
    };
    match work() {
        Ok(report) if options.json => println!("{}", report.json()),
        Ok(report) => print!("{report}"),
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Makes one measurement, on a service of its own or on `options.target`.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let service = Service::find(options).await?;
    let users = Users::new(&service.auth, options.users)?;
    let pool = Arc::new(Pool::open(service.address, options.connections).await?);
    let aside = Arc::new(Pool::open(service.address, lookout::CONNECTIONS).await?);
    let talk = Arc::new(Talk::new(options.scenario, users));

    if options.scenario.reads() {
        eprintln!("Writing {} messages to be read.", talk.history_size());
        talk.write_history(&pool).await?;
    }
    let lookout = Lookout::start(aside).await;
    eprintln!(
        "{} requests a second for {} s, after {} s of warming up.",
        options.rate, options.seconds, options.warm_up
    );
    let load = Load::new(options, pool, talk, lookout.probes());
    load.run(Duration::from_secs(options.warm_up), false).await?;
    let rows_before = lookout.rows().await;
    let cpu_before = report::cpu_time()?;
    let began = Instant::now();
    load.run(Duration::from_secs(options.seconds), true).await?;
    load.finished(LAST_ANSWERS).await;
    let took = began.elapsed();
    let cpu = report::cpu_time()?.saturating_sub(cpu_before);
    let persisted = lookout.finish(rows_before, load.accepted()).await;
    let report = Report::new(options, &service, &load, &persisted, took, cpu);
    service.stop().await?;
    Ok(report)
}
