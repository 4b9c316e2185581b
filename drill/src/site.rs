//! The site of a drill: three servers of its own, a proxy in front of each, and two runtimes that reach the servers
//! through the proxies. The drill itself reads the servers without the proxies.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use hongyan::app::App;
use hongyan::clock::Clock;
use hongyan::config::Config;
use hongyan::id::UserId;
use hongyan_runtime::dlq::{self, Filter};
use hongyan_stack::{RedisSnapshot, ServerKind, Stack, StackOptions, free_port};
use hongyan_testkit::Caller;
use hongyan_testkit::proxy::Proxy;
use hongyan_testkit::redis::{RedisClient, RedisConnection};
use secrecy::ExposeSecret as _;
use sqlx::MySqlPool;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::{AbortHandle, JoinHandle};

use crate::metadata_lock::MetadataLock;
use crate::pace::Pace;
use crate::process::{Program, RuntimeProcess};
use crate::reshard::Masters;
use crate::serve::Serve;

/// The variable that chooses where the servers run: `native` or `docker`.
const PLACE: &str = "HONGYAN_STACK";

/// Tokens are valid for the whole drill, also by a clock that was set back.
const TOKEN_SINCE_MS: i64 = 600_000;
const TOKEN_LIFETIME: Duration = Duration::from_hours(24);

/// The number of runtimes that serve the users, on the same servers.
pub(crate) const RUNTIMES: usize = 2;

/// By how much the clock of each runtime is ahead of the clock of the runtime before it.
const CLOCKS_APART_MS: i64 = 2_000;

/// The runtime that faults kill, freeze, or set the clock of.
const VICTIM: usize = 0;

/// How long the last slot may take to arrive, or the first if none has moved yet.
const RESHARDING_LIMIT: Duration = Duration::from_secs(30);

/// The site of one drill.
pub(crate) struct Site {
    pub(crate) stack: Stack,
    proxies: Vec<(ServerKind, Arc<Proxy>)>,
    cutting: parking_lot::Mutex<Vec<AbortHandle>>,
    /// The runtimes that users talk to.
    pub(crate) runtimes: [Mutex<RuntimeProcess>; RUNTIMES],
    addresses: [SocketAddr; RUNTIMES],
    /// An additional runtime without users: one more member of the consumer group, for some faults.
    pub(crate) extra: Mutex<Option<RuntimeProcess>>,
    program: Program,
    /// A separate process of the application for the compensator. The drill puts its clock forward.
    pub(crate) app: App,
    clock_offset: Arc<AtomicI64>,
    pub(crate) config: Config,
    /// MySQL, for reading rows.
    pub(crate) mysql: MySqlPool,
    redis: RedisClient,
    resharding: Mutex<Option<Resharding>>,
    /// A snapshot of Redis, for faults that bring it back.
    pub(crate) older_redis: Mutex<Option<RedisSnapshot>>,
    pub(crate) metadata_lock: Mutex<Option<MetadataLock>>,
    /// The memory limit and the eviction policy that Redis had before a fault.
    pub(crate) redis_limits: Mutex<Option<[String; 2]>>,
}

/// The task that moves slots until the flag is set.
struct Resharding {
    stop: Arc<AtomicBool>,
    moving: JoinHandle<anyhow::Result<usize>>,
}

