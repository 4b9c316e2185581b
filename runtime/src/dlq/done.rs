//! The letters of one partition that were sent back: all before an offset, and single letters beyond it.
//!
//! The single letters are kept in the metadata of the committed offset, as ranges: `17,20-35`.

use std::collections::BTreeMap;

use hongyan::config::KafkaConfig;

/// The suffix of the consumer group whose offsets say which letters were sent back. By default the group is
/// `im-message-dead-letter-redrive`.
pub const REDRIVE_GROUP: &str = "-redrive";

/// The longest metadata of a committed offset that Kafka takes by default (`offset.metadata.max.bytes`).
const MAX_METADATA_BYTES: usize = 4_096;

/// The consumer group that remembers which letters were sent back.
pub(super) fn redrive_group(config: &KafkaConfig) -> String {
    format!("{}{REDRIVE_GROUP}", config.dead_letter_topic)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    /// All letters before this offset were sent back.
    before: i64,
    /// The first and last offset of each range beyond. Ranges neither touch nor overlap.
    beyond: BTreeMap<i64, i64>,
}

impl Done {
    /// Reads a committed offset and its metadata. A part of the metadata that cannot be parsed is ignored: a letter
    /// sent back twice does no harm, a letter never sent back would.
    pub(super) fn new(before: i64, metadata: &str) -> Self {
        let mut done = Self { before, beyond: BTreeMap::new() };
        for range in metadata.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>())
                && before <= first
                && first <= last
            {
                done.beyond.insert(first, last);
            }
        }
        done
    }

    pub(super) fn has(&self, offset: i64) -> bool {
        offset < self.before
            || self.beyond.range(..=offset).next_back().is_some_and(|(_, last)| offset <= *last)
    }

    /// Notes that the letter at `offset` was sent back. False if Kafka cannot keep the note: there are too many
    /// single letters.
    pub(super) fn add(&mut self, offset: i64) -> bool {
        if self.has(offset) {
            return true;
        }
        let mut wider = self.clone();
        let mut first = offset;
        let mut last = offset;
        if let Some((&start, &end)) = wider.beyond.range(..offset).next_back()
            && end + 1 == offset
        {
            first = start;
        }
        if let Some(end) = wider.beyond.remove(&(offset + 1)) {
            last = end;
        }
        wider.beyond.insert(first, last);
        if let Some(end) = wider.beyond.get(&wider.before).copied() {
            wider.beyond.remove(&wider.before);
            wider.before = end + 1;
        }
        if wider.metadata().len() > MAX_METADATA_BYTES {
            return false;
        }
        *self = wider;
        true
    }

    pub(super) fn before(&self) -> i64 {
        self.before
    }

    pub(super) fn metadata(&self) -> String {
        let ranges: Vec<String> = self
            .beyond
            .iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        ranges.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_together_and_into_the_offset() {
        let mut done = Done::new(3, "");
        for offset in [7, 5, 10, 6] {
            assert!(done.add(offset));
        }
        assert_eq!((done.before(), done.metadata().as_str()), (3, "5-7,10"));
        assert_eq!(done, Done::new(3, "5-7,10"));
        assert!([0, 2, 5, 6, 7, 10].into_iter().all(|offset| done.has(offset)));
        assert!([3, 4, 8, 9, 11].into_iter().all(|offset| !done.has(offset)));
        assert!(done.add(4) && done.add(3));
        assert_eq!((done.before(), done.metadata().as_str()), (8, "10"));
    }

    #[test]
    fn what_is_not_understood_is_not_done() {
        for metadata in ["x", "5-", "-", "9-7", "1", ",,"] {
            assert_eq!(Done::new(3, metadata), Done::new(3, ""), "{metadata}");
        }
    }

    #[test]
    fn it_says_when_it_cannot_remember_more() {
        let mut done = Done::new(0, "");
        let kept = (1..).step_by(2).take_while(|offset| done.add(*offset)).count();
        assert!(kept > 500, "{kept}");
        assert!(done.metadata().len() <= MAX_METADATA_BYTES);
    }
}
