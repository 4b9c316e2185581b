//! `migrate`: brings the tables of a database up to date.

use std::process::ExitCode;

use clap::Args;
use hongyan::config::{MySqlConfig, Reader};
use hongyan::store::Store;

use super::settings::variable;

#[derive(Args)]
pub(super) struct Options {
    /// Only say which migrations the database lacks
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn work(options: Options) -> anyhow::Result<ExitCode> {
    let mut reader = Reader::new(variable);
    let mysql = MySqlConfig::read(&mut reader);
    let store = Store::new(&reader.finish(mysql)?)?;
    if options.dry_run {
        let missing = store.pending_migrations().await?;
        for migration in &missing {
            println!("{migration}: not applied yet");
        }
        if missing.is_empty() {
            println!("The tables are up to date.");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut count = 0;
    let count_and_print = |applied: hongyan::store::Applied| {
        count += 1;
        println!("{}: applied in {} ms", applied.migration, applied.took.as_millis());
    };
    store.migrate(count_and_print).await?;
    match count {
        0 => println!("The tables were up to date."),
        count => println!("The tables are up to date; migrations applied: {count}."),
    }
    Ok(ExitCode::SUCCESS)
}
