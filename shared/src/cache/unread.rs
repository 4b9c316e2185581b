//! `msg:unread:{userId}`: ids that this user has not read, for other readers of Redis. Our own answers do not rest on it: MySQL
//! counts unread rows, and `msg:unread-pending:{userId}` has what is not a row yet.

use super::step::step;
use super::{Cache, index, keys};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};

/// The most unpersisted unread ids that are read of one user.
const MOST_UNREAD: i64 = 10_000;

impl Cache {
    /// The ids of this conversation that were accepted and are not rows yet, between two exclusive bounds, at most
    /// `limit`.
    pub async fn pending_in(
        &self,
        conversation: ConversationId,
        above: Option<MessageId>,
        below: Option<MessageId>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<MessageId>, ServerError> {
        let range = index::range_step(conversation, above, below, newest_first, limit);
        Ok(index::ids(self.redis.run("cache.pending_in", range).await?))
    }

    /// The unread ids sent to this user that are not rows yet, newest first; at most 10,000.
    pub async fn unread_pending(&self, user: UserId) -> Result<Vec<MessageId>, ServerError> {
        let newest = step!("ZREVRANGE", keys::unread_pending(user), 0, MOST_UNREAD - 1);
        Ok(index::ids(self.redis.run("cache.unread_pending", newest).await?))
    }

    /// Takes ids off all that Redis holds of a user's unread.
    pub async fn remove_unread(&self, user: UserId, ids: &[MessageId]) -> Result<(), ServerError> {
        if ids.is_empty() {
            return Ok(());
        }
        let (mut unread, mut pending) = (redis::cmd("SREM"), redis::cmd("ZREM"));
        unread.arg(keys::unread(user));
        pending.arg(keys::unread_pending(user));
        for &id in ids {
            unread.arg(id.get());
            pending.arg(index::member(id));
        }
        self.redis.batch("cache.remove_unread", vec![unread, pending]).await.map(drop)
    }

    /// Forgets which persisted messages a user has not read: too many were read at once to take each off.
    pub async fn forget_unread(&self, user: UserId) -> Result<(), ServerError> {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(keys::unread(user));
        self.redis.run::<i64>("cache.forget_unread", unlink).await.map(drop)
    }
}
