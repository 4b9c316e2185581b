//! A page oldest first: how a client catches up after it was away.

use std::collections::BTreeMap;

use hongyan::app::App;
use hongyan::error::{ApiError, Server, ServerError};
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::message::Message;

use crate::visible;

/// The oldest `wanted` messages newer than `after` that the caller may see, oldest first.
pub(crate) async fn page(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    after: MessageId,
    wanted: usize,
) -> Result<Vec<Message>, ApiError> {
    match from_both(app, caller, conversation, after, wanted).await {
        Err(error) if error.is_transient() && error.server == Server::Redis => {
            tracing::warn!(%error, "query.newer: Redis is away; answered by MySQL alone");
            Ok(rows(app, caller, conversation, after, wanted, false)
                .await?
                .into_values()
                .take(wanted)
                .collect())
        }
        page => Ok(page?),
    }
}

async fn from_both(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    after: MessageId,
    wanted: usize,
) -> Result<Vec<Message>, ServerError> {
    // The list before the rows: what leaves the list in between is a row by then.
    let listed = app.cache.recent(conversation, app.cache.conversation_size()).await?;
    let reaches_back = listed.last().is_some_and(|&oldest| oldest <= after);
    let mut newer: Vec<MessageId> = listed.into_iter().filter(|&id| id > after).collect();
    newer.reverse();

    let mut found = BTreeMap::new();
    if !reaches_back {
        found = rows(app, caller, conversation, after, wanted, true).await?;
    }
    for chunk in newer.chunks(wanted) {
        // Once the page is full, the list adds only what lies within it; the rest is on the following page.
        if found.keys().nth(wanted - 1).is_some_and(|end| chunk[0] > *end) {
            break;
        }
        let messages = visible::by_ids(app, caller, conversation, chunk).await?;
        found.extend(messages.into_iter().map(|message| (message.id, message)));
    }
    Ok(found.into_values().take(wanted).collect())
}

async fn rows(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    mut after: MessageId,
    wanted: usize,
    redis_answers: bool,
) -> Result<BTreeMap<MessageId, Message>, ServerError> {
    let mut found = BTreeMap::new();
    let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
    while found.len() < wanted {
        let rows = app.store.page_after(conversation, after, limit).await?;
        let is_last = rows.len() < wanted;
        after = rows.last().map_or(after, |row| row.id);
        let visible = visible::rows(app, caller, rows, redis_answers).await?;
        found.extend(visible.into_iter().map(|message| (message.id, message)));
        if is_last {
            break;
        }
    }
    Ok(found)
}