impl Site {
    /// Starts the servers, the proxies, and the runtimes, whose logs go to the folder `logs`. Redis is one server or
    /// a cluster. A cluster has no proxy in front, since its nodes redirect clients to each other.
    pub(crate) async fn start(
        logs: &Path,
        program: PathBuf,
        pace: &Pace,
        redis_cluster: bool,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(logs)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let given = std::env::var(PLACE).map(|place| (PLACE.to_owned(), place));
        let mut options =
            StackOptions::temporary().with_environment(given)?.with_kafka_proxy(listener.local_addr()?);
        if redis_cluster {
            options = options.with_redis_cluster();
        }
        let stack = Box::pin(Stack::start(options)).await?;
        let mut settings: Vec<(String, String)> =
            stack.env().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        // A user of the drill sends as fast as it can.
        settings.push(("IM_SENDS_PER_SECOND".to_owned(), "0".to_owned()));
        settings.extend(pace.settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let config = config_of(&settings)?;
        let mysql = MySqlPool::connect_lazy(value_of(&settings, ServerKind::MySql.variable())?)?;
        let redis = RedisClient::new(value_of(&settings, ServerKind::Redis.variable())?, redis_cluster);
        let clock_offset: Arc<AtomicI64> = Arc::default();
        let app = App::new(&config, Clock::shifted(clock_offset.clone()))?;

        let mut proxies = Vec::new();
        let direct =
            if redis_cluster { &[ServerKind::MySql][..] } else { &[ServerKind::Redis, ServerKind::MySql] };
        for &kind in direct {
            let url = settings.iter_mut().find(|(name, _)| name == kind.variable()).context("its URL")?;
            let proxy = Proxy::to(&url.1).await;
            url.1 = proxy.url();
            proxies.push((kind, Arc::new(proxy)));
        }
        if let Some(kafka) = stack.kafka_behind_proxy() {
            let proxy = Proxy::on(listener, &format!("kafka://{kafka}"));
            let bootstrap = settings.iter_mut().find(|(name, _)| name == ServerKind::Kafka.variable());
            bootstrap.context("its address")?.1 = proxy.address().to_string();
            proxies.push((ServerKind::Kafka, Arc::new(proxy)));
        }
        let serve = Serve { listen: free_address(), longest_pause: pace.longest_pause, clock_ms: 0 };
        let program = Program { path: program, settings, serve, log: logs.join("runtime-extra.log") };
        let first = RuntimeProcess::begin(numbered(&program, 0)).await?;
        let second = RuntimeProcess::begin(numbered(&program, 1)).await?;
        let runtimes = [first, second];
        let addresses = [0, 1].map(|number: usize| runtimes[number].address());
        Ok(Self {
            stack,
            proxies,
            cutting: parking_lot::Mutex::default(),
            runtimes: runtimes.map(Mutex::new),
            addresses,
            extra: Mutex::new(None),
            program,
            app,
            clock_offset,
            config,
            mysql,
            redis,
            resharding: Mutex::new(None),
            older_redis: Mutex::new(None),
            metadata_lock: Mutex::new(None),
            redis_limits: Mutex::new(None),
        })
    }

    /// Stops everything in good order.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop_cutting();
        self.end_extra().await?;
        for runtime in &self.runtimes {
            runtime.lock().await.stop().await?;
        }
        self.app.shutdown().await;
        self.mysql.close().await;
        Ok(self.stack.stop().await?)
    }

    /// A user as a caller of each runtime.
    pub(crate) fn callers(&self, user: i64) -> anyhow::Result<[Caller; RUNTIMES]> {
        let user = UserId::new(user)?;
        let since = Clock::system().now_ms() - TOKEN_SINCE_MS;
        let token = self.app.auth.issue(user, since, TOKEN_LIFETIME)?;
        Ok(self.addresses.map(|address| Caller::new(address, user, token.clone())))
    }

