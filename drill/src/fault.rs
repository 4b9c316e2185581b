//! What the drill does to the system.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use hongyan_stack::ServerKind;
use redis::AsyncCommands as _;

use crate::ledger::Ledger;
use crate::metadata_lock::MetadataLock;
use crate::pace::Pace;
use crate::process::RuntimeProcess;
use crate::refused;
use crate::site::Site;

/// How far the clock steps back.
const STEP_BACK_MS: i64 = 90_000;

/// Longer than a consumer may be silent before Kafka gives its partitions to others (6 s).
const BEYOND_SESSION: Duration = Duration::from_secs(8);

/// How often connections are cut.
const CUT_EVERY: Duration = Duration::from_millis(200);

/// How much later everything arrives on a slow network, in either direction.
const LATENCY: Duration = Duration::from_millis(30);

/// Room that a full Redis has left when it becomes full, in bytes: some sends still go in.
const ROOM: u64 = 64 * 1024;

/// How long Redis' writes pause unless they are let go before, in ms.
const WRITE_PAUSE_MS: u64 = 600_000;

/// The largest batch that Kafka takes while it refuses larger ones: less than a long message of the users.
const SMALL_BATCH: u32 = 4_000;

/// The most statements that may wait behind a schema change: two pools of ten connections, for each connection one
/// statement that a call at its time limit left behind, and one more for each runtime. A statement that was left behind
/// waits on for `lock_wait_timeout`, 1 s here, beside the statement of the connection that took the place. Without
/// `lock_wait_timeout` such statements pile up for as long as the schema change waits.
const MAX_WAITING: i64 = 42;

/// How long the users go on between the moment at which Redis' state is kept aside and the one at which it comes back.
const OLDER_BY: Duration = Duration::from_secs(1);

/// What can be killed and frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Server(ServerKind),
    /// One of the two; the other goes on.
    Runtime,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault(pub(crate) What);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Nothing,
    Kill(Victim),
    Freeze(Victim),
    Flush,
    RestartKafka,
    Rebalance,
    Zombie,
    ClockBack,
    Cut(ServerKind),
    Slow(ServerKind),
    AllAway,
    KillNode,
    Reshard,
    RefuseWrites,
    PauseWrites,
    OlderMemory,
    OlderRestart,
    Full,
    RefuseOne,
    RemakeTopic,
    LoseTopic,
    LockMetadata,
}

impl What {
    /// Whether one of the runtimes does not answer by it.
    pub(crate) fn stops_a_runtime(self) -> bool {
        matches!(self, Self::Kill(RUNTIME) | Self::Freeze(RUNTIME))
    }
}

const RUNTIME: Victim = Victim::Runtime;
const REDIS: Victim = Victim::Server(ServerKind::Redis);
const KAFKA: Victim = Victim::Server(ServerKind::Kafka);
const MYSQL: Victim = Victim::Server(ServerKind::MySql);

