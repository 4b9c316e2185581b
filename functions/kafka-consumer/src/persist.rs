//! PERSIST records, in four stages. Each stage is a function of its own, so that a test can recall a message between
//! any two of them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use hongyan::app::App;
use hongyan::cache::detail::Detail;
use hongyan::cache::persist::{Check, PersistMark};
use hongyan::cache::settle::Pending;
use hongyan::error::ServerError;
use hongyan::event::Recall;
use hongyan::id::{ConversationId, MessageId};
use hongyan::message::Message;
use hongyan::store::{Outcome, Persisted, TakeBack};
use hongyan::telemetry::metric;
use hongyan::trace::{self, Trace};

use crate::batch::{Batch, Content};
use crate::dead_letter;

/// The most rows of one transaction.
const MAX_ROWS: usize = 500;

/// How many times a row that MySQL refuses is tried (`docs/protocol.md`, R13). Mostly the value is at fault and would
/// always be refused. But MySQL reports the same while a table is being altered, for a trigger or an `sql_mode` that
/// somebody then corrects, or after a change of the writer. Each try is a transaction of its own, since the table
/// cannot change within one.
const TRIES: u32 = 3;
/// The pause before the next try. The records behind the refused one wait as long.
const PAUSE: Duration = Duration::from_millis(200);

/// A message to be written, with its record.
#[derive(Debug, Clone)]
pub struct Write {
    /// The index of the record in the batch.
    pub position: usize,
    /// The record's name, `topic/partition/offset`.
    pub holder: String,
    /// The trace of the record, if the record has one.
    pub trace: Option<Trace>,
    /// The message.
    pub message: Message,
    /// True if Redis had the message before it was written, so that pages could show it.
    pub was_shown: bool,
    /// True if Redis had the message as unread right before it was written.
    pub is_unread: bool,
}

/// The result of a check.
#[derive(Debug, Default)]
pub struct Checked {
    /// Messages to be written.
    pub clear: Vec<Write>,
    /// Recalled messages, which are not written.
    pub skipped: Vec<Write>,
    /// Messages whose recall is under way. The consumer completes the recall, together with the RECALL records.
    pub underway: Vec<(Write, Recall)>,
}

/// A recall to be completed, and the index of its record in the batch.
pub(crate) type Underway = (usize, TakeBack);

fn underway(write: Write, recall: Recall) -> Underway {
    (write.position, TakeBack { recall, message: Some(write.message) })
}

/// Writes the messages of the batch that are not recalled. Returns the recalls that it met: each leaves a tombstone,
/// with the data by which a retry of the send is recognised.
pub(crate) async fn persist(app: &App, batch: &mut Batch) -> Vec<Underway> {
    let mut met = Vec::new();
    for wave in waves(batch) {
        let checked = match check(app, wave).await {
            Ok(checked) => checked,
            Err(error) => {
                held_up("consume.check", &error);
                continue;
            }
        };
        metrics::counter!(metric::PERSISTED, "outcome" => "skipped").increment(checked.skipped.len() as u64);
        match recalls_of(app, checked.skipped).await {
            Ok(skipped) => met.extend(skipped),
            Err(error) => held_up("consume.check", &error),
        }
        met.extend(checked.underway.into_iter().map(|(write, recall)| underway(write, recall)));
        for chunk in checked.clear.chunks(MAX_ROWS) {
            match persist_chunk(app, batch, chunk.to_vec()).await {
                Ok(in_chunk) => met.extend(in_chunk),
                Err(error) => held_up("consume.persist", &error),
            }
        }
    }
    met
}

/// The recalls of messages that are recalled in Redis. MySQL may know neither the message nor the recall yet.
async fn recalls_of(app: &App, skipped: Vec<Write>) -> Result<Vec<Underway>, ServerError> {
    let ids: Vec<MessageId> = skipped.iter().map(|write| write.message.id).collect();
    let details = app.cache.details(&ids).await?;
    let mut recalls = Vec::with_capacity(skipped.len());
    for (write, detail) in skipped.into_iter().zip(details) {
        match detail {
            Detail::Recalled(recalled) if recalled.conversation == write.message.conversation() => {
                let recall = Recall::of(&write.message, recalled.recall_time);
                recalls.push(underway(write, recall));
            }
            // An earlier RECALL record named another conversation, so it recalls nothing. This record comes again, and
            // then finds no stub.
            Detail::Recalled(recalled) => {
                tracing::error!(message_id = %write.message.id, conversation_id = %recalled.conversation, "consume.check: a recall named another conversation than its message's; it is ignored");
                app.cache.drop_stub(write.message.id).await?;
            }
            // Redis has lost the recall in between: this record comes again.
            Detail::Message(_) | Detail::Missing => {}
        }
    }
    Ok(recalls)
}

fn held_up(stage: &'static str, error: &ServerError) {
    tracing::warn!(stage, %error, "consume: a store is away; these records stay where they are and come again");
}

