//! PERSIST records, in stages. Each stage is a function of its own, so that a test can let a recall happen between any
//! two of them.

use std::collections::HashMap;
use std::time::Duration;

use hongyan::app::App;
use hongyan::cache::pending::Pending;
use hongyan::cache::persist::{Check, PersistMark};
use hongyan::error::ServerError;
use hongyan::event::Recall;
use hongyan::id::{ConversationId, MessageId};
use hongyan::message::Message;
use hongyan::store::Persisted;
use hongyan::telemetry::metric;

use crate::batch::{Batch, Content};
use crate::dead;

/// The most rows of one transaction.
const MAX_ROWS: usize = 500;

/// How often a row is tried that MySQL refuses (`mission.md`, "Persist"). Almost always the value is to blame and would
/// be refused for ever; but what MySQL calls a bad value may also be a table that is being altered, a trigger or a
/// `sql_mode` that somebody mends, or a writer that has just changed. Each try is a transaction of its own: within one, the
/// table cannot change.
const TRIES: u32 = 3;
/// The pause before such a row is tried again. The records behind it wait as long.
const PAUSE: Duration = Duration::from_millis(200);

/// One message to be written, and the record that says so.
#[derive(Debug, Clone)]
pub struct Write {
    /// The record's position in the batch.
    pub position: usize,
    /// The record's name, `topic/partition/offset`.
    pub holder: String,
    /// The message.
    pub message: Message,
}

/// What a stage decided.
#[derive(Debug, Default)]
pub struct Checked {
    /// To be written.
    pub clear: Vec<Write>,
    /// Recalled: nothing is to be written.
    pub skipped: Vec<Write>,
    /// The sender's recall is under way and is completed here, together with the RECALL events.
    pub underway: Vec<(Write, Recall)>,
}

/// Writes all messages of the batch that are not recalled. Answers the recalls that were met half-way.
pub(crate) async fn persist(app: &App, batch: &mut Batch) -> Vec<(usize, Recall)> {
    let mut underway = Vec::new();
    for wave in waves(batch) {
        let checked = match check(app, wave).await {
            Ok(checked) => checked,
            Err(error) => {
                held_up("consume.check", &error);
                continue;
            }
        };
        finish(batch, &checked.skipped);
        underway.extend(checked.underway.into_iter().map(|(write, recall)| (write.position, recall)));
        for chunk in checked.clear.chunks(MAX_ROWS) {
            match persist_chunk(app, batch, chunk.to_vec()).await {
                Ok(met) => underway.extend(met),
                Err(error) => held_up("consume.persist", &error),
            }
        }
    }
    underway
}

fn held_up(stage: &'static str, error: &ServerError) {
    tracing::warn!(stage, %error, "consume: a store is away; these records stay where they are and come again");
}

/// The messages to be written, so that no id is twice in a wave: a second record of one id waits for the next.
fn waves(batch: &Batch) -> Vec<Vec<Write>> {
    let mut waves: Vec<Vec<Write>> = Vec::new();
    let mut seen: HashMap<MessageId, usize> = HashMap::new();
    for (position, record) in batch.records.iter().enumerate() {
        let Content::Persist(message) = &record.content else { continue };
        let wave = seen.entry(message.id).and_modify(|wave| *wave += 1).or_insert(0);
        if waves.len() == *wave {
            waves.push(Vec::new());
        }
        waves[*wave].push(Write { position, holder: record.holder(), message: (**message).clone() });
    }
    waves
}

fn finish<'a>(batch: &mut Batch, writes: impl IntoIterator<Item = &'a Write>) {
    for write in writes {
        batch.records[write.position].done = true;
    }
}

/// First stage: the check at the start of the batch.
pub async fn check(app: &App, writes: Vec<Write>) -> Result<Checked, ServerError> {
    let ids: Vec<MessageId> = writes.iter().map(|write| write.message.id).collect();
    let found = app.cache.check(&ids).await?;
    Ok(sort_out(writes, found))
}

/// Second stage: the lock and the check right before the write. Records whose message somebody else works on drop out:
/// they are not done, and come again.
pub async fn lock(app: &App, writes: Vec<Write>) -> Result<Checked, ServerError> {
    let records: Vec<_> = writes.iter().map(|write| (write.message.id, write.holder.clone())).collect();
    let found = app.cache.lock_and_check(&records).await?;
    Ok(sort_out(writes, found))
}

fn sort_out(writes: Vec<Write>, found: Vec<Check>) -> Checked {
    let mut checked = Checked::default();
    for (write, check) in writes.into_iter().zip(found) {
        match check {
            Check::Clear => checked.clear.push(write),
            Check::Recalled => {
                tracing::debug!(message_id = %write.message.id, "consume.check: recalled before it was written; skipped");
                checked.skipped.push(write);
            }
            Check::RecallUnderway(recall_time) => {
                let recall = Recall::of(&write.message, recall_time);
                checked.underway.push((write, recall));
            }
            Check::Taken => {
                tracing::info!(message_id = %write.message.id, record = %write.holder, "consume.lock: another record of this message is being worked on; this one comes again");
            }
        }
    }
    checked
}

/// Third stage: the rows, in one transaction.
pub async fn write(app: &App, writes: Vec<Write>) -> Result<Vec<(Write, Persisted)>, ServerError> {
    let messages: Vec<Message> = writes.iter().map(|write| write.message.clone()).collect();
    let persisted = app.store.persist(&messages).await?;
    Ok(writes.into_iter().zip(persisted).collect())
}

