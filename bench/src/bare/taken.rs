//! The result of one server's measurement.

use std::time::Duration;

/// How many messages a server took, and in which time.
pub(super) struct Taken {
    pub(super) messages: u64,
    pub(super) time: Duration,
    /// The load in words.
    pub(super) how: String,
}