/// The messages to be written, in waves. A wave has each id once; a second record of an id is in the next wave.
fn waves(batch: &Batch) -> Vec<Vec<Write>> {
    let mut waves: Vec<Vec<Write>> = Vec::new();
    let mut seen: HashMap<MessageId, usize> = HashMap::new();
    for (position, record) in batch.records.iter().enumerate() {
        let Content::Persist(message) = &record.content else { continue };
        let wave = seen.entry(message.id).and_modify(|wave| *wave += 1).or_insert(0);
        if waves.len() == *wave {
            waves.push(Vec::new());
        }
        let (holder, message) = (record.holder(), (**message).clone());
        let trace = record.trace;
        waves[*wave].push(Write { position, holder, trace, message, was_shown: true, is_unread: false });
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

/// Second stage: the lock, and the check right before the write. A record whose message is locked for another record
/// drops out: it is not done and comes again.
pub async fn lock(app: &App, writes: Vec<Write>) -> Result<Checked, ServerError> {
    let records: Vec<_> =
        writes.iter().map(|write| (write.message.id, write.message.to, write.holder.clone())).collect();
    let found = app.cache.lock_and_check(&records).await?;
    Ok(sort_out(writes, found))
}

fn sort_out(writes: Vec<Write>, found: Vec<Check>) -> Checked {
    let mut checked = Checked::default();
    for (mut write, check) in writes.into_iter().zip(found) {
        match check {
            Check::Clear { was_shown, is_unread } => {
                write.was_shown &= was_shown;
                write.is_unread = is_unread;
                checked.clear.push(write);
            }
            Check::Recalled => {
                tracing::debug!(message_id = %write.message.id, "consume.check: recalled before it was written; skipped");
                checked.skipped.push(write);
            }
            Check::RecallUnderway(recall_time) => {
                let recall = Recall::of(&write.message, recall_time);
                checked.underway.push((write, recall));
            }
            Check::Taken => {
                trace::with(write.trace, || {
                    tracing::info!(message_id = %write.message.id, record = %write.holder, "consume.lock: another record of this message is being worked on; this one comes again");
                });
            }
        }
    }
    checked
}

/// Third stage: writes the rows, in one transaction.
pub async fn write(app: &App, writes: Vec<Write>) -> Result<Vec<(Write, Outcome)>, ServerError> {
    let messages: Vec<Message> = writes.iter().map(|write| write.message.clone()).collect();
    // Reading a pending message takes it off the unread set. So a message that is still in the set was not shown when
    // the read position passed its id.
    let unshown: HashSet<MessageId> = writes
        .iter()
        .filter(|write| !write.was_shown || write.is_unread)
        .map(|write| write.message.id)
        .collect();
    let outcomes = app.store.persist_arrivals(&messages, &unshown).await?;
    let with_number = |(mut write, outcome): (Write, Outcome)| {
        write.message.seq = outcome.seq;
        (write, outcome)
    };
    Ok(writes.into_iter().zip(outcomes).map(with_number).collect())
}

/// Fourth stage: marks the written messages, and undoes those that were recalled meanwhile.
pub async fn mark(app: &App, written: &[Write]) -> Result<(), ServerError> {
    let marked: Vec<_> = written.iter().map(|write| &write.message).collect();
    let marks = app.cache.mark_persisted(&marked).await?;

    let mut settled: Vec<(ConversationId, Pending)> = Vec::new();
    let mut missing: Vec<&Message> = Vec::new();
    let mut recalled: Vec<TakeBack> = Vec::new();
    for (write, mark) in written.iter().zip(marks) {
        let message = &write.message;
        match mark {
            PersistMark::Recalled(recall_time) => {
                let recall = Recall::of(message, recall_time);
                recalled.push(TakeBack { recall, message: Some(message.clone()) });
            }
            PersistMark::Missing => {
                missing.push(message);
                settled.push((message.conversation(), Pending::sent(message)));
            }
            PersistMark::Done => settled.push((message.conversation(), Pending::sent(message))),
        }
    }
    if !recalled.is_empty() {
        tracing::info!(messages = recalled.len(), "consume.mark: recalled during the write; undone");
        app.store.take_back(&recalled).await?;
        let recalls: Vec<Recall> = recalled.iter().map(|taken| taken.recall).collect();
        app.cache.confirm_recalled(&recalls).await?;
    }
    put_back(app, &missing).await?;
    app.cache.settle(settled).await
}

/// Restores missing details: Redis was away or emptied when the messages were sent. MySQL is read again, since a recall
/// that Redis could not take may have come after the write. If Redis took the recall, its stub stays.
async fn put_back(app: &App, missing: &[&Message]) -> Result<(), ServerError> {
    let ids: Vec<MessageId> = missing.iter().map(|message| message.id).collect();
    let rows = app.store.messages(&ids).await?;
    let (recalled, live): (Vec<Message>, Vec<Message>) = rows.into_iter().partition(Message::is_recalled);
    app.cache.restore(&live).await?;
    let recalls: Vec<Recall> =
        recalled.iter().map(|row| Recall::of(row, row.recall_time.unwrap_or(row.send_time))).collect();
    app.cache.confirm_recalled(&recalls).await
}

/// Pushes messages that nobody could see before they were rows. Redis, which knows the connections, was away when they
/// were sent.
async fn push_late(app: &App, late: &[(Option<Trace>, Message)]) {
    let pushed = late.iter().map(|(trace, message)| async move {
        match trace {
            Some(trace) => trace::scope(*trace, app.push.message(message)).await,
            None => app.push.message(message).await,
        }
    });
    join_all(pushed).await;
}

async fn persist_chunk(
    app: &App,
    batch: &mut Batch,
    writes: Vec<Write>,
) -> Result<Vec<Underway>, ServerError> {
    let locked = lock(app, writes).await?;
    let skipped = locked.skipped.len();
    let not_written = locked.skipped.iter().map(|write| (write.message.id, write.holder.clone()));
    let mut locks: Vec<_> = not_written.collect();
    let mut met = recalls_of(app, locked.skipped).await?;
    let mut underway = locked.underway;
    let mut left = locked.clear;
    for attempt in 1..=TRIES {
        let mut written = Vec::new();
        let mut refused = Vec::new();
        let mut late = Vec::new();
        for (one, outcome) in write(app, left).await? {
            match outcome.persisted {
                Persisted::Written => {
                    if outcome.is_new && !one.was_shown {
                        late.push((one.trace, one.message.clone()));
                    }
                    written.push(one);
                }
                Persisted::Recalled { recall_time } => {
                    let recall = Recall::of(&one.message, recall_time);
                    underway.push((one, recall));
                }
                Persisted::Refused { reason } if attempt < TRIES => {
                    trace::with(one.trace, || {
                        tracing::info!(message_id = %one.message.id, reason, attempt, "consume.persist: MySQL refuses the row; it is tried again");
                    });
                    refused.push(one);
                }
                other => handle_unwritten(app, batch, &one, other, attempt).await?,
            }
        }
        mark(app, &written).await?;
        finish(batch, &written);
        count_written(app, &written);
        push_late(app, &late).await;
        if refused.is_empty() {
            break;
        }
        left = refused;
        tokio::time::sleep(PAUSE).await;
    }
    for (outcome, messages) in [("skipped", skipped), ("recalled", underway.len())] {
        metrics::counter!(metric::PERSISTED, "outcome" => outcome).increment(messages as u64);
    }
    locks.extend(underway.iter().map(|(write, _)| (write.message.id, write.holder.clone())));
    app.cache.unlock(&locks).await?;
    met.extend(underway.into_iter().map(|(write, recall)| self::underway(write, recall)));
    Ok(met)
}

fn count_written(app: &App, written: &[Write]) {
    let now = app.clock.now_ms();
    for write in written {
        let delay_ms = u32::try_from(now.saturating_sub(write.message.send_time)).unwrap_or_default();
        metrics::histogram!(metric::PERSIST_DELAY_SECONDS).record(f64::from(delay_ms) / 1_000.0);
        if write.trace.is_some_and(Trace::is_recorded) {
            trace::with(write.trace, || {
                tracing::info!(message_id = %write.message.id, record = %write.holder, delay_ms, "consume.persist: MySQL and Redis have the message");
            });
        }
    }
    metrics::counter!(metric::PERSISTED, "outcome" => "written").increment(written.len() as u64);
}

/// Handles a message that did not become a row of its own: a double, a clash, or a refused row.
async fn handle_unwritten(
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
            trace::with(write.trace, || {
                tracing::info!(message_id = %message.id, first = %first, "consume.persist: a late retry of a message that is kept already; taken out of Redis");
            });
            metrics::counter!(metric::PERSISTED, "outcome" => "doubled").increment(1);
            app.cache.forget(message).await?;
            if let (Some(name), Some(fingerprint)) = (&message.client_msg_id, message.fingerprint()) {
                app.cache.repoint_claim(message.from, name, first, &fingerprint).await?;
            }
            batch.records[write.position].done = true;
            return Ok(());
        }
        Persisted::Clash => {
            let reason = format!("another message has the id {}", message.id);
            dead_letter::park(app, &mut batch.records[write.position], &reason, attempt).await;
        }
        Persisted::Refused { reason } => {
            let reason = format!("MySQL refuses the row: {reason}");
            dead_letter::park(app, &mut batch.records[write.position], &reason, attempt).await;
        }
        Persisted::Written | Persisted::Recalled { .. } => return Ok(()),
    }
    // A person handles the dead letter; the compensator must not send the message again and again.
    if batch.records[write.position].done {
        app.cache.settle_dead_letter(message.conversation(), Pending::sent(message)).await?;
    }
    Ok(())
}
