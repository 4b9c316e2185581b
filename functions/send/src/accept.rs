//! Accepting a send.

use std::time::{Duration, Instant};

use hongyan::app::App;
use hongyan::blocks;
use hongyan::cache::accept;
use hongyan::cache::claim::Claim;
use hongyan::cache::detail::Detail;
use hongyan::error::{ApiError, ServerError};
use hongyan::event::MessageEvent;
use hongyan::id::{MessageId, UserId};
use hongyan::lookup;
use hongyan::message::{ClientMessageId, Fingerprint, Message};
use hongyan::store::NamedSend;
use hongyan::telemetry::metric;
use hongyan::trace;

use crate::request::SendRequest;

/// An accepted message.
pub(crate) enum Accepted {
    /// This request's, with the time that the stores took.
    New(Message, Steps),
    /// That of an earlier request with the same `clientMsgId`.
    Before(Message),
}

/// How long each store took to acknowledge a new message. `None`: the store has not acknowledged the message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Steps {
    pub(crate) redis: Option<Duration>,
    pub(crate) kafka: Option<Duration>,
}

/// Accepts the message, unless an earlier try of the same request was accepted.
pub(crate) async fn accept_once(app: &App, request: SendRequest) -> Result<Accepted, ApiError> {
    let id = app.ids.next().await?;
    // The sender's permission is asked for while the name is claimed, so that it takes no time of its own. A repeated send is
    // answered with the first message in any case.
    let (admitted, claimed) = tokio::join!(admit(app, &request), claim(app, &request, id));
    let id = match claimed? {
        Claimed::Done(message) => return Ok(Accepted::Before(message)),
        Claimed::Finish(first) => {
            admitted?;
            first
        }
        Claimed::New => {
            if let Err(refused) = admitted {
                give_up(app, &request, id).await;
                return Err(refused);
            }
            id
        }
    };
    let SendRequest { from, to, kind, content, client_msg_id } = request;
    let message = Message::new(id, from, to, kind, content, client_msg_id);
    let steps = keep(app, &message).await?;
    Ok(Accepted::New(message, steps))
}

enum Claimed {
    /// The name was free: it stands for the id that was offered now.
    New,
    /// An earlier try claimed the name for this id and died before its message was accepted. This try finishes it under
    /// that id.
    Finish(MessageId),
    /// An earlier try's message was accepted.
    Done(Message),
}

/// 403 if the receiver has blocked the sender, 429 if the sender is too fast.
async fn admit(app: &App, request: &SendRequest) -> Result<(), ApiError> {
    let (is_blocked, allowed) =
        tokio::join!(blocks::has_blocked(app, request.to, request.from), allow(app, request.from));
    if is_blocked { Err(ApiError::Blocked) } else { allowed }
}

/// 429 if the user sends faster than `IM_SENDS_PER_SECOND`. Without Redis there is no limit.
async fn allow(app: &App, user: UserId) -> Result<(), ApiError> {
    let per_second = app.rules.sends_per_second;
    if per_second == 0 {
        return Ok(());
    }
    match app.cache.take_send(user, per_second).await {
        Ok(None) => Ok(()),
        Ok(Some(retry_after)) => Err(ApiError::RateLimited { retry_after }),
        Err(error) => {
            tracing::debug!(%error, "send.allow: Redis does not answer; the send is not counted");
            Ok(())
        }
    }
}

