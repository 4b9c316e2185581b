//! The worker number: the part of a message id that tells processes apart.

/// The bits of a worker number in an id.
pub(super) const WORKER_BITS: u32 = 13;

/// A worker number, 0 to 8191. No two processes may make ids with the same number at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerNumber(u16);

impl WorkerNumber {
    /// How many worker numbers there are.
    pub const COUNT: u16 = 1 << WORKER_BITS;

    /// The worker number `number`, if it is below [`Self::COUNT`].
    pub fn new(number: u16) -> Option<Self> {
        (number < Self::COUNT).then_some(Self(number))
    }

    /// The number, 0 to 8191.
    pub fn get(self) -> u16 {
        self.0
    }
}
