//! Clients that keep a copy of conversations, fed by `GET /conversations/{peerId}/changes` and by pushes, like real
//! clients. In the end a copy must equal the pages of history.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hongyan_testkit::{Answer, Caller};
use http::Method;
use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};

use crate::check::Verdict;
use crate::ledger::Book;
use crate::shown;
use crate::site::Site;
use crate::user::{Outcome, User};

/// How often a client asks for changes.
const EVERY: Duration = Duration::from_millis(300);

/// How long a client waits for its WebSocket to open.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// The number of changes in one page.
const LIMIT: usize = 200;

/// How long it may take after settling until all changes are answered and agree with the history.
const SETTLED_LIMIT: Duration = Duration::from_secs(20);

const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// One change of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    seq: u64,
    effect: Effect,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Effect {
    /// `words` is `None` if the message was recalled.
    Message {
        id: i64,
        words: Option<String>,
    },
    Recalled {
        id: i64,
    },
    Deleted {
        id: i64,
    },
    Read {
        user: i64,
        up_to: i64,
    },
    Cleared {
        up_to: i64,
    },
    /// A kind that this client does not know. Clients of older versions must expect that.
    Unknown,
}

impl Effect {
    /// The message that the change removes from view.
    fn takes_away(&self) -> Option<i64> {
        match self {
            Self::Message { id, words: None } | Self::Recalled { id } | Self::Deleted { id } => Some(*id),
            _ => None,
        }
    }
}

/// One answer: all changes above `after`, up to and including `up_to`, at the time of the answer.
#[derive(Debug, Clone)]
struct Page {
    after: u64,
    up_to: u64,
    changes: Vec<Change>,
    /// There are changes above `up_to`.
    more: bool,
}

/// An answer to a request for changes.
#[derive(Debug, Clone)]
enum Told {
    Page(Page),
    /// The conversation's highest number is below the client's: MySQL's process died and lost changes that it had shown.
    StartAnew,
}

impl Page {
    fn of(answer: &Answer, after: u64) -> anyhow::Result<Told> {
        let changes = answer.body["changes"].as_array().context("no changes")?;
        let changes: Vec<Change> = changes.iter().map(change_of).collect::<anyhow::Result<_>>()?;
        let last = answer.body["lastSeq"].as_u64().context("no lastSeq")?;
        let next = match &answer.body["next"] {
            Value::Null => None,
            next => Some(next.as_u64().with_context(|| format!("next is {next}"))?),
        };
        if last < after && next.is_none() && changes.is_empty() {
            return Ok(Told::StartAnew);
        }
        let up_to = next.unwrap_or(last);
        if up_to < after || next.is_some_and(|next| next == after) {
            bail!("after {after} comes next {next:?}, lastSeq {last}");
        }
        let numbers: Vec<u64> = changes.iter().map(|change| change.seq).collect();
        if !numbers.is_sorted() || numbers.iter().any(|seq| *seq <= after || *seq > up_to) {
            bail!("after {after} up to {up_to} come {numbers:?}");
        }
        Ok(Told::Page(Self { after, up_to, changes, more: next.is_some() }))
    }

    /// True if the page may omit `change`, because another change on the page makes it void: for a read position, a
    /// later position of the same user.
    fn makes_idle(&self, change: &Change) -> bool {
        match &change.effect {
            Effect::Unknown => true,
            Effect::Read { user, .. } => self.changes.iter().any(|later| {
                later.seq > change.seq
                    && matches!(later.effect, Effect::Read { user: reader, .. } if reader == *user)
            }),
            Effect::Cleared { .. } => self
                .changes
                .iter()
                .any(|later| later.seq > change.seq && matches!(later.effect, Effect::Cleared { .. })),
            Effect::Message { id, .. } | Effect::Recalled { id } | Effect::Deleted { id } => {
                // A recalled message may already be shown as recalled at its own place, before its recall.
                self.changes.iter().any(|other| other.effect.takes_away() == Some(*id))
            }
        }
    }
}

fn change_of(change: &Value) -> anyhow::Result<Change> {
    let seq = change["seq"].as_u64().with_context(|| format!("no seq in {change}"))?;
    Ok(Change { seq, effect: effect_of(change)? })
}

