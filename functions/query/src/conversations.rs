//! `GET /conversations` and `GET /conversations/{peerId}`: with whom the caller talks, and how each conversation stands.
//!
//! MySQL has the order and the counts, and Redis adds the messages that are not rows yet. Words are read at the time of asking
//! and never stored a second time, so no recall can leave them (`docs/decisions/0050-list-of-conversations.md`).

use std::collections::{BTreeMap, HashMap};

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use hongyan::app::App;
use hongyan::cache::detail::Detail;
use hongyan::clock::TimestampMs;
use hongyan::error::{ApiError, ServerError};
use hongyan::http::{self, MessageView, Reply};
use hongyan::id::{ConversationId, MessageId, UserId};
use hongyan::ids::snowflake;
use hongyan::message::Message;
use hongyan::store::{Place, Talk};
use serde::Serialize;

use crate::page::{DEFAULT_LIMIT, MAX_LIMIT, limit};
use crate::visible;

/// An unread count above 999 is told as this.
const MOST_UNREAD: u64 = 1_000;
/// A cursor is this much older than MySQL's time, ms. A transaction that was under way may commit an older change until then.
const COMMITS_LATE_MS: TimestampMs = 30_000;

/// The answer: a page of conversations.
#[derive(Serialize)]
pub(crate) struct ListView {
    conversations: Vec<ConversationView>,
    /// The `before` or `changedAfter` of the next page; `null` on the last one.
    next: Option<String>,
    /// The `changedAfter` that asks for all that changes from now on.
    cursor: String,
}

/// A conversation in an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConversationView {
    conversation_id: ConversationId,
    peer_id: String,
    last_message: Option<MessageView>,
    last_seq: i64,
    unread: u64,
    read_up_to: Option<String>,
    peer_read_up_to: Option<String>,
    last_activity: TimestampMs,
}

/// The start of a page, and its order.
enum Cursor {
    /// By the newest message, newest first: those with one below this id, or all.
    Before(Option<MessageId>),
    /// By the last change, oldest first: changed after this time by MySQL's clock, or then with a newest message above the id.
    ChangedAfter(TimestampMs, i64),
}

/// The pending messages of a few conversations, as Redis has them.
type Pending = HashMap<ConversationId, Vec<Message>>;

/// Answers `GET /conversations`.
pub(crate) async fn list(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<ListView>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let (cursor, limit) = (cursor(event)?, limit(event, DEFAULT_LIMIT, MAX_LIMIT)?);
    let page = match cursor {
        Cursor::Before(before) => Box::pin(newest_first(app, caller, before, limit)).await?,
        Cursor::ChangedAfter(at, newest) => Box::pin(changed(app, caller, at, newest, limit)).await?,
    };
    Ok(Reply::Ok(page))
}

/// Answers `GET /conversations/{peerId}`.
pub(crate) async fn show(
    app: &App,
    event: &ApiGatewayV2httpRequest,
) -> Result<Reply<ConversationView>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let conversation = http::path_conversation(event, caller)?;
    let found = Box::pin(views(app, caller, &[conversation])).await?.pop();
    found.map(Reply::Ok).ok_or(ApiError::NotFound("there is no such conversation"))
}

fn cursor(event: &ApiGatewayV2httpRequest) -> Result<Cursor, ApiError> {
    let before = http::query_parameter(event, "before")?;
    match (before, http::query_parameter(event, "changedAfter")?) {
        (Some(_), Some(_)) => {
            Err(ApiError::InvalidRequest("give before or changedAfter, not both".to_owned()))
        }
        (before, None) => Ok(Cursor::Before(before.map(str::parse).transpose()?)),
        (None, Some(text)) => {
            let (at, newest) = text.split_once('.').map_or((text, None), |(at, id)| (at, Some(id)));
            let at = at.bytes().all(|byte| byte.is_ascii_digit()).then(|| at.parse().ok()).flatten();
            let at = at.ok_or_else(|| {
                ApiError::InvalidRequest("changedAfter must be a cursor of an earlier answer".to_owned())
            })?;
            // Without an id the time itself is excluded.
            let newest = newest.map(str::parse::<MessageId>).transpose()?;
            Ok(Cursor::ChangedAfter(at, newest.map_or(i64::MAX, MessageId::get)))
        }
    }
}

