//! `msg:unread:{userId}`: ids that this user has not read, for other readers of Redis. Our own answers do not rest on it: MySQL
//! counts unread rows, and `msg:unread-pending:{userId}` has what is not a row yet.

use super::{Cache, keys, unpersisted};
use crate::error::ServerError;
use crate::id::{MessageId, UserId};

impl Cache {
    /// Takes ids off all that Redis holds of a user's unread.
    pub async fn remove_unread(&self, user: UserId, ids: &[MessageId]) -> Result<(), ServerError> {
        if ids.is_empty() {
            return Ok(());
        }
        let (mut unread, mut pending) = (::redis::cmd("SREM"), ::redis::cmd("ZREM"));
        unread.arg(keys::unread(user));
        pending.arg(keys::unread_pending(user));
        for &id in ids {
            unread.arg(id.get());
            pending.arg(unpersisted::member(id));
        }
        self.redis.batch("cache.remove_unread", vec![unread, pending]).await.map(drop)
    }

    /// Forgets which persisted messages a user has not read: too many were read at once to take each off.
    pub async fn forget_unread(&self, user: UserId) -> Result<(), ServerError> {
        let mut unlink = ::redis::cmd("UNLINK");
        unlink.arg(keys::unread(user));
        self.redis.run::<i64>("cache.forget_unread", unlink).await.map(drop)
    }
}
