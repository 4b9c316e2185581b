//! One shard of the pending set: that of one partition of the topic.

use std::collections::HashMap;

use hongyan::app::App;
use hongyan::cache::detail::Detail;
use hongyan::cache::pending::Pending;
use hongyan::cache::persist::PersistMark;
use hongyan::clock::TimestampMs;
use hongyan::error::ServerError;
use hongyan::event::{MessageEvent, Recall};
use hongyan::id::MessageId;
use hongyan::message::{Message, PersistStatus};
use hongyan::queue::Progress;

use crate::Summary;

/// How many due messages of one partition a run looks at.
const MAX_LOOKED_AT: usize = 1_000;

/// How much younger than a message the record at the group's position must be before the message counts as lost: more
/// than the producer goes on trying and clocks differ.
const LOST_MARGIN_MS: TimestampMs = 60_000;

/// The name under which the compensator gives a lock back: it never holds one.
const NO_HOLDER: &str = "compensator";

/// How long after a message was sent again it may be once more, at the earliest.
const RESEND_AFTER_MS: TimestampMs = 5 * 60 * 1_000;

/// What is due in this partition, oldest first.
pub(crate) async fn due(app: &App, partition: u16, until: TimestampMs) -> Result<Vec<Pending>, ServerError> {
    app.cache.pending_until(partition, until, MAX_LOOKED_AT).await
}

/// Looks at what is due in this partition. `passed` is what the consumer group had passed before: what is pending after
/// that is not on its way any more.
pub(crate) async fn compensate(
    app: &App,
    partition: u16,
    due: Vec<Pending>,
    passed: Option<Progress>,
    max_resent: usize,
    summary: &mut Summary,
) -> Result<(), ServerError> {
    summary.due += due.len();
    let ids: Vec<MessageId> = due.iter().map(|entry| entry.id).collect();
    let details = app.cache.details(&ids).await?;
    let rows = app.store.messages(&ids).await?;
    let rows: HashMap<MessageId, Message> = rows.into_iter().map(|row| (row.id, row)).collect();

    let mut lost = Vec::new();
    for (entry, detail) in due.into_iter().zip(details) {
        let id = entry.id;
        match (detail, rows.get(&id)) {
            (Detail::Recalled(recalled), _) => {
                let (recall_time, conversation_id) = (recalled.recall_time, recalled.conversation);
                complete_recall(app, Recall { message_id: id, recall_time, conversation_id }, summary)
                    .await?;
            }
            (Detail::Message(message), Some(row)) => mark(app, entry, &message, row, summary).await?,
            (Detail::Message(message), None) if message.persist_status == PersistStatus::Pending => {
                lost.push(message);
            }
            // PERSISTED without a row cannot be; should it be, the message is still here to be written.
            (Detail::Message(message), None) => {
                tracing::error!(message_id = %id, "compensate: PERSISTED in Redis without a row in MySQL; sent again");
                lost.push(message);
            }
            (Detail::Missing, Some(row)) => {
                app.cache.settle([(row.conversation(), entry)]).await?;
                summary.marked += 1;
            }
            (Detail::Missing, None) => {
                tracing::warn!(message_id = %id, "compensate: pending, but in no store: a send that was never accepted; dropped");
                app.cache.settle_in(partition, entry).await?;
                summary.dropped += 1;
            }
        }
    }
    resend(app, lost, passed, max_resent, summary).await
}

/// The recall is in Redis only, or nobody has confirmed it: it goes to MySQL.
async fn complete_recall(app: &App, recall: Recall, summary: &mut Summary) -> Result<(), ServerError> {
    app.store.recall(&[recall]).await?;
    app.cache.confirm_recalled(&[recall]).await?;
    summary.recalled += 1;
    Ok(())
}

/// MySQL has the message: Redis is told.
async fn mark(
    app: &App,
    entry: Pending,
    message: &Message,
    row: &Message,
    summary: &mut Summary,
) -> Result<(), ServerError> {
    if row.is_recalled() {
        let recall_time = row.recall_time.unwrap_or_else(|| app.clock.now_ms());
        let recall = Recall::of(row, recall_time);
        app.cache.confirm_recalled(&[recall]).await?;
        summary.recalled += 1;
        return Ok(());
    }
    let marks = app.cache.mark_persisted(&[(message, NO_HOLDER.to_owned())]).await?;
    if let Some(&PersistMark::Recalled(recall_time)) = marks.first() {
        let recall = Recall::of(row, recall_time);
        return complete_recall(app, recall, summary).await;
    }
    app.cache.settle([(message.conversation(), entry)]).await?;
    summary.marked += 1;
    Ok(())
}

/// Sends again what is lost: what the consumer group has already passed without MySQL having it.
async fn resend(
    app: &App,
    pending: Vec<Message>,
    passed: Option<Progress>,
    max_resent: usize,
    summary: &mut Summary,
) -> Result<(), ServerError> {
    let ids: Vec<MessageId> = pending.iter().map(|message| message.id).collect();
    let resent = app.cache.resent_at(&ids).await?;
    for (message, resent) in pending.into_iter().zip(resent) {
        let now = app.clock.now_ms();
        // Sent again, it is on its way from then on: a backlog must not be fed with a copy every five minutes.
        let sent = resent.unwrap_or(message.send_time).max(message.send_time);
        let is_lost = match passed {
            Some(Progress::CaughtUp) => true,
            Some(Progress::PassedUpTo(time)) => sent.saturating_add(LOST_MARGIN_MS) < time,
            None => false,
        };
        let too_soon = resent.is_some_and(|resent| now < resent.saturating_add(RESEND_AFTER_MS));
        if !is_lost || too_soon || summary.resent >= max_resent {
            summary.left += 1;
            continue;
        }
        let id = message.id;
        app.cache.note_resent(id, now).await?;
        let event = MessageEvent::Persist { data: message };
        if let Err(error) = app.queue.send(&event, app.kafka_delivery_timeout).await {
            app.cache.forget_resent(id).await?;
            return Err(error);
        }
        tracing::warn!(message_id = %id, "compensate: the message was lost on its way to MySQL; sent again");
        summary.resent += 1;
    }
    Ok(())
}