fn cursor_of(now: TimestampMs) -> String {
    now.saturating_sub(COMMITS_LATE_MS).max(0).to_string()
}

async fn newest_first(
    app: &App,
    caller: UserId,
    before: Option<MessageId>,
    limit: usize,
) -> Result<ListView, ApiError> {
    // Redis is read before MySQL: a pending message that leaves Redis in between is a row by then.
    let pending = newest_pending(app, caller).await?;
    let also: Vec<ConversationId> = pending.keys().copied().collect();
    let rows = u32::try_from(limit + 1 + also.len()).unwrap_or(u32::MAX);
    let found = app.store.places_before(caller, before, rows, &also).await?;

    // A conversation stands where its newest message is, pending or not.
    let mut newest = pending;
    for Place { conversation, newest: row, .. } in found.places {
        newest.entry(conversation).and_modify(|id| *id = (*id).max(row)).or_insert(row);
    }
    let places: BTreeMap<MessageId, ConversationId> = newest
        .into_iter()
        .filter(|(_, id)| before.is_none_or(|before| *id < before))
        .map(|(conversation, id)| (id, conversation))
        .collect();
    let next =
        places.iter().rev().nth(limit - 1).filter(|_| places.len() > limit).map(|(id, _)| id.to_string());
    let chosen: Vec<ConversationId> =
        places.into_iter().rev().take(limit).map(|(_, conversation)| conversation).collect();
    Ok(ListView { conversations: views(app, caller, &chosen).await?, next, cursor: cursor_of(found.now) })
}

async fn changed(
    app: &App,
    caller: UserId,
    at: TimestampMs,
    newest: i64,
    limit: usize,
) -> Result<ListView, ApiError> {
    let rows = u32::try_from(limit + 1).unwrap_or(u32::MAX);
    let mut found = app.store.places_changed(caller, at, newest, rows).await?;
    let has_more = found.places.len() > limit;
    found.places.truncate(limit);
    let last = found.places.last().filter(|_| has_more);
    let next = last.map(|last| format!("{}.{}", last.changed_at, last.newest));
    let chosen: Vec<ConversationId> = found.places.iter().map(|place| place.conversation).collect();
    Ok(ListView { conversations: views(app, caller, &chosen).await?, next, cursor: cursor_of(found.now) })
}

/// The newest pending message of each conversation in which the caller has one. Empty while Redis is away.
async fn newest_pending(
    app: &App,
    caller: UserId,
) -> Result<HashMap<ConversationId, MessageId>, ServerError> {
    let messages = unless_redis_is_away(async {
        let ids = app.cache.pending_of_user(caller).await?;
        live(app, &ids).await
    });
    let mut newest: HashMap<ConversationId, MessageId> = HashMap::new();
    for message in messages.await?.into_iter().filter(|message| message.conversation().has(caller)) {
        newest
            .entry(message.conversation())
            .and_modify(|id| *id = (*id).max(message.id))
            .or_insert(message.id);
    }
    Ok(newest)
}

/// The messages of these ids that Redis has and that are not recalled.
async fn live(app: &App, ids: &[MessageId]) -> Result<Vec<Message>, ServerError> {
    let details = app.cache.details(ids).await?;
    let live = details.into_iter().filter_map(|detail| match detail {
        Detail::Message(message) => Some(message),
        Detail::Recalled(_) | Detail::Missing => None,
    });
    Ok(live.collect())
}

async fn unless_redis_is_away<T: Default>(
    read: impl Future<Output = Result<T, ServerError>>,
) -> Result<T, ServerError> {
    match read.await {
        Err(error) if error.is_redis_away() => {
            tracing::warn!(%error, "query.conversations: Redis is away; answered by MySQL alone");
            Ok(T::default())
        }
        read => read,
    }
}

