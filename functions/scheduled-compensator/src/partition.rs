//! One partition: its shard of the pending set.

use std::collections::HashMap;
use std::time::Duration;

use hongyan::app::App;
use hongyan::cache::detail::Detail;
use hongyan::cache::persist::PersistMark;
use hongyan::cache::settle::Pending;
use hongyan::clock::TimestampMs;
use hongyan::error::{Retry, Server, ServerError};
use hongyan::event::{MessageEvent, Recall};
use hongyan::id::MessageId;
use hongyan::message::{Message, PersistStatus};
use hongyan::store::TakeBack;
use hongyan::trace::{self, Trace};

use crate::passed::Passed;
use crate::run::Run;

/// The most due messages of a partition that a run handles.
const MAX_LOOKED_AT: usize = 1_000;

/// The most messages that one run sends again.
const MAX_RESENT: usize = 1_000;

/// The shortest time between two sends of a lost message, ms.
const RESEND_AFTER_MS: TimestampMs = 5 * 60 * 1_000;

/// The longest wait for Kafka's acknowledgement of a message that is sent again: a run must end before the next one.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The due messages of this partition, oldest first.
pub(crate) async fn due(app: &App, partition: u16, until: TimestampMs) -> Result<Vec<Pending>, ServerError> {
    app.cache.pending_until(partition, until, MAX_LOOKED_AT).await
}

