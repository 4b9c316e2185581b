//! `check-config`: what is wrong with the settings of `serve`, and what counts.

use std::process::ExitCode;

use clap::Args;
use hongyan::config::{Reader, Setting};
use hongyan::telemetry::BadFilter;
use serde_json::{Value, json};

use super::settings::variable;
use super::text::told;
use crate::settings::ServeSettings;

#[derive(Args)]
pub(super) struct Options {
    /// Print one object, with the faults in it
    #[arg(long)]
    json: bool,
}

/// Asks no server. `log` is what became of the filter of the log.
pub(super) fn print(options: &Options, log: Result<(), BadFilter>) -> ExitCode {
    let mut reader = Reader::new(variable);
    let settings = ServeSettings::read(&mut reader);
    let shown = reader.settings().to_vec();
    let mut faults = reader.finish(settings).map_or_else(|error| error.faults, |_| Vec::new());
    faults.extend(log.err().map(|error| error.to_string()));
    if options.json {
        println!(
            "{:#}",
            json!({ "faults": faults, "settings": shown.iter().map(object).collect::<Value>() })
        );
    } else {
        for setting in &shown {
            println!("{}", line(setting));
        }
        for fault in &faults {
            eprintln!("{}", told(fault, true));
        }
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn object(setting: &Setting) -> Value {
    json!({ "name": setting.name, "value": setting.value, "isDefault": !setting.is_set })
}

fn line(Setting { name, value, is_set }: &Setting) -> String {
    match value {
        Some(value) if *is_set => format!("{name}={value}"),
        Some(value) => format!("{name}={value} (default)"),
        None => format!("{name} (not set)"),
    }
}
