//! The faults: how each is caused and undone.

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

/// The delay of a slow network, in either direction.
const LATENCY: Duration = Duration::from_millis(30);

/// The memory that a full Redis has left at first, in bytes. A few sends still fit.
const ROOM: u64 = 64 * 1024;

/// The longest pause of Redis' writes, in ms. Undoing the fault ends the pause before.
const WRITE_PAUSE_MS: u64 = 600_000;

/// The largest batch that Kafka takes while it refuses larger ones, in bytes: less than a long message of the users.
const SMALL_BATCH: u32 = 4_000;

/// The most statements that may wait behind a schema change: two pools of ten connections, for each connection one
/// statement that a call at its time limit left behind, and one more for each runtime. A left statement waits on for
/// `lock_wait_timeout`, 1 s here, beside the statement of the connection that took the place. Without
/// `lock_wait_timeout` such statements would pile up for as long as the schema change waits.
const MAX_WAITING: i64 = 42;

/// How long the users work between the snapshot of Redis and the moment when the snapshot comes back.
const OLDER_BY: Duration = Duration::from_secs(1);

/// A server or process that can be killed and frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Server(ServerKind),
    /// One of the two runtimes; the other goes on.
    Runtime,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault(pub(crate) FaultKind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
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

impl FaultKind {
    /// True if a runtime does not answer during the fault.
    pub(crate) fn stops_a_runtime(self) -> bool {
        matches!(self, Self::Kill(RUNTIME) | Self::Freeze(RUNTIME))
    }
}

const RUNTIME: Victim = Victim::Runtime;
const REDIS: Victim = Victim::Server(ServerKind::Redis);
const KAFKA: Victim = Victim::Server(ServerKind::Kafka);
const MYSQL: Victim = Victim::Server(ServerKind::MySql);

/// Every fault with its name and description.
const ALL: [(FaultKind, &str, &str); 32] = [
    (FaultKind::Nothing, "none", "nothing: what the others are compared with"),
    (FaultKind::Kill(RUNTIME), "runtime-kill", "kill -9 of one of the two runtimes; it is started again"),
    (FaultKind::Freeze(RUNTIME), "runtime-freeze", "SIGSTOP of one of the two runtimes"),
    (FaultKind::Kill(REDIS), "redis-kill", "kill -9 of Redis; it comes back with its append-only file"),
    (FaultKind::Freeze(REDIS), "redis-freeze", "SIGSTOP of Redis"),
    (FaultKind::Flush, "redis-flush", "FLUSHALL: Redis forgets everything"),
    (FaultKind::Cut(ServerKind::Redis), "redis-cut", "connections to Redis are reset five times a second"),
    (FaultKind::Slow(ServerKind::Redis), "redis-slow", "30 ms between the runtimes and Redis, each way"),
    (
        FaultKind::RefuseWrites,
        "redis-refuses-writes",
        "Redis answers reads and refuses writes (min-replicas-to-write), as after a failover",
    ),
    (
        FaultKind::PauseWrites,
        "redis-write-pause",
        "Redis answers reads and lets writes wait (CLIENT PAUSE WRITE)",
    ),
    (
        FaultKind::OlderMemory,
        "redis-older-memory",
        "Redis holds what it held some seconds ago; connections to it stay",
    ),
    (
        FaultKind::OlderRestart,
        "redis-older-restart",
        "kill -9 of Redis; it comes back with what it held some seconds ago",
    ),
    (FaultKind::Full, "redis-full", "Redis' memory is full, nothing is evicted: writes are refused"),
    (FaultKind::Kill(KAFKA), "kafka-kill", "kill -9 of Kafka"),
    (FaultKind::Freeze(KAFKA), "kafka-freeze", "SIGSTOP of Kafka"),
    (
        FaultKind::RestartKafka,
        "kafka-restart",
        "the leader of all partitions is stopped in good order and started again",
    ),
    (FaultKind::Cut(ServerKind::Kafka), "kafka-cut", "connections to Kafka are reset five times a second"),
    (FaultKind::Slow(ServerKind::Kafka), "kafka-slow", "30 ms between the runtimes and Kafka, each way"),
    (
        FaultKind::RefuseOne,
        "kafka-refuses-one",
        "Kafka refuses the long messages and takes the others (max.message.bytes)",
    ),
    (
        FaultKind::RemakeTopic,
        "kafka-topic-remade",
        "the topic of the messages is deleted, and at once made again, empty",
    ),
    (
        FaultKind::LoseTopic,
        "kafka-topic-lost",
        "the topic of the messages is deleted; later it is made again, empty",
    ),
    (FaultKind::Kill(MYSQL), "mysql-kill", "kill -9 of MySQL"),
    (FaultKind::Freeze(MYSQL), "mysql-freeze", "SIGSTOP of MySQL"),
    (FaultKind::Cut(ServerKind::MySql), "mysql-cut", "connections to MySQL are reset five times a second"),
    (FaultKind::Slow(ServerKind::MySql), "mysql-slow", "30 ms between the runtimes and MySQL, each way"),
    (
        FaultKind::LockMetadata,
        "mysql-metadata-lock",
        "ALTER TABLE waits for an open transaction, and all statements on messages behind it",
    ),
    (
        FaultKind::Rebalance,
        "consumer-rebalance",
        "a third runtime joins the consumer group, leaves, joins again, is killed",
    ),
    (
        FaultKind::Zombie,
        "consumer-zombie",
        "a third consumer freezes, loses its partitions, and then goes on with its batch",
    ),
    (
        FaultKind::ClockBack,
        "clock-back",
        "the clock of one of the two runtimes steps back by 90 s, later forward again",
    ),
    (FaultKind::AllAway, "all-away", "kill -9 of Redis, Kafka and MySQL together"),
    (FaultKind::KillNode, "cluster-node-kill", "kill -9 of one of the three nodes of a Redis Cluster"),
    (
        FaultKind::Reshard,
        "cluster-reshard",
        "slots of a Redis Cluster move from node to node while they are in use",
    ),
];

/// The node of a Redis Cluster that is killed: neither the first, whose address the runtimes were given, nor the
/// last.
const KILLED_NODE: usize = 1;

impl Fault {
    /// All faults, in the order of the drill.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter().map(|(what, ..)| Self(what))
    }

    fn entry(self) -> (&'static str, &'static str) {
        let found = ALL.into_iter().find(|(what, ..)| *what == self.0);
        found.map_or(("", ""), |(_, name, meaning)| (name, meaning))
    }

    /// A description in one line.
    pub fn meaning(self) -> &'static str {
        self.entry().1
    }

    /// Takes the snapshot that the fault needs, before the fault. Returns how long the users must work until the
    /// fault begins.
    pub(crate) fn prepare(self, site: &Site) -> anyhow::Result<Duration> {
        if !self.brings_back() {
            return Ok(Duration::ZERO);
        }
        let mut older = site.older_redis.try_lock().context("one snapshot at a time")?;
        *older = Some(site.stack.redis_snapshot()?);
        Ok(OLDER_BY)
    }

    /// Causes the fault.
    pub(crate) async fn begin(self, site: &Site) -> anyhow::Result<()> {
        match self.0 {
            FaultKind::Nothing => {}
            FaultKind::Kill(Victim::Server(kind)) => site.stack.server(kind).kill().await?,
            FaultKind::Kill(Victim::Runtime) => site.victim().await.kill().await?,
            FaultKind::Freeze(Victim::Server(kind)) => site.stack.server(kind).pause().await?,
            FaultKind::Freeze(Victim::Runtime) => site.victim().await.pause()?,
            FaultKind::Flush => site.redis().await?.flushall::<()>().await?,
            FaultKind::RestartKafka => site.stack.server(ServerKind::Kafka).stop().await?,
            FaultKind::Rebalance => {
                site.begin_extra().await?;
                site.end_extra().await?;
                site.begin_extra().await?;
            }
            FaultKind::Zombie => {
                site.begin_extra().await?;
                // Wait until the third consumer has partitions and consumes.
                tokio::time::sleep(Duration::from_millis(500)).await;
                site.extra.lock().await.as_ref().map_or(Ok(()), RuntimeProcess::pause)?;
            }
            FaultKind::ClockBack => site.victim().await.shift_clock(-STEP_BACK_MS).await?,
            FaultKind::Cut(kind) => {
                if let Some(proxy) = site.proxy(kind) {
                    site.cut_again_and_again(proxy, CUT_EVERY);
                }
            }
            FaultKind::Slow(kind) => site.slow_down(kind, LATENCY),
            FaultKind::AllAway => {
                let [redis, mysql, kafka] = ServerKind::ALL.map(|kind| site.stack.server(kind));
                let (redis, mysql, kafka) = tokio::join!(redis.kill(), mysql.kill(), kafka.kill());
                redis.and(mysql).and(kafka)?;
            }
            FaultKind::KillNode => site.stack.server(ServerKind::Redis).kill_node(KILLED_NODE).await?,
            FaultKind::Reshard => site.begin_resharding().await?,
            FaultKind::RefuseWrites => config_set(site, "min-replicas-to-write", "1").await?,
            FaultKind::PauseWrites => {
                let mut pause = redis::cmd("CLIENT");
                pause.arg("PAUSE").arg(WRITE_PAUSE_MS).arg("WRITE");
                pause.exec_async(&mut site.redis().await?).await?;
            }
            FaultKind::OlderMemory => {
                let older = site.older_redis.lock().await.take().context("a snapshot")?;
                site.stack.load_into_redis(older).await?;
            }
            FaultKind::OlderRestart => {
                let older = site.older_redis.lock().await.take().context("a snapshot")?;
                site.stack.restart_redis_with(older).await?;
            }
            FaultKind::Full => fill_redis(site).await?,
            FaultKind::RefuseOne => {
                site.stack.limit_topic(&site.config.kafka.topic, Some(SMALL_BATCH)).await?;
            }
            FaultKind::RemakeTopic => {
                site.stack.delete_topic(&site.config.kafka.topic).await?;
                make_topic(site).await?;
            }
            FaultKind::LoseTopic => site.stack.delete_topic(&site.config.kafka.topic).await?,
            FaultKind::LockMetadata => {
                *site.metadata_lock.lock().await = Some(MetadataLock::take(&site.mysql).await?);
            }
        }
        Ok(())
    }

    /// Undoes the fault, and waits until its servers are up again.
    pub(crate) async fn end(self, site: &Site) -> anyhow::Result<()> {
        match self.0 {
            FaultKind::Nothing
            | FaultKind::Flush
            | FaultKind::OlderMemory
            | FaultKind::OlderRestart
            | FaultKind::RemakeTopic => {}
            FaultKind::Kill(Victim::Server(kind)) => site.stack.server(kind).start().await?,
            FaultKind::Kill(Victim::Runtime) => site.victim().await.start().await?,
            FaultKind::Freeze(Victim::Server(kind)) => site.stack.server(kind).resume().await?,
            FaultKind::Freeze(Victim::Runtime) => site.victim().await.resume()?,
            FaultKind::RestartKafka => site.stack.server(ServerKind::Kafka).start().await?,
            FaultKind::Rebalance => {
                if let Some(mut extra) = site.extra.lock().await.take() {
                    extra.kill().await?;
                }
            }
            FaultKind::Zombie => {
                site.extra.lock().await.as_ref().map_or(Ok(()), RuntimeProcess::resume)?;
                // Let the third consumer finish its batch first.
                tokio::time::sleep(Duration::from_millis(500)).await;
                site.end_extra().await?;
            }
            FaultKind::ClockBack => site.victim().await.shift_clock(0).await?,
            FaultKind::Cut(_) => site.stop_cutting(),
            FaultKind::Slow(kind) => site.slow_down(kind, Duration::ZERO),
            FaultKind::AllAway => {
                let [redis, mysql, kafka] = ServerKind::ALL.map(|kind| site.stack.server(kind));
                let (redis, mysql, kafka) = tokio::join!(redis.start(), mysql.start(), kafka.start());
                redis.and(mysql).and(kafka)?;
            }
            // Starts only the nodes that do not run.
            FaultKind::KillNode => site.stack.server(ServerKind::Redis).start().await?,
            FaultKind::Reshard => site.end_resharding().await?,
            FaultKind::RefuseWrites => config_set(site, "min-replicas-to-write", "0").await?,
            FaultKind::PauseWrites => {
                redis::cmd("CLIENT").arg("UNPAUSE").exec_async(&mut site.redis().await?).await?;
            }
            FaultKind::Full => {
                if let Some([maxmemory, policy]) = site.redis_limits.lock().await.take() {
                    config_set(site, "maxmemory", &maxmemory).await?;
                    config_set(site, "maxmemory-policy", &policy).await?;
                }
            }
            FaultKind::RefuseOne => site.stack.limit_topic(&site.config.kafka.topic, None).await?,
            FaultKind::LoseTopic => make_topic(site).await?,
            FaultKind::LockMetadata => {
                if let Some(lock) = site.metadata_lock.lock().await.take() {
                    lock.release().await?;
                }
            }
        }
        Ok(())
    }

    /// Checks the servers at the end of the fault, before it is undone. Returns a broken promise.
    pub(crate) async fn look(self, site: &Site, ledger: &Ledger) -> anyhow::Result<Option<String>> {
        match self.0 {
            FaultKind::LockMetadata => {
                let waiting = MetadataLock::waiting(&site.mysql).await?;
                let pile = format!("{waiting} statements wait behind the schema change");
                Ok((waiting > MAX_WAITING).then_some(pile))
            }
            FaultKind::RefuseOne => refused::look(site, ledger).await,
            _ => Ok(None),
        }
    }

    /// The least time that the fault must last, at any pace.
    fn lasts_at_least(self) -> Duration {
        if self.0 == FaultKind::Zombie { BEYOND_SESSION } else { Duration::ZERO }
    }

    /// True if some requests get no answer during the fault. Such a fault lasts longer than any time-out.
    fn is_freeze(self) -> bool {
        matches!(self.0, FaultKind::Freeze(_) | FaultKind::PauseWrites | FaultKind::LockMetadata)
    }

    /// True if the fault gives Redis an older state.
    fn brings_back(self) -> bool {
        matches!(self.0, FaultKind::OlderMemory | FaultKind::OlderRestart)
    }

    /// True if Redis loses its latest data by the fault.
    pub(crate) fn forgets(self) -> bool {
        self.0 == FaultKind::Flush || self.brings_back()
    }

    /// True if MySQL's process dies by the fault.
    fn kills_mysql(self) -> bool {
        matches!(self.0, FaultKind::Kill(MYSQL) | FaultKind::AllAway)
    }

    /// True if undoing the fault starts a runtime, or stops one in good order. Either needs all servers.
    fn ends_last(self) -> bool {
        self.0 == FaultKind::Kill(Victim::Runtime) || self.adds_a_consumer()
    }

    /// True if the fault can leave Redis without its data, so that a recalled message may be shown until the consumer
    /// has read its RECALL event (`docs/limits.md`).
    pub(crate) fn touches_redis(self) -> bool {
        matches!(
            self.0,
            FaultKind::Flush
                | FaultKind::OlderMemory
                | FaultKind::OlderRestart
                | FaultKind::AllAway
                | FaultKind::Kill(REDIS)
                | FaultKind::Freeze(REDIS)
                | FaultKind::Cut(ServerKind::Redis)
                | FaultKind::KillNode
        )
    }

    fn touches(self, kind: ServerKind) -> bool {
        match self.0 {
            FaultKind::Kill(Victim::Server(it))
            | FaultKind::Freeze(Victim::Server(it))
            | FaultKind::Cut(it)
            | FaultKind::Slow(it) => it == kind,
            FaultKind::Flush
            | FaultKind::KillNode
            | FaultKind::Reshard
            | FaultKind::RefuseWrites
            | FaultKind::PauseWrites
            | FaultKind::OlderMemory
            | FaultKind::OlderRestart
            | FaultKind::Full => kind == ServerKind::Redis,
            FaultKind::RestartKafka
            | FaultKind::RefuseOne
            | FaultKind::RemakeTopic
            | FaultKind::LoseTopic => kind == ServerKind::Kafka,
            FaultKind::LockMetadata => kind == ServerKind::MySql,
            FaultKind::AllAway => true,
            FaultKind::Nothing
            | FaultKind::Kill(RUNTIME)
            | FaultKind::Freeze(RUNTIME)
            | FaultKind::Rebalance
            | FaultKind::Zombie
            | FaultKind::ClockBack => false,
        }
    }

    /// True if the fault needs a Redis Cluster.
    pub fn needs_a_cluster(self) -> bool {
        matches!(self.0, FaultKind::KillNode | FaultKind::Reshard)
    }

    fn touches_runtime(self) -> bool {
        matches!(self.0, FaultKind::Kill(RUNTIME) | FaultKind::Freeze(RUNTIME) | FaultKind::ClockBack)
    }

    fn adds_a_consumer(self) -> bool {
        matches!(self.0, FaultKind::Rebalance | FaultKind::Zombie)
    }

    /// True if two faults may happen at the same time without a loss.
    pub(crate) fn mixes_with(self, other: Self) -> bool {
        let apart = ServerKind::ALL.into_iter().all(|kind| !self.touches(kind) || !other.touches(kind))
            && !(self.touches_runtime() && other.touches_runtime())
            && !(self.adds_a_consumer() && (other.adds_a_consumer() || other.0 == FaultKind::AllAway))
            && !(other.adds_a_consumer() && self.0 == FaultKind::AllAway);
        // A message that only Redis holds is lost with the data of Redis (`docs/limits.md`), so Kafka and the
        // runtimes, which send it on, must work. A message that only Kafka holds is lost with the topic, so Redis
        // must work.
        let forgets = |a: Self, b: Self| {
            (a.forgets() && (b.touches(ServerKind::Kafka) || b.touches_runtime()))
                || (matches!(a.0, FaultKind::RemakeTopic | FaultKind::LoseTopic)
                    && b.touches(ServerKind::Redis))
        };
        let something = self.0 != FaultKind::Nothing && other.0 != FaultKind::Nothing;
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
    /// The faults in the order in which they begin. An additional runtime cannot start while a server is away.
    pub(crate) fn in_order_of_begin(&self) -> Vec<Fault> {
        let mut faults = self.0.clone();
        faults.sort_by_key(|fault| !fault.adds_a_consumer());
        faults
    }

    /// The faults in the order in which they end. Servers come back before processes that need them.
    pub(crate) fn in_order_of_end(&self) -> Vec<Fault> {
        let mut faults = self.0.clone();
        faults.sort_by_key(|fault| fault.ends_last());
        faults
    }

    /// How long these faults last together, at this pace.
    pub(crate) fn hold(&self, pace: &Pace) -> Duration {
        let holds = self.0.iter().map(|fault| {
            let hold = if fault.is_freeze() { pace.freeze } else { pace.hold };
            hold.max(fault.lasts_at_least())
        });
        holds.max().unwrap_or_default()
    }

    /// The kind of the fault, if there is only one.
    pub(crate) fn single(&self) -> Option<FaultKind> {
        match self.0.as_slice() {
            [fault] => Some(fault.0),
            _ => None,
        }
    }

    /// The servers that need a proxy in front.
    pub(crate) fn need_a_proxy(&self) -> impl Iterator<Item = ServerKind> {
        self.0.iter().filter_map(|fault| match fault.0 {
            FaultKind::Cut(kind) | FaultKind::Slow(kind) => Some(kind),
            _ => None,
        })
    }

    /// True if Redis must be a process of this machine.
    pub(crate) fn need_redis_files(&self) -> bool {
        self.0.iter().any(|fault| fault.brings_back())
    }

    /// True if Redis loses its latest data by these faults.
    pub(crate) fn forget(&self) -> bool {
        self.0.iter().any(|fault| fault.forgets())
    }

    /// True if MySQL's process dies by these faults.
    pub(crate) fn kill_mysql(&self) -> bool {
        self.0.iter().any(|fault| fault.kills_mysql())
    }

    /// True if these faults need a Redis Cluster.
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
            [one, other] => return Err(format!("{one} and {other} cannot happen together")),
            _ => return Err("at most two faults can happen together".to_owned()),
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
