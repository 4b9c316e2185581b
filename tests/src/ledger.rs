//! What callers were told, against what the system holds: the five properties of `protocol.md` as a check.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::client::Answer;
use crate::{Caller, TestApp};

/// Everything that was answered with success.
#[derive(Debug, Default)]
pub struct Ledger {
    sent: Mutex<BTreeMap<String, Sent>>,
    recalled: Mutex<BTreeSet<String>>,
    unsure: Mutex<BTreeSet<String>>,
    requests: AtomicUsize,
    glimpsed: AtomicUsize,
}

#[derive(Debug, Clone)]
struct Sent {
    from: i64,
    to: i64,
    content: String,
}

/// What a check found. `lost`, `doubled` and `resurrected` must be empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Requests that were made.
    pub requests: usize,
    /// Sends that were answered 201.
    pub accepted: usize,
    /// Recalls that were answered 200.
    pub recalled: usize,
    /// How often a page showed a message whose recall had been answered before the page was asked for.
    pub glimpsed: usize,
    /// Accepted, not recalled, and not exactly the row it should be.
    pub lost: Vec<String>,
    /// More than one row with the content of one send.
    pub doubled: Vec<String>,
    /// Recalled, and yet a row with `status` 1 or words, or shown in a history.
    pub resurrected: Vec<String>,
}

impl Ledger {
    /// Sends; notes what was accepted. The id, if it was.
    pub async fn send(&self, caller: &Caller, to: i64, content: &str) -> Option<String> {
        let answer = self.asked(caller.send(to, content)).await;
        match answer.status {
            201 => {
                let id = answer.id();
                let sent = Sent { from: caller.id.get(), to, content: content.to_owned() };
                let before = self.sent.lock().unwrap().insert(id.clone(), sent);
                assert!(before.is_none(), "two sends were given the id {id}");
                Some(id)
            }
            503 => None,
            _ => panic!("a send was answered {answer:?}"),
        }
    }

    /// Recalls; notes it if it was answered 200. A recall that was not may have taken effect or not.
    pub async fn recall(&self, caller: &Caller, id: &str) {
        let answer = self.asked(caller.recall(id)).await;
        match answer.status {
            200 => {
                self.recalled.lock().unwrap().insert(id.to_owned());
            }
            503 => {
                self.unsure.lock().unwrap().insert(id.to_owned());
            }
            _ => panic!("a recall was answered {answer:?}"),
        }
    }

    /// Reads a page, and counts what it shows that had been recalled before it was asked for.
    pub async fn read(&self, caller: &Caller, peer: i64) {
        let recalled = self.recalled.lock().unwrap().clone();
        let answer = self.asked(caller.history(peer, "limit=100")).await;
        if answer.status == 200 {
            let shown: Vec<String> = answer.ids().into_iter().filter(|id| recalled.contains(id)).collect();
            self.glimpsed.fetch_add(shown.len(), Ordering::Relaxed);
        } else {
            assert_eq!(answer.status, 503, "{answer:?}");
        }
    }

    async fn asked(&self, answer: impl Future<Output = Answer>) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        answer.await
    }

    /// Compares the ledger with the rows of MySQL and with what every conversation shows to both of its users.
    pub async fn check(&self, test: &TestApp) -> Verdict {
        let rows: Vec<(i64, String, u8)> =
            sqlx::query_as("SELECT id, content, status FROM message").fetch_all(&test.mysql).await.unwrap();
        let mut by_content: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, content, _) in rows.iter().filter(|row| row.2 == 1) {
            *by_content.entry(content).or_default() += 1;
        }
        let by_id: BTreeMap<String, (&str, u8)> =
            rows.iter().map(|(id, content, status)| (id.to_string(), (content.as_str(), *status))).collect();
        let (sent, recalled) = (self.sent.lock().unwrap().clone(), self.recalled.lock().unwrap().clone());
        let unsure = self.unsure.lock().unwrap().clone();

        let mut verdict = Verdict {
            requests: self.requests.load(Ordering::Relaxed),
            accepted: sent.len(),
            recalled: recalled.len(),
            glimpsed: self.glimpsed.load(Ordering::Relaxed),
            ..Verdict::default()
        };
        let mut shown: BTreeMap<(i64, i64), BTreeSet<String>> = BTreeMap::new();
        for (id, sent) in &sent {
            for pair in [(sent.from, sent.to), (sent.to, sent.from)] {
                if let Entry::Vacant(unread) = shown.entry(pair) {
                    unread.insert(all_of(&test.user(pair.0), pair.1).await);
                }
            }
            let visible = [(sent.from, sent.to), (sent.to, sent.from)]
                .iter()
                .filter(|pair| shown[*pair].contains(id))
                .count();
            match by_id.get(id) {
                _ if recalled.contains(id) => {
                    let row_is_gone =
                        by_id.get(id).is_none_or(|(content, status)| *status == 0 && content.is_empty());
                    if !row_is_gone || visible > 0 {
                        verdict.resurrected.push(id.clone());
                    }
                }
                _ if unsure.contains(id) => {}
                Some((content, 1)) if *content == sent.content && visible == 2 => {}
                _ => verdict.lost.push(id.clone()),
            }
        }
        verdict.doubled = by_content
            .into_iter()
            .filter(|(_, count)| *count > 1)
            .map(|(content, _)| content.to_owned())
            .collect();
        verdict
    }
}

/// The ids of a whole conversation, page by page.
async fn all_of(caller: &Caller, peer: i64) -> BTreeSet<String> {
    let (mut all, mut query) = (BTreeSet::new(), "limit=100".to_owned());
    loop {
        let page = caller.history(peer, &query).await;
        assert_eq!(page.status, 200, "{page:?}");
        for id in page.ids() {
            assert!(all.insert(id.clone()), "{id} is on two pages");
        }
        match page.body["next"].as_str() {
            Some(next) => query = format!("limit=100&before={next}"),
            None => return all,
        }
    }
}