/// Every fault with its name and what it is.
const ALL: [(What, &str, &str); 32] = [
    (What::Nothing, "none", "nothing: what the others are compared with"),
    (What::Kill(RUNTIME), "runtime-kill", "kill -9 of one of the two runtimes; it is started again"),
    (What::Freeze(RUNTIME), "runtime-freeze", "SIGSTOP of one of the two runtimes"),
    (What::Kill(REDIS), "redis-kill", "kill -9 of Redis; it comes back with its append-only file"),
    (What::Freeze(REDIS), "redis-freeze", "SIGSTOP of Redis"),
    (What::Flush, "redis-flush", "FLUSHALL: Redis forgets everything"),
    (What::Cut(ServerKind::Redis), "redis-cut", "connections to Redis are reset five times a second"),
    (What::Slow(ServerKind::Redis), "redis-slow", "30 ms between the runtimes and Redis, each way"),
    (
        What::RefuseWrites,
        "redis-refuses-writes",
        "Redis answers reads and refuses writes (min-replicas-to-write), as after a failover",
    ),
    (What::PauseWrites, "redis-write-pause", "Redis answers reads and lets writes wait (CLIENT PAUSE WRITE)"),
    (
        What::OlderMemory,
        "redis-older-memory",
        "Redis holds what it held some seconds ago; connections to it stay",
    ),
    (
        What::OlderRestart,
        "redis-older-restart",
        "kill -9 of Redis; it comes back with what it held some seconds ago",
    ),
    (What::Full, "redis-full", "Redis' memory is full, nothing is evicted: writes are refused"),
    (What::Kill(KAFKA), "kafka-kill", "kill -9 of Kafka"),
    (What::Freeze(KAFKA), "kafka-freeze", "SIGSTOP of Kafka"),
    (
        What::RestartKafka,
        "kafka-restart",
        "the leader of all partitions is stopped in good order and started again",
    ),
    (What::Cut(ServerKind::Kafka), "kafka-cut", "connections to Kafka are reset five times a second"),
    (What::Slow(ServerKind::Kafka), "kafka-slow", "30 ms between the runtimes and Kafka, each way"),
    (
        What::RefuseOne,
        "kafka-refuses-one",
        "Kafka refuses the long messages and takes the others (max.message.bytes)",
    ),
    (
        What::RemakeTopic,
        "kafka-topic-remade",
        "the topic of the messages is deleted, and at once made again, empty",
    ),
    (
        What::LoseTopic,
        "kafka-topic-lost",
        "the topic of the messages is deleted; later it is made again, empty",
    ),
    (What::Kill(MYSQL), "mysql-kill", "kill -9 of MySQL"),
    (What::Freeze(MYSQL), "mysql-freeze", "SIGSTOP of MySQL"),
    (What::Cut(ServerKind::MySql), "mysql-cut", "connections to MySQL are reset five times a second"),
    (What::Slow(ServerKind::MySql), "mysql-slow", "30 ms between the runtimes and MySQL, each way"),
    (
        What::LockMetadata,
        "mysql-metadata-lock",
        "ALTER TABLE waits for an open transaction, and all statements on messages behind it",
    ),
    (
        What::Rebalance,
        "consumer-rebalance",
        "a third runtime joins the consumer group, leaves, joins again, is killed",
    ),
    (
        What::Zombie,
        "consumer-zombie",
        "a third consumer freezes, loses its partitions, and then goes on with its batch",
    ),
    (
        What::ClockBack,
        "clock-back",
        "the clock of one of the two runtimes steps back by 90 s, later forward again",
    ),
    (What::AllAway, "all-away", "kill -9 of Redis, Kafka and MySQL together"),
    (What::KillNode, "cluster-node-kill", "kill -9 of one of the three nodes of a Redis Cluster"),
    (
        What::Reshard,
        "cluster-reshard",
        "slots of a Redis Cluster move from node to node while they are in use",
    ),
];

/// The node of a Redis Cluster that is killed: neither the first, whose address the runtime was given, nor the last.
const KILLED_NODE: usize = 1;

