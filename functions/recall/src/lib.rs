//! `POST /messages/{id}/recall`: the sender takes a message back, within the recall window.
//!
//! Once this has answered 200, no read shows the content again, and MySQL ends without it (`protocol.md`, "Recall leaves
//! a tombstone").

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use hongyan::app::App;
use hongyan::cache::detail::RecallMark;
use hongyan::clock::TimestampMs;
use hongyan::error::{ApiError, ServerError};
use hongyan::event::{MessageEvent, Recall};
use hongyan::http::{self, Reply};
use hongyan::id::{ConversationId, UserId};
use hongyan::lookup::{self, Found};
use hongyan::message::{Message, Status};
use hongyan::push::PushEvent;
use hongyan::telemetry::metric;
use lambda_runtime::Error;
use serde::Serialize;

/// The answer: what was taken back, and when.
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

/// Answers one request; every failure is an answer too.
#[tracing::instrument(name = "recall", skip_all)]
pub async fn handle(app: &App, event: ApiGatewayV2httpRequest) -> Result<ApiGatewayV2httpResponse, Error> {
    let recalled = recall(app, &event).await;
    let outcome = match &recalled {
        Ok(_) => "recalled",
        Err(error) if error.status() < 500 => "refused",
        Err(_) => "failed",
    };
    metrics::counter!(metric::RECALLS, "outcome" => outcome).increment(1);
    Ok(http::respond(recalled))
}

async fn recall(app: &App, event: &ApiGatewayV2httpRequest) -> Result<Reply<RecallView>, ApiError> {
    let caller = http::caller(event)?;
    let id = http::path_message_id(event)?;
    let found = lookup::message_of(app, caller, id).await?;
    let recall = decide(app, caller, &found)?;
    // Also when it was recalled before: an earlier try may have died half-way, and every step may be repeated.
    let recall = take_back(app, &found.message, recall).await?;
    Ok(Reply::Ok(recall.into()))
}

/// Whether this caller may take this message back now; if it was taken back before, at the time of then.
fn decide(app: &App, caller: UserId, found: &Found) -> Result<Recall, ApiError> {
    let message = &found.message;
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
    Ok(Recall { message_id: message.id, recall_time, conversation_id: message.conversation() })
}

/// Takes the message back in Redis, tells Kafka, and where one of the two cannot, writes the tombstone to MySQL here.
async fn take_back(app: &App, message: &Message, recall: Recall) -> Result<Recall, ApiError> {
    let marked = app.cache.mark_recalled(&recall, message.to).await;
    let recall = match &marked {
        Ok(RecallMark::Already(recall_time)) => Recall { recall_time: *recall_time, ..recall },
        Ok(_) => recall,
        Err(error) => {
            tracing::warn!(message_id = %recall.message_id, %error, "recall.mark: Redis is away; the tombstone goes to MySQL at once");
            recall
        }
    };
    let event = MessageEvent::Recall(recall);
    let Recall { message_id, recall_time, conversation_id } = recall;
    let pushed = PushEvent::MessageRecalled { message_id, conversation_id, recall_time };
    let (produced, ()) =
        tokio::join!(app.queue.send(&event, app.kafka_wait), app.push.to_user(message.to, &pushed));

    // Redis has it and Kafka has it: the consumer does the rest.
    let in_redis = matches!(marked, Ok(RecallMark::Recalled | RecallMark::Already(_)));
    if in_redis && produced.is_ok() {
        return Ok(recall);
    }
    match write_tombstone(app, recall).await {
        // MySQL has it, and Redis knows or will be told by the RECALL event.
        Ok(confirmed) if confirmed.is_ok() || produced.is_ok() => Ok(recall),
        // Redis is away and may come back with the message as it was: nobody would tell it.
        Ok(confirmed) => Err(confirmed.err().map_or(ApiError::Unavailable(None), Into::into)),
        // Redis holds the recall in the pending set: the compensator will write the tombstone.
        Err(error) if marked.is_ok() => {
            tracing::warn!(message_id = %recall.message_id, %error, "recall.tombstone: MySQL is away too; the recall waits in Redis for the compensator");
            Ok(recall)
        }
        Err(error) => Err(error.into()),
    }
}

/// MySQL has the recall from here on; whether Redis was told is the inner result.
async fn write_tombstone(app: &App, recall: Recall) -> Result<Result<(), ServerError>, ServerError> {
    app.store.recall(&[recall]).await?;
    let confirmed = app.cache.confirm_recalled(&[recall]).await;
    if let Err(error) = &confirmed {
        tracing::warn!(message_id = %recall.message_id, %error, "recall.confirm: Redis does not know yet that MySQL has the recall");
    }
    Ok(confirmed)
}
