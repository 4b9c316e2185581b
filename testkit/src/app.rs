//! One application for one test: the whole local runtime, with a database, topics, a consumer group and a Redis
//! database that no other test uses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ::redis::AsyncCommands;
use hongyan::app::App;
use hongyan::clock::Clock;
use hongyan::config::Config;
use hongyan::id::UserId;
use hongyan_runtime::gateway::{self, GatewayOptions};
use hongyan_runtime::prometheus;
use hongyan_runtime::runtime::{Host, Runtime, RuntimeOptions, own_endpoint};
use hongyan_scheduled_compensator::Summary;
use hongyan_stack::Stack;
use parking_lot::Mutex;
use sqlx::MySqlPool;
use url::Url;

use crate::client::Caller;
use crate::lambda::{self, Environment, Lambda};
use crate::redis::{RedisClient, RedisConnection};
use crate::servers::{self, RedisCluster};

/// Redis databases are numbered 0 to 15. Tests leave database 0 alone.
const REDIS_DATABASES: u32 = 15;

/// How many requests at a time a process of a function takes, if the functions run as Lambda binaries as on Managed
/// Instances.
const CONCURRENCY: u32 = 8;

/// One bit for each Redis database: set while a test uses the database.
static REDIS_DATABASES_IN_USE: Mutex<u32> = Mutex::new(0);

/// A Redis database that no other running test uses.
struct RedisDatabase(u32);

impl RedisDatabase {
    fn take() -> Self {
        let mut in_use = REDIS_DATABASES_IN_USE.lock();
        let free = (1..=REDIS_DATABASES).find(|number| *in_use & 1 << number == 0);
        let number = free.expect("fewer than 16 tests at a time");
        *in_use |= 1 << number;
        Self(number)
    }
}

impl Drop for RedisDatabase {
    fn drop(&mut self) {
        *REDIS_DATABASES_IN_USE.lock() &= !(1 << self.0);
    }
}

/// The options of an application, set by a test before the application starts.
pub struct TestAppBuilder {
    settings: BTreeMap<&'static str, String>,
    trigger: bool,
    gateway: GatewayOptions,
    metrics: bool,
    lambda: bool,
    redis_proxy: Option<SocketAddr>,
    redis_url: Option<String>,
    mysql_proxy: Option<SocketAddr>,
}

