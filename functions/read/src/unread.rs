//! What is unread: MySQL counts unread rows, Redis knows the messages that are no rows yet.

use hongyan::app::App;
use hongyan::cache::detail::Detail;
use hongyan::error::{ApiError, ServerError};
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::store::UnreadRows;

/// The most ids that are taken one by one off `msg:unread:{userId}` when a conversation is read.
const MOST_TAKEN_OFF: u32 = 1_000;

/// The most messages of one conversation that are no rows yet and are read at once.
const MOST_PENDING: usize = 10_000;

/// Reads the conversation up to `up_to`. It is read once MySQL has the position.
///
/// Messages that are no rows yet are taken off Redis first: the consumer takes one that is still there, below the position, for
/// one that became known only after it (`docs/decisions/0031-changes-in-order.md`).
pub(crate) async fn read(
    app: &App,
    user: UserId,
    conversation: ConversationId,
    up_to: MessageId,
) -> Result<(), ApiError> {
    unless_redis_is_away(take_off_pending(app, user, conversation, up_to).await)?;
    let before = app.store.read_position(user, conversation).await?;
    app.store.advance_read_position(user, conversation, up_to).await?;
    unless_redis_is_away(take_off_rows(app, user, conversation, before, up_to).await)?;
    Ok(())
}

/// Counts do not need Redis: they ask MySQL for the position of what is pending.
fn unless_redis_is_away(taken_off: Result<(), ServerError>) -> Result<(), ServerError> {
    match taken_off {
        Err(error) if error.is_redis_away() => {
            tracing::warn!(%error, "read.take_off: Redis is away; what is pending is compared with the position in MySQL");
            Ok(())
        }
        taken_off => taken_off,
    }
}

async fn take_off_pending(
    app: &App,
    user: UserId,
    conversation: ConversationId,
    up_to: MessageId,
) -> Result<(), ServerError> {
    let beyond = MessageId::new(up_to.get().saturating_add(1)).ok();
    let pending = app.cache.pending_in(conversation, None, beyond, true, MOST_PENDING).await?;
    app.cache.remove_unread(user, &pending).await
}

/// Takes rows off `msg:unread:{userId}`, which other readers of Redis may look at.
async fn take_off_rows(
    app: &App,
    user: UserId,
    conversation: ConversationId,
    before: Option<MessageId>,
    up_to: MessageId,
) -> Result<(), ServerError> {
    let rows = app.store.received_between(user, conversation, before, up_to, MOST_TAKEN_OFF).await?;
    if rows.len() >= MOST_TAKEN_OFF as usize {
        app.cache.forget_unread(user).await
    } else {
        app.cache.remove_unread(user, &rows).await
    }
}

/// How many messages the user has not read.
pub(crate) async fn total(app: &App, user: UserId) -> Result<u64, ApiError> {
    let waiting = waiting(app, user).await?;
    Ok(sum(&app.store.unread_rows(user, &waiting).await?))
}

/// How many messages the user has not read, and the newest of them.
pub(crate) async fn list(app: &App, user: UserId, limit: usize) -> Result<(u64, Vec<MessageId>), ApiError> {
    let waiting = waiting(app, user).await?;
    let unread = app.store.unread_rows(user, &waiting).await?;
    let total = sum(&unread);
    let mut ids = app.store.unread(user, u32::try_from(limit).unwrap_or(u32::MAX)).await?;
    ids.extend(unread.waiting);
    ids.sort_unstable_by(|a, b| b.cmp(a));
    // A message that became a row between the two questions is in both answers.
    ids.dedup();
    ids.truncate(limit);
    Ok((total, ids))
}

fn sum(unread: &UnreadRows) -> u64 {
    unread.total + unread.waiting.len() as u64
}

/// The messages to this user that Redis knows as unread and as no rows yet, with their conversations. None while Redis is
/// away: MySQL alone answers.
async fn waiting(app: &App, user: UserId) -> Result<Vec<(MessageId, ConversationId)>, ServerError> {
    let found = async {
        let ids = app.cache.unread_pending(user).await?;
        let details = app.cache.details(&ids).await?;
        Ok(ids.into_iter().zip(details).filter_map(|(id, detail)| match detail {
            Detail::Message(message) if message.to == user => Some((id, message.conversation())),
            _ => None,
        }))
    };
    match found.await {
        Ok(found) => Ok(found.collect()),
        Err(error) => {
            let error: ServerError = error;
            if error.is_transient() {
                tracing::warn!(%error, "read.unread: Redis is away; answered by MySQL alone");
                Ok(Vec::new())
            } else {
                Err(error)
            }
        }
    }
}
