//! Counting and listing a user's unread messages.
//!
//! An unread message is either a row, which MySQL counts in the row of its conversation, or pending, which Redis knows.
//! A pending message may have become a row, or have been read, recalled or hidden since, so MySQL is asked about each.

use hongyan::app::App;
use hongyan::cache::detail::Detail;
use hongyan::error::{ApiError, ServerError};
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::store::UnreadRows;

/// How many messages the user has not read.
pub(crate) async fn total(app: &App, user: UserId) -> Result<u64, ApiError> {
    let pending = pending(app, user).await?;
    Ok(sum(&app.store.unread_rows(user, &pending).await?))
}

/// How many messages the user has not read, and the newest `limit` of them, newest first.
pub(crate) async fn list(app: &App, user: UserId, limit: usize) -> Result<(u64, Vec<MessageId>), ApiError> {
    let pending = pending(app, user).await?;
    let unread = app.store.unread_rows(user, &pending).await?;
    let total = sum(&unread);

    let mut ids = app.store.unread(user, u32::try_from(limit).unwrap_or(u32::MAX)).await?;
    ids.extend(unread.pending);
    ids.sort_unstable_by(|a, b| b.cmp(a));
    // A message that became a row between the two statements is in both answers.
    ids.dedup();
    ids.truncate(limit);
    Ok((total, ids))
}

fn sum(unread: &UnreadRows) -> u64 {
    unread.total + unread.pending.len() as u64
}

/// The user's unread messages that are not rows yet, as Redis knows them, with their conversations. Empty while Redis is
/// away: MySQL alone answers.
async fn pending(app: &App, user: UserId) -> Result<Vec<(MessageId, ConversationId)>, ServerError> {
    match read_pending(app, user).await {
        Err(error) if error.is_transient() => {
            tracing::warn!(%error, "read.unread: Redis is away; answered by MySQL alone");
            Ok(Vec::new())
        }
        pending => pending,
    }
}

async fn read_pending(app: &App, user: UserId) -> Result<Vec<(MessageId, ConversationId)>, ServerError> {
    let ids = app.cache.unread_pending(user).await?;
    let details = app.cache.details(&ids).await?;
    let pending = ids.into_iter().zip(details).filter_map(|(id, detail)| match detail {
        Detail::Message(message) if message.to == user => Some((id, message.conversation())),
        _ => None,
    });
    Ok(pending.collect())
}
