//! The records that the consumer group has passed in a partition, by offsets alone. Producers set the times in records,
//! and one wrong clock would make a whole backlog count as lost (`docs/decisions/0039-lost-by-offsets.md`).

use hongyan::app::App;
use hongyan::cache::compensate::SeenEnd;
use hongyan::clock::TimestampMs;
use hongyan::error::ServerError;
use hongyan::queue::Progress;

/// How long before an end was seen a message must have been sent to count as passed, ms. The producer gives up earlier,
/// also by another clock: the message's record lies before that end, or does not exist.
const MARGIN_MS: TimestampMs = 60_000;

/// The records that the group has passed in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Every record.
    All,
    /// Every record that was in the partition at this time (ms since 1970 UTC).
    AtTime(TimestampMs),
    /// No record, as far as is known.
    Nothing,
}

impl Passed {
    /// True if a message that was last sent at `sent` has been passed.
    pub(crate) fn includes(self, sent: TimestampMs) -> bool {
        match self {
            Self::All => true,
            Self::AtTime(time) => sent.saturating_add(MARGIN_MS) < time,
            Self::Nothing => false,
        }
    }
}

/// Compares the group's progress with the ends that earlier runs saw. Where an old end is passed, the present end is
/// noted instead; `now` is a time before `progress` was asked.
pub(crate) async fn compare(
    app: &App,
    progress: &[Progress],
    now: TimestampMs,
) -> Result<Vec<Passed>, ServerError> {
    let seen = app.cache.seen_ends().await?;
    let mut all = Vec::with_capacity(progress.len());
    for (partition, progress) in (0_u16..).zip(progress) {
        let (passed, note) = judge(*progress, seen.get(&partition).copied(), now);
        if let Some(note) = note {
            app.cache.note_seen_end(partition, note).await?;
        }
        all.push(passed);
    }
    Ok(all)
}

fn judge(progress: Progress, seen: Option<SeenEnd>, now: TimestampMs) -> (Passed, Option<SeenEnd>) {
    match progress {
        Progress::CaughtUp => (Passed::All, None),
        Progress::Unknown => (Passed::Nothing, None),
        Progress::Behind { position, end } => {
            let fresh = Some(SeenEnd { end, at: now });
            // An end beyond the present end belongs to a topic that was created again; a future time, to a clock that
            // was set back.
            match seen.filter(|seen| seen.end <= end && seen.at <= now) {
                Some(seen) if position >= seen.end => (Passed::AtTime(seen.at), fresh),
                Some(_) => (Passed::Nothing, None),
                None => (Passed::Nothing, fresh),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_that_was_seen_and_passed_tells() {
        let seen = |end, at| Some(SeenEnd { end, at });
        let behind = |position, end| Progress::Behind { position, end };
        for (progress, before, expected) in [
            (Progress::CaughtUp, seen(5, 10), (Passed::All, None)),
            (Progress::Unknown, seen(5, 10), (Passed::Nothing, None)),
            (behind(3, 9), None, (Passed::Nothing, seen(9, 99))),
            (behind(3, 9), seen(5, 10), (Passed::Nothing, None)),
            (behind(5, 9), seen(5, 10), (Passed::AtTime(10), seen(9, 99))),
            (behind(5, 9), seen(12, 10), (Passed::Nothing, seen(9, 99))),
            (behind(5, 9), seen(5, 100), (Passed::Nothing, seen(9, 99))),
        ] {
            assert_eq!(judge(progress, before, 99), expected, "{progress:?} {before:?}");
        }
    }

    #[test]
    fn a_message_counts_as_passed_a_minute_before_the_end_was_seen() {
        assert!(Passed::All.includes(i64::MAX));
        assert!(!Passed::Nothing.includes(0));
        assert!(Passed::AtTime(100_000).includes(39_999));
        assert!(!Passed::AtTime(100_000).includes(40_000));
        assert!(!Passed::AtTime(i64::MAX).includes(i64::MAX));
    }
}