/// Handles the due messages of a partition. `passed` says which records the consumer group had passed before the
/// details are read here: a pending message that was passed is lost.
pub(crate) async fn compensate(
    run: &mut Run<'_>,
    partition: u16,
    due: Vec<Pending>,
    passed: Passed,
) -> Result<(), ServerError> {
    let app = run.app;
    run.summary.due += due.len();
    let ids: Vec<MessageId> = due.iter().map(|entry| entry.id).collect();
    let details = each::<Details>(app, &ids).await?;
    let rows = each::<Rows>(app, &ids).await?;

    let mut lost = Vec::new();
    for ((entry, detail), row) in due.into_iter().zip(details).zip(rows) {
        if !run.has_time() {
            run.summary.left += 1;
            continue;
        }
        let outcome = match (detail, row) {
            (Ok(detail), Ok(row)) => settle(app, partition, entry, detail, row).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        match run.note(&format_args!("message {}", entry.id), outcome)? {
            Some(Settled::Lost(message)) => lost.push(message),
            Some(Settled::Marked) => run.summary.marked += 1,
            Some(Settled::Recalled) => run.summary.recalled += 1,
            Some(Settled::Dropped) => run.summary.dropped += 1,
            None => {}
        }
    }
    resend(run, partition, lost, passed).await
}

/// A question about several messages, answered in their order.
trait Ask {
    type Answer;
    fn ask(
        app: &App,
        ids: &[MessageId],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, ServerError>> + Send;
}

struct Details;

impl Ask for Details {
    type Answer = Detail;
    async fn ask(app: &App, ids: &[MessageId]) -> Result<Vec<Detail>, ServerError> {
        app.cache.details(ids).await
    }
}

struct Rows;

impl Ask for Rows {
    type Answer = Option<Message>;
    async fn ask(app: &App, ids: &[MessageId]) -> Result<Vec<Option<Message>>, ServerError> {
        let rows = app.store.messages(ids).await?;
        let mut rows: HashMap<MessageId, Message> = rows.into_iter().map(|row| (row.id, row)).collect();
        Ok(ids.iter().map(|id| rows.remove(id)).collect())
    }
}

struct ResentAt;

impl Ask for ResentAt {
    type Answer = Option<TimestampMs>;
    async fn ask(app: &App, ids: &[MessageId]) -> Result<Vec<Option<TimestampMs>>, ServerError> {
        app.cache.resent_at(ids).await
    }
}

/// Asks about all messages at once. If a server refuses because of one of them, asks about each by itself. A store that
/// is away is an error.
async fn each<A: Ask>(
    app: &App,
    ids: &[MessageId],
) -> Result<Vec<Result<A::Answer, ServerError>>, ServerError> {
    match A::ask(app, ids).await {
        Ok(all) => return Ok(all.into_iter().map(Ok).collect()),
        Err(error) if error.is_transient() => return Err(error),
        Err(_) => {}
    }
    let mut answers = Vec::with_capacity(ids.len());
    for id in ids {
        match A::ask(app, std::slice::from_ref(id)).await {
            Ok(one) => answers.extend(one.into_iter().map(Ok)),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => answers.push(Err(error)),
        }
    }
    Ok(answers)
}

/// The result for one message.
enum Settled {
    /// MySQL has the message; Redis was told.
    Marked,
    /// The message is recalled, in both stores now.
    Recalled,
    /// No store has the message.
    Dropped,
    /// MySQL lacks the message.
    Lost(Message),
}

async fn settle(
    app: &App,
    partition: u16,
    entry: Pending,
    detail: Detail,
    row: Option<Message>,
) -> Result<Settled, ServerError> {
    let id = entry.id;
    match (detail, row) {
        (Detail::Recalled(recalled), _) => {
            let (recall_time, conversation_id) = (recalled.recall_time, recalled.conversation);
            let recall = Recall { message_id: id, recall_time, conversation_id };
            complete_recall(app, TakeBack { recall, message: recalled.message }).await
        }
        (Detail::Message(_), Some(row)) => mark(app, entry, row).await,
        (Detail::Message(message), None) => {
            // A message cannot be PERSISTED without a row. If one is, it is still here and can be written.
            if message.persist_status == PersistStatus::Persisted {
                tracing::error!(message_id = %id, "compensate: PERSISTED in Redis without a row in MySQL; sent again");
            }
            Ok(Settled::Lost(message))
        }
        (Detail::Missing, Some(row)) => {
            app.cache.settle([(row.conversation(), entry)]).await?;
            Ok(Settled::Marked)
        }
        (Detail::Missing, None) => {
            tracing::warn!(message_id = %id, "compensate: pending, but in no store: a send that was never accepted; dropped");
            app.cache.settle_in(partition, entry).await?;
            Ok(Settled::Dropped)
        }
    }
}

/// Writes a recall to MySQL that only Redis has, or that was not confirmed.
async fn complete_recall(app: &App, taken: TakeBack) -> Result<Settled, ServerError> {
    let recall = taken.recall;
    app.store.take_back(&[taken]).await?;
    app.cache.confirm_recalled(&[recall]).await?;
    Ok(Settled::Recalled)
}

/// Tells Redis that MySQL has the message, with the number of its change, which only the row has.
async fn mark(app: &App, entry: Pending, row: Message) -> Result<Settled, ServerError> {
    if row.is_recalled() {
        let recall_time = row.recall_time.unwrap_or_else(|| app.clock.now_ms());
        app.cache.confirm_recalled(&[Recall::of(&row, recall_time)]).await?;
        return Ok(Settled::Recalled);
    }
    let marks = app.cache.mark_persisted(&[&row]).await?;
    if let Some(&PersistMark::Recalled(recall_time)) = marks.first() {
        let recall = Recall::of(&row, recall_time);
        return complete_recall(app, TakeBack { recall, message: Some(row) }).await;
    }
    app.cache.settle([(row.conversation(), entry)]).await?;
    Ok(Settled::Marked)
}

/// Sends lost messages again: pending ones that the consumer group has passed.
async fn resend(
    run: &mut Run<'_>,
    partition: u16,
    pending: Vec<Message>,
    passed: Passed,
) -> Result<(), ServerError> {
    let app = run.app;
    let (lost, queued): (Vec<_>, Vec<_>) =
        pending.into_iter().partition(|message| passed.includes(message.send_time));
    run.summary.left += queued.len();
    let ids: Vec<MessageId> = lost.iter().map(|message| message.id).collect();
    let resent = each::<ResentAt>(app, &ids).await?;
    let mut sending_fails = false;
    for (message, resent) in lost.into_iter().zip(resent) {
        let id = message.id;
        let Some(resent) = run.note(&format_args!("message {id}"), resent)? else { continue };
        let now = app.clock.now_ms();
        // A message that was sent again is on its way from then on. Otherwise a backlog would get a copy every five
        // minutes.
        let is_lost = resent.is_none_or(|resent| {
            passed.includes(resent.max(message.send_time)) && now >= resent.saturating_add(RESEND_AFTER_MS)
        });
        let goes_on = run.has_time() && run.summary.resent < MAX_RESENT && !sending_fails;
        if !is_lost || !goes_on {
            run.summary.left += 1;
            continue;
        }
        // A message carries no trace, so the record gets a new one. Its line in the log has the id of the message, by which
        // `./dev trace` finds the first.
        match trace::scope(Trace::recorded(), Box::pin(send_again(app, partition, message, now))).await {
            Ok(Sent::ByKafka) => run.summary.resent += 1,
            Ok(Sent::WithoutKafka) => run.summary.persisted += 1,
            Ok(Sent::NotYet) => run.summary.failed += 1,
            // The next messages of this partition would wait in vain. Other partitions may have another leader.
            Err(error) if error.server == Server::Kafka => {
                tracing::warn!(partition, %error, "compensate: Kafka takes no record for this partition; the next run tries again");
                run.summary.failed += 1;
                run.failure = Some(error);
                sending_fails = true;
            }
            Err(error) => {
                run.note(&format_args!("message {id}"), Err::<(), _>(error))?;
            }
        }
    }
    Ok(())
}

/// The result of sending a lost message again.
enum Sent {
    /// Kafka has the record.
    ByKafka,
    /// Kafka will never take the record, and MySQL has the message.
    WithoutKafka,
    /// Neither has it yet.
    NotYet,
}

async fn send_again(
    app: &App,
    partition: u16,
    message: Message,
    now: TimestampMs,
) -> Result<Sent, ServerError> {
    let id = message.id;
    app.cache.note_resent(id, now).await?;
    let event = MessageEvent::Persist { data: message };
    let sent = app.queue.send(&event, app.kafka_delivery_timeout.min(LONGEST_WAIT)).await;
    match sent {
        Ok(()) => {
            tracing::warn!(message_id = %id, "compensate: the message was lost on its way to MySQL; sent again");
            Ok(Sent::ByKafka)
        }
        Err(error) if error.retry == Retry::Permanent => {
            if without_kafka(app, partition, &event, &error).await {
                return Ok(Sent::WithoutKafka);
            }
            app.cache.forget_resent(id).await?;
            Ok(Sent::NotYet)
        }
        Err(error) => {
            app.cache.forget_resent(id).await?;
            Err(error)
        }
    }
}

/// Writes a message to MySQL whose record Kafka refuses for good. Returns whether it is finished.
async fn without_kafka(app: &App, partition: u16, event: &MessageEvent, refusal: &ServerError) -> bool {
    let id = event.message_id();
    match hongyan_kafka_consumer::without_kafka(app, partition, event).await {
        Ok(true) => {
            tracing::error!(message_id = %id, error = %refusal, "compensate: Kafka will never take this message (look at the topic's max.message.bytes); it was written to MySQL without it");
            true
        }
        Ok(false) => {
            tracing::warn!(message_id = %id, error = %refusal, "compensate: Kafka will never take this message, and MySQL has not taken it yet; the next run tries again");
            false
        }
        Err(error) => {
            tracing::error!(message_id = %id, %error, "compensate: no record can be made of this message");
            false
        }
    }
}
