//! What of some messages the caller may see.

use std::collections::{HashMap, HashSet};

use hongyan::app::App;
use hongyan::cache::detail::Detail;
use hongyan::error::ServerError;
use hongyan::event::Recall;
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::message::Message;
use hongyan::telemetry::metric;

/// The most deletions of one user that are kept in Redis. Whoever has more is looked up in MySQL page by page.
const MAX_CACHED_DELETIONS: u32 = 10_000;

/// The messages of `ids` that can be seen, in the order of `ids`: from Redis, and where Redis has lost one, from MySQL.
pub(crate) async fn by_ids(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    ids: &[MessageId],
) -> Result<Vec<Message>, ServerError> {
    let details = app.cache.details(ids).await?;
    let missing: Vec<MessageId> = ids
        .iter()
        .zip(&details)
        .filter(|(_, detail)| **detail == Detail::Missing)
        .map(|(&id, _)| id)
        .collect();
    metrics::counter!(metric::CACHE_LOOKUPS, "outcome" => "hit")
        .increment((ids.len() - missing.len()) as u64);
    metrics::counter!(metric::CACHE_LOOKUPS, "outcome" => "miss").increment(missing.len() as u64);
    let mut from_mysql = bring_back(app, &missing).await?;
    let messages = ids.iter().zip(details).filter_map(|(id, detail)| match detail {
        Detail::Message(message) => Some(message),
        Detail::Recalled(_) => None,
        Detail::Missing => from_mysql.remove(id),
    });
    // A list holds ids of its own conversation only; should one be wrong, nobody sees what is not theirs.
    let messages = messages.filter(|message| message.conversation() == conversation).collect();
    without_deleted(app, caller, messages, true).await
}

/// The messages of `rows`, read from MySQL, that can be seen. A row is shown only if its detail in Redis, where there is
/// one, is not recalled: the recall may not be in MySQL yet.
pub(crate) async fn rows(
    app: &App,
    caller: UserId,
    rows: Vec<Message>,
    redis_answers: bool,
) -> Result<Vec<Message>, ServerError> {
    let rows = if redis_answers {
        agreed_with_redis(app, rows).await?
    } else {
        rows.into_iter().filter(|row| !row.is_recalled()).collect()
    };
    without_deleted(app, caller, rows, redis_answers).await
}

/// Those rows that neither MySQL nor Redis says are recalled. Where Redis was away when a row was recalled and came back
/// with the message as it was, it is told, before the id can be in a list again.
async fn agreed_with_redis(app: &App, rows: Vec<Message>) -> Result<Vec<Message>, ServerError> {
    let ids: Vec<MessageId> = rows.iter().map(|row| row.id).collect();
    let details = app.cache.details(&ids).await?;
    let (mut visible, mut slept_through) = (Vec::with_capacity(rows.len()), Vec::new());
    for (row, detail) in rows.into_iter().zip(details) {
        match (row.is_recalled(), detail) {
            (false, Detail::Message(_) | Detail::Missing) => visible.push(row),
            (true, Detail::Message(_)) => {
                slept_through.push(Recall::of(&row, row.recall_time.unwrap_or_default()));
            }
            (_, Detail::Recalled(_)) | (true, Detail::Missing) => {}
        }
    }
    if !slept_through.is_empty() {
        app.cache.confirm_recalled(&slept_through).await?;
    }
    Ok(visible)
}

/// Reads from MySQL what Redis has lost, and puts it back. A recall that is decided meanwhile leaves a stub in Redis, so
/// what was put back is looked at once more.
async fn bring_back(app: &App, missing: &[MessageId]) -> Result<HashMap<MessageId, Message>, ServerError> {
    if missing.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = app.store.messages(missing).await?;
    let rows: Vec<Message> = rows.into_iter().filter(|row| !row.is_recalled()).collect();
    app.cache.restore(&rows).await?;
    let rows = agreed_with_redis(app, rows).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

async fn without_deleted(
    app: &App,
    caller: UserId,
    messages: Vec<Message>,
    redis_answers: bool,
) -> Result<Vec<Message>, ServerError> {
    if messages.is_empty() {
        return Ok(messages);
    }
    let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
    let deleted = if redis_answers {
        deleted(app, caller, &ids).await?
    } else {
        app.store.deleted_among(caller, &ids).await?
    };
    Ok(messages.into_iter().filter(|message| !deleted.contains(&message.id)).collect())
}

async fn deleted(app: &App, caller: UserId, ids: &[MessageId]) -> Result<HashSet<MessageId>, ServerError> {
    let known = app.cache.deleted_among(caller, ids).await?;
    if known.complete {
        let in_doubt = deleted_of_doubtful(app, caller, known.in_doubt).await?;
        return Ok(known.deleted.into_iter().chain(in_doubt).collect());
    }
    let all = app.store.deleted_by(caller, MAX_CACHED_DELETIONS + 1).await?;
    if all.len() <= MAX_CACHED_DELETIONS as usize {
        app.cache.fill_deleted(caller, &all).await?;
        return Ok(all.into_iter().collect());
    }
    app.store.deleted_among(caller, ids).await
}

/// How deletions ended that were begun and not finished: MySQL knows, and what it has is finished here. While it is away
/// they count as done, as their user wanted.
async fn deleted_of_doubtful(
    app: &App,
    caller: UserId,
    in_doubt: Vec<MessageId>,
) -> Result<Vec<MessageId>, ServerError> {
    match app.store.deleted_among(caller, &in_doubt).await {
        Ok(deleted) => {
            for id in &deleted {
                app.cache.note_deleted(caller, *id).await?;
            }
            Ok(deleted.into_iter().collect())
        }
        Err(error) if error.is_transient() => Ok(in_doubt),
        Err(error) => Err(error),
    }
}
