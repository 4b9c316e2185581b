//! The queue of reads that need the epoch: requests that come while a round trip is under way share the next one.
//!
//! Each page needs the epoch as it was after its own reads ([`super::epoch`]), and the script that reads the epoch costs
//! Redis as much as the rest of a page. A shared round trip has the reads of all its requests, then the script once. A
//! request that comes alone waits for nobody.

use parking_lot::Mutex;
use redis::Value;
use tokio::sync::oneshot;

use super::step::Step;
use crate::error::ServerError;

/// The most round trips that are under way at the same time. With one, the server would be idle between two.
const MOST_UNDER_WAY: usize = 2;

/// The most requests of a round trip. A page has at most 101 details of 64 KiB.
const MOST_REQUESTS: usize = 32;

/// The answers to a request's reads, in their order, and the answer of the script that ran right after them.
pub(super) type Answers = Result<(Vec<Result<Value, ServerError>>, Value), ServerError>;

/// The requests that wait for a round trip.
#[derive(Default)]
pub(super) struct SharedReads(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Request>,
    under_way: usize,
}

/// A request that waits for a round trip.
pub(super) struct Request {
    pub(super) action: &'static str,
    pub(super) reads: Vec<Step>,
    pub(super) answer: oneshot::Sender<Answers>,
}

impl SharedReads {
    /// Begins a round trip, or queues the request behind those that are under way.
    pub(super) fn begin_or_wait(&self, action: &'static str, reads: Vec<Step>) -> Turn {
        let mut state = self.0.lock();
        if state.under_way < MOST_UNDER_WAY {
            state.under_way += 1;
            return Turn::Now(reads);
        }
        let (answer, waiting) = oneshot::channel();
        state.waiting.push(Request { action, reads, answer });
        Turn::Later(waiting)
    }

    /// The requests of the next round trip, in place of one that has ended; `None` if nobody waits.
    pub(super) fn next(&self) -> Option<Vec<Request>> {
        let mut state = self.0.lock();
        if state.waiting.is_empty() {
            state.under_way -= 1;
            return None;
        }
        let count = state.waiting.len().min(MOST_REQUESTS);
        Some(state.waiting.drain(..count).collect())
    }

    /// Gives back the place of a round trip that will not take place.
    pub(super) fn give_back(&self) {
        self.0.lock().under_way -= 1;
    }
}

/// The turn of a request.
pub(super) enum Turn {
    /// The caller begins a round trip with these reads, and calls [`SharedReads::next`] after it.
    Now(Vec<Step>),
    /// Another caller's round trip brings the answers.
    Later(oneshot::Receiver<Answers>),
}
