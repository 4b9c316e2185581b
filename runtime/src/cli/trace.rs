//! `trace`: prints the lines of the log that belong to a trace, in their order.
//!
//! The lines of the messages that the trace names belong to it too: the compensator sends a lost message again in a trace of
//! its own.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use hongyan::trace::{Trace, TraceId};

use super::log;

/// The ways in which a line names a message, in readable lines and in JSON.
const MESSAGE: [&str; 2] = ["message_id=", "\"message_id\":\""];

#[derive(Args)]
pub(super) struct Options {
    /// The trace: the `traceId` of a problem or a line, or a whole `traceparent`
    #[arg(value_name = "ID", value_parser = id)]
    id: TraceId,
    /// The logs to look in, `-` for standard input [default: the log of the running or last `run`]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn id(text: &str) -> Result<TraceId, String> {
    let id = TraceId::parse(text).or_else(|| Trace::parse(text).map(Trace::id));
    id.ok_or_else(|| "must be 32 hex digits in lower case, or a whole traceparent".to_owned())
}

/// Prints the lines. The status is 1 if there are none.
pub(super) fn print(folder: &Path, options: Options) -> anyhow::Result<ExitCode> {
    let Options { id, mut files } = options;
    if files.is_empty() {
        files = log::files(folder);
        anyhow::ensure!(!files.is_empty(), "{} has no log yet; name a file", folder.display());
    }
    let mut piped = Vec::new();
    if files.iter().any(|file| file.as_os_str() == "-") {
        io::stdin().read_to_end(&mut piped)?;
    }
    let open = |file: &PathBuf| -> anyhow::Result<Box<dyn BufRead + '_>> {
        if file.as_os_str() == "-" {
            return Ok(Box::new(Cursor::new(&piped)));
        }
        let file = File::open(file).with_context(|| file.display().to_string())?;
        Ok(Box::new(BufReader::new(file)))
    };

    let mut wanted = Wanted { id: id.to_string(), messages: BTreeSet::new() };
    for file in &files {
        each_line(open(file)?, |line| {
            wanted.note(line);
            Ok(())
        })?;
    }
    let mut found = false;
    let mut out = io::stdout().lock();
    for file in &files {
        each_line(open(file)?, |line| {
            if wanted.has(line) {
                found = true;
                writeln!(out, "{line}")?;
            }
            Ok(())
        })?;
    }
    if !found {
        eprintln!("no line of the log belongs to {id}");
    }
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Hands each line on; bytes that are not UTF-8 are replaced.
fn each_line(mut log: Box<dyn BufRead + '_>, mut to: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    let mut line = Vec::new();
    while log.read_until(b'\n', &mut line)? > 0 {
        to(String::from_utf8_lossy(&line).trim_end())?;
        line.clear();
    }
    Ok(())
}

/// The trace, and the ids of its messages.
struct Wanted {
    id: String,
    messages: BTreeSet<String>,
}

impl Wanted {
    /// Takes in the messages that a line of the trace names.
    fn note(&mut self, line: &str) {
        if line.contains(&self.id) {
            self.messages.extend(messages(line));
        }
    }

    fn has(&self, line: &str) -> bool {
        line.contains(&self.id) || messages(line).any(|message| self.messages.contains(&message))
    }
}

/// The ids of the messages that a line names.
fn messages(line: &str) -> impl Iterator<Item = String> + '_ {
    MESSAGE.iter().flat_map(|name| line.split(name).skip(1)).filter_map(|rest| {
        let id: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (!id.is_empty()).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_trace_and_of_its_messages_belong_to_it() {
        let lines = [
            "INFO send.accept message_id=7 traceId=4bf92f3577b34da6a3ce929d0e0e4736",
            "WARN compensate: sent again message_id=7 traceId=00000000000000000000000000000001",
            r#"{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","message":"answered"}"#,
            r#"{"traceId":"00000000000000000000000000000001","message_id":"7"}"#,
            "INFO send.accept message_id=77 traceId=00000000000000000000000000000001",
        ];
        let mut wanted =
            Wanted { id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(), messages: BTreeSet::new() };
        for line in lines {
            wanted.note(line);
        }

        assert_eq!(lines.map(|line| wanted.has(line)), [true, true, true, true, false]);
    }

    #[test]
    fn an_id_is_32_hex_digits_or_a_whole_header() {
        let wanted = id("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
        assert_eq!(id("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), Ok(wanted));
        for wrong in ["", "4bf9", "4BF92F3577B34DA6A3CE929D0E0E4736", &"0".repeat(32)] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
    }
}
