//! From a request to a message that is kept.

use std::time::Instant;

use hongyan::app::App;
use hongyan::cache::client_message::{Claim, Fingerprint};
use hongyan::cache::detail::{self, Detail};
use hongyan::error::{ApiError, ServerError};
use hongyan::event::MessageEvent;
use hongyan::id::MessageId;
use hongyan::lookup;
use hongyan::message::{ClientMessageId, Message};
use hongyan::push::PushEvent;
use hongyan::telemetry::metric;

use crate::request::SendRequest;

/// A message that is kept.
pub(crate) enum Accepted {
    /// By this request.
    New(Message),
    /// By an earlier request with the same `clientMsgId`.
    Before(Message),
}

/// Keeps the message, unless an earlier try of the same request did.
pub(crate) async fn accept(app: &App, request: SendRequest) -> Result<Accepted, ApiError> {
    let id = app.ids.next().await?;
    let id = match &request.client_msg_id {
        None => id,
        Some(client_msg_id) => match claim(app, &request, client_msg_id, id).await? {
            Claimed::New => id,
            Claimed::Finish(first) => first,
            Claimed::Done(message) => return Ok(Accepted::Before(message)),
        },
    };
    let SendRequest { from, to, kind, content, client_msg_id } = request;
    let message = Message::new(id, from, to, kind, content, client_msg_id);
    keep(app, &message).await?;
    Ok(Accepted::New(message))
}

enum Claimed {
    /// The `clientMsgId` stands for the id offered now.
    New,
    /// An earlier try claimed this id and died before the message was kept: it is finished under the same id.
    Finish(MessageId),
    /// An earlier try kept this message.
    Done(Message),
}

/// Finds out what the sender's `clientMsgId` stands for.
async fn claim(
    app: &App,
    request: &SendRequest,
    client_msg_id: &ClientMessageId,
    id: MessageId,
) -> Result<Claimed, ApiError> {
    let fingerprint = Fingerprint::of(request.to, request.kind, &request.content);
    let first = match app.cache.claim(request.from, client_msg_id, id, &fingerprint).await {
        Ok(Claim::New) => return Ok(Claimed::New),
        Ok(Claim::Other) => return Err(ApiError::ClientMsgIdConflict),
        Ok(Claim::Same(first)) => first,
        // Without Redis the unique key in MySQL decides, when the consumer writes.
        Err(error) if error.is_transient() => {
            tracing::warn!(%error, "send.claim: Redis is away; a retry is recognised when it is written to MySQL");
            return Ok(Claimed::New);
        }
        Err(error) => return Err(error.into()),
    };
    match lookup::believed(app, first).await? {
        Detail::Message(message) => return Ok(Claimed::Done(message)),
        Detail::Recalled(recalled) => {
            if let Some(message) = recalled.message {
                return Ok(Claimed::Done(message));
            }
        }
        Detail::Missing => {}
    }
    Ok(app.store.message(first).await?.map_or(Claimed::Finish(first), Claimed::Done))
}

/// Keeps a new message: Redis, then Kafka, and meanwhile tells the receiver. Either of the two stores is enough; with
/// neither, the caller is told to try again.
async fn keep(app: &App, message: &Message) -> Result<(), ApiError> {
    let event = MessageEvent::Persist { data: message.clone() };
    let accepted = timed(metric::SEND_REDIS_SECONDS, app.cache.accept(message, app.clock.now_ms())).await;
    match accepted {
        // An equal send was accepted first and is recalled: its words are pushed to nobody.
        Ok(detail::Accepted::Recalled) => Ok(()),
        Ok(detail::Accepted::Kept) => {
            let pushed = PushEvent::Message(Box::new(message.clone().into()));
            let (produced, ()) = tokio::join!(produce(app, &event), app.push.to_user(message.to, &pushed));
            if let Err(error) = produced {
                note_pending(message, &error);
            }
            Ok(())
        }
        Err(error) if error.is_transient() => {
            tracing::warn!(message_id = %message.id, %error, "send.accept: Redis is away; Kafka alone decides");
            app.cache.note_unremembered(message.send_time).await;
            // Refused for good, it may still be kept once Redis is back: 503, as nothing could take it now.
            let produced = produce(app, &event).await;
            produced.map_err(|error| ApiError::Unavailable(Some(error)))
        }
        Err(error) => Err(error.into()),
    }
}

async fn produce(app: &App, event: &MessageEvent) -> Result<(), ServerError> {
    timed(metric::SEND_KAFKA_SECONDS, app.queue.send(event, app.kafka_wait)).await
}

async fn timed<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let result = work.await;
    metrics::histogram!(name).record(began.elapsed().as_secs_f64());
    result
}

fn note_pending(message: &Message, error: &ServerError) {
    tracing::warn!(
        message_id = %message.id,
        partition_key = %message.conversation(),
        %error,
        "send.produce: Kafka has not acknowledged; the message is kept in Redis as PENDING and will be sent again"
    );
}
