//! Refills a conversation's recent list from MySQL. If a refill fails, the page that was read is answered all the same.

use hongyan::app::App;
use hongyan::cache::epoch::Epoch;
use hongyan::cache::page::{MOST_PENDING, Part, Recent};
use hongyan::error::ServerError;
use hongyan::id::{ConversationId, MessageId, UserId};

use crate::visible;

/// The least ids of a list that is replaced, if the conversation has as many.
const LEAST: usize = 100;

/// Appends older ids to a list that is believed.
pub(crate) async fn append(
    app: &App,
    conversation: ConversationId,
    recent: &Recent,
    epoch: &Epoch,
    wanted: usize,
) {
    if recent.listed.len() < app.cache.conversation_size() {
        let appended = Box::pin(try_append(app, conversation, recent, epoch, wanted)).await;
        note(conversation, appended);
    }
}

async fn try_append(
    app: &App,
    conversation: ConversationId,
    recent: &Recent,
    epoch: &Epoch,
    wanted: usize,
) -> Result<(), ServerError> {
    let end = recent.listed.last().copied();
    let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
    let ids = Box::pin(app.store.listed_ids(conversation, None, end, limit)).await?;
    if ids.is_empty() || !app.cache.append_to_list(conversation, end, &ids).await? {
        return Ok(());
    }
    check(app, conversation, &ids, end, epoch).await
}

/// Replaces a list that is not believed. Also brings the caller's deletions to Redis, so that Redis alone can answer
/// the caller's next page. The list is believed again only after MySQL was asked for tombstones of the pending
/// messages.
pub(crate) async fn replace(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    epoch: &Epoch,
    wanted: usize,
) {
    note(conversation, Box::pin(try_replace(app, caller, conversation, epoch, wanted)).await);
}

async fn try_replace(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    epoch: &Epoch,
    wanted: usize,
) -> Result<(), ServerError> {
    visible::refill_deletions(app, caller, epoch).await?;
    let seen = app.cache.recent(caller, conversation, Part::Before(None), 1).await?;
    if seen.has_more_pending() {
        tracing::warn!(%conversation, most = MOST_PENDING, "query.refill: too many messages are pending to check them all; MySQL answers");
        return Ok(());
    }
    visible::not_recalled(app, conversation, &seen.pending).await?;
    let limit = u32::try_from(wanted.max(LEAST).min(app.cache.conversation_size())).unwrap_or(u32::MAX);
    let ids = Box::pin(app.store.listed_ids(conversation, None, None, limit)).await?;
    if !app.cache.replace_list(conversation, &seen, &ids).await? {
        return Ok(());
    }
    check(app, conversation, &ids, None, epoch).await
}

/// Compares the refilled list with MySQL again, and marks it as gapless if it is. A message may have become a row in
/// between, after the consumer had looked for its place in the old list: the new list would lack it for good, so the
/// list is dropped.
async fn check(
    app: &App,
    conversation: ConversationId,
    ids: &[MessageId],
    below: Option<MessageId>,
    epoch: &Epoch,
) -> Result<(), ServerError> {
    let above = ids.last().and_then(|oldest| MessageId::new(oldest.get() - 1).ok());
    let now = Box::pin(app.store.listed_ids(conversation, above, below, u32::MAX)).await?;
    if now.iter().all(|id| ids.contains(id)) {
        return app.cache.mark_gapless(conversation, ids.last().copied(), epoch).await;
    }
    tracing::debug!(%conversation, "query.refill: a message became a row meanwhile; dropped the list");
    app.cache.drop_list(conversation).await
}

fn note(conversation: ConversationId, refilled: Result<(), ServerError>) {
    if let Err(error) = refilled {
        tracing::warn!(%conversation, %error, "query.refill: the list is not refilled; the page itself is complete");
    }
}
