//! `msg:passed`: where the end of each partition was when the compensator looked, so that a later run knows that the
//! consumer group has passed it (`docs/decisions/0039-lost-by-offsets.md`).

use std::collections::HashMap;

use super::{Cache, keys, step};
use crate::clock::TimestampMs;
use crate::error::ServerError;

/// What one run of the compensator saw of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenEnd {
    /// The end of the partition: the offset of the record that came next.
    pub end: i64,
    /// When, ms since 1970 UTC.
    pub at: TimestampMs,
}

impl Cache {
    /// What was noted, by partition. What is not of this form was not noted by us and is left out.
    pub async fn seen_ends(&self) -> Result<HashMap<u16, SeenEnd>, ServerError> {
        let noted: HashMap<String, String> =
            self.redis.run("cache.seen_ends", step!("HGETALL", keys::PASSED)).await?;
        let read = |(partition, seen): (String, String)| {
            let (end, at) = seen.split_once(' ')?;
            Some((partition.parse().ok()?, SeenEnd { end: end.parse().ok()?, at: at.parse().ok()? }))
        };
        Ok(noted.into_iter().filter_map(read).collect())
    }

    /// Notes what is seen of a partition now, in place of what was noted before.
    pub async fn note_seen_end(&self, partition: u16, seen: SeenEnd) -> Result<(), ServerError> {
        let note = step!("HSET", keys::PASSED, partition, format!("{} {}", seen.end, seen.at));
        self.redis.run::<i64>("cache.note_seen_end", note).await.map(drop)
    }
}
