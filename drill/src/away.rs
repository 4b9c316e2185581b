//! What two users who watch are answered while something is away, and when all is well again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;
use hongyan_local::stack::Kind;

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

/// While Redis hangs, the first wait for `REDIS_TIMEOUT_MS` and the others do not: half of all are answered within this.
const REDIS_HANGS_LIMIT: Duration = Duration::from_millis(250);

/// With nothing there, everyone is told so within this time.
const ALL_AWAY_LIMIT: Duration = Duration::from_millis(500);

/// Answers to one kind of request.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) ok: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    times_ms: Histogram<u64>,
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { ok: 0, refused: 0, unanswered: 0, times_ms: Histogram::new_with_bounds(1, 600_000, 3)? })
    }

    fn note(&mut self, outcome: &Outcome, took: Duration) {
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
            | What::Reshard => {
                let failed = kinds.iter().filter(|(_, tally)| tally.failed() > 0);
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
            _ => {}
        }
        if what == What::Freeze(Victim::Server(Kind::Redis)) {
            let slow = kinds.iter().filter(|(_, tally)| tally.median() > REDIS_HANGS_LIMIT * slack);
            broken.extend(slow.map(|(kind, tally)| format!("half of the {kind}s took {:?}", tally.median())));
        }
        let kafka = Victim::Server(Kind::Kafka);
        let kafka_away =
            what == What::Kill(kafka) || what == What::Freeze(kafka) || what == What::RestartKafka;
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
    ) -> anyhow::Result<Self> {
        let user = |id: i64| anyhow::Ok(User { caller: site.caller(id)?, ledger: ledger.clone(), patience });
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

    /// Sends, looks and takes back until `stop`.
    pub(crate) async fn watch(mut self, stop: Arc<AtomicBool>) -> anyhow::Result<(Self, Away)> {
        let mut away = Away { sends: Tally::new()?, pages: Tally::new()?, recalls: Tally::new()? };
        for turn in 0_usize.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let start = Instant::now();
            let (outcome, _) = self.send().await;
            away.sends.note(&outcome, start.elapsed());
            let start = Instant::now();
            let outcome = self.look().await;
            away.pages.note(&outcome, start.elapsed());
            if turn.is_multiple_of(3)
                && let Some(id) = self.stock.pop()
            {
                let start = Instant::now();
                let outcome = self.sender.recall(&id).await;
                away.recalls.note(&outcome, start.elapsed());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok((self, away))
    }

    /// How long it takes until a send and a page are answered with success.
    pub(crate) async fn until_answered(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let well = |outcome: &Outcome| matches!(outcome.status(), Some(200 | 201));
        loop {
            let sent = self.send().await.0;
            if well(&sent) && well(&self.look().await) {
                return Ok(start.elapsed());
            }
            if start.elapsed() > RECOVERY_LIMIT {
                bail!("no success again after {RECOVERY_LIMIT:?}: {sent:?}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
