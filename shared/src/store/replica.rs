//! A reader for history, which may lag behind the writer (`docs/decisions/0030-replica.md`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Store;
use super::history::Page;
use super::pool::Pool;
use crate::error::ServerError;
use crate::message::Message;

/// How long a replica that failed is left alone.
const REST: Duration = Duration::from_secs(5);

/// A reader for history.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    pub(super) pool: Pool,
    /// Until when the writer answers for it.
    resting_until: Arc<Mutex<Option<Instant>>>,
}

impl Replica {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, resting_until: Arc::default() }
    }

    fn rests(&self) -> bool {
        let until = *self.resting_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Leaves it alone for a time; whether that begins only now.
    fn rest(&self) -> bool {
        let now = Instant::now();
        let mut until = self.resting_until.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = until.is_none_or(|until| until <= now);
        *until = Some(now + REST);
        begins
    }
}

impl Store {
    /// A page of the replica, if there is one that answers and its messages are exactly those that the writer shows now, which
    /// the writer reads from an index alone. A replica that hangs gets half of the time, and is then left alone for [`REST`].
    pub(super) async fn page_of_replica(&self, page: &Page) -> Result<Option<Vec<Message>>, ServerError> {
        let Some(replica) = self.replica.as_ref().filter(|replica| !replica.rests()) else {
            return Ok(None);
        };
        let (messages, outline) = tokio::join!(
            page.read(&replica.pool, self.timeout / 2),
            page.outline(&self.writer, self.timeout)
        );
        let outline = outline?;
        match messages {
            Ok(messages) => {
                let same = messages.iter().map(|message| message.id).eq(outline);
                // It lags: the writer has the page.
                Ok(same.then_some(messages))
            }
            Err(error) if error.is_transient() => {
                // Many calls may meet it at the same time.
                if replica.rest() {
                    tracing::warn!(%error, "the replica does not answer: history is read from the writer");
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