impl TestAppBuilder {
    /// Sets a variable (README, "Settings").
    #[must_use]
    pub fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.insert(name, value.into());
        self
    }

    /// Starts no Kafka trigger: only the test itself consumes records.
    #[must_use]
    pub fn without_trigger(mut self) -> Self {
        self.trigger = false;
        self
    }

    /// The application reaches Redis through a proxy.
    #[must_use]
    pub fn redis_by_way_of(mut self, proxy: SocketAddr) -> Self {
        self.redis_proxy = Some(proxy);
        self
    }

    /// The application reaches MySQL through a proxy. The test itself reads rows without the proxy.
    #[must_use]
    pub fn mysql_by_way_of(mut self, proxy: SocketAddr) -> Self {
        self.mysql_proxy = Some(proxy);
        self
    }

    /// The application reaches Redis by this URL. The test itself reads Redis by the URL of the servers it starts on.
    #[must_use]
    pub fn redis_at(mut self, url: String) -> Self {
        self.redis_url = Some(url);
        self
    }

    /// Sets the limits of the gateway.
    #[must_use]
    pub fn gateway(mut self, gateway: GatewayOptions) -> Self {
        self.gateway = gateway;
        self
    }

    /// Serves `GET /metrics`. A process can have only one recorder, so only one test of a binary may use this.
    #[must_use]
    pub fn with_metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// Keeps the functions in this process, even in a run with Lambda binaries. For a test that moves the
    /// application's clock ([`TestApp::pass_ms`]) or reads the metrics of functions: neither works across processes.
    #[must_use]
    pub fn in_process(mut self) -> Self {
        self.lambda = false;
        self
    }

    /// Starts on the servers that all tests of this binary share.
    pub async fn start(self) -> TestApp {
        // A proxy leads to one server, but a cluster would redirect the client past the proxy.
        if servers::redis_is_cluster() && self.redis_proxy.is_none() {
            let cluster = Box::pin(RedisCluster::take()).await;
            let mut test = Box::pin(self.start_on(cluster.stack())).await;
            test.cluster = Some(cluster);
            return test;
        }
        let stack = servers::stack().await;
        Box::pin(self.start_on(stack)).await
    }

    /// Starts on servers that belong to this test alone.
    pub async fn start_on(self, stack: &Stack) -> TestApp {
        let mut settings: BTreeMap<&'static str, String> = stack.env().into_iter().collect();
        let name = servers::unique_name();
        let topic = settings.entry("KAFKA_TOPIC").or_insert_with(|| name.clone()).clone();
        let dead_letters =
            settings.entry("KAFKA_DEAD_LETTER_TOPIC").or_insert_with(|| format!("{name}_dead")).clone();
        settings.insert("KAFKA_GROUP_ID", name.clone());
        // A test sends as fast as it can.
        settings.insert("IM_SENDS_PER_SECOND", "0".to_owned());
        // On a busy machine an acknowledgement may take longer than the default of 200 ms. The send would then be a 503
        // while Redis is away.
        settings.insert("KAFKA_WAIT_MS", "2000".to_owned());
        settings.insert("MYSQL_URL", stack.create_database(&name).await.expect("a database for the test"));
        let database = (!settings.contains_key("REDIS_CLUSTER")).then(RedisDatabase::take);
        if let Some(RedisDatabase(database)) = &database {
            let url = settings["REDIS_URL"].clone();
            let server = url.rsplit_once('/').map_or(url.as_str(), |(server, _)| server);
            settings.insert("REDIS_URL", format!("{server}/{database}"));
        }
        let inside = Inside { redis: settings["REDIS_URL"].clone(), mysql: settings["MYSQL_URL"].clone() };
        if let Some(proxy) = self.mysql_proxy {
            settings.insert("MYSQL_URL", with_port(&inside.mysql, proxy.port()));
        }
        if let Some(url) = self.redis_url {
            let mut url = Url::parse(&url).expect("a Redis URL");
            url.set_path(Url::parse(&inside.redis).expect("a Redis URL").path());
            settings.insert("REDIS_URL", url.into());
        }
        if let Some(proxy) = self.redis_proxy {
            settings.insert("REDIS_URL", with_port(&settings["REDIS_URL"], proxy.port()));
        }
        settings.extend(self.settings);
        let config = Config::from_lookup(|name| settings.get(name).cloned()).expect("settings");
        let partitions = usize::from(config.kafka.partitions.get());
        stack.create_topic(&topic, partitions).await.expect("a topic for the test");
        stack.create_topic(&dead_letters, 1).await.expect("a dead-letter topic for the test");

        let mut test = TestApp::prepare(config, settings, &inside).await;
        (test.database, test.gateway, test.metrics) = (database, self.gateway, self.metrics);
        test.lambda = self.lambda;
        test.boot(self.trigger).await
    }
}

/// The addresses that the test itself uses, without proxies and TLS.
struct Inside {
    redis: String,
    mysql: String,
}

/// A running application, with ways to look behind its API.
pub struct TestApp {
    /// The application's settings.
    pub config: Config,
    /// The settings as environment variables.
    pub settings: BTreeMap<&'static str, String>,
    /// MySQL, for reading rows.
    pub mysql: MySqlPool,
    clock_offset: Arc<AtomicI64>,
    redis: RedisClient,
    gateway: GatewayOptions,
    metrics: bool,
    lambda: bool,
    hosted: Option<(Lambda, Vec<Environment>)>,
    runtime: Option<Runtime>,
    database: Option<RedisDatabase>,
    cluster: Option<RedisCluster>,
}