/// The effect of a change, or of a push, which has the same fields.
fn effect_of(change: &Value) -> anyhow::Result<Effect> {
    let id = |value: &Value| value.as_str().and_then(|id| id.parse().ok()).context("no id");
    Ok(match change["type"].as_str().unwrap_or_default() {
        "MESSAGE" => message_of(&change["data"])?,
        "MESSAGE_RECALLED" => Effect::Recalled { id: id(&change["messageId"])? },
        "MESSAGE_DELETED" => Effect::Deleted { id: id(&change["messageId"])? },
        "CONVERSATION_CLEARED" => Effect::Cleared { up_to: id(&change["upTo"])? },
        "READ" => Effect::Read { user: id(&change["userId"])?, up_to: id(&change["upTo"])? },
        _ => Effect::Unknown,
    })
}

fn message_of(data: &Value) -> anyhow::Result<Effect> {
    let id =
        data["id"].as_str().and_then(|id| id.parse().ok()).with_context(|| format!("no id in {data}"))?;
    let words = data["content"].as_str().unwrap_or_default().to_owned();
    Ok(Effect::Message { id, words: (data["status"] == 1).then_some(words) })
}

/// A client's copy of one conversation.
#[derive(Debug, Default, Clone)]
struct View {
    messages: BTreeMap<i64, String>,
    /// Messages that changes have listed. The other messages are known only from pushes.
    confirmed: BTreeSet<i64>,
    /// Recalled or deleted messages. A late push must not bring them back.
    gone: BTreeSet<i64>,
    /// The read position of each of the two users.
    read: BTreeMap<i64, i64>,
    /// The user has cleared the conversation up to this message. A late push must not bring one of those back.
    cleared: i64,
}

impl View {
    fn apply(&mut self, effect: &Effect) {
        if let Some(id) = effect.takes_away() {
            self.messages.remove(&id);
            self.gone.insert(id);
        }
        match effect {
            Effect::Message { id, words: Some(words) } if !self.gone.contains(id) && *id > self.cleared => {
                self.messages.insert(*id, words.clone());
            }
            Effect::Read { user, up_to } => {
                let read = self.read.entry(*user).or_default();
                *read = (*read).max(*up_to);
            }
            Effect::Cleared { up_to } => {
                self.cleared = self.cleared.max(*up_to);
                self.messages.retain(|id, _| *id > *up_to);
            }
            _ => {}
        }
    }

    fn apply_change(&mut self, effect: &Effect) {
        if let Effect::Message { id, .. } = effect {
            self.confirmed.insert(*id);
        }
        self.apply(effect);
    }

    /// Applies a push to `conversation`. Pushes of other conversations are ignored.
    fn apply_push(&mut self, push: &Value, conversation: &str) {
        let of = if push["type"] == "MESSAGE" { &push["data"] } else { push };
        if of["conversationId"] != conversation {
            return;
        }
        if let Ok(effect) = effect_of(push) {
            self.apply(&effect);
        }
    }
}

/// A client that follows one conversation.
struct Follower {
    user: User,
    peer: i64,
    view: View,
    /// All changes up to this number are in the copy.
    cursor: u64,
    pages: Vec<Page>,
    /// How often the client read the conversation anew, because MySQL had lost numbers that it had shown.
    started_anew: u32,
    wrong: Vec<String>,
}

impl Follower {
    fn new(user: &User, peer: i64) -> Self {
        let (view, pages, wrong) = (View::default(), Vec::new(), Vec::new());
        Self { user: user.clone(), peer, view, cursor: 0, pages, started_anew: 0, wrong }
    }

    fn name(&self) -> String {
        format!("{} with {}", self.user.id(), self.peer)
    }

