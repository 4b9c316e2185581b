//! A page oldest first, for scrolling towards the present.

use std::collections::BTreeMap;

use hongyan::app::App;
use hongyan::cache::page;
use hongyan::error::{ApiError, ServerError};
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::message::Message;

use crate::page::Found;
use crate::{refill, visible};

/// The oldest `wanted` messages newer than `after` that the caller may see, oldest first.
pub(crate) async fn page(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    after: MessageId,
    wanted: usize,
) -> Result<Found, ApiError> {
    match Box::pin(from_both(app, caller, conversation, after, wanted)).await {
        Err(error) if error.is_redis_away() => {
            tracing::warn!(%error, "query.newer: Redis is away; answered by MySQL alone");
            let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
            let messages = app.store.visible_after(conversation, caller, after, limit).await?;
            visible::count_unlisted(messages.len());
            Ok(Found { messages, by_list: false })
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
) -> Result<Found, ServerError> {
    let (mut messages, mut by_list) = (Vec::new(), true);
    let mut above = after;
    loop {
        let Part { mut found, ceiling, is_believed } =
            part(app, caller, conversation, above, wanted - messages.len()).await?;
        by_list &= is_believed;
        if let Some(ceiling) = ceiling {
            found.retain(|id, _| *id <= ceiling);
        }
        messages.extend(found.into_values().take(wanted - messages.len()));
        match ceiling {
            Some(ceiling) if messages.len() < wanted => above = ceiling,
            _ => return Ok(Found { messages, by_list }),
        }
    }
}

/// The visible messages of a part of a page.
struct Part {
    found: BTreeMap<MessageId, Message>,
    /// If Redis has more pending ids than were read, the messages are complete only up to this id.
    ceiling: Option<MessageId>,
    /// The recent list was believed.
    is_believed: bool,
}

/// The visible messages above `above`, at least the oldest `wanted`.
async fn part(
    app: &App,
    caller: UserId,
    conversation: ConversationId,
    above: MessageId,
    wanted: usize,
) -> Result<Part, ServerError> {
    // Redis is read before MySQL: a pending message that leaves Redis in between is a row by then.
    let size = app.cache.conversation_size();
    let recent = app.cache.recent(caller, conversation, page::Part::After(above), size).await?;
    let ceiling = recent.pending.last().copied().filter(|_| recent.has_more_pending());
    let epoch = app.cache.epoch().await?;
    let is_believed = recent.is_believed_in(&epoch);
    // The page begins above the clearing.
    let cleared = visible::cleared_of(app, caller, conversation, &recent.cleared, &epoch).await?;
    let above = cleared.last().map_or(above, |last| last.max(above));

    let (reaches_back, ids) = if is_believed {
        let listed = recent.listed.iter().copied().filter(|&id| id > above);
        let mut ids: Vec<MessageId> = listed.chain(recent.pending.iter().copied()).collect();
        ids.retain(|id| !cleared.hides(*id));
        ids.sort_unstable();
        ids.dedup();
        (recent.listed.last().is_some_and(|&oldest| oldest <= above), ids)
    } else {
        let mut pending = visible::not_recalled(app, conversation, &recent.pending).await?;
        pending.retain(|id| !cleared.hides(*id));
        (false, pending)
    };

    let mut rows = BTreeMap::new();
    if !reaches_back {
        let read = visible::rows_after(app, caller, conversation, cleared, above, wanted).await?;
        if !is_believed {
            visible::count_unlisted(read.len());
        }
        rows.extend(read.into_iter().map(|row| (row.id, row)));
    }
    let mut found = BTreeMap::new();
    for chunk in ids.chunks(wanted) {
        // MySQL has filled the page up to here: later messages of Redis belong to the next page.
        if rows.keys().chain(found.keys()).filter(|id| **id < chunk[0]).count() >= wanted {
            break;
        }
        let lookup = app.cache.look_up(caller, chunk).await?;
        if is_believed && !recent.is_believed_in(&lookup.epoch) {
            return Err(visible::epoch_has_ended());
        }
        let seen = visible::of_redis(app, caller, conversation, chunk, lookup).await?;
        found.extend(seen.into_iter().map(|message| (message.id, message)));
    }
    found.extend(rows);
    if !is_believed {
        refill::replace(app, caller, conversation, &epoch, wanted).await;
    }
    Ok(Part { found, ceiling, is_believed })
}
