//! What of some messages the caller may see.

use std::collections::{HashMap, HashSet};

use hongyan::app::App;
use hongyan::cache::deletion::DeletedAmong;
use hongyan::cache::detail::Detail;
use hongyan::cache::epoch::Epoch;
use hongyan::cache::page::Lookup;
use hongyan::error::{Retry, Server, ServerError};
use hongyan::event::Recall;
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::message::Message;
use hongyan::telemetry::metric;

/// The most deletions of one user that are kept in Redis. Whoever has more is looked up in MySQL page by page.
const MAX_CACHED_DELETIONS: u32 = 10_000;

/// Redis vouches no more for what it said a moment ago: MySQL alone answers, as while Redis is away.
pub(crate) fn epoch_has_ended() -> ServerError {
    let source = "Redis is another one than a moment ago".into();
    ServerError { server: Server::Redis, action: "query.page", retry: Retry::Transient, source }
}

/// Counts what Redis could answer and what it could not, by message; a page without a list is one miss.
pub(crate) fn count_lookups(hits: usize, misses: usize) {
    metrics::counter!(metric::CACHE_LOOKUPS, "outcome" => "hit").increment(hits as u64);
    metrics::counter!(metric::CACHE_LOOKUPS, "outcome" => "miss").increment(misses as u64);
}

/// The messages of `ids` that can be seen, in the order of `ids`, as `look` found them in Redis; what Redis has lost of a
/// list that is believed is read from MySQL.
pub(crate) async fn of_redis(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    ids: &[MessageId],
    look: Lookup,
) -> Result<Vec<Message>, ServerError> {
    let Lookup { details, deleted, epoch } = look;
    let missing: Vec<MessageId> = ids
        .iter()
        .zip(&details)
        .filter(|(_, detail)| **detail == Detail::Missing)
        .map(|(&id, _)| id)
        .collect();
    count_lookups(ids.len() - missing.len(), missing.len());
    let mut from_mysql = bring_back(app, &missing).await?;
    let messages = ids.iter().zip(details).filter_map(|(id, detail)| match detail {
        Detail::Message(message) => Some(message),
        Detail::Recalled(_) => None,
        Detail::Missing => from_mysql.remove(id),
    });
    // A list holds ids of its own conversation only; should one be wrong, nobody sees what is not theirs.
    let mut messages: Vec<Message> =
        messages.filter(|message| message.conversation() == conversation).collect();
    if messages.is_empty() {
        return Ok(messages);
    }
    let deleted = deleted_of(app, caller, ids, deleted, &epoch).await?;
    messages.retain(|message| !deleted.contains(&message.id));
    Ok(messages)
}

/// Those of these pending messages that MySQL does not say are recalled, in their order. Redis is told of the others: it
/// may have been away, or have come back as it was before the recall.
pub(crate) async fn not_recalled(
    app: &App,
    conversation: ConversationId,
    pending: &[MessageId],
) -> Result<Vec<MessageId>, ServerError> {
    let recalled = app.store.tombstones_among(conversation, pending).await?;
    if !recalled.is_empty() {
        let recalls: Vec<Recall> = recalled
            .iter()
            .map(|(&message_id, &recall_time)| Recall {
                message_id,
                recall_time,
                conversation_id: conversation,
            })
            .collect();
        app.cache.confirm_recalled(&recalls).await?;
    }
    Ok(pending.iter().copied().filter(|id| !recalled.contains_key(id)).collect())
}

/// The newest `wanted` rows older than `before` that the caller may see, newest first. A row is shown only if its detail in
/// Redis, where there is one, is not recalled: the recall may not be in MySQL yet.
pub(crate) async fn rows_before(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    mut before: Option<MessageId>,
    wanted: usize,
) -> Result<Vec<Message>, ServerError> {
    let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
    let mut found = Vec::new();
    while found.len() < wanted {
        let rows = app.store.visible_before(conversation, caller, before, limit).await?;
        let is_last = rows.len() < wanted;
        before = rows.last().map(|row| row.id).or(before);
        found.extend(without_recalled(app, rows).await?);
        if is_last {
            break;
        }
    }
    found.truncate(wanted);
    Ok(found)
}

/// The oldest `wanted` rows newer than `after` that the caller may see, oldest first; see [`rows_before`].
pub(crate) async fn rows_after(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    mut after: MessageId,
    wanted: usize,
) -> Result<Vec<Message>, ServerError> {
    let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
    let mut found = Vec::new();
    while found.len() < wanted {
        let rows = app.store.visible_after(conversation, caller, after, limit).await?;
        let is_last = rows.len() < wanted;
        after = rows.last().map_or(after, |row| row.id);
        found.extend(without_recalled(app, rows).await?);
        if is_last {
            break;
        }
    }
    found.truncate(wanted);
    Ok(found)
}

/// Those rows that Redis does not say are recalled.
async fn without_recalled(app: &App, rows: Vec<Message>) -> Result<Vec<Message>, ServerError> {
    let ids: Vec<MessageId> = rows.iter().map(|row| row.id).collect();
    let details = app.cache.details(&ids).await?;
    Ok(rows
        .into_iter()
        .zip(details)
        .filter(|(_, detail)| !detail.is_recalled())
        .map(|(row, _)| row)
        .collect())
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
    let rows = without_recalled(app, rows).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// The messages of `ids` that the caller has deleted: `known` to Redis, or else read from MySQL.
async fn deleted_of(
    app: &App,
    caller: UserId,
    ids: &[MessageId],
    known: DeletedAmong,
    epoch: &Epoch,
) -> Result<HashSet<MessageId>, ServerError> {
    if known.complete {
        let begun = finish_begun(app, caller, known.begun).await?;
        return Ok(known.deleted.into_iter().chain(begun).collect());
    }
    match read_deletions(app, caller, epoch).await? {
        Some(all) => Ok(all.into_iter().collect()),
        None => app.store.deleted_among(caller, ids).await,
    }
}

/// Brings the caller's deletions to Redis, unless Redis has all of them in `epoch`.
pub(crate) async fn refill_deletions(app: &App, caller: UserId, epoch: &Epoch) -> Result<(), ServerError> {
    let look = app.cache.look_up(caller, &[]).await?;
    if look.epoch == *epoch && !look.deleted.complete {
        read_deletions(app, caller, epoch).await?;
    }
    Ok(())
}

/// Reads all that the caller has deleted, and puts it into Redis; `None` if that is more than Redis keeps of one user.
async fn read_deletions(
    app: &App,
    caller: UserId,
    epoch: &Epoch,
) -> Result<Option<Vec<MessageId>>, ServerError> {
    let all = app.store.deleted_by(caller, MAX_CACHED_DELETIONS + 1).await?;
    if all.len() > MAX_CACHED_DELETIONS as usize {
        return Ok(None);
    }
    app.cache.fill_deleted(caller, &all, epoch).await?;
    Ok(Some(all))
}

/// How deletions ended that were begun and not finished: MySQL knows, and what it has is finished here. While it is away
/// they count as done, as their user wanted.
async fn finish_begun(
    app: &App,
    caller: UserId,
    begun: Vec<MessageId>,
) -> Result<Vec<MessageId>, ServerError> {
    match app.store.deleted_among(caller, &begun).await {
        Ok(deleted) => {
            for id in &deleted {
                app.cache.note_deleted(caller, *id).await?;
            }
            Ok(deleted.into_iter().collect())
        }
        Err(error) if error.is_transient() => Ok(begun),
        Err(error) => Err(error),
    }
}