    /// Asks for changes above the cursor until there are none. False if a request was not answered.
    async fn catch_up(&mut self) -> bool {
        loop {
            let page = match ask(&self.user, self.peer, self.cursor).await {
                Ok(Some(Told::Page(page))) => page,
                Ok(Some(Told::StartAnew)) => {
                    self.started_anew += 1;
                    self.view = View::default();
                    self.cursor = 0;
                    continue;
                }
                Ok(None) => return false,
                Err(error) => {
                    self.wrong.push(format!("{}: {error:#}", self.name()));
                    return false;
                }
            };
            for change in &page.changes {
                self.view.apply_change(&change.effect);
            }
            self.cursor = page.up_to;
            let more = page.more;
            // An empty page proves nothing, and a client asks for many.
            if page.up_to > page.after {
                self.pages.push(page);
            }
            if !more {
                return true;
            }
        }
    }

    /// Follows the conversation until `stop`.
    async fn follow(mut self, stop: Arc<AtomicBool>) -> Self {
        let (user, peer) = (self.user.id(), self.peer);
        let conversation = format!("{}_{}", user.min(peer), user.max(peer));
        while !stop.load(Ordering::Relaxed) {
            let connecting = self.user.caller().clone();
            let connected = tokio::time::timeout(CONNECT_LIMIT, connecting.connect_if_answered()).await;
            let mut socket = connected.ok().flatten();
            // The changes contain all messages that were pushed before the WebSocket was open.
            self.catch_up().await;
            let mut ask_again = tokio::time::interval(EVERY);
            while let (Some(open), false) = (&mut socket, stop.load(Ordering::Relaxed)) {
                tokio::select! {
                    push = open.next() => match push {
                        Some(push) => self.view.apply_push(&push, &conversation),
                        None => socket = None,
                    },
                    _ = ask_again.tick() => drop(self.catch_up().await),
                }
            }
            if socket.is_none() {
                tokio::time::sleep(EVERY).await;
            }
        }
        self
    }

