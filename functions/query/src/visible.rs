//! The messages that the caller may see, among ids from Redis and rows from MySQL.

use std::collections::{HashMap, HashSet};

use hongyan::app::App;
use hongyan::cache::clearing::Clearing;
use hongyan::cache::deletion::DeletedAmong;
use hongyan::cache::detail::Detail;
use hongyan::cache::epoch::Epoch;
use hongyan::cache::page::Lookup;
use hongyan::clock::TimestampMs;
use hongyan::error::{Retry, Server, ServerError};
use hongyan::event::Recall;
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::message::Message;
use hongyan::store::Cleared;
use hongyan::telemetry::metric;

/// The most deletions of a user that Redis keeps. For a user with more, MySQL is asked for each page.
const MAX_CACHED_DELETIONS: u32 = 10_000;

/// The epoch has ended while a page was read, so the ids that were read before are stale. MySQL alone answers, as if
/// Redis were away.
pub(crate) fn epoch_has_ended() -> ServerError {
    let source = "Redis is another one than a moment ago".into();
    ServerError { server: Server::Redis, action: "query.page", retry: Retry::Transient, source }
}

/// Counts a page, or a part of one, for which Redis has no list that is believed: each row that MySQL gave is a miss.
pub(crate) fn count_unlisted(rows: usize) {
    count_lookups(0, rows.max(1));
}

/// Counts the messages that Redis could answer, and those that it should have had.
pub(crate) fn count_lookups(hits: usize, misses: usize) {
    metrics::counter!(metric::CACHE_LOOKUPS, "outcome" => "hit").increment(hits as u64);
    metrics::counter!(metric::CACHE_LOOKUPS, "outcome" => "miss").increment(misses as u64);
}

/// The visible messages of `ids`, in the same order, as `lookup` found them in Redis. Details that Redis has lost are
/// read from MySQL.
pub(crate) async fn of_redis(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    ids: &[MessageId],
    lookup: Lookup,
) -> Result<Vec<Message>, ServerError> {
    let Lookup { details, deleted, epoch } = lookup;
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
    // A list has only ids of its own conversation. If one were wrong, nobody may see a message of another conversation.
    let mut messages: Vec<Message> =
        messages.filter(|message| message.conversation() == conversation).collect();
    if messages.is_empty() {
        return Ok(messages);
    }
    let deleted = deleted_of(app, caller, ids, deleted, &epoch).await?;
    messages.retain(|message| !deleted.contains(&message.id));
    Ok(messages)
}

/// The pending messages without a tombstone in MySQL, in the same order. Redis is told of the tombstones: it may have
/// been away at the recall, or have returned with older data.
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

/// The newest `wanted` rows older than `before` that the caller, who has `cleared` so far, may see; newest first. A row whose detail is recalled
/// is left out, since MySQL may not have the recall yet.
pub(crate) async fn rows_before(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    cleared: Cleared,
    mut before: Option<MessageId>,
    wanted: usize,
) -> Result<Vec<Message>, ServerError> {
    let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
    let mut found = Vec::new();
    while found.len() < wanted {
        let rows = app.store.uncleared_before(conversation, caller, cleared, before, limit).await?;
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

/// The oldest `wanted` rows newer than `after` that the caller may see, oldest first; otherwise like [`rows_before`].
pub(crate) async fn rows_after(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    cleared: Cleared,
    mut after: MessageId,
    wanted: usize,
) -> Result<Vec<Message>, ServerError> {
    let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
    let mut found = Vec::new();
    while found.len() < wanted {
        let rows = app.store.uncleared_after(conversation, caller, cleared, after, limit).await?;
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

/// The messages of `ids` that Redis has as recalled, each with the time of its recall.
pub(crate) async fn recalled_in_redis(
    app: &App,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, TimestampMs>, ServerError> {
    let details = app.cache.details(ids).await?;
    let recalled = ids.iter().zip(details).filter_map(|(&id, detail)| match detail {
        Detail::Recalled(recalled) => Some((id, recalled.recall_time)),
        Detail::Message(_) | Detail::Missing => None,
    });
    Ok(recalled.collect())
}

/// The rows whose detail is not recalled.
async fn without_recalled(app: &App, rows: Vec<Message>) -> Result<Vec<Message>, ServerError> {
    let ids: Vec<MessageId> = rows.iter().map(|row| row.id).collect();
    let recalled = recalled_in_redis(app, &ids).await?;
    Ok(rows.into_iter().filter(|row| !recalled.contains_key(&row.id)).collect())
}

/// Reads missing messages from MySQL and restores their details. A recall that is decided meanwhile leaves a stub, so
/// the details are read again before a message is shown.
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

/// How far the caller has cleared the conversation: by what is `known` of Redis in `epoch`, else by MySQL, which Redis then
/// learns. While MySQL is away, a clearing that was begun counts as done, as the user wanted.
pub(crate) async fn cleared_of(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    known: &Clearing,
    epoch: &Epoch,
) -> Result<Cleared, ServerError> {
    if let Some(cleared) = known.known_in(epoch) {
        return Ok(cleared);
    }
    match app.store.cleared(caller, conversation).await {
        Ok(cleared) => {
            app.cache.fill_cleared(caller, conversation, known, cleared, epoch).await?;
            Ok(cleared.max(known.at_least()))
        }
        Err(error) if error.is_transient() && known.is_complete_in(epoch) => Ok(known.at_most()),
        Err(error) => Err(error),
    }
}

/// True if the caller has deleted or cleared the message, by Redis, or by MySQL while Redis is away.
pub(crate) async fn is_hidden(app: &App, caller: UserId, message: &Message) -> Result<bool, ServerError> {
    Ok(is_deleted(app, caller, message.id).await? || Box::pin(is_cleared(app, caller, message)).await?)
}

async fn is_cleared(app: &App, caller: UserId, message: &Message) -> Result<bool, ServerError> {
    let conversation = message.conversation();
    let cleared = match app.cache.clearing(caller, conversation).await {
        Ok((known, epoch)) => cleared_of(app, caller, conversation, &known, &epoch).await?,
        Err(error) if error.is_transient() => app.store.cleared(caller, conversation).await?,
        Err(error) => return Err(error),
    };
    Ok(cleared.hides(message.id))
}

async fn is_deleted(app: &App, caller: UserId, id: MessageId) -> Result<bool, ServerError> {
    let deleted = match app.cache.look_up(caller, &[id]).await {
        Ok(look) => deleted_of(app, caller, &[id], look.deleted, &look.epoch).await?,
        Err(error) if error.is_transient() => app.store.deleted_among(caller, &[id]).await?,
        Err(error) => return Err(error),
    };
    Ok(deleted.contains(&id))
}

/// The messages of `ids` that the caller has deleted: by the `known` deletions of Redis if these are complete, else by
/// MySQL.
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
    let lookup = app.cache.look_up(caller, &[]).await?;
    if lookup.epoch == *epoch && !lookup.deleted.complete {
        read_deletions(app, caller, epoch).await?;
    }
    Ok(())
}

/// Reads all deletions of the caller and brings them to Redis; `None` if there are more than Redis keeps.
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

/// Finishes deletions that were begun: MySQL has them or not, and Redis learns of those that it has. While MySQL is
/// away all count as done, as the user wanted.
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
