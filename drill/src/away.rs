//! Two users who keep sending and reading while a server is away, and after the fault: how their requests are
//! answered.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;
use hongyan::cache::generation::GENERATION_MAX_AGE;
use hongyan_stack::ServerKind;

use crate::fault::{FaultKind, Victim};
use crate::ledger::Ledger;
use crate::site::Site;
use crate::user::{Outcome, User};

/// The number of messages that the watchers can recall during the fault.
const STOCK: usize = 30;

/// The pause between two requests of a watcher.
const PAUSE: Duration = Duration::from_millis(10);

/// How long it may take after the fault until requests succeed again.
const RECOVERY_LIMIT: Duration = Duration::from_mins(2);

/// The P99 of sends while Kafka is away, as `KAFKA_WAIT_MS` (200) promises it.
const KAFKA_AWAY_LIMIT: Duration = Duration::from_millis(250);

/// The median of answers while Redis hangs. Only the first request waits for `REDIS_TIMEOUT_MS`, then the circuit
/// breaker is open. A recall that Redis could not take also waits until no process believes Redis any more.
const REDIS_HANGS_LIMIT: Duration = Duration::from_millis(250);

/// The P99 of refusals while all servers are away.
const ALL_AWAY_LIMIT: Duration = Duration::from_millis(500);

/// The longest wait for an answer, no matter which server is away.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The answers to one kind of request. Counts requests that were sent after the fault had begun and answered before
/// it ended. Other requests may have met either state.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) ok: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    /// How long the request that was unanswered at the end of the fault had waited.
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

    /// Notes the outcome of a request that was sent at `asked`. `ended` is the end of the fault, if it has ended.
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

/// The answers during a fault.
#[derive(Debug, Clone)]
pub(crate) struct Away {
    pub(crate) sends: Tally,
    /// Pages that Redis can serve alone, and MySQL too.
    pub(crate) pages: Tally,
    /// Recalls of messages that are rows in MySQL.
    pub(crate) recalls: Tally,
}

impl Away {
    /// The promises that do not hold for this fault. On a busy machine, times may be `slack` times as long.
    pub(crate) fn broken_promises(&self, what: FaultKind, slack: u32) -> Vec<String> {
        let kinds = [("send", &self.sends), ("page", &self.pages), ("recall", &self.recalls)];
        let mut broken = Vec::new();
        match what {
            FaultKind::Kill(Victim::Server(_))
            | FaultKind::Freeze(Victim::Server(_))
            | FaultKind::RestartKafka
            | FaultKind::KillNode
            | FaultKind::Reshard
            | FaultKind::RefuseWrites
            | FaultKind::PauseWrites
            | FaultKind::OlderMemory
            | FaultKind::OlderRestart
            | FaultKind::Full
            | FaultKind::RefuseOne
            | FaultKind::RemakeTopic
            | FaultKind::LoseTopic
            | FaultKind::LockMetadata => {
                // On a busy machine one request may run into the time-out of another server.
                let allowed = u64::from(slack > 1);
                let failed = kinds.iter().filter(|(_, tally)| tally.failed() > allowed);
                broken.extend(failed.map(|(kind, tally)| {
                    format!("{} of {} {kind}s failed", tally.failed(), tally.failed() + tally.ok)
                }));
            }
            FaultKind::AllAway => {
                for (kind, tally) in kinds {
                    if tally.ok + tally.unanswered > 0 {
                        broken.push(format!("{} {kind}s answered, {} not", tally.ok, tally.unanswered));
                    }
                    if tally.p99() > ALL_AWAY_LIMIT * slack {
                        broken.push(format!("a {kind} was refused only after {:?}", tally.p99()));
                    }
                }
            }
            FaultKind::Nothing
            | FaultKind::Kill(Victim::Runtime)
            | FaultKind::Freeze(Victim::Runtime)
            | FaultKind::Flush
            | FaultKind::Cut(_)
            | FaultKind::Slow(_)
            | FaultKind::Rebalance
            | FaultKind::Zombie
            | FaultKind::ClockBack => {}
        }
        let limit = slack * if what == FaultKind::AllAway { ALL_AWAY_LIMIT } else { ANSWER_LIMIT };
        let waiting = kinds.iter().filter(|(_, tally)| !what.stops_a_runtime() && tally.waited > limit);
        broken.extend(
            waiting.map(|(kind, tally)| format!("a {kind} still had no answer after {:?}", tally.waited)),
        );
        let redis_hangs = matches!(
            what,
            FaultKind::Freeze(Victim::Server(ServerKind::Redis))
                | FaultKind::RefuseWrites
                | FaultKind::PauseWrites
                | FaultKind::Full
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
            FaultKind::Kill(Victim::Server(ServerKind::Kafka))
                | FaultKind::Freeze(Victim::Server(ServerKind::Kafka))
                | FaultKind::RestartKafka
                | FaultKind::LoseTopic
        );
        if kafka_away && self.sends.p99() > KAFKA_AWAY_LIMIT * slack {
            broken.push(format!("P99 of sends was {:?}", self.sends.p99()));
        }
        broken
    }
}

/// Two users who watch the service during a fault.
#[derive(Clone)]
pub(crate) struct Watchers {
    sender: User,
    receiver: User,
    stock: Vec<String>,
    number: usize,
}

impl Watchers {
    /// Lets the users write to each other, and waits until MySQL has the messages.
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

    /// Sends, reads and recalls during the fault, until its end is set in `ended`.
    pub(crate) async fn watch(mut self, ended: Arc<OnceLock<Instant>>) -> anyhow::Result<(Self, Away)> {
        let mut away = Away { sends: Tally::new()?, pages: Tally::new()?, recalls: Tally::new()? };
        let ended_at = || ended.get().copied();
        for turn in 0_usize.. {
            let asked = Instant::now();
            let (outcome, _) = self.send().await;
            away.sends.note(asked, &outcome, ended_at());
            if ended_at().is_some() {
                break;
            }
            let asked = Instant::now();
            let outcome = self.look().await;
            away.pages.note(asked, &outcome, ended_at());
            if ended_at().is_some() {
                break;
            }
            if turn.is_multiple_of(3)
                && let Some(id) = self.stock.pop()
            {
                let asked = Instant::now();
                let outcome = self.sender.recall(&id).await;
                away.recalls.note(asked, &outcome, ended_at());
            }
            tokio::time::sleep(PAUSE).await;
            if ended_at().is_some() {
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
            // Contents must be unique across runtimes.
            self.number = at_one.number;
        }
        Ok(start.elapsed())
    }

    /// Both users, each with the other as peer.
    pub(crate) fn users(&self) -> [(&User, i64); 2] {
        [(&self.sender, self.receiver.id()), (&self.receiver, self.sender.id())]
    }
}

fn is_well(outcome: &Outcome) -> bool {
    matches!(outcome.status(), Some(200 | 201))
}