/// Finds the message that the sender's `clientMsgId` stands for. A send without one is new.
async fn claim(app: &App, request: &SendRequest, id: MessageId) -> Result<Claimed, ApiError> {
    let Some(client_msg_id) = &request.client_msg_id else { return Ok(Claimed::New) };
    let fingerprint = Fingerprint::of(request.to, request.kind, &request.content);
    // Redis keeps names for minutes, MySQL for good. Both are asked at once.
    let (claimed, remembered) = tokio::join!(
        app.cache.claim(request.from, client_msg_id, id, &fingerprint),
        app.names.look_up(request.from, client_msg_id),
    );
    let first = match claimed {
        Ok(Claim::New) => return recognise(app, request, client_msg_id, &fingerprint, remembered).await,
        Ok(Claim::Other) => return Err(ApiError::ClientMsgIdConflict),
        Ok(Claim::Same(first)) => first,
        Err(error) if error.is_transient() => {
            tracing::warn!(%error, "send.claim: Redis is away; MySQL decides what is a retry");
            return recognise(app, request, client_msg_id, &fingerprint, remembered).await;
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

/// Gives up the claim of a send that is refused, so that the next try gets an id of its own time.
async fn give_up(app: &App, request: &SendRequest, id: MessageId) {
    let Some(client_msg_id) = &request.client_msg_id else { return };
    let fingerprint = Fingerprint::of(request.to, request.kind, &request.content);
    if let Err(error) = app.cache.give_up_claim(request.from, client_msg_id, id, &fingerprint).await {
        tracing::debug!(%error, "send.claim: the claim of a refused send stays; the next try finishes it under its id");
    }
}

/// Looks for the name among the sends that MySQL `remembered`, because Redis has forgotten it. If MySQL could not be
/// asked, the consumer recognises a retry when it writes the row.
async fn recognise(
    app: &App,
    request: &SendRequest,
    client_msg_id: &ClientMessageId,
    fingerprint: &Fingerprint,
    remembered: Result<Vec<NamedSend>, ServerError>,
) -> Result<Claimed, ApiError> {
    let sends = match remembered {
        Ok(sends) => sends,
        Err(error) if error.is_transient() => return Ok(Claimed::New),
        Err(error) => return Err(error.into()),
    };
    let Some(first) = sends.first() else { return Ok(Claimed::New) };
    let same = sends.iter().find(|send| send.is_of(request.to, request.kind, fingerprint));
    let kept = same.unwrap_or(first);
    // The claim that was just made names an id that will not be used. It is pointed at the message that MySQL has.
    let kept_fingerprint = if same.is_some() { Some(*fingerprint) } else { kept.fingerprint };
    if let Some(kept_fingerprint) = kept_fingerprint {
        let repointed =
            app.cache.repoint_claim(request.from, client_msg_id, kept.message.id, &kept_fingerprint).await;
        if let Err(error) = repointed {
            tracing::debug!(%error, "send.claim: the claim is not corrected; MySQL recognises the next retry too");
        }
    }
    match same {
        Some(same) => Ok(Claimed::Done(same.message.clone())),
        None => Err(ApiError::ClientMsgIdConflict),
    }
}

/// Keeps a new message: in Redis, then in Kafka, while it is pushed to its two users. One of the two stores is enough.
/// With neither the caller is told to try again.
async fn keep(app: &App, message: &Message) -> Result<Steps, ApiError> {
    let event = MessageEvent::Persist { data: message.clone() };
    let (accepted, redis) =
        timed(metric::SEND_REDIS_SECONDS, app.cache.accept(message, app.clock.now_ms())).await;
    match accepted {
        // An equal send was accepted and recalled before: nothing is pushed.
        Ok(accept::Accepted::Recalled) => Ok(Steps::default()),
        Ok(accept::Accepted::Kept) => {
            let (produced, ()) = tokio::join!(produce(app, &event), app.push.message(message));
            let kafka = match produced {
                Ok(took) => {
                    note_accepted(message);
                    Some(took)
                }
                Err(error) => {
                    note_pending(message, &error);
                    None
                }
            };
            Ok(Steps { redis: Some(redis), kafka })
        }
        Err(error) if error.is_transient() => {
            tracing::warn!(message_id = %message.id, %error, "send.accept: Redis is away; Kafka alone decides");
            app.cache.note_kafka_only(message.send_time).await;
            // Kafka's permanent refusal is a 503 too: Redis may keep the message once it is back.
            let kafka = produce(app, &event).await.map_err(|error| ApiError::Unavailable(Some(error)))?;
            Ok(Steps { redis: None, kafka: Some(kafka) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Hands the event to Kafka, and returns how long the acknowledgement took.
async fn produce(app: &App, event: &MessageEvent) -> Result<Duration, ServerError> {
    let (produced, took) = timed(metric::SEND_KAFKA_SECONDS, app.queue.send(event, app.kafka_wait)).await;
    produced.map(|()| took)
}

async fn timed<T>(name: &'static str, work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let result = work.await;
    let took = began.elapsed();
    metrics::histogram!(name).record(took.as_secs_f64());
    (result, took)
}

/// A line for a recorded trace.
fn note_accepted(message: &Message) {
    if trace::is_recorded() {
        tracing::info!(message_id = %message.id, partition_key = %message.conversation(), "send.accept: Redis and Kafka have the message");
    }
}

fn note_pending(message: &Message, error: &ServerError) {
    tracing::warn!(
        message_id = %message.id,
        partition_key = %message.conversation(),
        %error,
        "send.produce: Kafka has not acknowledged; the message is kept in Redis as PENDING and will be sent again"
    );
}
