//! `GET /conversations/{peerId}/changes`: the changes of a conversation above a number, in order
//! (`docs/decisions/0031-changes-in-order.md`). A client that applies every page up to `lastSeq` has missed nothing.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use hongyan::app::App;
use hongyan::clock::TimestampMs;
use hongyan::error::ApiError;
use hongyan::http::{self, MessageView, Reply};
use hongyan::id::{MessageId, UserId};
use hongyan::store::{Change, ChangeKind, ChangePage};
use serde::Serialize;

use crate::page::{fitting, limit};
use crate::visible;

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
    let (after, limit) = (after(event)?, limit(event, DEFAULT_CHANGES, MAX_CHANGES)?);

    let mut page = app.store.changes(conversation, caller, after, limit).await?;
    hide_recalled(app, &mut page).await?;
    if !app.rules.read_receipts {
        let is_receipt = |kind: &ChangeKind| matches!(kind, ChangeKind::Read { user, .. } if *user != caller);
        page.changes.retain(|change| !is_receipt(&change.kind));
    }
    keep_fitting(&mut page);
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
    let recalled = match visible::recalled_in_redis(app, &live).await {
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

/// Keeps as many changes as an answer may hold, at least one. The rest is on the next page.
fn keep_fitting(page: &mut ChangePage) {
    let fitting = fitting(page.changes.iter().map(|change| match &change.kind {
        ChangeKind::Message(message) => Some(message.as_ref()),
        _ => None,
    }));
    if fitting < page.changes.len() {
        page.changes.truncate(fitting);
        page.next = page.changes.last().map(|last| last.seq);
    }
}
