//! `msg:rate:{userId}`: how fast a user may still send.

use std::time::Duration;

use super::{Cache, keys, scripts};
use crate::error::ServerError;
use crate::id::UserId;

impl Cache {
    /// Takes one send off the user's allowance, which gains `per_second` in a second and holds twice as many. `None` if there
    /// was one; otherwise the time until there is one, of at least 1 ms. One round trip.
    pub async fn take_send(&self, user: UserId, per_second: u32) -> Result<Option<Duration>, ServerError> {
        let per_second = per_second.max(1);
        let arguments =
            vec![(1_000_000 / per_second).max(1).to_string(), (u64::from(per_second) * 2).to_string()];
        let wait_ms: u64 =
            self.redis.run("cache.take_send", scripts::TAKE.on(keys::rate(user), arguments)).await?;
        Ok((wait_ms > 0).then(|| Duration::from_millis(wait_ms)))
    }
}
