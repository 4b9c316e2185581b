//! The Redis commands of one send, as MONITOR shows them: the commands of the function and of the consumer that
//! persists the message.

use std::time::Duration;

use anyhow::Context as _;
use http::Method;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use url::Url;

use super::resp::{monitored, write_command};
use crate::pool::{Call, Pool};
use crate::scenario::Talk;
use crate::servers::address_of;
use crate::users::Turn;

/// Words that no other content has.
pub(super) const CONTENT: &str = "bench: the commands of this send are counted";
/// The number of sends before the recorded one. The first send of a conversation also makes its list.
const BEFORE: usize = 3;
/// How long MONITOR is read after a send. The consumer persists a message within a second.
const LISTENING: Duration = Duration::from_secs(2);
const PAIR: Turn = Turn { pair: 0, turned: false };

/// The Redis commands of one send.
pub(super) struct Captured {
    pub(super) commands: Vec<Vec<Vec<u8>>>,
    pub(super) id: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// A connection that has given the password to Redis.
pub(super) async fn connect(url: &str) -> anyhow::Result<BufReader<TcpStream>> {
    let parsed = Url::parse(url)?;
    anyhow::ensure!(parsed.scheme() == "redis", "only a Redis without TLS is measured by itself");
    let address = address_of(url, 6379).context("REDIS_URL has no address")?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut connection = BufReader::new(stream);
    if let Some(password) = parsed.password() {
        let password = percent(password);
        match parsed.username() {
            "" => ask(&mut connection, &["AUTH", &password]).await?,
            user => ask(&mut connection, &["AUTH", &percent(user), &password]).await?,
        }
    }
    let database = parsed.path().trim_start_matches('/');
    if !database.is_empty() {
        ask(&mut connection, &["SELECT", database]).await?;
    }
    Ok(connection)
}

/// Decodes a part of a URL: `%40` is `@`.
fn percent(text: &str) -> String {
    let pair = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

/// Sends a command that Redis answers with `+OK`.
pub(super) async fn ask(connection: &mut BufReader<TcpStream>, command: &[&str]) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    write_command(&mut bytes, command);
    connection.get_mut().write_all(&bytes).await?;
    let mut answer = String::new();
    connection.read_line(&mut answer).await?;
    let name = command.first().unwrap_or(&"");
    anyhow::ensure!(answer == "+OK\r\n", "Redis answers {name} by {}", answer.trim_end());
    Ok(())
}

/// Sends a few messages through the service, and records the Redis commands of the last one.
pub(super) async fn capture(url: &str, pool: &Pool, talk: &Talk) -> anyhow::Result<Captured> {
    let (from, to) = talk.users().of(PAIR);
    let mut monitor = connect(url).await?;
    for _ in 0..BEFORE {
        send(pool, talk).await?;
    }
    ask(&mut monitor, &["MONITOR"]).await?;
    // Wait for the end of the earlier messages' commands.
    lines(&mut monitor).await?;
    let id = send(pool, talk).await?;
    let (from, to) = (from.id.to_string(), to.id.to_string());
    let names = [id.as_bytes(), from.as_bytes(), to.as_bytes()];
    let is_about =
        |argument: &[u8]| names.iter().any(|name| argument.windows(name.len()).any(|part| part == *name));
    let commands: Vec<_> = lines(&mut monitor)
        .await?
        .iter()
        .filter_map(|line| monitored(line))
        .filter(|command| command.iter().any(|argument| is_about(argument)))
        .collect();
    anyhow::ensure!(!commands.is_empty(), "MONITOR shows no command of a send");
    Ok(Captured { commands, id, from, to })
}

async fn lines(monitor: &mut BufReader<TcpStream>) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    let end = tokio::time::Instant::now() + LISTENING;
    loop {
        let mut line = Vec::new();
        match tokio::time::timeout_at(end, monitor.read_until(b'\n', &mut line)).await {
            Ok(read) => anyhow::ensure!(read? > 0, "Redis has closed the connection"),
            Err(_) => return Ok(lines),
        }
        lines.push(String::from_utf8_lossy(&line).into_owned());
    }
}

async fn send(pool: &Pool, talk: &Talk) -> anyhow::Result<String> {
    let (from, to) = talk.users().of(PAIR);
    let call = Call {
        method: Method::POST,
        path: "/messages".to_owned(),
        authorization: from.authorization.clone(),
        body: format!(r#"{{"toId":"{}","content":"{CONTENT}","msgType":1}}"#, to.id),
    };
    let answer = pool.call(call).await.1.map_err(anyhow::Error::msg)?;
    anyhow::ensure!(answer.status == 201, "a send is answered by {}", answer.status);
    let body: Value = serde_json::from_slice(&answer.body)?;
    Ok(body["id"].as_str().context("a send's answer has no id")?.to_owned())
}
