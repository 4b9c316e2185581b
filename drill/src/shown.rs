//! Reads the API as users do, after settling.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hongyan_testkit::{Answer, Caller};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::site::{RUNTIMES, Site};

/// The most pages of one conversation in a drill.
const MAX_PAGES: usize = 1_000;

/// How long a request may take to succeed.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The most conversations of a page: few, so that the list has several pages.
const TALKS: usize = 5;

/// A conversation as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Talk {
    pub(crate) peer: i64,
    /// The id of the last message, and whether the message has words.
    pub(crate) last: Option<(i64, bool)>,
    pub(crate) unread: u64,
    /// The read position of the user; 0 if there is none.
    pub(crate) read: i64,
    /// The read position of the peer; 0 if there is none.
    pub(crate) peer_read: i64,
}

/// The data that one user is shown.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// For each peer the ids and contents, newest first, from pages read backwards.
    pub(crate) back: BTreeMap<i64, Vec<(i64, String)>>,
    /// For each peer the ids and contents, oldest first, from pages read forwards.
    pub(crate) on: BTreeMap<i64, Vec<(i64, String)>>,
    /// The unread count, and the newest unread ids, newest first.
    pub(crate) unread: (u64, Vec<i64>),
    /// The list of conversations, in its order.
    pub(crate) talks: Vec<Talk>,
}

/// Reads everything that every user is shown, from each runtime.
pub(crate) async fn read(site: &Site, users: &Range<i64>) -> anyhow::Result<Vec<BTreeMap<i64, Shown>>> {
    let mut all = Vec::with_capacity(RUNTIMES);
    for runtime in 0..RUNTIMES {
        all.push(read_from(site, users, runtime).await?);
    }
    Ok(all)
}

async fn read_from(site: &Site, users: &Range<i64>, runtime: usize) -> anyhow::Result<BTreeMap<i64, Shown>> {
    let mut asking = JoinSet::new();
    for user in users.clone() {
        let (caller, users) = (site.callers(user)?[runtime].clone(), users.clone());
        asking.spawn(async move { Ok::<_, anyhow::Error>((user, by(&caller, users).await?)) });
    }
    let mut all = BTreeMap::new();
    while let Some(asked) = asking.join_next().await {
        let (user, shown) = asked??;
        all.insert(user, shown);
    }
    Ok(all)
}

async fn by(caller: &Caller, users: Range<i64>) -> anyhow::Result<Shown> {
    let mut shown = Shown::default();
    for peer in users.filter(|peer| *peer != caller.id.get()) {
        shown.back.insert(peer, history(caller, peer).await?);
        // The smallest possible id: all messages are newer.
        shown.on.insert(peer, walk(caller, peer, "after", Some("1".to_owned())).await?);
    }
    let answer = answer(caller, "/unread").await?;
    let ids = answer.body["messageIds"].as_array().context("no ids")?;
    let ids = ids.iter().map(number).collect::<anyhow::Result<_>>()?;
    shown.unread = (answer.body["total"].as_u64().context("no total")?, ids);
    shown.talks = talks(caller).await?;
    Ok(shown)
}

/// The ids and contents of a conversation, newest first.
pub(crate) async fn history(caller: &Caller, peer: i64) -> anyhow::Result<Vec<(i64, String)>> {
    walk(caller, peer, "before", None).await
}

async fn walk(
    caller: &Caller,
    peer: i64,
    direction: &str,
    from: Option<String>,
) -> anyhow::Result<Vec<(i64, String)>> {
    let (mut all, mut cursor) = (Vec::new(), from);
    for _ in 0..MAX_PAGES {
        let from = cursor.map_or_else(String::new, |cursor| format!("&{direction}={cursor}"));
        let path = format!("/conversations/{peer}/messages?limit=100{from}");
        let page = answer(caller, &path).await?;
        for message in page.body["messages"].as_array().context("no messages")? {
            all.push((number(&message["id"])?, message["content"].as_str().unwrap_or_default().to_owned()));
        }
        match page.body["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(all),
        }
    }
    bail!("the conversation of {} with {peer} does not end", caller.id)
}

/// All pages of the list of conversations.
async fn talks(caller: &Caller) -> anyhow::Result<Vec<Talk>> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    for _ in 0..MAX_PAGES {
        let page = answer(caller, &format!("/conversations?limit={TALKS}{cursor}")).await?;
        for talk in page.body["conversations"].as_array().context("no conversations")? {
            all.push(talk_of(talk)?);
        }
        match page.body["next"].as_str() {
            Some(next) => cursor = format!("&before={next}"),
            None => return Ok(all),
        }
    }
    bail!("the list of conversations of {} does not end", caller.id)
}

fn talk_of(talk: &Value) -> anyhow::Result<Talk> {
    let position = |field: &str| if talk[field].is_null() { Ok(0) } else { number(&talk[field]) };
    let last = &talk["lastMessage"];
    let has_words = last["status"] == 1 && last["content"].as_str().is_some_and(|words| !words.is_empty());
    Ok(Talk {
        peer: number(&talk["peerId"])?,
        last: if last.is_null() { None } else { Some((number(&last["id"])?, has_words)) },
        unread: talk["unread"].as_u64().context("no unread count")?,
        read: position("readUpTo")?,
        peer_read: position("peerReadUpTo")?,
    })
}

fn number(id: &Value) -> anyhow::Result<i64> {
    id.as_str().and_then(|id| id.parse().ok()).with_context(|| format!("{id} is no id"))
}

/// Repeats a request until it succeeds. A server that has just come back, or a busy machine, may need some tries.
async fn answer(caller: &Caller, path: &str) -> anyhow::Result<Answer> {
    let start = Instant::now();
    loop {
        let asked = caller.try_request(http::Method::GET, path, None);
        let reason = match tokio::time::timeout(ANSWER_LIMIT, asked).await {
            Ok(Ok(answer)) if answer.status == 200 => return Ok(answer),
            Ok(Ok(answer)) if answer.status != 503 => bail!("answered {} {}", answer.status, answer.text),
            Ok(Ok(answer)) => format!("answered 503 {}", answer.text),
            Ok(Err(error)) => format!("no answer: {error}"),
            Err(_) => format!("no answer within {ANSWER_LIMIT:?}"),
        };
        if start.elapsed() > ANSWER_LIMIT {
            bail!("{path} of {}: {reason}", caller.id);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
