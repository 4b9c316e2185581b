//! `POST /messages/{id}/recall`: the sender recalls a message, within the recall window.
//!
//! After a 200 no read shows the content again, and MySQL ends without it (`docs/protocol.md`, P2, R7, R8).

use std::convert::Infallible;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::cache::recall::RecallMark;
use hongyan::clock::TimestampMs;
use hongyan::error::ApiError;
use hongyan::event::{MessageEvent, Recall};
use hongyan::http::{self, Reply};
use hongyan::id::{ConversationId, UserId};
use hongyan::lookup;
use hongyan::message::{Message, Status};
use hongyan::push::PushEvent;
use hongyan::store::TakeBack;
use hongyan::telemetry::metric;
use serde::Serialize;

/// The answer: the recalled message, and the time of the recall.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecallView {
    id: String,
    conversation_id: ConversationId,
    status: Status,
    recall_time: TimestampMs,
}

impl From<Recall> for RecallView {
    fn from(recall: Recall) -> Self {
        Self {
            id: recall.message_id.to_string(),
            conversation_id: recall.conversation_id,
            status: Status::Recalled,
            recall_time: recall.recall_time,
        }
    }
}

/// Answers one request. Every failure is an answer too.
#[tracing::instrument(name = "recall", skip_all)]
pub async fn handle(
    app: &App,
    event: ApiGatewayV2httpRequest,
) -> Result<ApiGatewayV2httpResponse, Infallible> {
    let recalled = recall(app, &event).await;
    let outcome = match &recalled {
        Ok(_) => "recalled",
        Err(error) if error.status() < 500 => "refused",
        Err(_) => "failed",
    };
    metrics::counter!(metric::RECALLS, "outcome" => outcome).increment(1);
    Ok(http::respond_to("recall", "POST /messages/{id}/recall", recalled))
}

async fn recall(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<RecallView>, ApiError> {
    let caller = http::caller(event, &app.auth)?;
    let id = http::path_message_id(event)?;
    let message = lookup::message_of(app, caller, id).await?;
    let recall = decide(app, caller, &message)?;
    // A message that was recalled before goes through all steps again: an earlier try may have died half-way, and every
    // step may be repeated.
    let recall = take_back(app, &message, recall).await?;
    // The push comes last: a client that is told drops the message, so a store must have the recall by then.
    let Recall { message_id, recall_time, conversation_id } = recall;
    let pushed = PushEvent::MessageRecalled { message_id, conversation_id, recall_time };
    app.push.to_users(&conversation_id.users(), &pushed).await;
    Ok(Reply::Ok(recall.into()))
}

/// The recall, if the caller may recall the message now. A message that was recalled before keeps its time.
fn decide(app: &App, caller: UserId, message: &Message) -> Result<Recall, ApiError> {
    if message.from != caller {
        return Err(ApiError::NotSender);
    }
    let now = app.clock.now_ms();
    let recall_time = if message.is_recalled() {
        message.recall_time.unwrap_or(now)
    } else {
        let age_ms = u128::try_from(now.saturating_sub(message.send_time)).unwrap_or_default();
        if age_ms > app.rules.recall_limit.as_millis() {
            return Err(ApiError::RecallWindowClosed(app.rules.recall_limit));
        }
        now
    };
    Ok(Recall::of(message, recall_time))
}

/// Recalls the message. Redis decides first. Then, at the same time, Kafka gets the event, which reaches MySQL whatever
/// happens here, and MySQL gets the tombstone, so that history does not show the message while Redis is away.
async fn take_back(app: &App, message: &Message, recall: Recall) -> Result<Recall, ApiError> {
    let marked = app.cache.mark_recalled(&recall, message.to).await;
    let recall = match &marked {
        Ok(RecallMark::Already(recall_time)) => Recall { recall_time: *recall_time, ..recall },
        Ok(_) => recall,
        Err(error) => {
            tracing::warn!(message_id = %recall.message_id, %error, "recall.mark: Redis is away; MySQL and Kafka decide");
            recall
        }
    };
    let event = MessageEvent::Recall(recall);
    let message_id = recall.message_id;
    let taken = [TakeBack { recall, message: Some(message.clone()) }];
    let tombstone = async || app.store.take_back(&taken).await.map(drop);
    let (produced, written) = tokio::join!(
        app.queue.send(&event, app.kafka_wait),
        tokio::time::timeout(app.kafka_wait, tombstone()),
    );
    let in_redis = matches!(marked, Ok(RecallMark::Recalled | RecallMark::Already(_)));
    let written = match written {
        Ok(written) => written,
        // Redis hides the message and Kafka's event will follow, so a slow MySQL is not waited for.
        Err(_) if in_redis && produced.is_ok() => return Ok(recall),
        Err(_) => tombstone().await,
    };
    if let Err(error) = &produced {
        tracing::warn!(%message_id, %error, "recall.produce: Kafka has not acknowledged the RECALL event");
    }
    if let Err(error) = &written {
        tracing::warn!(%message_id, %error, "recall.tombstone: MySQL does not have the recall yet");
    }

    match (produced, written) {
        // MySQL has the tombstone, and the event will tell Redis if it does not know.
        (Ok(()), Ok(())) => {
            // Redis may still show the content: no process may believe it after this answer.
            if marked.is_err() {
                app.cache.end_epoch().await?;
            }
            Ok(recall)
        }
        (Ok(()), Err(_)) if in_redis => Ok(recall),
        // No event will follow, so Redis is told now. It may have returned with the message as it was.
        (Err(_), Ok(())) => {
            app.cache.confirm_recalled(&[recall]).await?;
            Ok(recall)
        }
        // Redis has the recall, in the pending set too: the compensator writes the tombstone.
        (_, Err(_)) if marked.is_ok() => Ok(recall),
        (_, Err(error)) => Err(error.into()),
    }
}
