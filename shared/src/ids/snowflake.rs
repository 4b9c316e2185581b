//! The form of message ids: 41 bits of ms since 2024-01-01 UTC, 13 bits of worker number, 9 bits of sequence
//! (`docs/protocol.md`, R6). The lease of the worker number is in [`super::source`].

use crate::clock::TimestampMs;
use crate::id::MessageId;
use crate::ids::worker::{WORKER_BITS, WorkerNumber};

/// 2024-01-01T00:00:00Z in ms since 1970: the zero of an id's time, whose 41 bits last until 2093.
pub const EPOCH_MS: TimestampMs = 1_704_067_200_000;

const SEQUENCE_BITS: u32 = 9;
const MAX_SEQUENCE: i64 = (1 << SEQUENCE_BITS) - 1;
const MAX_ELAPSED_MS: i64 = (1 << 41) - 1;

/// The clock reads a time before 2024 or after 2093, so no id can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the clock reads {0} ms since 1970, outside of 2024 to 2093: no message id can be made")]
pub struct ClockOutOfRange(pub TimestampMs);

/// Makes ids for one worker number. Each id is greater than the one before, whatever the clock does.
#[derive(Debug)]
pub struct Snowflake {
    worker: WorkerNumber,
    last_elapsed_ms: i64,
    sequence: i64,
}

impl Snowflake {
    /// A generator for `worker`. All its ids lie after `floor`, the latest time (ms since 1970 UTC) of any id that its
    /// process made before.
    pub fn new(worker: WorkerNumber, floor: TimestampMs) -> Self {
        Self { worker, last_elapsed_ms: (floor - EPOCH_MS).max(0), sequence: MAX_SEQUENCE }
    }

    /// The next id at time `now`, ms since 1970 UTC. If the clock stands still or steps back, the id takes the next
    /// number of the sequence, and when the sequence is used up, the next ms. So no id repeats.
    pub fn next(&mut self, now: TimestampMs) -> Result<MessageId, ClockOutOfRange> {
        let now_elapsed = now.saturating_sub(EPOCH_MS);
        if now_elapsed < 0 {
            return Err(ClockOutOfRange(now));
        }
        let (elapsed, sequence) = if now_elapsed > self.last_elapsed_ms {
            (now_elapsed, 0)
        } else if self.sequence < MAX_SEQUENCE {
            (self.last_elapsed_ms, self.sequence + 1)
        } else {
            (self.last_elapsed_ms + 1, 0)
        };
        if elapsed > MAX_ELAPSED_MS {
            return Err(ClockOutOfRange(now));
        }
        let value = elapsed << (WORKER_BITS + SEQUENCE_BITS)
            | i64::from(self.worker.get()) << SEQUENCE_BITS
            | sequence;
        let id = MessageId::new(value).map_err(|_| ClockOutOfRange(now))?;
        (self.last_elapsed_ms, self.sequence) = (elapsed, sequence);
        Ok(id)
    }

    /// The time of the latest id, or the floor if there is none: ms since 1970 UTC.
    pub fn latest(&self) -> TimestampMs {
        EPOCH_MS + self.last_elapsed_ms
    }
}

/// The time of a message's send, as its id says: ms since 1970 UTC.
pub fn time_of(id: MessageId) -> TimestampMs {
    EPOCH_MS + (id.get() >> (WORKER_BITS + SEQUENCE_BITS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: TimestampMs = 1_795_000_000_000;

    fn worker(number: u16) -> WorkerNumber {
        WorkerNumber::new(number).unwrap()
    }

    #[test]
    fn an_id_holds_its_time_worker_and_sequence() {
        let mut ids = Snowflake::new(worker(8191), 0);
        let first = ids.next(NOW).unwrap();
        assert_eq!(time_of(first), NOW);
        assert_eq!((first.get() >> 9) & 8191, 8191);
        assert_eq!(first.get() & 511, 0);
        assert_eq!(ids.next(NOW).unwrap().get() & 511, 1);
        assert!(first.get() > 1 << 53, "ids of today are beyond what JavaScript's numbers hold");
    }

    #[test]
    fn a_full_millisecond_borrows_from_the_next() {
        let mut ids = Snowflake::new(worker(1), 0);
        let made: Vec<_> = (0..513).map(|_| ids.next(NOW).unwrap()).collect();
        assert_eq!(time_of(made[511]), NOW);
        assert_eq!(time_of(made[512]), NOW + 1);
    }

    #[test]
    fn nothing_is_made_at_or_before_the_floor() {
        let mut ids = Snowflake::new(worker(1), NOW + 5_000);
        assert_eq!(time_of(ids.next(NOW).unwrap()), NOW + 5_001);
    }

    #[test]
    fn a_clock_before_2024_or_after_2093_is_an_error() {
        assert!(Snowflake::new(worker(1), 0).next(0).is_err());
        assert!(Snowflake::new(worker(1), 0).next(i64::MAX).is_err());
    }

    proptest! {
        #[test]
        fn ids_only_ever_rise_whatever_the_clock_does(steps in prop::collection::vec(-10_000_i64..10_000, 1..2_000)) {
            let mut ids = Snowflake::new(worker(77), 0);
            let (mut now, mut last) = (NOW, 0);
            for step in steps {
                now += step;
                let id = ids.next(now).unwrap().get();
                prop_assert!(id > last);
                last = id;
            }
        }
    }
}
