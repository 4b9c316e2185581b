//! Unread messages in Redis: `msg:unread-pending:{userId}` has those that are not rows yet; `msg:unread:{userId}` has
//! all of them, for other readers of Redis. Our own answers combine the first with MySQL's count of unread rows.

use super::step::step;
use super::{Cache, index, keys};
use crate::error::ServerError;
use crate::id::{ConversationId, MessageId, UserId};

/// The most pending unread ids of a user that are read.
const MOST_UNREAD: i64 = 10_000;

impl Cache {
    /// At most `limit` pending ids of this conversation, between two exclusive bounds.
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

    /// The user's pending unread ids, newest first; at most 10,000.
    pub async fn unread_pending(&self, user: UserId) -> Result<Vec<MessageId>, ServerError> {
        let newest = step!("ZREVRANGE", keys::unread_pending(user), 0, MOST_UNREAD - 1);
        Ok(index::ids(self.redis.run("cache.unread_pending", newest).await?))
    }

    /// Takes ids off both unread sets of a user.
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

    /// Drops `msg:unread:{userId}`, when too many messages were read at once to take each off.
    pub async fn forget_unread(&self, user: UserId) -> Result<(), ServerError> {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(keys::unread(user));
        self.redis.run::<i64>("cache.forget_unread", unlink).await.map(drop)
    }
}
