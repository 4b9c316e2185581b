//! Compares the ledger with the stored and shown data: the five properties of the protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::kept::{Kept, Row, details, end_by_themselves};
use crate::ledger::{Book, Send};
use crate::shown::{self, Shown};
use crate::site::Site;
use crate::user::in_short;

/// The most unread ids that the API lists.
const MAX_LISTED: usize = 1_000;

/// The result of a check, with a line for each offence. A clean result is empty.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Accepted messages that were not recalled and are not exactly one row which both users see.
    pub(crate) lost: Vec<String>,
    /// Sends that became more than one row.
    pub(crate) doubled: Vec<String>,
    /// Recalled messages that are still stored or shown.
    pub(crate) resurrected: Vec<String>,
    /// Conversations whose `changes` and pages of history differ.
    pub(crate) diverged: Vec<String>,
    /// Changes that appeared at or below a number after an answer had said that all changes up to it were listed.
    pub(crate) late: Vec<String>,
    /// Histories that are out of order or differ from MySQL, deletions without effect, wrong unread counts.
    pub(crate) other: Vec<String>,
    /// The facts about each message that is in [`Self::other`].
    pub(crate) known: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        self == &Self::default()
    }
}

/// The stored and the shown data at one time, side by side.
struct Look<'a> {
    book: &'a Book,
    kept: Kept,
    /// The data shown by each runtime to each user.
    shown: Vec<BTreeMap<i64, Shown>>,
    /// Messages that are shown and not stored, or stored and not shown.
    mismatched: BTreeSet<i64>,
}

/// Compares once.
pub(crate) async fn check(site: &Site, book: &Book, users: &Range<i64>) -> anyhow::Result<Verdict> {
    let shown = shown::read(site, users).await?;
    // Read the stores after the API, so that every message shown is stored.
    let mut look = Look { book, kept: Kept::read(site, users).await?, shown, mismatched: BTreeSet::new() };
    let recalled: Vec<String> = book.recalls.keys().filter(|id| book.is_recalled(id)).cloned().collect();
    let details_of_recalled = details(site, &recalled).await?;
    // An older state of Redis may hold recalled words. No user is shown them, and their keys expire.
    let may_have_words =
        if book.forgetful { end_by_themselves(site, &recalled).await? } else { BTreeSet::new() };
    let mut verdict = Verdict::default();
    let mut by_content: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in look.kept.rows.values() {
        by_content.entry(&row.content).or_default().push(row);
    }
    for (content, send) in &book.sends {
        let rows = by_content.get(content.as_str()).map_or(&[][..], Vec::as_slice);
        look.check_send(content, send, rows, &mut verdict);
    }
    for (id, detail) in recalled.iter().zip(details_of_recalled) {
        let detail = detail.filter(|_| !may_have_words.contains(id));
        look.check_recall(id, detail, &mut verdict);
    }
    for user in users.clone() {
        look.check_histories(user, &mut verdict);
        look.check_unread(user, &mut verdict);
        look.check_talks(user, &mut verdict);
    }
    look.check_deletions(&mut verdict);
    look.check_positions(&mut verdict);
    look.check_clearings(&mut verdict);
    let details = details(site, &look.mismatched).await?;
    verdict.known = look.mismatched.iter().zip(details).map(|(id, detail)| look.known(*id, detail)).collect();
    Ok(verdict)
}