impl TestApp {
    /// Starts an application with the default settings.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Builds an application with other settings.
    pub fn builder() -> TestAppBuilder {
        TestAppBuilder {
            settings: BTreeMap::new(),
            trigger: true,
            gateway: GatewayOptions::default(),
            metrics: false,
            lambda: lambda::wanted(),
            redis_proxy: None,
            redis_url: None,
            mysql_proxy: None,
        }
    }

    /// Starts a second process on the servers and data of `first`, like a second Lambda environment. The second
    /// process consumes no records.
    pub async fn beside(first: &Self) -> Self {
        let second = Self {
            config: first.config.clone(),
            settings: first.settings.clone(),
            mysql: first.mysql.clone(),
            clock_offset: first.clock_offset.clone(),
            redis: first.redis.clone(),
            gateway: first.gateway.clone(),
            metrics: false,
            lambda: first.lambda,
            hosted: None,
            runtime: None,
            database: None,
            cluster: None,
        };
        Box::pin(second.boot(false)).await
    }

    async fn prepare(config: Config, settings: BTreeMap<&'static str, String>, inside: &Inside) -> Self {
        let redis = RedisClient::new(&inside.redis, config.redis.cluster);
        let empty = ::redis::cmd("FLUSHDB");
        let mut connection = redis.connect().await.expect("Redis answers");
        empty.exec_async(&mut connection).await.expect("an empty database");
        let mysql = MySqlPool::connect_lazy(&inside.mysql).expect("a MySQL URL");
        Self {
            config,
            settings,
            mysql,
            clock_offset: Arc::default(),
            redis,
            gateway: GatewayOptions::default(),
            metrics: false,
            lambda: false,
            hosted: None,
            runtime: None,
            database: None,
            cluster: None,
        }
    }

    async fn boot(mut self, trigger: bool) -> Self {
        let listener = gateway::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let mut options = RuntimeOptions::new(self.config.clone(), listener);
        options.clock = self.clock();
        options.schedule = Some(Duration::from_hours(24));
        if let Some(trigger) = &mut options.trigger {
            trigger.longest_pause = Duration::from_secs(1);
        }
        options.gateway = self.gateway.clone();
        if self.metrics {
            options.metrics = Some(prometheus::install().expect("the only recorder of this process"));
        }
        if !trigger {
            options.trigger = None;
        }
        if self.lambda {
            let mut settings = self.settings.clone();
            let gateway = own_endpoint(options.listener.local_addr().expect("a bound port"));
            settings.entry("PUSH_ENDPOINT").or_insert_with(|| gateway.to_string());
            let lambda = Box::pin(Lambda::start()).await;
            options.host = Host::InvokeApi(lambda.api());
            let environments = lambda.every_function(&settings, CONCURRENCY);
            self.hosted = Some((lambda, environments));
        }
        self.runtime = Some(Box::pin(Runtime::start(options)).await.expect("the runtime starts"));
        self
    }

    /// Stops the application like Ctrl-C, and starts another one over the same servers and data.
    pub async fn restart(mut self) -> Self {
        self.end().await;
        self.boot(true).await
    }

    /// Cuts off everything that is under way, as a crash does, and starts another one over the same servers and data.
    pub async fn crash(mut self) -> Self {
        drop(self.runtime.take());
        self.end().await;
        self.boot(true).await
    }

    /// Stops the application like Ctrl-C.
    pub async fn stop(mut self) {
        self.end().await;
    }

