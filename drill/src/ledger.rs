//! The ledger: the users' requests and their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// The ledger of one round.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Book>);

/// The entries. Ids are decimal texts, as the API has them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Book {
    /// By content: no two sends share one.
    pub(crate) sends: BTreeMap<String, Send>,
    pub(crate) recalls: BTreeMap<String, Told>,
    /// By user and message.
    pub(crate) deletions: BTreeMap<(i64, String), Told>,
    /// By user and peer: the message up to which the user cleared the conversation. A try stands there once without an answer,
    /// and again with the time of its successful answer.
    pub(crate) clearings: BTreeMap<(i64, i64), Vec<(i64, Told)>>,
    /// The time of the first successful answer to a send.
    pub(crate) accepted_at: BTreeMap<String, Instant>,
    /// The read positions that answers have confirmed, by user and peer.
    pub(crate) positions: BTreeMap<(i64, i64), i64>,
    /// The same in order of answers: the position, and the time of the request.
    pub(crate) readings: BTreeMap<(i64, i64), Vec<(i64, Instant)>>,
    /// True if Redis loses its latest data in this round.
    pub(crate) forgetful: bool,
    /// True if MySQL's process died in this round, which may take back numbers that it had shown.
    pub(crate) mysql_died: bool,
    pub(crate) requests: usize,
    /// Requests answered 503, or not in time.
    pub(crate) failed: usize,
    /// How often a page showed a message that was recalled before the request for the page.
    pub(crate) glimpsed: usize,
    /// Of those, how often the recall was old enough for the consumer to have read the RECALL event.
    pub(crate) glimpsed_late: usize,
    /// How often a page showed a message that its reader had deleted before the request for the page.
    pub(crate) unhidden: usize,
    /// Answers that must not happen, with the reason.
    pub(crate) wrong: Vec<String>,
}

/// One message, with all its tries.
#[derive(Debug, Clone)]
pub(crate) struct Send {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) client_msg_id: Option<String>,
    pub(crate) tries: usize,
    /// The ids in the answers: one, or two if a late retry became a second message, which gives way to the first.
    pub(crate) ids: BTreeSet<String>,
}

/// The time of the successful answer. Without one, the change may have happened or not.
pub(crate) type Told = Option<Instant>;

/// How long a message may be known to Kafka alone after a send: Redis has forgotten it, and the consumer has not
/// written it yet.
pub(crate) const ON_ITS_WAY: Duration = Duration::from_secs(3);

impl Book {
    /// True if the API may answer 404 for a message for a while: Redis has forgotten it, and only Kafka has it.
    pub(crate) fn may_be_unknown(&self, id: &str) -> bool {
        self.forgetful && self.accepted_at.get(id).is_none_or(|accepted| accepted.elapsed() < ON_ITS_WAY)
    }

    /// True if a user's read position passed a message before its sender got an answer. The clocks of two runtimes
    /// differ, so a message may get a smaller id than an older message. The user cannot have been shown it then.
    pub(crate) fn was_late(&self, user: i64, peer: i64, id: i64) -> bool {
        let Some(accepted) = self.accepted_at.get(&id.to_string()) else { return true };
        let readings = self.readings.get(&(user, peer)).map_or(&[][..], Vec::as_slice);
        !readings.iter().any(|(up_to, asked)| *up_to >= id && asked > accepted)
    }

    /// The id up to which answers before `moment` have said that the user cleared the conversation; 0 if there are none.
    pub(crate) fn cleared_before(&self, user: i64, peer: i64, moment: Instant) -> i64 {
        let tries = self.clearings.get(&(user, peer)).map_or(&[][..], Vec::as_slice);
        let told = tries.iter().filter(|(_, told)| told.is_some_and(|told| told < moment));
        told.map(|(up_to, _)| *up_to).max().unwrap_or_default()
    }

    /// True if the recall was answered with success.
    pub(crate) fn is_recalled(&self, id: &str) -> bool {
        self.recalls.get(id).is_some_and(Option::is_some)
    }

    /// The number of sends that were answered with success.
    pub(crate) fn accepted(&self) -> usize {
        self.sends.values().filter(|send| !send.ids.is_empty()).count()
    }
}

impl Ledger {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock()
    }

    /// Notes an answer that must not happen.
    pub(crate) fn wrong(&self, what: String) {
        self.book().wrong.push(what);
    }
}