impl Fault {
    /// All of them, in the order in which the drill does them.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter().map(|(what, ..)| Self(what))
    }

    fn entry(self) -> (&'static str, &'static str) {
        let found = ALL.into_iter().find(|(what, ..)| *what == self.0);
        found.map_or(("", ""), |(_, name, meaning)| (name, meaning))
    }

    /// What it is, in a line.
    pub fn meaning(self) -> &'static str {
        self.entry().1
    }

    /// Keeps aside what the fault needs later, while all is well. How long the users must go on at least until it begins.
    pub(crate) fn prepare(self, site: &Site) -> anyhow::Result<Duration> {
        if !self.brings_back() {
            return Ok(Duration::ZERO);
        }
        let mut older = site.older_redis.try_lock().context("one snapshot at a time")?;
        *older = Some(site.stack.redis_snapshot()?);
        Ok(OLDER_BY)
    }

    /// Does it.
    pub(crate) async fn begin(self, site: &Site) -> anyhow::Result<()> {
        match self.0 {
            What::Nothing => {}
            What::Kill(Victim::Server(kind)) => site.stack.server(kind).kill().await?,
            What::Kill(Victim::Runtime) => site.victim().await.kill().await?,
            What::Freeze(Victim::Server(kind)) => site.stack.server(kind).pause().await?,
            What::Freeze(Victim::Runtime) => site.victim().await.pause()?,
            What::Flush => site.redis().await?.flushall::<()>().await?,
            What::RestartKafka => site.stack.server(ServerKind::Kafka).stop().await?,
            What::Rebalance => {
                site.begin_extra().await?;
                site.end_extra().await?;
                site.begin_extra().await?;
            }
            What::Zombie => {
                site.begin_extra().await?;
                // Until it has partitions and is at work.
                tokio::time::sleep(Duration::from_millis(500)).await;
                site.extra.lock().await.as_ref().map_or(Ok(()), RuntimeProcess::pause)?;
            }
            What::ClockBack => site.victim().await.shift_clock(-STEP_BACK_MS).await?,
            What::Cut(kind) => {
                if let Some(proxy) = site.proxy(kind) {
                    site.cut_again_and_again(proxy, CUT_EVERY);
                }
            }
            What::Slow(kind) => site.slow_down(kind, LATENCY),
            What::AllAway => {
                let [redis, mysql, kafka] = ServerKind::ALL.map(|kind| site.stack.server(kind));
                let (redis, mysql, kafka) = tokio::join!(redis.kill(), mysql.kill(), kafka.kill());
                redis.and(mysql).and(kafka)?;
            }
            What::KillNode => site.stack.server(ServerKind::Redis).kill_node(KILLED_NODE).await?,
            What::Reshard => site.begin_resharding().await?,
            What::RefuseWrites => config_set(site, "min-replicas-to-write", "1").await?,
            What::PauseWrites => {
                let mut pause = redis::cmd("CLIENT");
                pause.arg("PAUSE").arg(WRITE_PAUSE_MS).arg("WRITE");
                pause.exec_async(&mut site.redis().await?).await?;
            }
            What::OlderMemory => {
                let older = site.older_redis.lock().await.take().context("a snapshot")?;
                site.stack.load_into_redis(older).await?;
            }
            What::OlderRestart => {
                let older = site.older_redis.lock().await.take().context("a snapshot")?;
                site.stack.restart_redis_with(older).await?;
            }
            What::Full => fill_redis(site).await?,
            What::RefuseOne => {
                site.stack.limit_topic(&site.config.kafka.topic, Some(SMALL_BATCH)).await?;
            }
            What::RemakeTopic => {
                site.stack.delete_topic(&site.config.kafka.topic).await?;
                make_topic(site).await?;
            }
            What::LoseTopic => site.stack.delete_topic(&site.config.kafka.topic).await?,
            What::LockMetadata => {
                *site.metadata_lock.lock().await = Some(MetadataLock::take(&site.mysql).await?);
            }
        }
        Ok(())
    }

    /// Undoes it, and waits until what was away is up again.
    pub(crate) async fn end(self, site: &Site) -> anyhow::Result<()> {
        match self.0 {
            What::Nothing | What::Flush | What::OlderMemory | What::OlderRestart | What::RemakeTopic => {}
            What::Kill(Victim::Server(kind)) => site.stack.server(kind).start().await?,
            What::Kill(Victim::Runtime) => site.victim().await.start().await?,
            What::Freeze(Victim::Server(kind)) => site.stack.server(kind).resume().await?,
            What::Freeze(Victim::Runtime) => site.victim().await.resume()?,
            What::RestartKafka => site.stack.server(ServerKind::Kafka).start().await?,
            What::Rebalance => {
                if let Some(mut extra) = site.extra.lock().await.take() {
                    extra.kill().await?;
                }
            }
            What::Zombie => {
                site.extra.lock().await.as_ref().map_or(Ok(()), RuntimeProcess::resume)?;
                // It is to finish its batch before it goes.
                tokio::time::sleep(Duration::from_millis(500)).await;
                site.end_extra().await?;
            }
            What::ClockBack => site.victim().await.shift_clock(0).await?,
            What::Cut(_) => site.stop_cutting(),
            What::Slow(kind) => site.slow_down(kind, Duration::ZERO),
            What::AllAway => {
                let [redis, mysql, kafka] = ServerKind::ALL.map(|kind| site.stack.server(kind));
                let (redis, mysql, kafka) = tokio::join!(redis.start(), mysql.start(), kafka.start());
                redis.and(mysql).and(kafka)?;
            }
            // Only what does not run is started.
            What::KillNode => site.stack.server(ServerKind::Redis).start().await?,
            What::Reshard => site.end_resharding().await?,
            What::RefuseWrites => config_set(site, "min-replicas-to-write", "0").await?,
            What::PauseWrites => {
                redis::cmd("CLIENT").arg("UNPAUSE").exec_async(&mut site.redis().await?).await?;
            }
            What::Full => {
                if let Some([maxmemory, policy]) = site.redis_limits.lock().await.take() {
                    config_set(site, "maxmemory", &maxmemory).await?;
                    config_set(site, "maxmemory-policy", &policy).await?;
                }
            }
            What::RefuseOne => site.stack.limit_topic(&site.config.kafka.topic, None).await?,
            What::LoseTopic => make_topic(site).await?,
            What::LockMetadata => {
                if let Some(lock) = site.metadata_lock.lock().await.take() {
                    lock.release().await?;
                }
            }
        }
        Ok(())
    }

    /// Looks at the servers at the end of the fault, before it is undone: what is not as promised.
    pub(crate) async fn look(self, site: &Site, ledger: &Ledger) -> anyhow::Result<Option<String>> {
        match self.0 {
            What::LockMetadata => {
                let waiting = MetadataLock::waiting(&site.mysql).await?;
                let pile = format!("{waiting} statements wait behind the schema change");
                Ok((waiting > MAX_WAITING).then_some(pile))
            }
            What::RefuseOne => refused::look(site, ledger).await,
            _ => Ok(None),
        }
    }

    /// How long it lasts at least, whatever the pace.
    fn lasts_at_least(self) -> Duration {
        if self.0 == What::Zombie { BEYOND_SESSION } else { Duration::ZERO }
    }

    /// Whether somebody is not answered by it: then it lasts longer than any time-out.
    fn is_freeze(self) -> bool {
        matches!(self.0, What::Freeze(_) | What::PauseWrites | What::LockMetadata)
    }

    /// Whether Redis gets an older state by it.
    fn brings_back(self) -> bool {
        matches!(self.0, What::OlderMemory | What::OlderRestart)
    }

    /// Whether Redis loses by it what it was told last.
    pub(crate) fn forgets(self) -> bool {
        self.0 == What::Flush || self.brings_back()
    }

    /// Whether a runtime is started by its end, or stopped in good order: for either the servers must be there.
    fn ends_last(self) -> bool {
        self.0 == What::Kill(Victim::Runtime) || self.adds_a_consumer()
    }

    /// Whether Redis may have been without its memory, so that a recalled message may be shown until the consumer has read
    /// its RECALL event (`docs/limits.md`).
    pub(crate) fn touches_redis(self) -> bool {
        matches!(
            self.0,
            What::Flush
                | What::OlderMemory
                | What::OlderRestart
                | What::AllAway
                | What::Kill(REDIS)
                | What::Freeze(REDIS)
                | What::Cut(ServerKind::Redis)
                | What::KillNode
        )
    }

    fn touches(self, kind: ServerKind) -> bool {
        match self.0 {
            What::Kill(Victim::Server(it))
            | What::Freeze(Victim::Server(it))
            | What::Cut(it)
            | What::Slow(it) => it == kind,
            What::Flush
            | What::KillNode
            | What::Reshard
            | What::RefuseWrites
            | What::PauseWrites
            | What::OlderMemory
            | What::OlderRestart
            | What::Full => kind == ServerKind::Redis,
            What::RestartKafka | What::RefuseOne | What::RemakeTopic | What::LoseTopic => {
                kind == ServerKind::Kafka
            }
            What::LockMetadata => kind == ServerKind::MySql,
            What::AllAway => true,
            What::Nothing
            | What::Kill(RUNTIME)
            | What::Freeze(RUNTIME)
            | What::Rebalance
            | What::Zombie
            | What::ClockBack => false,
        }
    }

    /// Whether it is done to a Redis Cluster.
    pub fn needs_a_cluster(self) -> bool {
        matches!(self.0, What::KillNode | What::Reshard)
    }

    fn touches_runtime(self) -> bool {
        matches!(self.0, What::Kill(RUNTIME) | What::Freeze(RUNTIME) | What::ClockBack)
    }

    fn adds_a_consumer(self) -> bool {
        matches!(self.0, What::Rebalance | What::Zombie)
    }

    /// Whether two may be done at the same time, and nothing may be lost then either.
    pub(crate) fn mixes_with(self, other: Self) -> bool {
        let apart = ServerKind::ALL.into_iter().all(|kind| !self.touches(kind) || !other.touches(kind))
            && !(self.touches_runtime() && other.touches_runtime())
            && !(self.adds_a_consumer() && (other.adds_a_consumer() || other.0 == What::AllAway))
            && !(other.adds_a_consumer() && self.0 == What::AllAway);
        // A message that only Redis held goes with Redis' memory (`docs/limits.md`): Kafka, and the runtimes that bring it
        // there, must be well. A message that only Kafka held goes with the topic: Redis must be well.
        let forgets = |a: Self, b: Self| {
            (a.forgets() && (b.touches(ServerKind::Kafka) || b.touches_runtime()))
                || (matches!(a.0, What::RemakeTopic | What::LoseTopic) && b.touches(ServerKind::Redis))
        };
        let something = self.0 != What::Nothing && other.0 != What::Nothing;
        let in_one_place = self.needs_a_cluster() == other.needs_a_cluster();
        something && in_one_place && apart && !forgets(self, other) && !forgets(other, self)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry().0)
    }
}