/// The pending messages of these conversations.
async fn pending_in(app: &App, conversations: &[ConversationId]) -> Result<Pending, ServerError> {
    unless_redis_is_away(async {
        let ids = app.cache.pending_of_conversations(conversations).await?.concat();
        let mut pending = Pending::new();
        for message in live(app, &ids).await? {
            pending.entry(message.conversation()).or_default().push(message);
        }
        Ok(pending)
    })
    .await
}

/// The conversations as the caller sees them, in this order. One without any message is left out.
async fn views(
    app: &App,
    caller: UserId,
    conversations: &[ConversationId],
) -> Result<Vec<ConversationView>, ApiError> {
    // Redis is read before MySQL, as for the order.
    let mut pending = pending_in(app, conversations).await?;
    let ids: Vec<MessageId> = pending.values().flatten().map(|message| message.id).collect();
    let mut found = app.store.talks(caller, conversations, &ids).await?;
    for messages in pending.values_mut() {
        messages.retain(|message| !found.excluded.contains(&message.id));
    }
    let talks: Vec<&Talk> = found.talks.values().collect();
    let mut rows = app.store.last_messages(caller, &talks).await?;
    hide_recalled(app, &mut rows).await?;

    let mut views = Vec::with_capacity(conversations.len());
    for &conversation in conversations {
        let pending = pending.remove(&conversation).unwrap_or_default();
        let talk = found.talks.remove(&conversation);
        views.extend(view(caller, conversation, talk, pending, rows.remove(&conversation)));
    }
    if !app.rules.read_receipts {
        for view in &mut views {
            view.peer_read_up_to = None;
        }
    }
    Ok(views)
}

/// Removes the content of rows that are recalled in Redis, since MySQL may not have the recall yet.
async fn hide_recalled(app: &App, rows: &mut HashMap<ConversationId, Message>) -> Result<(), ServerError> {
    let shown: Vec<MessageId> = rows.values().filter(|row| !row.is_recalled()).map(|row| row.id).collect();
    let recalled = unless_redis_is_away(visible::recalled_in_redis(app, &shown)).await?;
    for row in rows.values_mut() {
        if let Some(&recall_time) = recalled.get(&row.id) {
            *row = row.clone().recalled(recall_time);
        }
    }
    Ok(())
}

/// One conversation; `None` without any message. `pending` are messages that are not rows, and `row` is the newest row that
/// the caller may see.
fn view(
    caller: UserId,
    conversation: ConversationId,
    talk: Option<Talk>,
    pending: Vec<Message>,
    row: Option<Message>,
) -> Option<ConversationView> {
    let newest_row = talk.as_ref().and_then(|talk| talk.newest);
    let newest = pending.iter().map(|message| message.id).chain(newest_row).max()?;
    let cleared = talk.as_ref().map(|talk| talk.cleared).unwrap_or_default();
    let read_up_to = talk.as_ref().and_then(|talk| talk.read_up_to);
    let visible: Vec<Message> = pending.into_iter().filter(|message| !cleared.hides(message.id)).collect();
    let is_unread = |message: &&Message| message.to == caller && Some(message.id) > read_up_to;
    let waiting = visible.iter().filter(is_unread).count();
    let unread = talk.as_ref().map_or(0, |talk| talk.unread) + waiting as u64;
    let last_message = visible.into_iter().chain(row).max_by_key(|message| message.id);
    Some(ConversationView {
        conversation_id: conversation,
        peer_id: conversation.peer_of(caller)?.to_string(),
        last_message: last_message.map(|message| MessageView::of(message, caller)),
        last_seq: talk.as_ref().map_or(0, |talk| talk.last_seq),
        unread: unread.min(MOST_UNREAD),
        read_up_to: read_up_to.map(|id| id.to_string()),
        peer_read_up_to: talk.and_then(|talk| talk.peer_read_up_to).map(|id| id.to_string()),
        last_activity: snowflake::time_of(newest),
    })
}