    /// The runtime that faults kill, freeze, or set the clock of. The other one goes on.
    pub(crate) async fn victim(&self) -> MutexGuard<'_, RuntimeProcess> {
        self.runtimes[VICTIM].lock().await
    }

    /// How a runtime ended, if one ended by itself.
    pub(crate) async fn ended(&self) -> Option<String> {
        for runtime in &self.runtimes {
            let ended = runtime.lock().await.ended();
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    /// Kills all runtimes.
    pub(crate) async fn kill_runtimes(&self) -> anyhow::Result<()> {
        for runtime in &self.runtimes {
            runtime.lock().await.kill().await?;
        }
        Ok(())
    }

    /// Opens a connection to Redis.
    pub(crate) async fn redis(&self) -> anyhow::Result<RedisConnection> {
        Ok(self.redis.connect().await?)
    }

    /// Begins to move slots of the Redis Cluster from node to node, until [`Self::end_resharding`].
    pub(crate) async fn begin_resharding(&self) -> anyhow::Result<()> {
        let masters = Masters::of(self.config.redis.url.expose_secret()).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let moving = tokio::spawn(masters.move_until(move || until.load(Ordering::Relaxed)));
        *self.resharding.lock().await = Some(Resharding { stop, moving });
        Ok(())
    }

    /// Ends the moving, and waits for the last slot.
    pub(crate) async fn end_resharding(&self) -> anyhow::Result<()> {
        let Some(resharding) = self.resharding.lock().await.take() else { return Ok(()) };
        resharding.stop.store(true, Ordering::Relaxed);
        let moved = tokio::time::timeout(RESHARDING_LIMIT, resharding.moving).await;
        moved.context("no slot was moved")???;
        Ok(())
    }

    /// The proxy in front of a server. In Docker, Kafka has none.
    pub(crate) fn proxy(&self, kind: ServerKind) -> Option<&Arc<Proxy>> {
        self.proxies.iter().find(|(it, _)| *it == kind).map(|(_, proxy)| proxy)
    }

    /// Resets the connections of a proxy every `pause`, until [`Self::stop_cutting`].
    pub(crate) fn cut_again_and_again(&self, proxy: &Arc<Proxy>, pause: Duration) {
        let proxy = proxy.clone();
        let task = tokio::spawn(async move {
            loop {
                proxy.cut();
                tokio::time::sleep(pause).await;
            }
        });
        self.cutting.lock().push(task.abort_handle());
    }

    pub(crate) fn stop_cutting(&self) {
        for task in self.cutting.lock().drain(..) {
            task.abort();
        }
    }

    pub(crate) fn slow_down(&self, kind: ServerKind, latency: Duration) {
        if let Some(proxy) = self.proxy(kind) {
            proxy.slow_down(latency);
        }
    }

    /// Starts an additional runtime, which joins the consumer group.
    pub(crate) async fn begin_extra(&self) -> anyhow::Result<()> {
        let mut program = self.program.clone();
        program.serve.listen = free_address();
        *self.extra.lock().await = Some(RuntimeProcess::begin(program).await?);
        Ok(())
    }

    /// Stops the additional runtime in good order.
    pub(crate) async fn end_extra(&self) -> anyhow::Result<()> {
        match self.extra.lock().await.take() {
            Some(mut extra) => extra.stop().await,
            None => Ok(()),
        }
    }

    /// Puts the clock forward by `ms`, and runs the compensator.
    pub(crate) async fn compensate_after(&self, ms: i64) -> anyhow::Result<()> {
        self.clock_offset.fetch_add(ms, Ordering::SeqCst);
        let event = hongyan_scheduled_compensator::EventBridgeEvent::default();
        let summary = Box::pin(hongyan_scheduled_compensator::handle(&self.app, event)).await;
        summary.map(drop).map_err(|error| anyhow::anyhow!("the compensator: {error}"))
    }

    /// The dead letters, one line each.
    pub(crate) async fn dead_letters(&self) -> anyhow::Result<Vec<String>> {
        let letters = dlq::list(&self.config.kafka, Filter::default()).await?;
        Ok(letters.iter().map(ToString::to_string).collect())
    }
}

fn config_of(settings: &[(String, String)]) -> anyhow::Result<Config> {
    Ok(Config::from_lookup(|name| value_of(settings, name).ok().map(str::to_owned))?)
}

fn value_of<'a>(settings: &'a [(String, String)], name: &str) -> anyhow::Result<&'a str> {
    let found = settings.iter().rev().find(|(it, _)| it == name);
    found.map(|(_, value)| value.as_str()).with_context(|| format!("{name} is not known"))
}

/// The program of one of the runtimes that users talk to.
fn numbered(program: &Program, number: usize) -> Program {
    let mut program = program.clone();
    program.serve.listen = free_address();
    program.serve.clock_ms = CLOCKS_APART_MS * i64::try_from(number).unwrap_or_default();
    program.log.set_file_name(format!("runtime-{}.log", number + 1));
    program
}

/// A free address that no client gets for its own end while the runtime is down.
fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}