    async fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.stop().await;
        }
        if let Some((lambda, environments)) = self.hosted.take() {
            lambda::stop_all(environments).await;
            lambda.stop().await;
        }
    }

    /// The runtime of the application.
    pub fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the application runs")
    }

    /// The clients and settings of the functions, for tests that call a handler or a part of it.
    pub fn app(&self) -> &Arc<App> {
        self.runtime().app()
    }

    /// A caller of the API with the token of this user.
    pub fn user(&self, id: i64) -> Caller {
        let user = UserId::new(id).expect("a user id");
        let now = self.clock().now_ms();
        let token = self.app().auth.issue(user, now, Duration::from_hours(1)).expect("an HS256 secret");
        Caller::new(self.runtime().addr(), user, token)
    }

    /// The application's clock.
    pub fn clock(&self) -> Clock {
        Clock::shifted(self.clock_offset.clone())
    }

    /// Puts the application's clock forward by so many ms, or back if negative. Needs the functions in this process:
    /// see [`TestAppBuilder::in_process`].
    pub fn pass_ms(&self, ms: i64) {
        assert!(
            self.hosted.is_none(),
            "a Lambda binary has the machine's clock; build the TestApp in_process()"
        );
        self.clock_offset.fetch_add(ms, Ordering::SeqCst);
    }

    /// Stops consuming: records stay in the topic until [`Self::release`].
    pub async fn hold(&self) {
        let trigger = self.runtime().trigger().expect("a trigger");
        trigger.pause();
        trigger.idle().await;
    }

    /// Consumes again.
    pub fn release(&self) {
        self.runtime().trigger().expect("a trigger").resume();
    }

    /// Waits until every record that was produced is consumed and committed. That includes sends that were answered
    /// before Kafka had them. Asks again if Kafka has just come back and still looks for its group coordinator.
    pub async fn drain(&self) {
        let trigger = self.runtime().trigger().expect("a trigger");
        self.app().queue.flush(Duration::from_secs(30)).await.expect("Kafka has it within 30 s");
        let drained = async {
            loop {
                match trigger.drain().await {
                    Ok(()) if self.no_function_holds_a_record().await => break,
                    Ok(()) => {}
                    Err(error) => eprintln!("asked again: {error}"),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), drained).await.expect("drained within 30 s");
    }

    /// True if no message is pending. The producer of a function in another process cannot be flushed from here, but
    /// its messages are pending in Redis.
    async fn no_function_holds_a_record(&self) -> bool {
        self.hosted.is_none() || self.app().cache.pending_count().await.expect("Redis answers") == 0
    }

    /// Runs the compensator once.
    pub async fn compensate(&self) -> Summary {
        self.runtime().schedule().expect("a schedule").fire_now().await.expect("a run of the compensator")
    }

    /// A connection to the application's Redis database.
    pub async fn redis(&self) -> RedisConnection {
        self.redis.connect().await.expect("Redis answers")
    }

    /// The detail of a message in Redis.
    pub async fn detail(&self, id: &str) -> Option<serde_json::Value> {
        let detail: Option<String> =
            self.redis().await.get(format!("msg:detail:{id}")).await.expect("a detail");
        detail.map(|json| serde_json::from_str(&json).expect("a detail is JSON"))
    }

    /// The row of a message in MySQL. Fails the test if there are several.
    pub async fn row(&self, id: &str) -> Option<Row> {
        let rows: Vec<(u8, String, String)> =
            sqlx::query_as("SELECT status, content, persist_status FROM message WHERE id = ?")
                .bind(id.parse::<i64>().expect("an id"))
                .fetch_all(&self.mysql)
                .await
                .expect("MySQL answers");
        assert!(rows.len() <= 1, "{} rows have the id {id}", rows.len());
        rows.into_iter().next().map(|(status, content, persist_status)| Row {
            status,
            content,
            persist_status,
        })
    }

    /// The number of rows of `message` that match `condition`.
    pub async fn count_rows(&self, condition: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM message WHERE {condition}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.mysql).await.expect("MySQL answers")
    }
}

/// The columns of a row that tests look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// 1, or 0 after a recall.
    pub status: u8,
    /// The text of the message.
    pub content: String,
    /// The persist status, `PERSISTED`.
    pub persist_status: String,
}

/// The same URL with another port.
fn with_port(url: &str, port: u16) -> String {
    let mut url = Url::parse(url).expect("a server's URL");
    url.set_port(Some(port)).expect("a port");
    url.into()
}

/// Waits until `condition` holds and looks every 10 ms. Fails the test after `limit`.
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> F,
) {
    let began = std::time::Instant::now();
    while !condition().await {
        assert!(began.elapsed() < limit, "after {limit:?} still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
