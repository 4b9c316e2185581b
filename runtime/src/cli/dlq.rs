//! `dlq`: list, show and send back dead letters.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hongyan::clock::{Clock, TimestampMs};
use hongyan::config::{KafkaConfig, MySqlConfig, Reader};
use hongyan::store::Store;

use super::settings;
use crate::dlq::{self, Filter, RedriveOptions};

#[derive(Subcommand)]
pub(super) enum Command {
    /// A line for each dead letter: partition/offset, when, why
    List {
        #[command(flatten)]
        which: Which,
        /// Print an object for each, one a line
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter in full
    Show {
        /// The place of the letter as `list` prints it, for example 0/17
        #[arg(value_name = "PARTITION/OFFSET", value_parser = place)]
        place: (i32, i64),
        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Send dead letters back to the partitions they came from, in order, with their headers
    Redrive {
        #[command(flatten)]
        which: Which,
        /// Leave letters that would break again: no event, or a message that MySQL would still refuse (the command
        /// asks MySQL)
        #[arg(long)]
        check: bool,
        /// Send nothing; only say which letters would be sent back and which refused
        #[arg(long)]
        dry_run: bool,
    },
}

/// Select dead letters. A letter must match every option that is given
#[derive(Args)]
pub(super) struct Which {
    /// Only this partition of the dead-letter topic
    #[arg(long)]
    partition: Option<i32>,
    /// Only this offset of the dead-letter topic
    #[arg(long)]
    offset: Option<i64>,
    /// Only letters whose reason contains this text, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// Only letters put aside since then: 30m, 2h or 7d ago, or a time such as 2026-11-24T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    since: Option<Since>,
    /// Include letters that were sent back already
    #[arg(long)]
    redriven: bool,
}

impl Which {
    fn filter(self, now: TimestampMs) -> Filter {
        Filter {
            partition: self.partition,
            offset: self.offset,
            error: self.error,
            since: self.since.map(|since| since.at(now)),
            redriven: self.redriven,
        }
    }
}

/// A point in time, or how long ago it was; both in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Ago(i64),
    At(TimestampMs),
}

impl Since {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(time.timestamp_millis()));
        }
        let unit_ms: i64 = match text.bytes().last() {
            Some(b's') => 1_000,
            Some(b'm') => 60_000,
            Some(b'h') => 3_600_000,
            Some(b'd') => 86_400_000,
            _ => 0,
        };
        let count = text.get(..text.len().saturating_sub(1)).and_then(|count| count.parse::<u32>().ok());
        match count {
            Some(count) if unit_ms > 0 => Ok(Self::Ago(i64::from(count).saturating_mul(unit_ms))),
            _ => Err("must look like 30m, 2h, 7d or 2026-11-24T08:00:00Z".to_owned()),
        }
    }

    fn at(self, now: TimestampMs) -> TimestampMs {
        match self {
            Self::Ago(ago) => now.saturating_sub(ago),
            Self::At(time) => time,
        }
    }
}

fn place(text: &str) -> Result<(i32, i64), String> {
    let parsed = text.split_once('/').and_then(|(partition, offset)| {
        Some((partition.parse().ok().filter(|partition| *partition >= 0)?, offset.parse().ok()?))
    });
    parsed.ok_or_else(|| "must look like 0/17".to_owned())
}

/// The settings that `command` uses: Kafka's, and MySQL's where MySQL is asked.
fn read(command: &Command, folder: &Path) -> anyhow::Result<(KafkaConfig, Option<MySqlConfig>)> {
    let asks_mysql = matches!(command, Command::Redrive { check: true, .. });
    let needed: &[&str] =
        if asks_mysql { &["KAFKA_BOOTSTRAP_SERVERS", "MYSQL_URL"] } else { &["KAFKA_BOOTSTRAP_SERVERS"] };
    let mut reader = Reader::new(settings::lookup(folder, needed)?);
    let kafka = KafkaConfig::read(&mut reader);
    let mysql = asks_mysql.then(|| MySqlConfig::read(&mut reader));
    Ok(reader.finish((kafka, mysql))?)
}

pub(super) async fn work(command: Command, folder: &Path) -> anyhow::Result<ExitCode> {
    let (kafka, mysql) = read(&command, folder)?;
    let now = Clock::system().now_ms();
    match command {
        Command::List { which, json } => {
            let letters = dlq::list(&kafka, which.filter(now)).await?;
            if letters.is_empty() {
                eprintln!("No dead letter in {} matches.", kafka.dead_letter_topic);
            }
            for letter in letters {
                if json {
                    println!("{}", letter.to_json());
                } else {
                    println!("{letter}");
                }
            }
        }
        Command::Show { place: (partition, offset), json } => {
            match dlq::show(&kafka, partition, offset).await? {
                Some(letter) if json => println!("{}", letter.to_json()),
                Some(letter) => println!("{letter:#}"),
                None => anyhow::bail!("{} has no record {partition}/{offset}", kafka.dead_letter_topic),
            }
        }
        Command::Redrive { which, check: _, dry_run } => {
            let check = mysql.map(|mysql| Store::new(&mysql)).transpose()?;
            let options = RedriveOptions { filter: which.filter(now), check, dry_run };
            let outcome = dlq::redrive(&kafka, options).await?;
            println!("{outcome}");
            if !outcome.refused.is_empty() || outcome.interrupted.is_some() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(Since::parse("30m"), Ok(Since::Ago(1_800_000)));
        assert_eq!(Since::parse("2h").unwrap().at(10_000_000), 2_800_000);
        assert_eq!(Since::parse("2024-11-27T16:00:00Z"), Ok(Since::At(1_732_723_200_000)));
        for wrong in ["", "m", "5", "-5m", "5w", "yesterday", "5µ"] {
            assert!(Since::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_place_is_partition_and_offset() {
        assert_eq!(place("3/17"), Ok((3, 17)));
        for wrong in ["", "3", "3/", "/7", "-1/7", "a/b", "1/2/3"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
