//! The program behind `./dev drill`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use hongyan::telemetry::{self, Output};
use hongyan_drill::{Drill, Fault, Faults, Pace, Serve};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit status of a command that ended by Ctrl-C, as shells report it.
const INTERRUPTED: u8 = 130;

/// Users write, recall, delete and read while faults happen; afterwards the answers they got are compared with the
/// stored and shown data.
///
/// Without FAULT each fault happens once, then mixes of two. The drill uses servers of its own. The exit status is 1
/// if a message was lost, doubled or resurrected or another promise was broken; the facts are then printed.
#[derive(Parser)]
#[command(
    name = "hongyan-drill",
    bin_name = "./dev drill",
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    drill: DrillArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Be one of the runtimes that the drill kills
    #[command(hide = true)]
    Runtime {
        #[arg(long)]
        listen: std::net::SocketAddr,
        #[arg(long)]
        longest_pause_ms: u64,
        #[arg(long, allow_hyphen_values = true)]
        clock_ms: i64,
    },
}

#[derive(Args)]
struct DrillArgs {
    /// Only this fault, e.g. redis-kill, or these two at the same time: redis-kill+mysql-freeze
    #[arg(value_name = "FAULT")]
    faults: Vec<Faults>,
    /// Go on for at least so many minutes, with mixes of two faults or with the given ones
    #[arg(long, value_name = "N", default_value_t = 0)]
    minutes: u64,
    /// Decides the users' requests and the mixes of faults
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// List the faults and end
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(work(cli)));
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn work(cli: Cli) -> anyhow::Result<ExitCode> {
    // A library that asks for the process's TLS provider gets this one. No other is installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Some(Command::Runtime { listen, longest_pause_ms, clock_ms }) => {
            telemetry::init(Output::Local)?;
            let longest_pause = Duration::from_millis(longest_pause_ms);
            Box::pin(hongyan_drill::serve(Serve { listen, longest_pause, clock_ms })).await?;
            Ok(ExitCode::SUCCESS)
        }
        None if cli.drill.list => {
            for fault in Fault::all() {
                println!("{:<20} {}", fault.to_string(), fault.meaning());
            }
            Ok(ExitCode::SUCCESS)
        }
        None => Box::pin(drill(cli.drill)).await,
    }
}

async fn drill(args: DrillArgs) -> anyhow::Result<ExitCode> {
    let logs = std::env::temp_dir().join(format!("hongyan-drill-{}", std::process::id()));
    let drill = Drill {
        faults: args.faults,
        mixes: 3,
        at_least: Duration::from_secs(60 * args.minutes),
        seed: args.seed,
        pace: Pace::full(),
        program: std::env::current_exe()?,
        logs: logs.clone(),
    };
    eprintln!("Seed {}. The runtimes' logs go to {}", args.seed, logs.display());
    let interrupt = interrupted(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let report = Box::pin(hongyan_drill::drill(&drill, interrupt, |line| println!("{line}"))).await?;
    println!("\n{report}");
    for offence in report.offences() {
        println!("{offence}");
    }
    if !report.is_clean() {
        eprintln!("A promise was broken. The logs stay in {}", logs.display());
        return Ok(ExitCode::FAILURE);
    }
    std::fs::remove_dir_all(&logs)?;
    if report.interrupted {
        eprintln!("Interrupted before the end.");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    println!("Nothing lost, nothing doubled, nothing resurrected.");
    Ok(ExitCode::SUCCESS)
}

/// Waits for the first Ctrl-C. A second one ends the process at once, and the servers end with it.
async fn interrupted(mut interrupt: Signal, mut terminate: Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    eprintln!("Stopping. Press Ctrl-C again to end at once.");
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(i32::from(INTERRUPTED));
    });
}