impl Look<'_> {
    /// Checks the rows with this content: exactly one, which both users see unless they deleted it. At most one if no
    /// answer accepted the message.
    fn check_send(&self, content: &str, send: &Send, rows: &[&Row], verdict: &mut Verdict) {
        let known = || {
            let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
            format!(
                "{:?} from {} to {}, {} tries{}, told {:?}: {}",
                in_short(content),
                send.from,
                send.to,
                send.tries,
                if send.client_msg_id.is_some() { " with a clientMsgId" } else { "" },
                send.ids,
                if rows.is_empty() { "no row".to_owned() } else { rows.join("; ") }
            )
        };
        let perhaps_recalled = send.ids.iter().any(|id| self.book.recalls.contains_key(id));
        if rows.len() > 1 {
            verdict.doubled.push(known());
        }
        let [row] = rows else {
            if rows.is_empty() && !send.ids.is_empty() && !perhaps_recalled {
                verdict.lost.push(known());
            }
            return;
        };
        if perhaps_recalled {
            return;
        }
        let told_so = send.ids.is_empty() || send.tries > 1 || send.ids.contains(&row.id.to_string());
        if !row.is_shown() || (row.from_user_id, row.to_id) != (send.from, send.to) || !told_so {
            verdict.lost.push(known());
            return;
        }
        for (user, peer) in [(send.from, send.to), (send.to, send.from)] {
            let hidden = self.kept.is_hidden(user, row);
            let seen = self.sees(user, peer, row.id);
            if !hidden && !seen {
                verdict.lost.push(format!("{user} does not see {}", known()));
            }
        }
    }

    fn sees(&self, user: i64, peer: i64, id: i64) -> bool {
        self.shown.iter().all(|shown| {
            let back = shown.get(&user).and_then(|shown| shown.back.get(&peer));
            back.is_some_and(|back| back.iter().any(|(it, _)| *it == id))
        })
    }

    /// Checks a recall: no row with words, a tombstone, no words in Redis, and no page that shows the message.
    fn check_recall(&self, id: &str, detail: Option<String>, verdict: &mut Verdict) {
        let number: i64 = id.parse().unwrap_or_default();
        let row = self.kept.rows.get(&number);
        let mut faults = Vec::new();
        if let Some(row) = row.filter(|row| row.status != 0 || !row.content.is_empty()) {
            faults.push(row.to_string());
        }
        if !self.kept.tombstones.contains(&number) {
            faults.push("no tombstone".to_owned());
        }
        if let Some(detail) = detail.filter(|detail| has_words(detail)) {
            faults.push(format!("Redis has {detail}"));
        }
        for (user, shown) in self.shown.iter().flatten() {
            let pages = shown.back.values().chain(shown.on.values());
            if pages.flatten().any(|(it, _)| *it == number) {
                faults.push(format!("{user} sees it"));
            }
        }
        if !faults.is_empty() {
            verdict.resurrected.push(format!("{id}: {}", faults.join(", ")));
        }
    }

    /// Checks the pages of a user in both directions: every row that the user may see, each once, in order, with its
    /// words.
    fn check_histories(&mut self, user: i64, verdict: &mut Verdict) {
        let mismatched = &mut self.mismatched;
        let by_runtime = self.shown.iter().enumerate();
        let histories = by_runtime.filter_map(|(number, shown)| Some((number, shown.get(&user)?)));
        let histories = histories.flat_map(|(number, shown)| {
            shown.back.iter().map(move |(peer, back)| (number, shown, peer, back))
        });
        for (runtime, shown, peer, back) in histories {
            let mut expected: Vec<(i64, String)> =
                self.kept.history(user, *peer).into_iter().map(|row| (row.id, row.content.clone())).collect();
            let on = shown.on.get(peer).cloned().unwrap_or_default();
            let mut compare = |pages: &[(i64, String)], expected: &[(i64, String)], how: &str| {
                if pages != expected {
                    let ids = |of: &[(i64, String)]| of.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>();
                    let (has, should) = (ids(pages), ids(expected));
                    mismatched.extend(has.symmetric_difference(&should));
                    verdict.other.push(format!(
                        "{user} with {peer} at runtime {}, {how}: {} messages where MySQL has {}; only shown {:?}, only kept {:?}{}",
                        runtime + 1,
                        pages.len(),
                        expected.len(),
                        has.difference(&should).collect::<Vec<_>>(),
                        should.difference(&has).collect::<Vec<_>>(),
                        if has == should { "; out of order, twice, or with other words" } else { "" }
                    ));
                }
            };
            compare(&on, &expected, "oldest first");
            expected.reverse();
            compare(back, &expected, "newest first");
        }
    }

    /// Checks that the rows above the read position are unread. A message that came late, below the position, may be
    /// unread or not.
    fn check_unread(&mut self, user: i64, verdict: &mut Verdict) {
        for (runtime, shown) in self.shown.iter().enumerate() {
            let Some(shown) = shown.get(&user) else { continue };
            let listed: BTreeSet<i64> = shown.unread.1.iter().copied().collect();
            let mut expected = self.kept.unread(user);
            expected.extend(listed.iter().filter(|id| self.is_unread_if_listed(user, **id)));
            let newest: Vec<i64> = expected.iter().rev().take(MAX_LISTED).copied().collect();
            if shown.unread == (expected.len() as u64, newest) {
                continue;
            }
            self.mismatched.extend(listed.symmetric_difference(&expected));
            verdict.other.push(format!(
                "{user} has {} unread at runtime {} where MySQL has {}; only listed {:?}, only kept {:?}",
                shown.unread.0,
                runtime + 1,
                expected.len(),
                listed.difference(&expected).collect::<Vec<_>>(),
                expected.difference(&listed).collect::<Vec<_>>()
            ));
        }
    }

    /// Checks the list of conversations: each conversation with a row, the newest first, with its last message, unread count
    /// and read positions.
    fn check_talks(&self, user: i64, verdict: &mut Verdict) {
        let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
        let mut last: BTreeMap<i64, (i64, bool)> = BTreeMap::new();
        for row in self.kept.rows.values() {
            let peer = match (row.from_user_id == user, row.to_id == user) {
                (true, _) => row.to_id,
                (_, true) => row.from_user_id,
                _ => continue,
            };
            // Rows come in the order of their ids, so the newest one stays.
            newest.insert(peer, row.id);
            if !self.kept.is_hidden(user, row) {
                last.insert(peer, (row.id, row.is_shown()));
            }
        }
        let mut expected: Vec<(i64, Option<(i64, bool)>)> =
            newest.keys().map(|peer| (*peer, last.get(peer).copied())).collect();
        expected.sort_by_key(|(peer, _)| std::cmp::Reverse(newest[peer]));

        for (runtime, shown) in self.shown.iter().enumerate() {
            let Some(shown) = shown.get(&user) else { continue };
            let place = format!("the list of {user} at runtime {}", runtime + 1);
            let listed: Vec<(i64, Option<(i64, bool)>)> =
                shown.talks.iter().map(|talk| (talk.peer, talk.last)).collect();
            if listed != expected {
                verdict.other.push(format!(
                    "{place} has the peers and last messages {listed:?} where MySQL has {expected:?}"
                ));
            }
            for talk in &shown.talks {
                let positions = (self.kept.position(user, talk.peer), self.kept.position(talk.peer, user));
                if (talk.read, talk.peer_read) != positions {
                    verdict
                        .other
                        .push(format!("{place}: {talk:?} where MySQL has the positions {positions:?}"));
                }
                let (fewest, most) = self.unread_of(user, talk.peer);
                if !(fewest..=most).contains(&talk.unread) {
                    verdict.other.push(format!(
                        "{place}: {talk:?} where MySQL has {fewest} to {most} unread messages"
                    ));
                }
            }
            let sum: u64 = shown.talks.iter().map(|talk| talk.unread).sum();
            if sum != shown.unread.0 {
                verdict
                    .other
                    .push(format!("{place} has {sum} unread messages, and {} in all", shown.unread.0));
            }
        }
    }

    /// How many messages of `peer` the user has not read: at least, and with those that came late.
    fn unread_of(&self, user: i64, peer: i64) -> (u64, u64) {
        let is_of_peer = |id: &&i64| self.kept.rows.get(*id).is_some_and(|row| row.from_user_id == peer);
        let unread = self.kept.unread(user);
        let least = unread.iter().filter(is_of_peer).count();
        let late = self
            .kept
            .rows
            .keys()
            .filter(is_of_peer)
            .filter(|id| !unread.contains(*id) && self.is_unread_if_listed(user, **id));
        (least as u64, (least + late.count()) as u64)
    }

    /// True if this message came late, below the receiver's read position, and so counts as unread only if it is
    /// listed.
    fn is_unread_if_listed(&self, user: i64, id: i64) -> bool {
        let row = self.kept.rows.get(&id).filter(|row| row.is_shown() && row.to_id == user);
        row.is_some_and(|row| {
            !self.kept.is_hidden(user, row) && self.book.was_late(user, row.from_user_id, id)
        })
    }

    /// Checks that answered deletions are stored, and no others. [`Self::check_send`] checks that the other user
    /// still sees the message.
    fn check_deletions(&self, verdict: &mut Verdict) {
        for ((user, id), told) in &self.book.deletions {
            let number = id.parse().unwrap_or_default();
            if told.is_some() && !self.kept.deleted.contains(&(*user, number)) {
                verdict.other.push(format!("{user} deleted {id}, and MySQL does not know"));
            }
        }
        for (user, id) in &self.kept.deleted {
            if !self.book.deletions.contains_key(&(*user, id.to_string())) {
                verdict.other.push(format!("{user} did not delete {id}, and MySQL says so"));
            }
        }
    }

    /// The facts about a message in the ledger, MySQL and Redis.
    fn known(&self, id: i64, detail: Option<String>) -> String {
        let text = id.to_string();
        let sent = self.book.sends.iter().find(|(_, send)| send.ids.contains(&text));
        let sent = sent.map_or_else(
            || "no answer told it".to_owned(),
            |(content, send)| format!("{:?}, {} tries, told {:?}", in_short(content), send.tries, send.ids),
        );
        let recall = match self.book.recalls.get(&text) {
            None => "not recalled",
            Some(None) => "a recall without success",
            Some(Some(_)) => "recalled",
        };
        let row = self.kept.rows.get(&id).map_or_else(|| "no row".to_owned(), ToString::to_string);
        let tombstone = if self.kept.tombstones.contains(&id) { "a tombstone" } else { "no tombstone" };
        let deleted: Vec<i64> =
            self.kept.deleted.iter().filter(|(_, it)| *it == id).map(|(user, _)| *user).collect();
        let detail = detail.unwrap_or_else(|| "nothing".to_owned());
        format!("{id}: {sent}; {recall}; {row}; {tombstone}; deleted by {deleted:?}; Redis has {detail}")
    }

    /// Checks that answered clearings are stored, and no others.
    fn check_clearings(&self, verdict: &mut Verdict) {
        for ((user, peer), tries) in &self.book.clearings {
            let kept = self.kept.cleared(*user, *peer);
            let told = tries.iter().filter(|(_, told)| told.is_some()).map(|(up_to, _)| *up_to).max();
            let told = told.unwrap_or_default();
            if kept < told || (kept > 0 && tries.iter().all(|(up_to, _)| *up_to != kept)) {
                verdict.other.push(format!("{user} cleared {peer} up to {told}, and MySQL says {kept}"));
            }
        }
        let tried: usize = self.book.clearings.len();
        let kept = self.kept.clearings.values().filter(|up_to| **up_to > 0).count();
        if kept > tried {
            verdict.other.push(format!("{kept} conversations are cleared, and {tried} were to be"));
        }
    }

    fn check_positions(&self, verdict: &mut Verdict) {
        for ((user, peer), told) in &self.book.positions {
            let kept = self.kept.position(*user, *peer);
            if kept < *told {
                verdict.other.push(format!("{user} has read {peer} up to {told}, and MySQL says {kept}"));
            }
        }
    }
}

/// True if a detail of Redis contains the text of a message.
fn has_words(detail: &str) -> bool {
    let detail: serde_json::Value = serde_json::from_str(detail).unwrap_or_default();
    detail["content"].as_str().is_some_and(|content| !content.is_empty())
}
