//! Redis without the service: the commands of a send, for other messages of other users, pipelined.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hongyan::config::Config;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::capture::{CONTENT, Captured, capture, connect};
use super::resp::{replaced, write_command};
use super::taken::Taken;
use crate::content::Contents;
use crate::pool::Pool;
use crate::scenario::Talk;

const CONNECTIONS: i64 = 4;
/// The number of messages in one pipeline.
const MESSAGES: i64 = 32;
/// The number of ids reserved for one connection; more than the connection writes.
const IDS: i64 = 1 << 30;
/// The number of pairs of users of the messages.
const PAIRS: i64 = 100;
/// The command whose answer marks the end of a pipeline.
const LAST: &str = "the last answer of this pipeline";

pub(super) async fn measure(
    config: &Config,
    pool: &Pool,
    talk: &Talk,
    contents: &Arc<Contents>,
    time: Duration,
) -> anyhow::Result<Taken> {
    anyhow::ensure!(!config.redis.cluster, "a Redis Cluster is not measured by itself");
    let url = config.redis.url.expose_secret();
    let captured = Arc::new(capture(url, pool, talk).await?);
    let mut writers = tokio::task::JoinSet::new();
    let began = Instant::now();
    for writer in 0..CONNECTIONS {
        let (url, captured, contents) = (url.to_owned(), captured.clone(), contents.clone());
        writers.spawn(async move {
            let mut connection = connect(&url).await?;
            let mut written = 0;
            while began.elapsed() < time {
                let pipeline = pipeline(&captured, &contents, writer * IDS + written)?;
                connection.get_mut().write_all(&pipeline).await?;
                let answers = answers(&mut connection).await?;
                anyhow::ensure!(
                    !has_error(&answers),
                    "Redis refuses a command of a send: {}",
                    first_error(&answers)
                );
                written += MESSAGES;
            }
            anyhow::Ok(written)
        });
    }
    let mut messages = 0;
    while let Some(written) = writers.join_next().await {
        messages += u64::try_from(written??).unwrap_or_default();
    }
    let how = format!(
        "the {} commands of a send as MONITOR shows them, {MESSAGES} sends a pipeline, on {CONNECTIONS} connections",
        captured.commands.len()
    );
    Ok(Taken { messages, time: began.elapsed(), how })
}

/// The commands of the messages from number `first` on.
fn pipeline(captured: &Captured, contents: &Contents, first: i64) -> anyhow::Result<Vec<u8>> {
    let Captured { commands, id, from, to } = captured;
    let (id_number, from_number, to_number): (i64, i64, i64) = (id.parse()?, from.parse()?, to.parse()?);
    let mut out = Vec::new();
    for number in first + 1..=first + MESSAGES {
        // Both users are shifted by the same amount, so that the lower one stays the lower one.
        let moved = 2 * (1 + number % PAIRS) + (1 << 51);
        let new_id = (id_number + number).to_string();
        let (new_from, new_to) = ((from_number + moved).to_string(), (to_number + moved).to_string());
        let content = contents.number(usize::try_from(number)?);
        let replacements = [
            (id.as_bytes(), new_id.as_bytes()),
            (from.as_bytes(), new_from.as_bytes()),
            (to.as_bytes(), new_to.as_bytes()),
            (CONTENT.as_bytes(), content.as_bytes()),
        ];
        for command in commands {
            let command: Vec<Vec<u8>> =
                command.iter().map(|argument| replaced(argument, &replacements)).collect();
            write_command(&mut out, &command);
        }
    }
    write_command(&mut out, &["ECHO", LAST]);
    Ok(out)
}

/// Reads all answers of a pipeline.
async fn answers(connection: &mut tokio::io::BufReader<tokio::net::TcpStream>) -> anyhow::Result<Vec<u8>> {
    let mut answers = Vec::new();
    let end = format!("{LAST}\r\n");
    while !answers.ends_with(end.as_bytes()) {
        anyhow::ensure!(connection.read_buf(&mut answers).await? > 0, "Redis has closed the connection");
    }
    Ok(answers)
}

/// True if one of the answers is an error: a line that begins with `-`. No text in an answer contains a line break.
fn has_error(answers: &[u8]) -> bool {
    answers.starts_with(b"-") || answers.windows(3).any(|part| part == b"\r\n-")
}

fn first_error(answers: &[u8]) -> String {
    let text = String::from_utf8_lossy(answers);
    text.lines().find(|line| line.starts_with('-')).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_of_a_pipeline_is_another_one_of_other_users() {
        let command = |arguments: [&str; 2]| arguments.map(|argument| argument.as_bytes().to_vec()).to_vec();
        let captured = Captured {
            commands: vec![command(["SET", "msg:1000"]), command(["ZADD", "7_8 bench"])],
            id: "1000".to_owned(),
            from: "7".to_owned(),
            to: "8".to_owned(),
        };

        let bytes = pipeline(&captured, &Contents::new(), 0).unwrap();

        let text = String::from_utf8(bytes).unwrap();
        for number in 1..=MESSAGES {
            assert!(text.contains(&format!("msg:{}\r\n", 1_000 + number)), "{number}");
        }
        assert!(!text.contains("7_8") && text.contains("ECHO"), "{text}");
    }

    #[test]
    fn an_error_among_the_answers_is_seen() {
        assert!(!has_error(b"+OK\r\n:-1\r\n"));
        assert!(has_error(b"+OK\r\n-NOSCRIPT No matching script\r\n:1\r\n"));
        assert_eq!(first_error(b"+OK\r\n-NOSCRIPT No\r\n"), "-NOSCRIPT No");
    }
}
