//! How long the parts of a round take.

use std::time::Duration;

/// How long the parts of a round take, and what the runtime is told.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The users work before the fault.
    pub before: Duration,
    /// The fault lasts.
    pub hold: Duration,
    /// The same for what is frozen.
    pub freeze: Duration,
    /// The users work after it.
    pub after: Duration,
    /// How long a user waits for an answer.
    pub patience: Duration,
    /// The longest pause of the consumer between two tries.
    pub longest_pause: Duration,
    /// Settings that differ from the defaults.
    pub settings: Vec<(&'static str, &'static str)>,
    /// By how much promised times may be exceeded: 1 on a machine that does nothing else.
    pub slack: u32,
}

impl Pace {
    /// By which a promise is judged: every setting has its default, what is frozen stays so for 20 s.
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

    /// For a test of every fault within three minutes, on a machine that runs other tests too: time-outs are shorter, since
    /// what is frozen stays so for two seconds.
    pub fn short() -> Self {
        Self {
            before: Duration::from_millis(400),
            hold: Duration::from_secs(1),
            freeze: Duration::from_secs(2),
            after: Duration::from_millis(200),
            // No fault of this pace takes so long: a request that does has found a busy machine.
            patience: Duration::from_secs(10),
            longest_pause: Duration::from_secs(1),
            settings: vec![("REDIS_TIMEOUT_MS", "1000"), ("MYSQL_TIMEOUT_MS", "1000")],
            slack: 8,
        }
    }
}
