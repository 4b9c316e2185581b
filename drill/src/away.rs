//! What two users who watch are answered while something is away, and when all is well again.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;
use hongyan::cache::generation::GENERATION_MAX_AGE;
use hongyan_stack::ServerKind;

use crate::fault::{Victim, What};
use crate::ledger::Ledger;
use crate::site::Site;
use crate::user::{Outcome, User};

/// How many messages they have to take back.
const STOCK: usize = 30;

/// Between two requests of theirs.
const PAUSE: Duration = Duration::from_millis(10);

/// How long it may take until they are answered again.
const RECOVERY_LIMIT: Duration = Duration::from_mins(2);

/// What `KAFKA_WAIT_MS` (200) promises to senders while Kafka is away.
const KAFKA_AWAY_LIMIT: Duration = Duration::from_millis(250);

/// While Redis hangs, the first wait for `REDIS_TIMEOUT_MS` and the others do not: half of all are answered within this. A
/// recall that Redis could not take waits until no process believes Redis any more.
const REDIS_HANGS_LIMIT: Duration = Duration::from_millis(250);

/// With nothing there, everyone is told so within this time.
const ALL_AWAY_LIMIT: Duration = Duration::from_millis(500);

/// The longest that a request waits for its answer, whichever server is away.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Answers to one kind of request. Requests count that were asked after the fault was there and answered before it went:
/// nobody can say of the others which of the two they met.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) ok: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    /// How long the request had waited that was not answered yet when the fault went.
    waited: Duration,
    times_ms: Histogram<u64>,
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        let waited = Duration::ZERO;
        Ok(Self {
            ok: 0,
            refused: 0,
            unanswered: 0,
            waited,
            times_ms: Histogram::new_with_bounds(1, 600_000, 3)?,
        })
    }

    /// Notes the outcome of a request that was asked at `asked`. `ended` is when the fault went, if it has.
    fn note(&mut self, asked: Instant, outcome: &Outcome, ended: Option<Instant>) {
        let took = asked.elapsed();
        if let Some(ended) = ended {
            self.waited = self.waited.max(ended.saturating_duration_since(asked));
            return;
        }
        match outcome.status() {
            Some(200..300) => self.ok += 1,
            Some(_) => self.refused += 1,
            None => self.unanswered += 1,
        }
        self.times_ms.saturating_record(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    fn failed(&self) -> u64 {
        self.refused + self.unanswered
    }

    fn p99(&self) -> Duration {
        Duration::from_millis(self.times_ms.value_at_quantile(0.99))
    }

    fn median(&self) -> Duration {
        Duration::from_millis(self.times_ms.value_at_quantile(0.5))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.times_ms.is_empty() {
            return f.pad("–");
        }
        let (median, p99) = (self.median().as_millis(), self.p99().as_millis());
        f.pad(&format!("{}/{}  {median} / {p99} ms", self.ok, self.failed()))
    }
}

/// What was answered while something was away.
#[derive(Debug, Clone)]
pub(crate) struct Away {
    pub(crate) sends: Tally,
    /// A page that Redis has alone, and so has MySQL.
    pub(crate) pages: Tally,
    /// Recalls of messages that MySQL has.
    pub(crate) recalls: Tally,
}

impl Away {
    /// What was promised for this and not kept. On a machine that others use as well, times count `slack` times less.
    pub(crate) fn broken_promises(&self, what: What, slack: u32) -> Vec<String> {
        let kinds = [("send", &self.sends), ("page", &self.pages), ("recall", &self.recalls)];
        let mut broken = Vec::new();
        match what {
            What::Kill(Victim::Server(_))
            | What::Freeze(Victim::Server(_))
            | What::RestartKafka
            | What::KillNode
            | What::Reshard
            | What::RefuseWrites
            | What::PauseWrites
            | What::OlderMemory
            | What::OlderRestart
            | What::Full
            | What::RefuseOne
            | What::RemakeTopic
            | What::LoseTopic
            | What::LockMetadata => {
                // On a machine that others use as well, one request may meet another server's time-out.
                let allowed = u64::from(slack > 1);
                let failed = kinds.iter().filter(|(_, tally)| tally.failed() > allowed);
                broken.extend(failed.map(|(kind, tally)| {
                    format!("{} of {} {kind}s failed", tally.failed(), tally.failed() + tally.ok)
                }));
            }
            What::AllAway => {
                for (kind, tally) in kinds {
                    if tally.ok + tally.unanswered > 0 {
                        broken.push(format!("{} {kind}s answered, {} not", tally.ok, tally.unanswered));
                    }
                    if tally.p99() > ALL_AWAY_LIMIT * slack {
                        broken.push(format!("a {kind} was refused only after {:?}", tally.p99()));
                    }
                }
            }
            What::Nothing
            | What::Kill(Victim::Runtime)
            | What::Freeze(Victim::Runtime)
            | What::Flush
            | What::Cut(_)
            | What::Slow(_)
            | What::Rebalance
            | What::Zombie
            | What::ClockBack => {}
        }
        let limit = slack * if what == What::AllAway { ALL_AWAY_LIMIT } else { ANSWER_LIMIT };
        let waiting = kinds.iter().filter(|(_, tally)| !what.stops_a_runtime() && tally.waited > limit);
        broken.extend(
            waiting.map(|(kind, tally)| format!("a {kind} still had no answer after {:?}", tally.waited)),
        );
        let redis_hangs = matches!(
            what,
            What::Freeze(Victim::Server(ServerKind::Redis))
                | What::RefuseWrites
                | What::PauseWrites
                | What::Full
        );
        if redis_hangs {
            let limit = |kind: &str| {
                let waits = if kind == "recall" { GENERATION_MAX_AGE } else { Duration::ZERO };
                (REDIS_HANGS_LIMIT + waits) * slack
            };
            let slow = kinds.iter().filter(|(kind, tally)| tally.median() > limit(kind));
            broken.extend(slow.map(|(kind, tally)| format!("half of the {kind}s took {:?}", tally.median())));
        }
        let kafka_away = matches!(
            what,
            What::Kill(Victim::Server(ServerKind::Kafka))
                | What::Freeze(Victim::Server(ServerKind::Kafka))
                | What::RestartKafka
                | What::LoseTopic
        );
        if kafka_away && self.sends.p99() > KAFKA_AWAY_LIMIT * slack {
            broken.push(format!("P99 of sends was {:?}", self.sends.p99()));
        }
        broken
    }
}

/// Two users who watch.
#[derive(Clone)]
pub(crate) struct Watchers {
    sender: User,
    receiver: User,
    stock: Vec<String>,
    number: usize,
}

impl Watchers {
    /// They have written to each other, and MySQL has it.
    pub(crate) async fn prepare(
        site: &Site,
        sender: i64,
        ledger: &Arc<Ledger>,
        patience: Duration,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let user = |id: i64| User::new(site, id, ledger, patience, seed);
        let mut watchers =
            Self { sender: user(sender)?, receiver: user(sender + 1)?, stock: Vec::new(), number: 0 };
        for _ in 0..STOCK {
            let id = watchers.send().await.1;
            watchers.stock.extend(id);
        }
        let start = Instant::now();
        loop {
            let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM message WHERE from_user_id = ?")
                .bind(sender)
                .fetch_one(&site.mysql)
                .await?;
            if usize::try_from(rows)? >= watchers.stock.len() {
                break;
            }
            if start.elapsed() > RECOVERY_LIMIT {
                bail!("with nothing wrong, {} sends became {rows} rows", watchers.stock.len());
            }
            tokio::time::sleep(PAUSE).await;
        }
        watchers.look().await;
        Ok(watchers)
    }

    async fn send(&mut self) -> (Outcome, Option<String>) {
        self.number += 1;
        let content = format!("watcher {} message {}", self.sender.id(), self.number);
        self.sender.send(self.receiver.id(), &content).await
    }

    async fn look(&self) -> Outcome {
        self.receiver.look(self.sender.id(), 1).await
    }

    /// Sends, looks and takes back while the fault is there, until the moment at which it goes is in `ended`.
    pub(crate) async fn watch(mut self, ended: Arc<OnceLock<Instant>>) -> anyhow::Result<(Self, Away)> {
        let mut away = Away { sends: Tally::new()?, pages: Tally::new()?, recalls: Tally::new()? };
        let over = || ended.get().copied();
        for turn in 0_usize.. {
            let asked = Instant::now();
            let (outcome, _) = self.send().await;
            away.sends.note(asked, &outcome, over());
            if over().is_some() {
                break;
            }
            let asked = Instant::now();
            let outcome = self.look().await;
            away.pages.note(asked, &outcome, over());
            if over().is_some() {
                break;
            }
            if turn.is_multiple_of(3)
                && let Some(id) = self.stock.pop()
            {
                let asked = Instant::now();
                let outcome = self.sender.recall(&id).await;
                away.recalls.note(asked, &outcome, over());
            }
            tokio::time::sleep(PAUSE).await;
            if over().is_some() {
                break;
            }
        }
        Ok((self, away))
    }

    /// How long it takes until each runtime answers a send and a page with success.
    pub(crate) async fn until_answered(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let (senders, receivers) = (self.sender.at_each(), self.receiver.at_each());
        for (sender, receiver) in senders.into_iter().zip(receivers) {
            let mut at_one = Self { sender, receiver, ..self.clone() };
            loop {
                let sent = at_one.send().await.0;
                let looked = at_one.look().await;
                if is_well(&sent) && is_well(&looked) {
                    break;
                }
                if start.elapsed() > RECOVERY_LIMIT {
                    bail!("no success again after {RECOVERY_LIMIT:?}: {sent:?}, {looked:?}");
                }
                tokio::time::sleep(PAUSE).await;
            }
            // No two contents are the same.
            self.number = at_one.number;
        }
        Ok(start.elapsed())
    }

    /// Both, each with the other as a peer.
    pub(crate) fn users(&self) -> [(&User, i64); 2] {
        [(&self.sender, self.receiver.id()), (&self.receiver, self.sender.id())]
    }
}

fn is_well(outcome: &Outcome) -> bool {
    matches!(outcome.status(), Some(200 | 201))
}
