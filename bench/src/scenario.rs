//! What is asked, request by request.

use std::collections::VecDeque;

use http::Method;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::Value;

use crate::options::Scenario;
use crate::pool::{Answer, Call, Pool};
use crate::users::{User, Users};

/// How many messages of each conversation are there to be read: more than one page.
const HISTORY: usize = 30;
/// How many writes of the history are under way at a time.
const WRITERS: usize = 32;
/// How many of the newest messages may be recalled or marked as read.
const REMEMBERED: usize = 1_000;
const CONTENT: &str = "The goose carries the letter home, wherever home may be tonight.";

/// What a request does.
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

/// A message that was accepted.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) sender: String,
    pub(crate) receiver: String,
    from: i64,
    pub(crate) to: i64,
}

/// A request that is due.
pub(crate) struct Next {
    pub(crate) kind: Kind,
    pub(crate) call: Call,
    /// Of a send: whose it is.
    between: Option<Sent>,
}

/// What the users say to each other.
pub(crate) struct Talk {
    scenario: Scenario,
    users: Users,
    recent: Mutex<VecDeque<Sent>>,
}

impl Talk {
    pub(crate) fn new(scenario: Scenario, users: Users) -> Self {
        Self { scenario, users, recent: Mutex::default() }
    }

    pub(crate) fn history_size(&self) -> usize {
        self.users.pairs() * HISTORY
    }

    /// Gives each conversation something to read.
    pub(crate) async fn write_history(
        self: &std::sync::Arc<Self>,
        pool: &std::sync::Arc<Pool>,
    ) -> anyhow::Result<()> {
        let places = std::sync::Arc::new(tokio::sync::Semaphore::new(WRITERS));
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..self.history_size() {
            let place = places.clone().acquire_owned().await?;
            let (from, to) = self.users.pair(number % self.users.pairs(), number % 2 == 0);
            let (next, pool) = (send(from, to), pool.clone());
            writers.spawn(async move {
                let (_, answer) = pool.call(next.call).await;
                drop(place);
                answer
            });
        }
        while let Some(answer) = writers.join_next().await {
            match answer? {
                Ok(Answer { status: 201, .. }) => {}
                Ok(answer) => anyhow::bail!(
                    "the history cannot be written: {} {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                ),
                Err(error) => anyhow::bail!("the history cannot be written: {error}"),
            }
        }
        Ok(())
    }

    /// The request of turn `number`.
    pub(crate) fn next(&self, number: u64) -> Next {
        let kind = match (self.scenario, number % 20) {
            (Scenario::Send, _) | (Scenario::Mixed, 0..10) => Kind::Send,
            (Scenario::Query, _) | (Scenario::Mixed, 10..18) => Kind::Query,
            (Scenario::Mixed, 18) => Kind::Read,
            (Scenario::Mixed, _) => Kind::Recall,
        };
        match kind {
            Kind::Send => self.send(),
            Kind::Query => {
                let (caller, peer) = self.users.any();
                let path = format!("/conversations/{}/messages?limit=20", peer.id);
                Next::new(kind, Method::GET, path, caller.authorization.clone(), String::new())
            }
            // Where nothing was sent yet there is nothing to recall or to have read.
            Kind::Read => self.recent(false).map_or_else(
                || self.send(),
                |sent| {
                    let path = format!("/conversations/{}/read", sent.from);
                    Next::new(kind, Method::POST, path, sent.receiver, format!(r#"{{"upTo":"{}"}}"#, sent.id))
                },
            ),
            Kind::Recall => self.recent(true).map_or_else(
                || self.send(),
                |sent| {
                    let path = format!("/messages/{}/recall", sent.id);
                    Next::new(kind, Method::POST, path, sent.sender, String::new())
                },
            ),
        }
    }

    /// Takes note of what a send was answered; `None` unless it was accepted.
    pub(crate) fn accepted(next: Option<Sent>, answer: &Answer) -> Option<Sent> {
        let body: Value = (answer.status == 201).then(|| serde_json::from_slice(&answer.body).ok())??;
        Some(Sent { id: body["id"].as_str()?.to_owned(), ..next? })
    }

    /// Keeps a message in mind, to be read and recalled.
    pub(crate) fn remember(&self, sent: Sent) {
        if self.scenario == Scenario::Mixed {
            let mut recent = self.recent.lock();
            recent.push_back(sent);
            if recent.len() > REMEMBERED {
                recent.pop_front();
            }
        }
    }

    /// A message that was sent lately; `once`: and never again.
    fn recent(&self, once: bool) -> Option<Sent> {
        let mut recent = self.recent.lock();
        if recent.is_empty() {
            return None;
        }
        let any = rand::rng().random_range(0..recent.len());
        if once { recent.remove(any) } else { recent.get(any).cloned() }
    }

    fn send(&self) -> Next {
        let (from, to) = self.users.any();
        send(from, to)
    }
}

impl Next {
    fn new(kind: Kind, method: Method, path: String, authorization: String, body: String) -> Self {
        Self { kind, call: Call { method, path, authorization, body }, between: None }
    }

    /// The request, and between whom it is a message.
    pub(crate) fn apart(self) -> (Call, Option<Sent>) {
        (self.call, self.between)
    }
}

fn send(from: &User, to: &User) -> Next {
    let body = format!(r#"{{"toId":"{}","content":"{CONTENT}","msgType":1}}"#, to.id);
    let between = Sent {
        id: String::new(),
        sender: from.authorization.clone(),
        receiver: to.authorization.clone(),
        from: from.id,
        to: to.id,
    };
    let next = Next::new(Kind::Send, Method::POST, "/messages".to_owned(), from.authorization.clone(), body);
    Next { between: Some(between), ..next }
}