async fn make_topic(site: &Site) -> anyhow::Result<()> {
    let kafka = &site.config.kafka;
    Ok(site.stack.create_topic(&kafka.topic, kafka.partitions.get().into()).await?)
}

async fn config_set(site: &Site, name: &str, value: &str) -> anyhow::Result<()> {
    let mut set = redis::cmd("CONFIG");
    Ok(set.arg("SET").arg(name).arg(value).exec_async(&mut site.redis().await?).await?)
}

/// Leaves Redis little more memory than it uses, and nothing that it may evict.
async fn fill_redis(site: &Site) -> anyhow::Result<()> {
    let mut redis = site.redis().await?;
    let mut limits = Vec::new();
    for name in ["maxmemory", "maxmemory-policy"] {
        let mut get = redis::cmd("CONFIG");
        let (_, value): (String, String) = get.arg("GET").arg(name).query_async(&mut redis).await?;
        limits.push(value);
    }
    *site.redis_limits.lock().await = limits.try_into().ok();
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut redis).await?;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = used.context("no used_memory")?.trim().parse()?;
    config_set(site, "maxmemory-policy", "noeviction").await?;
    config_set(site, "maxmemory", &(used + ROOM).to_string()).await
}

/// One fault, or two at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// A second runtime does not start while a server is away.
    pub(crate) fn in_order_of_begin(&self) -> Vec<Fault> {
        let mut faults = self.0.clone();
        faults.sort_by_key(|fault| !fault.adds_a_consumer());
        faults
    }

    /// Servers are mended before anything that needs them.
    pub(crate) fn in_order_of_end(&self) -> Vec<Fault> {
        let mut faults = self.0.clone();
        faults.sort_by_key(|fault| fault.ends_last());
        faults
    }

    /// How long these faults last together at a pace.
    pub(crate) fn hold(&self, pace: &Pace) -> Duration {
        let holds = self.0.iter().map(|fault| {
            let hold = if fault.is_freeze() { pace.freeze } else { pace.hold };
            hold.max(fault.lasts_at_least())
        });
        holds.max().unwrap_or_default()
    }

    /// The one fault, if it is one.
    pub(crate) fn single(&self) -> Option<What> {
        match self.0.as_slice() {
            [fault] => Some(fault.0),
            _ => None,
        }
    }

    /// The servers that a proxy must be in front of.
    pub(crate) fn need_a_proxy(&self) -> impl Iterator<Item = ServerKind> {
        self.0.iter().filter_map(|fault| match fault.0 {
            What::Cut(kind) | What::Slow(kind) => Some(kind),
            _ => None,
        })
    }

    /// Whether Redis must be a process of this machine.
    pub(crate) fn need_redis_files(&self) -> bool {
        self.0.iter().any(|fault| fault.brings_back())
    }

    /// Whether Redis loses by them what it was told last.
    pub(crate) fn forget(&self) -> bool {
        self.0.iter().any(|fault| fault.forgets())
    }

    /// Whether they are done to a Redis Cluster.
    pub(crate) fn need_a_cluster(&self) -> bool {
        self.0.iter().any(|fault| fault.needs_a_cluster())
    }

    pub(crate) fn touch_redis(&self) -> bool {
        self.0.iter().any(|fault| fault.touches_redis())
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.pad(&names.join("+"))
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |name: &str| {
            let found = Fault::all().find(|fault| fault.to_string() == name);
            found.ok_or_else(|| format!("there is no fault {name}; --list names them"))
        };
        let faults = text.split('+').map(named).collect::<Result<Vec<_>, _>>()?;
        match faults.as_slice() {
            [_] => {}
            [one, other] if one.mixes_with(*other) => {}
            [one, other] => return Err(format!("{one} and {other} are not done together")),
            _ => return Err("at most two faults are done together".to_owned()),
        }
        Ok(Self(faults))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_fault() {
        for fault in Fault::all() {
            assert_eq!(fault.to_string().parse(), Ok(Faults(vec![fault])));
            assert!(!fault.meaning().is_empty());
        }
        assert!("redis-kill+mysql-freeze".parse::<Faults>().is_ok());
        for wrong in [
            "",
            "redis",
            "redis-kill+",
            "redis-kill+redis-freeze",
            "redis-flush+kafka-kill",
            "redis-older-memory+kafka-refuses-one",
            "kafka-topic-remade+redis-refuses-writes",
            "kafka-topic-lost+redis-kill",
        ] {
            assert!(wrong.parse::<Faults>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn whether_two_mix_does_not_depend_on_their_order() {
        let mut mixes = 0;
        for one in Fault::all() {
            for other in Fault::all() {
                assert_eq!(one.mixes_with(other), other.mixes_with(one), "{one} {other}");
                mixes += usize::from(one.mixes_with(other));
            }
            assert!(!one.mixes_with(one), "{one}");
        }
        assert!(mixes > 100, "{mixes}");
    }
}
