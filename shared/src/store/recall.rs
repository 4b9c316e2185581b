//! Recall: the tombstone, and what it does to a row.

use sqlx::{Connection as _, MySql, MySqlConnection, QueryBuilder};

use super::Store;
use super::pool::scoped;
use super::row::{LONGEST_LIST, push_ids, push_rows};
use crate::error::ServerError;
use crate::event::Recall;
use crate::id::MessageId;

impl Store {
    /// Takes messages back, whether they are rows already or not: in one transaction, a tombstone for each and, where
    /// there is a row, `status` 0, no content and the time of the recall. The first recall of a message decides its
    /// time. Safe to repeat. The row keeps its `persist_status`.
    ///
    /// This is the only way to write a tombstone; [`Store::persist`] is the other half (`protocol.md`, "Recall leaves a
    /// tombstone").
    #[tracing::instrument(name = "store.recall", skip_all, fields(rows = recalls.len()))]
    pub async fn recall(&self, recalls: &[Recall]) -> Result<(), ServerError> {
        if recalls.is_empty() {
            return Ok(());
        }
        // In one order, so that two batches do not wait for each other; stable, so that the first of a message is first.
        let mut recalls = recalls.to_vec();
        recalls.sort_by_key(|recall| recall.message_id);
        let ids: Vec<MessageId> = recalls.iter().map(|recall| recall.message_id).collect();
        let (recalls, ids) = (recalls.as_slice(), ids.as_slice());
        self.writer
            .run("store.recall", self.limit_for(recalls.len()), |connection| scoped(async move {
                let mut transaction = connection.begin().await?;
                for recalls in recalls.chunks(LONGEST_LIST) {
                    let mut query = QueryBuilder::<MySql>::new(
                        "/* store.recall: tombstones */ INSERT INTO message_recall (message_id, recall_time) VALUES ",
                    );
                    push_rows(&mut query, recalls, |row, recall| {
                        row.push_bind(recall.message_id.get())
                            .push_bind(recall.recall_time);
                    });
                    query.push(" ON DUPLICATE KEY UPDATE message_id = message_id");
                    query.build().execute(&mut *transaction).await?;
                }
                apply_tombstones(&mut transaction, ids).await?;
                transaction.commit().await
            }))
            .await
    }
}

/// Empties the rows among `ids` that have a tombstone.
///
/// The index is forced. Left to choose, the server scans a small table or a long list by the primary key, and InnoDB's
/// scan for an UPDATE at READ COMMITTED passes over a row that another transaction has inserted and not yet committed
/// (a "semi-consistent" read), where a look-up by a unique index waits for it. Such a row would then stay.
pub(super) async fn apply_tombstones(
    connection: &mut MySqlConnection,
    ids: &[MessageId],
) -> Result<(), sqlx::Error> {
    for ids in ids.chunks(LONGEST_LIST) {
        let mut query = QueryBuilder::<MySql>::new(
            "/* store.recall: rows */ UPDATE message AS m FORCE INDEX (uk_message_id) \
             JOIN message_recall AS r ON r.message_id = m.id \
             SET m.status = 0, m.content = '', m.recall_time = r.recall_time WHERE m.id IN ",
        );
        push_ids(&mut query, ids);
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}
