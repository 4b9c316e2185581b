//! RECALL records, and recalls that were met half-way: the tombstone in MySQL, then the word to Redis.

use hongyan::app::App;
use hongyan::error::ServerError;
use hongyan::event::Recall;

use crate::batch::Batch;
use crate::recalls;

/// Takes back everything that this batch says is recalled. If a store is away, those records come again.
pub(crate) async fn recall(app: &App, batch: &mut Batch, underway: Vec<(usize, Recall)>) {
    let mut all = recalls(batch);
    all.extend(underway);
    if all.is_empty() {
        return;
    }
    let recalls: Vec<Recall> = all.iter().map(|(_, recall)| *recall).collect();
    match take_back(app, &recalls).await {
        Ok(()) => {
            for (position, _) in all {
                batch.records[position].done = true;
            }
        }
        Err(error) => {
            tracing::warn!(recalls = recalls.len(), %error, "consume.recall: a store is away; these records come again");
        }
    }
}

async fn take_back(app: &App, recalls: &[Recall]) -> Result<(), ServerError> {
    app.store.recall(recalls).await?;
    app.cache.confirm_recalled(recalls).await
}
