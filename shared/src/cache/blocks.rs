//! `msg:blocks:{userId}`: whom a user has blocked, as MySQL had it at most a minute ago (`docs/decisions/0053-blocks.md`).

use std::time::Duration;

use super::connection::typed;
use super::step::{Step, step};
use super::{Cache, keys};
use crate::error::ServerError;
use crate::id::UserId;

/// The member that says that the set has all blocks. No user has this id.
const COMPLETE: i64 = 0;
/// How long a set is believed.
const LIFETIME: Duration = Duration::from_mins(1);

impl Cache {
    /// True if `user` has blocked `other`, as far as Redis knows; a block that has just ended may still be known. `None` if the
    /// set is not complete. One round trip.
    pub async fn has_blocked(&self, user: UserId, other: UserId) -> Result<Option<bool>, ServerError> {
        const ACTION: &str = "cache.has_blocked";
        let members = step!("SMISMEMBER", keys::blocks(user), other.get(), COMPLETE);
        let [is_blocked, is_complete]: [bool; 2] = typed(ACTION, self.redis.run(ACTION, members).await?)?;
        Ok((is_blocked || is_complete).then_some(is_blocked))
    }

    /// Adds a block that MySQL has. There is no removal: the end of a block and its renewal may arrive in either order, and a
    /// block that is found here is looked up in MySQL before a send is refused.
    pub async fn note_block(&self, user: UserId, blocked: UserId) -> Result<(), ServerError> {
        // A complete set ends a minute after it was filled: a block that Redis did not take counts from then on.
        let expiry = step!("PEXPIRE", keys::blocks(user), LIFETIME.as_millis(), "NX");
        self.add_blocks("cache.note_block", user, &[blocked.get()], expiry).await
    }

    /// Fills the set with all blocks that MySQL has.
    pub async fn fill_blocks(&self, user: UserId, all: &[UserId]) -> Result<(), ServerError> {
        let members: Vec<i64> = all.iter().map(|user| user.get()).chain([COMPLETE]).collect();
        let expiry = step!("PEXPIRE", keys::blocks(user), LIFETIME.as_millis());
        self.add_blocks("cache.fill_blocks", user, &members, expiry).await
    }

    async fn add_blocks(
        &self,
        action: &'static str,
        user: UserId,
        members: &[i64],
        expiry: Step,
    ) -> Result<(), ServerError> {
        let mut add = redis::cmd("SADD");
        add.arg(keys::blocks(user)).arg(members);
        self.redis.batch(action, vec![add.into(), expiry]).await.map(drop)
    }

    /// True if `user` may tell `peer` again that they are typing: at most once in `every`. One round trip.
    pub async fn may_tell_typing(
        &self,
        user: UserId,
        peer: UserId,
        every: Duration,
    ) -> Result<bool, ServerError> {
        const ACTION: &str = "cache.may_tell_typing";
        let set = step!("SET", keys::typing(user, peer), 1, "NX", "PX", every.as_millis());
        let set: Option<String> = typed(ACTION, self.redis.run(ACTION, set).await?)?;
        Ok(set.is_some())
    }
}
