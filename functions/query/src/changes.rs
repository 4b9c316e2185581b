//! `GET /conversations/{peerId}/changes`: the changes of a conversation above a number, in order
//! (`docs/decisions/0031-changes-in-order.md`). A client that applies every page up to `lastSeq` has missed nothing.

use std::collections::HashMap;

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use hongyan::app::App;
use hongyan::cache::detail::Detail;
use hongyan::clock::TimestampMs;
use hongyan::error::{ApiError, ServerError};
use hongyan::http::{self, MessageView, Reply};
use hongyan::id::{MessageId, UserId};
use hongyan::store::{Change, ChangeKind, ChangePage};
use serde::Serialize;

use crate::page::MAX_PAGE_BYTES;

/// The changes of a page if the request has no `limit`.
pub const DEFAULT_CHANGES: u32 = 100;
/// The most changes of a page.
pub const MAX_CHANGES: u32 = 200;

/// The answer: a page of changes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangesView {
    changes: Vec<ChangeView>,
    /// The `after` of the next page; `null` on the last one.
    next: Option<i64>,
    /// The conversation's highest number.
    last_seq: i64,
}

/// A change in an answer.
#[derive(Serialize)]
struct ChangeView {
    seq: i64,
    #[serde(flatten)]
    kind: ChangeKindView,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
enum ChangeKindView {
    Message { data: Box<MessageView> },
    MessageRecalled { message_id: String, recall_time: TimestampMs },
    Read { user_id: String, up_to: String },
    MessageDeleted { message_id: String },
    ConversationCleared { up_to: String },
}

impl ChangeView {
    fn of(change: Change, viewer: UserId) -> Self {
        let kind = match change.kind {
            ChangeKind::Message(message) => {
                ChangeKindView::Message { data: Box::new(MessageView::of(*message, viewer)) }
            }
            ChangeKind::Recalled { message_id, recall_time } => {
                ChangeKindView::MessageRecalled { message_id: message_id.to_string(), recall_time }
            }
            ChangeKind::Read { user, up_to } => {
                ChangeKindView::Read { user_id: user.to_string(), up_to: up_to.to_string() }
            }
            ChangeKind::Deleted { message_id } => {
                ChangeKindView::MessageDeleted { message_id: message_id.to_string() }
            }
            ChangeKind::Cleared { up_to } => ChangeKindView::ConversationCleared { up_to: up_to.to_string() },
        };
        Self { seq: change.seq, kind }
    }
}

/// Answers one request.
pub(crate) async fn list(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<ChangesView>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let conversation = http::path_conversation(event, caller)?;
    let (after, limit) = (after(event)?, limit(event)?);

    let mut page = app.store.changes(conversation, caller, after, limit).await?;
    hide_recalled(app, &mut page).await?;
    if !app.rules.read_receipts {
        let is_receipt = |kind: &ChangeKind| matches!(kind, ChangeKind::Read { user, .. } if *user != caller);
        page.changes.retain(|change| !is_receipt(&change.kind));
    }
    keep_within(MAX_PAGE_BYTES, &mut page);
    let changes = page.changes.into_iter().map(|change| ChangeView::of(change, caller)).collect();
    Ok(Reply::Ok(ChangesView { changes, next: page.next, last_seq: page.last_seq }))
}

fn after(event: &ApiGatewayV2httpRequest) -> Result<i64, ApiError> {
    let invalid = || ApiError::InvalidRequest("after must be a whole number from 0".to_owned());
    match http::query_parameter(event, "after")? {
        None => Ok(0),
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().map_err(|_| invalid()),
        Some(_) => Err(invalid()),
    }
}

fn limit(event: &ApiGatewayV2httpRequest) -> Result<u32, ApiError> {
    let Some(text) = http::query_parameter(event, "limit")? else { return Ok(DEFAULT_CHANGES) };
    let limit = text.parse().ok().filter(|limit| (1..=MAX_CHANGES).contains(limit));
    limit.ok_or_else(|| ApiError::InvalidRequest("limit must be a whole number from 1 to 200".to_owned()))
}

/// Removes the content of messages that are recalled in Redis, since MySQL may not have the recall yet. While Redis is
/// away, MySQL alone answers, as for history.
async fn hide_recalled(app: &App, page: &mut ChangePage) -> Result<(), ApiError> {
    let live: Vec<MessageId> = page
        .changes
        .iter()
        .filter_map(|change| match &change.kind {
            ChangeKind::Message(message) if !message.is_recalled() => Some(message.id),
            _ => None,
        })
        .collect();
    let recalled = match recalled_in_redis(app, &live).await {
        Ok(recalled) => recalled,
        Err(error) if error.is_redis_away() => {
            tracing::warn!(%error, "query.changes: Redis is away; answered by MySQL alone");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    for change in &mut page.changes {
        if let ChangeKind::Message(message) = &mut change.kind
            && let Some(&recall_time) = recalled.get(&message.id)
        {
            **message = message.as_ref().clone().recalled(recall_time);
        }
    }
    Ok(())
}

async fn recalled_in_redis(
    app: &App,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, TimestampMs>, ServerError> {
    let details = app.cache.details(ids).await?;
    let recalled = ids.iter().zip(details).filter_map(|(&id, detail)| match detail {
        Detail::Recalled(recalled) => Some((id, recalled.recall_time)),
        Detail::Message(_) | Detail::Missing => None,
    });
    Ok(recalled.collect())
}

/// Keeps as many changes as fit into `most` bytes of JSON, at least one. The rest is on the next page.
fn keep_within(most: usize, page: &mut ChangePage) {
    let mut bytes = 0;
    let fitting = page.changes.iter().take_while(|change| {
        bytes += match &change.kind {
            ChangeKind::Message(message) => serde_json::to_vec(message).map_or(most, |json| json.len()),
            _ => 100,
        };
        bytes <= most
    });
    let fitting = fitting.count().max(1);
    if fitting < page.changes.len() {
        page.changes.truncate(fitting);
        page.next = page.changes.last().map(|last| last.seq);
    }
}