    /// After settling: catches up, and compares the copy with the history and with all changes read again.
    async fn compare(mut self, caller: &Caller, book: &Book, verdict: &mut Verdict) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut caught_up = false;
        let mut differs = "its changes are not answered".to_owned();
        while start.elapsed() < SETTLED_LIMIT {
            caught_up = self.catch_up().await;
            if caught_up {
                let history = shown::history(caller, self.peer).await?;
                let difference = self.differs_from(&history.into_iter().collect(), book);
                let Some(difference) = difference else {
                    differs.clear();
                    break;
                };
                differs = difference;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        verdict.other.extend(std::mem::take(&mut self.wrong));
        if self.started_anew > 0 && !book.mysql_died {
            verdict.other.push(format!("{}: numbers were taken back while MySQL lived", self.name()));
        }
        if !differs.is_empty() {
            verdict.diverged.push(format!("{}: {differs}", self.name()));
        }
        if caught_up {
            self.check_late(verdict).await?;
        }
        Ok(())
    }

    /// The first difference between the copy and the history, or the read positions in the users' answers.
    fn differs_from(&self, history: &BTreeMap<i64, String>, book: &Book) -> Option<String> {
        let mut messages = self.view.messages.clone();
        // A second message of one `clientMsgId` gives way to the first. A client that was pushed the second one
        // learns that only from the history.
        messages.retain(|id, words| {
            let retried = book.sends.get(words).is_some_and(|send| send.tries > 1);
            self.view.confirmed.contains(id) || history.contains_key(id) || !retried
        });
        if &messages != history {
            let extra: Vec<&i64> = messages.keys().filter(|id| !history.contains_key(id)).collect();
            let missing: Vec<&i64> = history.keys().filter(|id| !messages.contains_key(id)).collect();
            let pushed: Vec<&&i64> = extra.iter().filter(|id| !self.view.confirmed.contains(**id)).collect();
            return Some(format!(
                "the client has {} messages where history has {}; only the client {extra:?} (of them by a push alone \
                 {pushed:?}), only history {missing:?}, gone for the client {:?}",
                messages.len(),
                history.len(),
                missing.iter().filter(|id| self.view.gone.contains(**id)).collect::<Vec<_>>()
            ));
        }
        let (user, peer) = (self.user.id(), self.peer);
        let cleared = book.cleared_before(user, peer, Instant::now());
        if self.view.cleared < cleared {
            return Some(format!(
                "{user} has cleared up to {cleared}, and the client knows {}",
                self.view.cleared
            ));
        }
        for (reader, other) in [(user, peer), (peer, user)] {
            let told = book.positions.get(&(reader, other)).copied().unwrap_or_default();
            let read = self.view.read.get(&reader).copied().unwrap_or_default();
            if read < told {
                return Some(format!("{reader} has read up to {told}, and the client knows {read}"));
            }
        }
        None
    }

    /// Looks for late changes: an answer said that the client has all changes up to a `seq`, and afterwards a change
    /// at or below that `seq` appeared.
    async fn check_late(&self, verdict: &mut Verdict) -> anyhow::Result<()> {
        let mut again = Self::new(&self.user, self.peer);
        let start = Instant::now();
        while !again.catch_up().await {
            anyhow::ensure!(start.elapsed() < SETTLED_LIMIT, "{}: its changes are not answered", self.name());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let all: Vec<&Change> = again.pages.iter().flat_map(|page| &page.changes).collect();
        for page in &self.pages {
            for change in all.iter().filter(|change| change.seq > page.after && change.seq <= page.up_to) {
                let told = page.changes.iter().any(|told| told.seq == change.seq);
                if !told && !page.makes_idle(change) {
                    verdict.late.push(format!(
                        "{}: {change:?} was not told when all above {} up to {} were asked for",
                        self.name(),
                        page.after,
                        page.up_to
                    ));
                }
            }
        }
        Ok(())
    }
}

/// One page of changes; `None` if the request was not answered with success.
async fn ask(user: &User, peer: i64, after: u64) -> anyhow::Result<Option<Told>> {
    let path = format!("/conversations/{peer}/changes?after={after}&limit={LIMIT}");
    match user.ask(Method::GET, &path, None).await {
        Outcome::Answer(answer) if answer.status == 200 => Page::of(&answer, after).map(Some),
        Outcome::Answer(answer) if answer.status == 503 => Ok(None),
        Outcome::Answer(answer) => bail!("changes were answered {} {}", answer.status, answer.text),
        Outcome::None => Ok(None),
    }
}

/// The clients that follow conversations during a round.
pub(crate) struct Followers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Follower>>,
}

impl Followers {
    /// Starts a client for each of these conversations: a user and their peer.
    pub(crate) fn begin<'a>(users: impl IntoIterator<Item = (&'a User, i64)>) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let followers = users.into_iter().map(|(user, peer)| Follower::new(user, peer));
        let tasks = followers.map(|follower| tokio::spawn(follower.follow(stop.clone()))).collect();
        Self { stop, tasks }
    }

    /// Stops following and compares. Also compares for clients of every conversation that were away all the time.
    pub(crate) async fn compare(
        mut self,
        site: &Site,
        users: &[User],
        range: &Range<i64>,
        book: &Book,
        verdict: &mut Verdict,
    ) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            let follower = task.await?;
            let [caller, ..] = site.callers(follower.user.id())?;
            follower.compare(&caller, book, verdict).await?;
        }
        let mut comparing = JoinSet::new();
        for user in users {
            let ([.., caller], user, range) = (site.callers(user.id())?, user.clone(), range.clone());
            let book = book.clone();
            comparing.spawn(async move {
                let mut verdict = Verdict::default();
                for peer in range.filter(|peer| *peer != user.id()) {
                    if !shown::history(&caller, peer).await?.is_empty() {
                        Follower::new(&user, peer).compare(&caller, &book, &mut verdict).await?;
                    }
                }
                anyhow::Ok(verdict)
            });
        }
        while let Some(compared) = comparing.join_next().await {
            let Verdict { diverged, late, other, .. } = compared??;
            verdict.diverged.extend(diverged);
            verdict.late.extend(late);
            verdict.other.extend(other);
        }
        Ok(())
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;

    fn answer(body: Value) -> Answer {
        Answer { status: 200, headers: HeaderMap::new(), text: body.to_string(), body }
    }

    fn message(seq: u64, id: &str, status: u8) -> Value {
        let content = if status == 1 { "words" } else { "" };
        let data = json!({"id": id, "conversationId": "1_2", "content": content, "status": status});
        json!({"seq": seq, "type": "MESSAGE", "data": data})
    }

    fn view_of(changes: &[Change]) -> View {
        let mut view = View::default();
        for change in changes {
            view.apply_change(&change.effect);
        }
        view
    }

    fn page(answer: &Answer, after: u64) -> Page {
        match Page::of(answer, after) {
            Ok(Told::Page(page)) => page,
            other => panic!("no page: {other:?}"),
        }
    }

    #[test]
    fn a_page_reaches_to_next_or_to_the_last_number() {
        let changes = json!([message(4, "7", 1), {"seq": 6, "type": "READ", "userId": "2", "upTo": "7"}]);
        let more = json!({"changes": changes, "next": 6, "lastSeq": 90});
        let all = json!({"changes": changes, "next": null, "lastSeq": 9});

        let more = page(&answer(more), 3);
        let all = page(&answer(all), 3);

        assert_eq!((more.up_to, more.more, all.up_to, all.more), (6, true, 9, false));
        assert_eq!(all.changes[1].effect, Effect::Read { user: 2, up_to: 7 });
    }

    #[test]
    fn a_page_out_of_its_range_or_order_is_refused() {
        for wrong in [
            json!({"changes": [message(3, "7", 1)], "next": null, "lastSeq": 9}),
            json!({"changes": [message(10, "7", 1)], "next": null, "lastSeq": 9}),
            json!({"changes": [message(5, "7", 1), message(4, "8", 1)], "next": null, "lastSeq": 9}),
            json!({"changes": [message(2, "7", 1)], "next": null, "lastSeq": 2}),
            json!({"changes": [], "next": 3, "lastSeq": 9}),
            json!({"changes": []}),
        ] {
            assert!(Page::of(&answer(wrong.clone()), 3).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_last_number_below_the_clients_own_tells_it_to_start_anew() {
        let fallen_back = json!({"changes": [], "next": null, "lastSeq": 2});
        assert!(matches!(Page::of(&answer(fallen_back), 3).unwrap(), Told::StartAnew));
    }

    #[test]
    fn what_is_recalled_or_deleted_stays_away_whatever_is_pushed_later() {
        let changes = json!([
            message(1, "7", 1),
            message(2, "8", 1),
            message(3, "9", 0),
            {"seq": 4, "type": "MESSAGE_RECALLED", "messageId": "7", "recallTime": 1},
            {"seq": 5, "type": "MESSAGE_DELETED", "messageId": "6"},
            {"seq": 6, "type": "OF_A_LATER_VERSION"},
            {"seq": 7, "type": "CONVERSATION_CLEARED", "upTo": "4"},
        ]);
        let page = page(&answer(json!({"changes": changes, "next": null, "lastSeq": 7})), 0);
        let mut view = view_of(&page.changes);

        for late in ["4", "6", "7", "9"] {
            view.apply_push(&message(0, late, 1), "1_2");
        }
        view.apply_push(&message(0, "10", 1), "1_3");
        view.apply_push(&message(0, "11", 1), "1_2");

        assert_eq!(view.messages.keys().copied().collect::<Vec<_>>(), [8, 11]);
        assert!(!view.confirmed.contains(&11));
    }

    #[test]
    fn a_change_is_idle_only_by_a_later_one_of_its_page() {
        let changes = json!([
            {"seq": 2, "type": "READ", "userId": "2", "upTo": "7"},
            {"seq": 4, "type": "MESSAGE_RECALLED", "messageId": "7", "recallTime": 1},
        ]);
        let page = page(&answer(json!({"changes": changes, "next": null, "lastSeq": 6})), 0);
        let read = |seq, user| Change { seq, effect: Effect::Read { user, up_to: 1 } };
        let words = |id| Change { seq: 3, effect: Effect::Message { id, words: Some("words".to_owned()) } };

        assert!(page.makes_idle(&read(1, 2)) && page.makes_idle(&words(7)));
        assert!(
            !page.makes_idle(&read(1, 1)) && !page.makes_idle(&read(3, 2)) && !page.makes_idle(&words(8))
        );
    }
}
