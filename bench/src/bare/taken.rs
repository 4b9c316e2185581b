//! The outcome of one server's measurement.

use std::time::Duration;

/// How many messages a server took, and in how long.
pub(super) struct Taken {
    pub(super) messages: u64,
    pub(super) time: Duration,
    /// What it was asked to do.
    pub(super) how: String,
}
