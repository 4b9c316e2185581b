//! MySQL or MariaDB: everything that is kept for good (`docs/contract.md`, "Tables").
//!
//! A message becomes a row once it has passed Kafka ([`Store::persist`]). A recall leaves a tombstone and empties the
//! row ([`Store::recall`]). Both are safe to repeat and end the same in either order. The other modules read by cursor:
//! history, changes, deletions, clearings, read positions and unread counts.
//!
//! Every call ends within a bounded time, also when the server does not answer, and its error says whether trying again
//! can help ([`crate::error::Retry`]). `docs/decisions/0024-mysql-schema.md` and `0025-mysql-connections.md` have the
//! reasons.

mod blocks;
mod changes;
mod clearing;
mod conversation;
mod deletion;
mod fault;
pub mod generation;
mod history;
mod names;
mod persist;
mod pool;
mod recall;
mod replica;
mod row;
mod schema;
mod sends;
mod silence;
mod talks;
mod unread;
mod visible;

use std::time::Duration;

use sqlx::Connection as _;

use crate::config::MySqlConfig;
use crate::error::ServerError;

pub use blocks::MOST_BLOCKS;
pub use changes::{Change, ChangeKind, ChangePage};
pub use clearing::Cleared;
pub use names::NameLookup;
pub use persist::{Outcome, Persisted};
pub use pool::noting_use;
use pool::{Pool, scoped};
pub use recall::{TakeBack, TakenBack};
use replica::Replica;
pub use schema::{Applied, Migration};
pub use sends::NamedSend;
pub use silence::Silence;
pub use talks::{Place, Places, Talk, Talks};
pub use unread::UnreadRows;

/// The store. Cheap to clone; all clones share their connections.
#[derive(Debug, Clone)]
pub struct Store {
    writer: Pool,
    replica: Option<Replica>,
    /// `MYSQL_TIMEOUT_MS`: the longest that one call takes, the wait for a connection included. A large batch gets
    /// more, see [`Self::limit_for`].
    timeout: Duration,
}

impl Store {
    /// Prepares the connections; none is opened yet, so a server that is away does not stop a start. Fails only for an
    /// invalid URL.
    pub fn new(config: &MySqlConfig) -> Result<Self, ServerError> {
        let replica =
            config.replica_url.as_ref().map(|url| Ok(Replica::new(Pool::new(url, config)?))).transpose()?;
        Ok(Self { writer: Pool::new(&config.url, config)?, replica, timeout: config.timeout })
    }

    /// Asks the writer for a sign of life; an error without one.
    #[tracing::instrument(name = "store.ping", skip_all)]
    pub async fn ping(&self) -> Result<(), ServerError> {
        self.writer
            .run("store.ping", self.timeout, |connection| scoped(async move { connection.ping().await }))
            .await
    }

    /// Closes the connections that are not in use; one in use is closed when its call ends, and no call begins any more.
    pub async fn close(&self) {
        self.writer.close().await;
        if let Some(replica) = &self.replica {
            replica.pool.close().await;
        }
    }

    /// How many connections to the writer are open, and to the replica if there is one.
    pub fn connections(&self) -> (u32, Option<u32>) {
        (self.writer.size(), self.replica.as_ref().map(|replica| replica.pool.size()))
    }

    /// The longest that a call which writes `rows` may take: the timeout, and as much again for each 500 rows.
    fn limit_for(&self, rows: usize) -> Duration {
        let times = u32::try_from(rows / 500).unwrap_or(u32::MAX).saturating_add(1);
        self.timeout.saturating_mul(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Handlers run as tasks. Without this test a call that cannot move between threads would be noticed only in a
    /// handler.
    #[test]
    fn every_call_can_move_between_threads() {
        fn moves<T: Send>(_: impl FnOnce(&'static Store) -> T) {}
        let id = crate::id::MessageId::new(1).unwrap();
        let user = crate::id::UserId::new(1).unwrap();
        let conversation = "1_2".parse().unwrap();
        moves(Store::ping);
        moves(|store| store.migrate(|_| ()));
        moves(Store::pending_migrations);
        moves(Store::cache_generation);
        moves(Store::raise_cache_generation);
        moves(|store| store.tombstones_among(conversation, &[]));
        moves(|store| store.persist(&[]));
        moves(|store| store.recall(&[]));
        moves(|store| store.message(id));
        moves(|store| store.messages(&[]));
        moves(|store| store.visible_before(conversation, user, None, 1));
        moves(|store| store.visible_after(conversation, user, id, 1));
        moves(|store| store.changes(conversation, user, 0, 1));
        moves(|store| store.listed_ids(conversation, None, None, 1));
        moves(|store| store.delete_for(user, conversation, id));
        moves(|store| store.deleted_among(user, &[]));
        moves(|store| store.deleted_by(user, 1));
        moves(|store| store.clear_for(user, conversation, id));
        moves(|store| store.cleared(user, conversation));
        moves(|store| store.advance_read_position(user, conversation, id));
        moves(|store| store.unread_rows(user, &[]));
        moves(|store| store.unread(user, 1));
        moves(|store| store.places_before(user, None, 1, &[]));
        moves(|store| store.places_changed(user, 0, 0, 1));
        moves(|store| store.talks(user, &[], &[]));
        moves(|store| store.last_messages(user, &[]));
    }
}
