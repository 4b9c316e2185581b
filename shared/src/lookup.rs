//! Finds a message by its id for a caller: in Redis, else in MySQL, and only in the caller's own conversations.

use crate::app::App;
use crate::cache::detail::{Detail, RecalledDetail};
use crate::clock::TimestampMs;
use crate::error::{ApiError, ServerError};
use crate::id::{MessageId, UserId};
use crate::ids::snowflake;
use crate::message::Message;

/// How long after its send a message may exist in Kafka alone, unknown to a Redis that has lost its data.
const ON_ITS_WAY_MS: TimestampMs = 10 * 60 * 1_000;

/// The most that the clocks of two processes differ, ms.
const CLOCKS_DIFFER_MS: TimestampMs = 60_000;

/// The message `id`, if `caller` is one of its two users. A stranger gets the same answer as if there were no message
/// ([`ApiError::no_such_message`]).
///
/// While Redis is away, or after Redis has lost its data, a message may exist that only Kafka has. Such an id gets
/// [`ApiError::Unavailable`] ("try again") and not "there is none" (`docs/protocol.md`, R22).
pub async fn message_of(app: &App, caller: UserId, id: MessageId) -> Result<Message, ApiError> {
    let (detail, redis_away) = match Box::pin(believed(app, id)).await {
        Ok(detail) => (detail, None),
        Err(error) if error.is_transient() => (Detail::Missing, Some(error)),
        Err(error) => return Err(error.into()),
    };
    let found = match detail {
        Detail::Message(message) | Detail::Recalled(RecalledDetail { message: Some(message), .. }) => {
            Some(message)
        }
        // Only a stub is left: MySQL says who the two users are.
        Detail::Recalled(RecalledDetail { recall_time, .. }) => {
            app.store.message(id).await?.map(|message| message.recalled(recall_time))
        }
        Detail::Missing => app.store.message(id).await?,
    };
    match (found, redis_away) {
        (Some(found), _) if found.conversation().has(caller) => Ok(found),
        (None, Some(error)) => Err(error.into()),
        (None, None) if may_be_on_its_way(app, id).await? => Err(ApiError::Unavailable(None)),
        _ => Err(ApiError::no_such_message()),
    }
}

/// The detail that Redis has of a message, corrected by MySQL. A Redis that returned with older data, or that could not
/// take a recall, shows a recalled message as live; MySQL's tombstone then wins.
pub async fn believed(app: &App, id: MessageId) -> Result<Detail, ServerError> {
    let (detail, epoch) = app.cache.detail_in_epoch(id).await?;
    let Detail::Message(message) = detail else { return Ok(detail) };
    if epoch.has_all_of(id) {
        return Ok(Detail::Message(message));
    }
    let recall_time = match Box::pin(app.store.tombstones_among(message.conversation(), &[id])).await {
        Ok(mut tombstones) => tombstones.remove(&id),
        Err(error) if error.is_transient() => None,
        Err(error) => return Err(error),
    };
    Ok(match recall_time {
        Some(recall_time) => Detail::Recalled(RecalledDetail {
            recall_time,
            conversation: message.conversation(),
            message: Some(message.recalled(recall_time)),
        }),
        None => Detail::Message(message),
    })
}

/// True if this message may have been accepted, lost by Redis, and not yet written to MySQL.
async fn may_be_on_its_way(app: &App, id: MessageId) -> Result<bool, ServerError> {
    let (sent, now) = (snowflake::time_of(id), app.clock.now_ms());
    // Another process may have made the id, by another clock.
    if sent > now.saturating_add(CLOCKS_DIFFER_MS) || now.saturating_sub(sent) > ON_ITS_WAY_MS {
        return Ok(false);
    }
    Ok(sent < app.cache.complete_since().await?)
}