/// Fourth stage: marks what was written, and undoes what was recalled meanwhile.
pub async fn mark(app: &App, written: &[Write]) -> Result<(), ServerError> {
    let marked: Vec<_> = written.iter().map(|write| (&write.message, write.holder.clone())).collect();
    let marks = app.cache.mark_persisted(&marked).await?;

    let mut settled: Vec<(ConversationId, Pending)> = Vec::new();
    let mut missing: Vec<&Message> = Vec::new();
    let mut recalled: Vec<Recall> = Vec::new();
    for (write, mark) in written.iter().zip(marks) {
        let message = &write.message;
        match mark {
            PersistMark::Recalled(recall_time) => recalled.push(Recall::of(message, recall_time)),
            PersistMark::Missing => {
                missing.push(message);
                settled.push((message.conversation(), Pending::sent(message)));
            }
            PersistMark::Done => settled.push((message.conversation(), Pending::sent(message))),
        }
    }
    if !recalled.is_empty() {
        tracing::info!(messages = recalled.len(), "consume.mark: recalled during the write; undone");
        app.store.recall(&recalled).await?;
        app.cache.confirm_recalled(&recalled).await?;
    }
    if !missing.is_empty() {
        heal(app, &missing).await?;
    }
    app.cache.settle(settled).await
}

/// Redis was away or emptied when these were sent: what it should hold is put back. A recall that was decided in
/// between has left a stub, which stays. The detail comes last: by it, whoever comes again after a failure knows that
/// something is missing.
async fn heal(app: &App, messages: &[&Message]) -> Result<(), ServerError> {
    let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
    let unread = app.store.unread_among(&ids).await?;
    let mut restored = messages.to_vec();
    restored.retain(|message| unread.contains(&message.id));
    app.cache.restore_unread(&restored).await?;
    // Read or deleted since the first look: its own change of the set may have come before this one.
    let still = app.store.unread_among(&Vec::from_iter(unread)).await?;
    let mut gone = restored;
    gone.retain(|message| !still.contains(&message.id));
    app.cache.drop_unread(&gone).await?;
    app.cache.restore(messages.iter().copied()).await
}

async fn persist_chunk(
    app: &App,
    batch: &mut Batch,
    writes: Vec<Write>,
) -> Result<Vec<(usize, Recall)>, ServerError> {
    let locked = lock(app, writes).await?;
    finish(batch, &locked.skipped);
    let mut underway = locked.underway;
    let mut left = locked.clear;
    for attempt in 1..=TRIES {
        let mut written = Vec::new();
        let mut refused = Vec::new();
        for (one, persisted) in write(app, left).await? {
            match persisted {
                Persisted::Written => written.push(one),
                Persisted::Recalled { recall_time } => {
                    let recall = Recall::of(&one.message, recall_time);
                    underway.push((one, recall));
                }
                Persisted::Refused { reason } if attempt < TRIES => {
                    tracing::info!(message_id = %one.message.id, reason, attempt, "consume.persist: MySQL refuses the row; it is tried again");
                    refused.push(one);
                }
                other => set_aside(app, batch, &one, other, attempt).await?,
            }
        }
        mark(app, &written).await?;
        finish(batch, &written);
        count_written(app, &written);
        if refused.is_empty() {
            break;
        }
        left = refused;
        tokio::time::sleep(PAUSE).await;
    }
    for (outcome, messages) in [("skipped", locked.skipped.len()), ("recalled", underway.len())] {
        metrics::counter!(metric::PERSISTED, "outcome" => outcome).increment(messages as u64);
    }
    let not_written = underway.iter().map(|(write, _)| write).chain(&locked.skipped);
    let locks: Vec<_> = not_written.map(|write| (write.message.id, write.holder.clone())).collect();
    app.cache.unlock(&locks).await?;
    Ok(underway.into_iter().map(|(write, recall)| (write.position, recall)).collect())
}

fn count_written(app: &App, written: &[Write]) {
    let now = app.clock.now_ms();
    for write in written {
        let delay_ms = u32::try_from(now.saturating_sub(write.message.send_time)).unwrap_or_default();
        metrics::histogram!(metric::PERSIST_DELAY_SECONDS).record(f64::from(delay_ms) / 1_000.0);
    }
    metrics::counter!(metric::PERSISTED, "outcome" => "written").increment(written.len() as u64);
}

/// What will not be a row of its own.
async fn set_aside(
    app: &App,
    batch: &mut Batch,
    write: &Write,
    persisted: Persisted,
    attempt: u32,
) -> Result<(), ServerError> {
    let message = &write.message;
    app.cache.unlock(&[(message.id, write.holder.clone())]).await?;
    match persisted {
        Persisted::Doubles { first } => {
            tracing::info!(message_id = %message.id, first = %first, "consume.persist: a late retry of a message that is kept already; taken out of Redis");
            metrics::counter!(metric::PERSISTED, "outcome" => "doubled").increment(1);
            app.cache.forget(message).await?;
            app.cache.repoint_claim(message, first).await?;
            batch.records[write.position].done = true;
            return Ok(());
        }
        Persisted::Clash => {
            let reason = format!("another message has the id {}", message.id);
            dead::park(app, &mut batch.records[write.position], &reason, attempt).await;
        }
        Persisted::Refused { reason } => {
            let reason = format!("MySQL refuses the row: {reason}");
            dead::park(app, &mut batch.records[write.position], &reason, attempt).await;
        }
        Persisted::Written | Persisted::Recalled { .. } => return Ok(()),
    }
    // A dead letter is for a person to look at: the compensator must not send it again and again.
    if batch.records[write.position].done {
        app.cache.set_aside(message.conversation(), Pending::sent(message)).await?;
    }
    Ok(())
}
