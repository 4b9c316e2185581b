//! A page newest first: the recent list, then MySQL for what lies behind it.

use hongyan::app::App;
use hongyan::error::{ApiError, ServerError};
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::message::Message;

use crate::visible;

/// The newest `wanted` messages older than `before` that the caller may see, newest first.
pub(crate) async fn page(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    before: Option<MessageId>,
    wanted: usize,
) -> Result<Vec<Message>, ApiError> {
    match recent_then_rows(app, caller, conversation, before, wanted).await {
        Err(error) if error.is_transient() && error.server == hongyan::error::Server::Redis => {
            tracing::warn!(%error, "query.older: Redis is away; answered by MySQL alone");
            Ok(rows(app, caller, conversation, before, wanted, false).await?.messages)
        }
        page => Ok(page?),
    }
}

async fn recent_then_rows(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    before: Option<MessageId>,
    wanted: usize,
) -> Result<Vec<Message>, ServerError> {
    // The newest page needs only the head of the list; a later one must find its place in it.
    let head = if before.is_none() { 2 * wanted } else { usize::MAX };
    let listed = app.cache.recent(conversation, head.min(app.cache.conversation_size())).await?;
    let candidates: Vec<MessageId> =
        listed.iter().copied().filter(|&id| before.is_none_or(|before| id < before)).collect();

    let mut messages = Vec::new();
    for chunk in candidates.chunks(wanted) {
        messages.extend(visible::by_ids(app, caller, conversation, chunk).await?);
        if messages.len() >= wanted {
            messages.truncate(wanted);
            return Ok(messages);
        }
    }

    // What lies behind the list, or behind `before` if that is older than the whole list.
    let last_listed = listed.last().copied();
    let behind = [last_listed, before].into_iter().flatten().min();
    let read = rows(app, caller, conversation, behind, wanted - messages.len(), true).await?;
    let full = listed.len() >= app.cache.conversation_size();
    // Only what follows the list's end directly may be appended to it.
    if behind == last_listed && !full && !read.ids.is_empty() {
        refill(app, conversation, last_listed, &read.ids).await?;
    }
    messages.extend(read.messages);
    messages.truncate(wanted);
    Ok(messages)
}

/// What was read from MySQL.
struct Rows {
    /// Those that the caller may see.
    messages: Vec<Message>,
    /// All of them, newest first, without a gap.
    ids: Vec<MessageId>,
}

async fn rows(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    mut before: Option<MessageId>,
    wanted: usize,
    redis_answers: bool,
) -> Result<Rows, ServerError> {
    let mut read = Rows { messages: Vec::new(), ids: Vec::new() };
    let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
    while read.messages.len() < wanted {
        let rows = app.store.page_before(conversation, before, limit).await?;
        let is_last = rows.len() < wanted;
        before = rows.last().map(|row| row.id).or(before);
        read.ids.extend(rows.iter().map(|row| row.id));
        read.messages.extend(visible::rows(app, caller, rows, redis_answers).await?);
        if is_last {
            break;
        }
    }
    Ok(read)
}

/// Appends what was read behind the list, then looks whether it still is what MySQL has: a message that became a row in
/// between would be missing for good, so then the list goes.
async fn refill(
    app: &App,
    conversation: ConversationId,
    last_listed: Option<MessageId>,
    ids: &[MessageId],
) -> Result<(), ServerError> {
    let Some(&oldest) = ids.last() else { return Ok(()) };
    if !app.cache.append(conversation, last_listed, ids).await? {
        return Ok(());
    }
    let above = app.store.ids_between(conversation, oldest, last_listed).await?;
    if above != ids[..ids.len() - 1] {
        tracing::debug!(%conversation, "query.refill: a message became a row meanwhile; dropped the list");
        return app.cache.drop_conversation(conversation).await;
    }
    app.cache.keep_conversation(conversation).await
}
