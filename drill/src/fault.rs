//! What the drill does to the system.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hongyan_local::stack::Kind;
use redis::AsyncCommands as _;

use crate::process::RuntimeProcess;
use crate::site::Site;

/// How far the clock steps back.
const STEP_BACK_MS: i64 = 90_000;

/// Longer than a consumer may be silent before Kafka gives its partitions to others (6 s).
const BEYOND_SESSION: Duration = Duration::from_secs(8);

/// How often connections are cut.
const CUT_EVERY: Duration = Duration::from_millis(200);

/// How much later everything arrives on a slow network, in either direction.
const LATENCY: Duration = Duration::from_millis(30);

/// What can be killed and frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Server(Kind),
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
    Cut(Kind),
    Slow(Kind),
    AllAway,
    KillNode,
    Reshard,
}

const RUNTIME: Victim = Victim::Runtime;
const REDIS: Victim = Victim::Server(Kind::Redis);
const KAFKA: Victim = Victim::Server(Kind::Kafka);
const MYSQL: Victim = Victim::Server(Kind::Mysql);

/// Every fault with its name and what it is.
const ALL: [(What, &str, &str); 23] = [
    (What::Nothing, "none", "nothing: what the others are compared with"),
    (What::Kill(RUNTIME), "runtime-kill", "kill -9 of the local runtime; it is started again"),
    (What::Freeze(RUNTIME), "runtime-freeze", "SIGSTOP of the local runtime"),
    (What::Kill(REDIS), "redis-kill", "kill -9 of Redis; it comes back with its append-only file"),
    (What::Freeze(REDIS), "redis-freeze", "SIGSTOP of Redis"),
    (What::Flush, "redis-flush", "FLUSHALL: Redis forgets everything"),
    (What::Cut(Kind::Redis), "redis-cut", "connections to Redis are reset five times a second"),
    (What::Slow(Kind::Redis), "redis-slow", "30 ms between the runtime and Redis, each way"),
    (What::Kill(KAFKA), "kafka-kill", "kill -9 of Kafka"),
    (What::Freeze(KAFKA), "kafka-freeze", "SIGSTOP of Kafka"),
    (
        What::RestartKafka,
        "kafka-restart",
        "the leader of all partitions is stopped in good order and started again",
    ),
    (What::Cut(Kind::Kafka), "kafka-cut", "connections to Kafka are reset five times a second"),
    (What::Slow(Kind::Kafka), "kafka-slow", "30 ms between the runtime and Kafka, each way"),
    (What::Kill(MYSQL), "mysql-kill", "kill -9 of MySQL"),
    (What::Freeze(MYSQL), "mysql-freeze", "SIGSTOP of MySQL"),
    (What::Cut(Kind::Mysql), "mysql-cut", "connections to MySQL are reset five times a second"),
    (What::Slow(Kind::Mysql), "mysql-slow", "30 ms between the runtime and MySQL, each way"),
    (
        What::Rebalance,
        "consumer-rebalance",
        "a second runtime joins the consumer group, leaves, joins again, is killed",
    ),
    (
        What::Zombie,
        "consumer-zombie",
        "a second consumer freezes, loses its partitions, and then goes on with its batch",
    ),
    (What::ClockBack, "clock-back", "the runtime's clock steps back by 90 s, later forward again"),
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

    /// Does it.
    pub(crate) async fn begin(self, site: &Site) -> anyhow::Result<()> {
        match self.0 {
            What::Nothing => {}
            What::Kill(Victim::Server(kind)) => site.stack.server(kind).kill().await?,
            What::Kill(Victim::Runtime) => site.runtime.lock().await.kill().await?,
            What::Freeze(Victim::Server(kind)) => site.stack.server(kind).pause().await?,
            What::Freeze(Victim::Runtime) => site.runtime.lock().await.pause()?,
            What::Flush => site.redis().await?.flushall::<()>().await?,
            What::RestartKafka => site.stack.server(Kind::Kafka).stop().await?,
            What::Rebalance => {
                site.begin_second().await?;
                site.end_second().await?;
                site.begin_second().await?;
            }
            What::Zombie => {
                site.begin_second().await?;
                // Until it has partitions and is at work.
                tokio::time::sleep(Duration::from_millis(500)).await;
                site.second.lock().await.as_ref().map_or(Ok(()), RuntimeProcess::pause)?;
            }
            What::ClockBack => site.runtime.lock().await.set_clock(-STEP_BACK_MS).await?,
            What::Cut(kind) => {
                if let Some(proxy) = site.proxy(kind) {
                    site.cut_again_and_again(proxy, CUT_EVERY);
                }
            }
            What::Slow(kind) => site.slow_down(kind, LATENCY),
            What::AllAway => {
                let [redis, mysql, kafka] = Kind::ALL.map(|kind| site.stack.server(kind));
                let (redis, mysql, kafka) = tokio::join!(redis.kill(), mysql.kill(), kafka.kill());
                redis.and(mysql).and(kafka)?;
            }
            What::KillNode => site.stack.server(Kind::Redis).kill_node(KILLED_NODE).await?,
            What::Reshard => site.begin_resharding().await?,
        }
        Ok(())
    }

    /// Undoes it, and waits until what was away is up again.
    pub(crate) async fn end(self, site: &Site) -> anyhow::Result<()> {
        match self.0 {
            What::Nothing | What::Flush => {}
            What::Kill(Victim::Server(kind)) => site.stack.server(kind).start().await?,
            What::Kill(Victim::Runtime) => site.runtime.lock().await.start().await?,
            What::Freeze(Victim::Server(kind)) => site.stack.server(kind).resume().await?,
            What::Freeze(Victim::Runtime) => site.runtime.lock().await.resume()?,
            What::RestartKafka => site.stack.server(Kind::Kafka).start().await?,
            What::Rebalance => {
                if let Some(mut second) = site.second.lock().await.take() {
                    second.kill().await?;
                }
            }
            What::Zombie => {
                site.second.lock().await.as_ref().map_or(Ok(()), RuntimeProcess::resume)?;
                // It is to finish its batch before it goes.
                tokio::time::sleep(Duration::from_millis(500)).await;
                site.end_second().await?;
            }
            What::ClockBack => site.runtime.lock().await.set_clock(0).await?,
            What::Cut(_) => site.stop_cutting(),
            What::Slow(kind) => site.slow_down(kind, Duration::ZERO),
            What::AllAway => {
                let [redis, mysql, kafka] = Kind::ALL.map(|kind| site.stack.server(kind));
                let (redis, mysql, kafka) = tokio::join!(redis.start(), mysql.start(), kafka.start());
                redis.and(mysql).and(kafka)?;
            }
            // Only what does not run is started.
            What::KillNode => site.stack.server(Kind::Redis).start().await?,
            What::Reshard => site.end_resharding().await?,
        }
        Ok(())
    }

    /// How long it lasts at least, whatever the pace.
    pub(crate) fn lasts_at_least(self) -> Duration {
        if self.0 == What::Zombie { BEYOND_SESSION } else { Duration::ZERO }
    }

    pub(crate) fn is_freeze(self) -> bool {
        matches!(self.0, What::Freeze(_))
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
                | What::AllAway
                | What::Kill(REDIS)
                | What::Freeze(REDIS)
                | What::Cut(Kind::Redis)
                | What::KillNode
        )
    }

    fn touches(self, kind: Kind) -> bool {
        match self.0 {
            What::Kill(Victim::Server(it))
            | What::Freeze(Victim::Server(it))
            | What::Cut(it)
            | What::Slow(it) => it == kind,
            What::Flush | What::KillNode | What::Reshard => kind == Kind::Redis,
            What::RestartKafka => kind == Kind::Kafka,
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
        let apart = Kind::ALL.into_iter().all(|kind| !self.touches(kind) || !other.touches(kind))
            && !(self.touches_runtime() && other.touches_runtime())
            && !(self.adds_a_consumer() && (other.adds_a_consumer() || other.0 == What::AllAway))
            && !(other.adds_a_consumer() && self.0 == What::AllAway);
        // What only Redis held goes with its memory (`docs/limits.md`): Kafka, and who brings it there, must be well.
        let forgets =
            |a: Self, b: Self| a.0 == What::Flush && (b.touches(Kind::Kafka) || b.touches_runtime());
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

    /// The one fault, if it is one.
    pub(crate) fn single(&self) -> Option<What> {
        match self.0.as_slice() {
            [fault] => Some(fault.0),
            _ => None,
        }
    }

    /// The servers that a proxy must be in front of.
    pub(crate) fn need_a_proxy(&self) -> impl Iterator<Item = Kind> {
        self.0.iter().filter_map(|fault| match fault.0 {
            What::Cut(kind) | What::Slow(kind) => Some(kind),
            _ => None,
        })
    }

    /// Whether they are done to a Redis Cluster.
    pub(crate) fn need_a_cluster(&self) -> bool {
        self.0.iter().any(|fault| fault.needs_a_cluster())
    }

    pub(crate) fn touch_redis(&self) -> bool {
        self.0.iter().any(|fault| fault.touches_redis())
    }

    /// Whether this process of the runtime ends with it.
    pub(crate) fn replace_the_runtime(&self) -> bool {
        self.0.iter().any(|fault| fault.0 == What::Kill(RUNTIME))
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
        for wrong in ["", "redis", "redis-kill+", "redis-kill+redis-freeze", "redis-flush+kafka-kill"] {
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
