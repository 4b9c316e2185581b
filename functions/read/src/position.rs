//! Moving a user's read position forward.
//!
//! MySQL holds the position, and counts the unread rows with it. Redis holds the ids of unread messages: those that are not
//! rows yet in `msg:unread-pending:{userId}`, and all of them in `msg:unread:{userId}`, which only other readers of Redis
//! look at. The ids that are read now leave both sets.

use hongyan::app::App;
use hongyan::error::{ApiError, ServerError};
use hongyan::id::{ConversationId, MessageId, UserId};

/// The most rows that one call removes from `msg:unread:{userId}` one by one; with more, the whole set goes.
const MAX_ROWS_REMOVED: u32 = 1_000;

/// The most pending messages of the conversation that one call removes from Redis.
const MAX_PENDING_REMOVED: usize = 10_000;

/// Moves the position to `up_to`. It never moves back: false if it was there or beyond.
///
/// The order matters. The consumer takes a pending message that is still unread in Redis, although its id lies below the
/// position, for one that nobody was shown before the position moved, and counts it as unread
/// (`docs/decisions/0031-changes-in-order.md`). So the pending ids leave Redis before MySQL has the position.
pub(crate) async fn advance(
    app: &App,
    user: UserId,
    conversation: ConversationId,
    up_to: MessageId,
) -> Result<bool, ApiError> {
    unless_redis_is_away(remove_pending(app, user, conversation, up_to).await)?;
    let before = app.store.read_position(user, conversation).await?;
    let moved = app.store.advance_read_position(user, conversation, up_to).await?;
    unless_redis_is_away(remove_rows(app, user, conversation, before, up_to).await)?;
    Ok(moved)
}

/// Without Redis the position moves all the same: a count compares the pending ids with the position in MySQL.
fn unless_redis_is_away(removed: Result<(), ServerError>) -> Result<(), ServerError> {
    match removed {
        Err(error) if error.is_redis_away() => {
            tracing::warn!(%error, "read.position: Redis is away; pending messages are compared with the position in MySQL");
            Ok(())
        }
        removed => removed,
    }
}

/// Removes the pending messages up to `up_to` from the user's unread sets.
async fn remove_pending(
    app: &App,
    user: UserId,
    conversation: ConversationId,
    up_to: MessageId,
) -> Result<(), ServerError> {
    let beyond = MessageId::new(up_to.get().saturating_add(1)).ok();
    let pending = app.cache.pending_in(conversation, None, beyond, true, MAX_PENDING_REMOVED).await?;
    app.cache.remove_unread(user, &pending).await
}

/// Removes the rows above the position `before` and up to `up_to` from `msg:unread:{userId}`.
async fn remove_rows(
    app: &App,
    user: UserId,
    conversation: ConversationId,
    before: Option<MessageId>,
    up_to: MessageId,
) -> Result<(), ServerError> {
    let rows = app.store.received_between(user, conversation, before, up_to, MAX_ROWS_REMOVED).await?;
    if rows.len() >= MAX_ROWS_REMOVED as usize {
        app.cache.forget_unread(user).await
    } else {
        app.cache.remove_unread(user, &rows).await
    }
}
