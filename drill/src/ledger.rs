//! What the users did and what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// All of one round.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Book>);

/// The pages of the ledger. Ids are as the API has them: decimal texts.
#[derive(Debug, Default, Clone)]
pub(crate) struct Book {
    /// By content, which no two sends share.
    pub(crate) sends: BTreeMap<String, Send>,
    pub(crate) recalls: BTreeMap<String, Told>,
    /// By user and message.
    pub(crate) deletions: BTreeMap<(i64, String), Told>,
    /// When a message was first answered with success.
    pub(crate) accepted_at: BTreeMap<String, Instant>,
    /// How far a user was told to have read, by user and peer.
    pub(crate) positions: BTreeMap<(i64, i64), i64>,
    /// The same as it came: how far, and when that was asked for.
    pub(crate) readings: BTreeMap<(i64, i64), Vec<(i64, Instant)>>,
    /// Redis loses in this round what it was told last.
    pub(crate) forgetful: bool,
    pub(crate) requests: usize,
    /// Answered 503, or not in time.
    pub(crate) failed: usize,
    /// Recalled before a page was asked for, and on it.
    pub(crate) glimpsed: usize,
    /// Of those, recalled so long before that the consumer had time to read the RECALL event.
    pub(crate) glimpsed_late: usize,
    /// Deleted by the reader before a page was asked for, and on it.
    pub(crate) unhidden: usize,
    /// Answers that no caller should get, and what is wrong with them.
    pub(crate) wrong: Vec<String>,
}

/// One message, however often it was tried.
#[derive(Debug, Clone)]
pub(crate) struct Send {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) client_msg_id: Option<String>,
    pub(crate) tries: usize,
    /// What the answers called it: one id, or two if a late retry became a second message that gives way to the first.
    pub(crate) ids: BTreeSet<String>,
}

/// When a user was told that it is done; if never, it may be done or not.
pub(crate) type Told = Option<Instant>;

/// How long after a send its record may be on its way to MySQL, so that nobody knows a message which Redis has forgotten.
pub(crate) const ON_ITS_WAY: Duration = Duration::from_secs(3);

impl Book {
    /// Whether a message may be unknown for a while: Kafka alone has it, since Redis was made to forget it.
    pub(crate) fn may_be_unknown(&self, id: &str) -> bool {
        self.forgetful && self.accepted_at.get(id).is_none_or(|accepted| accepted.elapsed() < ON_ITS_WAY)
    }

    /// Whether a user's position passed a message before it was answered to its sender: the clocks of two runtimes differ,
    /// so a message may get a smaller id than one that is older. Nobody can have shown it to the user then.
    pub(crate) fn was_late(&self, user: i64, peer: i64, id: i64) -> bool {
        let Some(accepted) = self.accepted_at.get(&id.to_string()) else { return true };
        let readings = self.readings.get(&(user, peer)).map_or(&[][..], Vec::as_slice);
        !readings.iter().any(|(up_to, asked)| *up_to >= id && asked > accepted)
    }

    /// Whether a recall was answered with success.
    pub(crate) fn is_recalled(&self, id: &str) -> bool {
        self.recalls.get(id).is_some_and(Option::is_some)
    }

    /// How many sends were answered with success.
    pub(crate) fn accepted(&self) -> usize {
        self.sends.values().filter(|send| !send.ids.is_empty()).count()
    }
}

impl Ledger {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock()
    }

    /// Notes an answer that nobody should get.
    pub(crate) fn wrong(&self, what: String) {
        self.book().wrong.push(what);
    }
}
