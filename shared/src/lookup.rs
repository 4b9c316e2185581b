//! Finds a message for somebody: in Redis, else in MySQL, and only if it is theirs.

use crate::app::App;
use crate::cache::detail::{Detail, RecalledDetail};
use crate::clock::TimestampMs;
use crate::error::{ApiError, ServerError};
use crate::id::{MessageId, UserId};
use crate::ids::snowflake;
use crate::message::Message;

/// For how long after its sending a message may be in Kafka only, and unknown to a Redis that has lost its memory.
const ON_ITS_WAY_MS: TimestampMs = 10 * 60 * 1_000;

/// How much the clocks of two processes may differ.
const CLOCKS_DIFFER_MS: TimestampMs = 60_000;

/// The message `id`, if `caller` is one of its two users: otherwise the answer is the same as if there were none. What
/// only Kafka may have yet, because Redis is away or has lost its memory, cannot be told from what does not exist: then
/// the answer is "try again" instead of "no".
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
        // Only a stub: MySQL says whose it is.
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

/// What Redis knows of a message, where MySQL does not know better: a Redis that has come back as it was before, or that
/// could not take a recall, does not know that the message is recalled.
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

/// Whether Redis may have forgotten this message before it became a row.
async fn may_be_on_its_way(app: &App, id: MessageId) -> Result<bool, ServerError> {
    let (sent, now) = (snowflake::time_of(id), app.clock.now_ms());
    // Another process, with another clock, may have made the id.
    if sent > now.saturating_add(CLOCKS_DIFFER_MS) || now.saturating_sub(sent) > ON_ITS_WAY_MS {
        return Ok(false);
    }
    Ok(sent < app.cache.complete_since().await?)
}
