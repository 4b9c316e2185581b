//! The load generator (`./dev bench`).
//!
//! In an open loop requests leave at a constant rate, whether earlier ones were answered or not, and a latency counts
//! from the moment when the request was due. A stalling service is charged for every request that had to wait. A
//! closed loop of "send, wait, send" would hide that (coordinated omission); it is there to measure the maximum.

mod bare;
mod bench;
mod check;
mod content;
mod load;
mod lookout;
mod measured;
mod number;
mod options;
mod plan;
mod plot;
mod pool;
mod process;
mod report;
mod scenario;
mod servers;
pub mod service;
mod table;
mod users;
mod warm_up;
mod wire;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

pub use bare::Bare;
pub use bench::run;
pub use check::Checked;
pub use measured::Point;
pub use options::{Options, Scenario};
pub use report::{Cost, Failed, Latency, Line, Load, Report};
pub use servers::Setting;
pub use warm_up::WarmUp;

/// Reads the command line, measures, and prints the report. Fails if something could not be measured, or if an
/// accepted message is missing.
pub fn main() -> ExitCode {
    let options = Options::parse();
    let work = || -> anyhow::Result<Report> {
        // A file that cannot be written must be reported now and not after an hour.
        prepare(&options)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let report = runtime.block_on(run(&options))?;
        if options.json {
            println!("{}", report.json());
        } else {
            print!("{report}");
        }
        write_files(&options, &report)?;
        Ok(report)
    };
    match work() {
        Ok(report) if report.is_good() => ExitCode::SUCCESS,
        Ok(report) => {
            if let Some(reason) = &report.ended {
                eprintln!("error: ended before all was measured: {reason}");
            }
            if report.checked.as_ref().is_some_and(|checked| !checked.holds()) {
                eprintln!("error: MySQL does not have every accepted message once");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn prepare(options: &Options) -> anyhow::Result<()> {
    if let Some(folder) = &options.full {
        std::fs::create_dir_all(folder).with_context(|| format!("--full: {}", folder.display()))?;
    }
    if let Some(file) = &options.plot {
        write(file, "")?;
    }
    Ok(())
}

/// Writes the files of `--plot` and `--full`.
pub fn write_files(options: &Options, report: &Report) -> anyhow::Result<()> {
    if let Some(file) = &options.plot {
        let is_page = file.extension().is_some_and(|ending| ending == "html");
        write(file, &if is_page { plot::html(report) } else { plot::svg(report) })?;
    }
    if let Some(folder) = &options.full {
        write(&folder.join("report.json"), &report.json())?;
        write(&folder.join("tables.md"), &table::markdown(report))?;
        write(&folder.join("plots.svg"), &plot::svg(report))?;
        eprintln!("Written: {}", folder.display());
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| file.display().to_string())
}
