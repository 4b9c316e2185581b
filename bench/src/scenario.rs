//! Chooses the requests of a load.

use std::collections::VecDeque;

use parking_lot::Mutex;
use rand::Rng as _;

use crate::content::Contents;
use crate::options::Scenario;
use crate::users::{Turn, Users};
use crate::wire::write_request;

/// The number of messages written to each conversation before the load: more than one page.
const HISTORY: usize = 30;
/// The number of newest messages kept for recalling and marking as read.
const REMEMBERED: usize = 1_000;

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Send,
    Query,
    Read,
    Recall,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Query => "query",
            Self::Read => "read",
            Self::Recall => "recall",
        }
    }
}

/// An accepted message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) id: i64,
    pub(crate) turn: Turn,
}

/// Chooses the requests, and remembers the sent messages.
pub(crate) struct Talk {
    scenario: Scenario,
    users: Users,
    contents: Contents,
    host: String,
    recent: Mutex<VecDeque<Sent>>,
}

impl Talk {
    pub(crate) fn new(scenario: Scenario, users: Users, host: String) -> Self {
        Self { scenario, users, contents: Contents::new(), host, recent: Mutex::default() }
    }

    pub(crate) fn users(&self) -> &Users {
        &self.users
    }

    /// The number of messages that give each conversation a history.
    pub(crate) fn history_size(&self) -> u64 {
        (self.users.pairs() * HISTORY) as u64
    }

    /// Writes the bytes of message `number` of the history.
    pub(crate) fn write_history(&self, number: u64, out: &mut Vec<u8>) -> (Kind, Option<Turn>) {
        let number = usize::try_from(number).unwrap_or_default();
        let (pair, round) = (number % self.users.pairs(), number / self.users.pairs());
        let turn = Turn { pair, turned: round.is_multiple_of(2) };
        self.write_send(turn, self.contents.number(number), out)
    }

    /// Writes the bytes of the request with this number, and returns its kind, and the users of a send.
    pub(crate) fn write(&self, number: u64, out: &mut Vec<u8>) -> (Kind, Option<Turn>) {
        let kind = match (self.scenario, number % 20) {
            (Scenario::Send, _) | (Scenario::Mixed, 0..10) => Kind::Send,
            (Scenario::Query, _) | (Scenario::Mixed, 10..18) => Kind::Query,
            (Scenario::Mixed, 18) => Kind::Read,
            (Scenario::Mixed, _) => Kind::Recall,
        };
        match kind {
            Kind::Send => {}
            Kind::Query => {
                let (caller, peer) = self.users.of(self.users.any());
                let path = format!("/conversations/{}/messages?limit=20", peer.id);
                write_request(out, &self.host, &caller.authorization, "GET", &path, "");
                return (kind, None);
            }
            // Before the first send there is nothing to mark as read or to recall: a message is sent instead.
            Kind::Read => {
                if let Some(sent) = self.recent(false) {
                    let (sender, receiver) = self.users.of(sent.turn);
                    let path = format!("/conversations/{}/read", sender.id);
                    let body = format!(r#"{{"upTo":"{}"}}"#, sent.id);
                    write_request(out, &self.host, &receiver.authorization, "POST", &path, &body);
                    return (kind, None);
                }
            }
            Kind::Recall => {
                if let Some(sent) = self.recent(true) {
                    let (sender, _) = self.users.of(sent.turn);
                    let path = format!("/messages/{}/recall", sent.id);
                    write_request(out, &self.host, &sender.authorization, "POST", &path, "");
                    return (kind, None);
                }
            }
        }
        self.write_send(self.users.any(), self.contents.any(), out)
    }

    fn write_send(&self, turn: Turn, content: &str, out: &mut Vec<u8>) -> (Kind, Option<Turn>) {
        let (from, to) = self.users.of(turn);
        let body = format!(r#"{{"toId":"{}","content":"{content}","msgType":1}}"#, to.id);
        write_request(out, &self.host, &from.authorization, "POST", "/messages", &body);
        (Kind::Send, Some(turn))
    }

    /// Remembers a message, to be marked as read or recalled.
    pub(crate) fn remember(&self, sent: Sent) {
        if self.scenario == Scenario::Mixed {
            let mut recent = self.recent.lock();
            recent.push_back(sent);
            if recent.len() > REMEMBERED {
                recent.pop_front();
            }
        }
    }

    /// A message that was sent recently. With `once`, the message is not returned again.
    fn recent(&self, once: bool) -> Option<Sent> {
        let mut recent = self.recent.lock();
        if recent.is_empty() {
            return None;
        }
        let any = rand::rng().random_range(0..recent.len());
        if once { recent.remove(any) } else { recent.get(any).copied() }
    }
}
