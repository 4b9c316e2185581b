//! Recalls of a batch: its RECALL records, and the recalls that PERSIST records met. The tombstone goes to MySQL, then
//! the confirmation to Redis.

use hongyan::app::App;
use hongyan::error::ServerError;
use hongyan::event::Recall;
use hongyan::store::{TakeBack, TakenBack};
use hongyan::trace::{self, Trace};

use crate::batch::Batch;
use crate::dead_letter;
use crate::persist::Underway;

/// Completes all recalls of the batch. If a store is away, their records come again. A recall that names another
/// conversation than its message's is a dead letter.
pub(crate) async fn recall(app: &App, batch: &mut Batch, underway: Vec<Underway>) {
    let mut all: Vec<Underway> =
        batch.recalls().into_iter().map(|(position, recall)| (position, recall.into())).collect();
    all.extend(underway);
    if all.is_empty() {
        return;
    }
    let taken: Vec<TakeBack> = all.iter().map(|(_, taken)| taken.clone()).collect();
    let outcomes = match take_back(app, &taken).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            tracing::warn!(recalls = taken.len(), %error, "consume.recall: a store is away; these records come again");
            return;
        }
    };
    for ((position, taken), outcome) in all.into_iter().zip(outcomes) {
        let record = &mut batch.records[position];
        match outcome {
            TakenBack::Since(_) => {
                record.done = true;
                if record.trace.is_some_and(Trace::is_recorded) {
                    let message_id = taken.recall.message_id;
                    trace::with(record.trace, || {
                        tracing::info!(%message_id, record = %record.holder(), "consume.recall: MySQL and Redis have the recall");
                    });
                }
            }
            TakenBack::OtherConversation => {
                let Recall { message_id, conversation_id, .. } = taken.recall;
                let reason = format!("the message {message_id} is not of the conversation {conversation_id}");
                dead_letter::park(app, record, &reason, 1).await;
            }
        }
    }
}

async fn take_back(app: &App, taken: &[TakeBack]) -> Result<Vec<TakenBack>, ServerError> {
    let outcomes = app.store.take_back(taken).await?;
    let confirmed: Vec<Recall> = taken
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| matches!(outcome, TakenBack::Since(_)))
        .map(|(taken, _)| taken.recall)
        .collect();
    app.cache.confirm_recalled(&confirmed).await?;
    Ok(outcomes)
}
