//! A user of the drill. Each request goes to a random runtime, and into the ledger with its answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hongyan_testkit::{Answer, Caller};
use http::Method;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use crate::ledger::{Ledger, ON_ITS_WAY, Send, Told};
use crate::site::{RUNTIMES, Site};

/// How often a send is tried until it succeeds.
const TRIES: usize = 6;

/// The pause before the second try. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The outcome of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answer(Answer),
    /// The connection was refused or cut, or no answer came in time.
    None,
}

impl Outcome {
    /// The status, if there was an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(answer) => Some(answer.status),
            Self::None => None,
        }
    }
}

/// A user with a token.
#[derive(Clone)]
pub(crate) struct User {
    callers: [Caller; RUNTIMES],
    /// Chooses the runtime of each request.
    choice: Arc<Mutex<StdRng>>,
    pub(crate) ledger: Arc<Ledger>,
    /// How long the user waits for an answer.
    patience: Duration,
}

impl User {
    /// A user whose requests are spread over the runtimes by `seed`.
    pub(crate) fn new(
        site: &Site,
        id: i64,
        ledger: &Arc<Ledger>,
        patience: Duration,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_sub(id.unsigned_abs()));
        let choice = Arc::new(Mutex::new(random));
        Ok(Self { callers: site.callers(id)?, choice, ledger: ledger.clone(), patience })
    }

    /// The same user, once for each runtime.
    pub(crate) fn at_each(&self) -> [Self; RUNTIMES] {
        let pinned = |number: usize| {
            let caller = &self.callers[number];
            Self { callers: [caller.clone(), caller.clone()], ..self.clone() }
        };
        [pinned(0), pinned(1)]
    }

    pub(crate) fn id(&self) -> i64 {
        self.callers[0].id.get()
    }

    /// The caller of a random runtime.
    pub(crate) fn caller(&self) -> &Caller {
        let mut choice = self.choice.lock();
        &self.callers[choice.random_range(0..RUNTIMES)]
    }

    /// Sends a request and notes its outcome.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<String>) -> Outcome {
        self.ledger.book().requests += 1;
        let request = self.caller().try_request(method.clone(), path, body);
        let asked = tokio::time::timeout(self.patience, request).await;
        let outcome = match asked {
            Ok(Ok(answer)) => Outcome::Answer(answer),
            Ok(Err(_)) | Err(_) => Outcome::None,
        };
        match &outcome {
            Outcome::Answer(answer) if answer.status == 503 => {
                self.ledger.book().failed += 1;
                if !answer.headers.contains_key("retry-after") {
                    self.ledger.wrong(format!("{method} {path}: 503 without Retry-After: {}", answer.text));
                }
            }
            Outcome::Answer(_) => {}
            Outcome::None => self.ledger.book().failed += 1,
        }
        outcome
    }

    /// Sends once, with unique content. Returns the id if the message was accepted.
    pub(crate) async fn send(&self, to: i64, content: &str) -> (Outcome, Option<String>) {
        self.send_as(to, content, None).await
    }

    /// Sends with a `clientMsgId` until the message is accepted. Returns the id if the first try succeeded; the id of
    /// a later try may have to give way to the id of an earlier one.
    pub(crate) async fn send_until_accepted(&self, to: i64, content: &str) -> Option<String> {
        // The first words of a long message are unique, as those of a short one are.
        let beginning: Vec<&str> = content.split(' ').take(4).collect();
        let client_msg_id = format!("for {}", beginning.join(" "));
        let mut pause = FIRST_PAUSE;
        for attempt in 0..TRIES {
            if let (_, Some(id)) = self.send_as(to, content, Some(&client_msg_id)).await {
                return (attempt == 0).then_some(id);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        None
    }

    async fn send_as(
        &self,
        to: i64,
        content: &str,
        client_msg_id: Option<&str>,
    ) -> (Outcome, Option<String>) {
        let mut body = json!({"toId": to.to_string(), "content": content, "msgType": 1});
        if let Some(client_msg_id) = client_msg_id {
            body["clientMsgId"] = client_msg_id.into();
        }
        self.ledger
            .book()
            .sends
            .entry(content.to_owned())
            .or_insert_with(|| Send {
                from: self.id(),
                to,
                client_msg_id: client_msg_id.map(str::to_owned),
                tries: 0,
                ids: BTreeSet::new(),
            })
            .tries += 1;
        let outcome = self.ask(Method::POST, "/messages", Some(body.to_string())).await;
        let id = match &outcome {
            Outcome::Answer(answer) if matches!(answer.status, 200 | 201) => {
                answer.body["id"].as_str().map(str::to_owned)
            }
            _ => None,
        };
        match (&outcome, &id) {
            (_, Some(id)) => {
                let mut book = self.ledger.book();
                book.accepted_at.entry(id.clone()).or_insert_with(Instant::now);
                if let Some(send) = book.sends.get_mut(content) {
                    send.ids.insert(id.clone());
                }
            }
            (Outcome::None, _) => {}
            (Outcome::Answer(answer), None) => {
                if answer.status != 503 {
                    let content = in_short(content);
                    self.ledger.wrong(format!("the send of {content:?} was answered {}", told(answer)));
                }
            }
        }
        (outcome, id)
    }

    /// Recalls a message that was accepted at the first try.
    pub(crate) async fn recall(&self, id: &str) -> Outcome {
        self.ledger.book().recalls.insert(id.to_owned(), None);
        let outcome = self.ask(Method::POST, &format!("/messages/{id}/recall"), None).await;
        match &outcome {
            Outcome::Answer(answer) if answer.status == 200 => {
                self.ledger.book().recalls.insert(id.to_owned(), Some(Instant::now()));
            }
            Outcome::Answer(answer) if answer.status == 404 && self.ledger.book().may_be_unknown(id) => {}
            Outcome::Answer(answer) if answer.status != 503 => {
                self.ledger.wrong(format!("the recall of {id} was answered {}", told(answer)));
            }
            _ => {}
        }
        outcome
    }

    /// Deletes, for this user, a message that was accepted at the first try.
    pub(crate) async fn delete(&self, id: &str) {
        let key = (self.id(), id.to_owned());
        self.ledger.book().deletions.entry(key.clone()).or_insert(None);
        match self.ask(Method::DELETE, &format!("/messages/{id}"), None).await {
            Outcome::Answer(answer) if answer.status == 204 => {
                self.ledger.book().deletions.insert(key, Some(Instant::now()));
            }
            Outcome::Answer(answer) => self.check_not_found("delete", id, &answer),
            Outcome::None => {}
        }
    }

    /// Clears, for this user, the conversation up to a message that was accepted at the first try.
    pub(crate) async fn clear(&self, peer: i64, up_to: &str) {
        let number: i64 = up_to.parse().unwrap_or_default();
        let note = |told| {
            self.ledger.book().clearings.entry((self.id(), peer)).or_default().push((number, told));
        };
        note(None);
        let path = format!("/conversations/{peer}/messages?upTo={up_to}");
        match self.ask(Method::DELETE, &path, None).await {
            Outcome::Answer(answer) if answer.status == 204 => note(Some(Instant::now())),
            Outcome::Answer(answer) => self.check_not_found("clearing up to", up_to, &answer),
            Outcome::None => {}
        }
    }

    /// Marks all messages up to `up_to` as read.
    pub(crate) async fn read(&self, peer: i64, up_to: &str) {
        let asked = Instant::now();
        let body = json!({"upTo": up_to}).to_string();
        match self.ask(Method::POST, &format!("/conversations/{peer}/read"), Some(body)).await {
            Outcome::Answer(answer) if answer.status == 200 => {
                let up_to: i64 = up_to.parse().unwrap_or_default();
                let mut book = self.ledger.book();
                book.readings.entry((self.id(), peer)).or_default().push((up_to, asked));
                let position = book.positions.entry((self.id(), peer)).or_default();
                *position = up_to.max(*position);
            }
            Outcome::Answer(answer) => self.check_not_found("reading up to", up_to, &answer),
            Outcome::None => {}
        }
    }

    /// Checks a 404: an accepted message must be found, unless a recall of it has begun.
    fn check_not_found(&self, what: &str, id: &str, answer: &Answer) {
        let book = self.ledger.book();
        let unknown = book.recalls.contains_key(id) || book.may_be_unknown(id);
        drop(book);
        if answer.status != 503 && !(answer.status == 404 && unknown) {
            self.ledger.wrong(format!("{what} {id} was answered {}", told(answer)));
        }
    }

    /// Reads the newest page.
    pub(crate) async fn look(&self, peer: i64, limit: u8) -> Outcome {
        let asked = Instant::now();
        let outcome =
            self.ask(Method::GET, &format!("/conversations/{peer}/messages?limit={limit}"), None).await;
        match &outcome {
            Outcome::Answer(answer) if answer.status == 200 => self.check_page(asked, peer, answer),
            Outcome::Answer(answer) if answer.status != 503 => {
                self.ledger.wrong(format!("a page of {peer} was answered {}", told(answer)));
            }
            _ => {}
        }
        outcome
    }

    /// Checks a page: newest first, each message once, and none that was recalled or deleted before the request.
    fn check_page(&self, asked: Instant, peer: i64, answer: &Answer) {
        let ids: Vec<i64> = answer.ids().iter().filter_map(|id| id.parse().ok()).collect();
        if !ids.is_sorted_by(|newer, older| newer > older) {
            self.ledger.wrong(format!("a page of {} with {peer} is out of order: {ids:?}", self.id()));
        }
        let mut book = self.ledger.book();
        let before = |told: Told| told.is_some_and(|told| told < asked);
        let cleared = book.cleared_before(self.id(), peer, asked);
        book.unhidden += ids.iter().filter(|id| **id <= cleared).count();
        for id in ids.iter().map(ToString::to_string) {
            let recalled = book.recalls.get(&id).copied().flatten();
            book.glimpsed += usize::from(before(recalled));
            book.glimpsed_late += usize::from(recalled.is_some_and(|told| told + ON_ITS_WAY < asked));
            let deleted = book.deletions.get(&(self.id(), id)).copied().flatten();
            book.unhidden += usize::from(before(deleted));
        }
    }

    /// Reads the first page of the list of conversations: each once. Messages that arrive meanwhile may change the order.
    pub(crate) async fn list(&self) {
        let asked = self.ask(Method::GET, "/conversations?limit=5", None).await;
        let Outcome::Answer(answer) = asked else { return };
        match answer.status {
            200 => {
                let talks = answer.body["conversations"].as_array().map_or(&[][..], Vec::as_slice);
                let peers: BTreeSet<&str> = talks.iter().filter_map(|talk| talk["peerId"].as_str()).collect();
                if peers.len() != talks.len() {
                    self.ledger.wrong(format!("the list of {} was {}", self.id(), answer.text));
                }
            }
            503 => {}
            _ => self.ledger.wrong(format!("the list of {} was answered {}", self.id(), told(&answer))),
        }
    }

    /// Reads the unread messages.
    pub(crate) async fn unread(&self) {
        if let Outcome::Answer(answer) = self.ask(Method::GET, "/unread", None).await
            && !matches!(answer.status, 200 | 503)
        {
            self.ledger.wrong(format!(
                "the unread messages of {} were answered {}",
                self.id(),
                told(&answer)
            ));
        }
    }
}

/// The beginning of a content, which is unique even for a long message.
pub(crate) fn in_short(content: &str) -> String {
    const SHORT: usize = 60;
    if content.chars().count() <= SHORT {
        return content.to_owned();
    }
    content.chars().take(SHORT).chain(['…']).collect()
}

fn told(answer: &Answer) -> String {
    format!("{} {}", answer.status, answer.text)
}
