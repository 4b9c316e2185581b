//! The pace of a drill: the times of a round.

use std::time::Duration;

/// The times of a round, and settings of the runtimes.
#[derive(Debug, Clone)]
pub struct Pace {
    /// How long the users work before the fault.
    pub before: Duration,
    /// How long the fault lasts.
    pub hold: Duration,
    /// How long a freezing fault lasts.
    pub freeze: Duration,
    /// How long the users work after the fault.
    pub after: Duration,
    /// How long a user waits for an answer.
    pub patience: Duration,
    /// The longest pause of the consumer between two tries.
    pub longest_pause: Duration,
    /// Settings of the runtimes that differ from the defaults.
    pub settings: Vec<(&'static str, &'static str)>,
    /// How many times as long as promised an answer may take: 1 on an idle machine.
    pub slack: u32,
}

impl Pace {
    /// The pace by which promises are judged: all settings have their defaults, and a freeze lasts 20 s.
    pub fn full() -> Self {
        Self {
            before: Duration::from_secs(3),
            hold: Duration::from_secs(6),
            freeze: Duration::from_secs(20),
            after: Duration::from_secs(2),
            patience: Duration::from_secs(15),
            longest_pause: Duration::from_secs(5),
            settings: Vec::new(),
            slack: 1,
        }
    }

    /// The pace of a test that runs every fault within three minutes, on a machine that runs other tests too.
    /// Time-outs are shorter, since a freeze lasts two seconds.
    pub fn short() -> Self {
        Self {
            before: Duration::from_millis(400),
            hold: Duration::from_secs(1),
            freeze: Duration::from_secs(2),
            after: Duration::from_millis(200),
            // No fault of this pace takes so long, so a request that does was delayed by a busy machine.
            patience: Duration::from_secs(10),
            longest_pause: Duration::from_secs(1),
            settings: vec![("REDIS_TIMEOUT_MS", "1000"), ("MYSQL_TIMEOUT_MS", "1000")],
            slack: 8,
        }
    }
}
