//! The stack: Redis, MySQL and Kafka started, handed out and stopped together.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::Connection as _;
use sqlx::mysql::MySqlConnectOptions;

use super::docker::{self, Compose};
use super::error::{Doing as _, StackError};
use super::files::{self, State};
use super::guard::Guard;
use super::options::{Place, StackOptions, TopicSpec};
use super::server::{Runs, Server, Started};
use super::server_kind::ServerKind;
use super::targets::{ensure_topics, given_targets, own_target};
use super::{kafka, mysql, native, redis};

/// Three servers that answer.
#[derive(Debug)]
pub struct Stack {
    pub(super) folder: PathBuf,
    pub(super) options: StackOptions,
    pub(super) state: State,
    servers: [Server; 3],
    /// Ends the servers if this process is killed; `None` if they run in the background.
    pub(super) guard: Option<Arc<Guard>>,
    pub(super) compose: Option<Arc<Compose>>,
    /// The lock of the data folder.
    lock: File,
}

impl Stack {
    /// Starts the servers that are not given, and waits until all three answer and the topics exist.
    ///
    /// Servers that a killed process left in this folder are stopped first. Servers that run in the background are
    /// used as they are. If one server fails, those that were started are stopped again.
    pub async fn start(options: StackOptions) -> Result<Self, StackError> {
        let (folder, remove) = (options.folder.clone(), options.remove);
        let started = Box::pin(Self::start_over(options)).await;
        if started.is_err() && remove && folder.exists() {
            std::fs::remove_dir_all(&folder).doing(|| format!("cannot remove {}", folder.display()))?;
        }
        started
    }

    async fn start_over(options: StackOptions) -> Result<Self, StackError> {
        files::make_folder(&options.folder)?;
        let folder = options.folder.canonicalize().doing(|| format!("{}", options.folder.display()))?;
        let lock = files::lock(&folder)?;
        let mut state = State::read_or_new(&folder)?;
        let docker = match options.place {
            _ if options.natively_only() => false,
            Some(place) => place == Place::Docker,
            None if ServerKind::ALL.into_iter().all(|kind| options.is_given(kind)) => false,
            None => match state.docker {
                Some(docker) => docker,
                None => docker::engine_answers().await,
            },
        };
        let plan = native::Plan::make(&folder, &options, &mut state, docker).await?;
        state.docker = Some(docker);
        state.background = plan.stays;
        state.env.clear();
        state.write(&folder)?;

        let (servers, guard, compose) = if docker {
            start_in_docker(&folder, &options, &state, plan.stays).await?
        } else {
            Box::pin(native::start(&folder, &options, &mut state, plan)).await?
        };
        let mut stack = Self { folder, options, state, servers, guard, compose, lock };
        stack.state.env = stack.env().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        stack.state.write(&stack.folder)?;
        Ok(stack)
    }

    /// One of the three servers.
    pub fn server(&self, kind: ServerKind) -> &Server {
        let [redis, mysql, kafka] = &self.servers;
        match kind {
            ServerKind::Redis => redis,
            ServerKind::MySql => mysql,
            ServerKind::Kafka => kafka,
        }
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The settings with which the application reaches these servers, as the README describes them.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let given = |name: &str| self.options.given.get(name).cloned();
        let state = &self.state;
        let mut env = vec![
            ("REDIS_URL", given("REDIS_URL").unwrap_or_else(|| redis::url(state, 0))),
            ("MYSQL_URL", given("MYSQL_URL").unwrap_or_else(|| mysql::url(state))),
            (
                "KAFKA_BOOTSTRAP_SERVERS",
                given("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|| kafka::bootstrap(state)),
            ),
            ("KAFKA_SECURITY", given("KAFKA_SECURITY").unwrap_or_else(|| "plaintext".into())),
        ];
        if self.options.redis_cluster || given("REDIS_CLUSTER").is_some_and(|value| value == "true") {
            env.push(("REDIS_CLUSTER", "true".into()));
        }
        match (given("JWT_SECRET"), given("JWT_JWKS_URL")) {
            (Some(secret), _) => env.push(("JWT_SECRET", secret)),
            (None, Some(url)) => env.push(("JWT_JWKS_URL", url)),
            (None, None) => env.push(("JWT_SECRET", state.jwt_secret.clone())),
        }
        env
    }

    /// The `REDIS_URL` of Redis over TLS, or of the first node of its cluster. Needs
    /// [`StackOptions::with_secure_redis`].
    pub fn redis_over_tls(&self) -> String {
        redis::url_over_tls(&self.state)
    }

    /// How an administrator connects to MySQL. Only for a MySQL that runs as a process of this machine.
    pub fn mysql_administrator(&self) -> MySqlConnectOptions {
        mysql::administrator(&self.folder, &self.state)
    }

    /// The address of Kafka over TLS. Needs [`StackOptions::with_secure_kafka`].
    pub fn kafka_over_tls(&self) -> String {
        format!("127.0.0.1:{}", self.state.ports.kafka_tls)
    }

    /// The address of Kafka over TLS for the SCRAM user. Needs [`StackOptions::with_secure_kafka`].
    pub fn kafka_with_scram(&self) -> String {
        format!("127.0.0.1:{}", self.state.ports.kafka_scram)
    }

    /// The address that the proxy of [`StackOptions::with_kafka_proxy`] must lead to. `None` in Docker and for a
    /// given Kafka.
    pub fn kafka_behind_proxy(&self) -> Option<SocketAddr> {
        let ours = self.options.kafka_proxy.is_some()
            && self.compose.is_none()
            && !self.options.is_given(ServerKind::Kafka);
        ours.then(|| (Ipv4Addr::LOCALHOST, self.state.ports.kafka_proxied).into())
    }

    /// The name, version and address of each server, one line for each.
    pub async fn versions(&self) -> Vec<String> {
        let mut lines = Vec::with_capacity(self.servers.len());
        for server in &self.servers {
            lines.push(server.version().await);
        }
        lines
    }

    /// Creates an empty database for a test and returns its URL. The application's user may create databases whose
    /// name begins with `hongyan`.
    pub async fn create_database(&self, name: &str) -> Result<String, StackError> {
        let bad = |reason: String| StackError::Tool { what: format!("making the database {name}"), reason };
        if !name.starts_with(mysql::NAME)
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(bad(format!("its name must begin with {} and have letters, digits, _", mysql::NAME)));
        }
        let url = mysql::url(&self.state);
        let url = self.options.given.get("MYSQL_URL").unwrap_or(&url);
        let create = async {
            let mut connection = sqlx::MySqlConnection::connect(url).await?;
            let statement = format!("CREATE DATABASE `{name}`");
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?;
            connection.close().await
        };
        create.await.map_err(|error| bad(error.to_string()))?;
        let (server, query) =
            url.split_once('?').map_or((url.as_str(), None), |(url, query)| (url, Some(query)));
        let server = server.rsplit_once('/').map_or(server, |(server, _)| server);
        Ok(query.map_or_else(|| format!("{server}/{name}"), |query| format!("{server}/{name}?{query}")))
    }

    /// Creates a topic for a test and waits until every partition has a leader.
    pub async fn create_topic(&self, name: &str, partitions: usize) -> Result<(), StackError> {
        let topic = TopicSpec::new(name, partitions, "KAFKA_PARTITIONS");
        kafka::ensure_topics(&self.bootstrap(), &[topic], true).await
    }

    /// Deletes a topic with all records, and waits until Kafka does not list it any more.
    pub async fn delete_topic(&self, name: &str) -> Result<(), StackError> {
        kafka::delete_topic(&self.bootstrap(), name).await
    }

    /// Sets the largest batch that a topic takes, in bytes. `None` restores the broker's limit. Other settings of
    /// this topic alone are removed.
    pub async fn limit_topic(&self, name: &str, max_message_bytes: Option<u32>) -> Result<(), StackError> {
        kafka::limit_topic(&self.bootstrap(), name, max_message_bytes).await
    }

    fn bootstrap(&self) -> String {
        let given = self.options.given.get("KAFKA_BOOTSTRAP_SERVERS").cloned();
        given.unwrap_or_else(|| kafka::bootstrap(&self.state))
    }

    /// Stops the servers that this process started, in good order, and waits for their end. Servers in the background
    /// go on.
    pub async fn stop(mut self) -> Result<(), StackError> {
        if self.state.background {
            return Ok(());
        }
        if let Some(compose) = &self.compose {
            compose.run(if self.options.remove { &["down", "--volumes"] } else { &["stop"] }).await?;
        } else {
            let [redis, mysql, kafka] = &self.servers;
            let stop = async |server: &Server| {
                if server.is_elsewhere() { Ok(()) } else { server.stop().await }
            };
            // The servers do not know each other, so they stop at the same time. Each is stopped, even if stopping
            // another fails.
            let (redis, mysql, kafka) = tokio::join!(stop(redis), stop(mysql), stop(kafka));
            redis.and(mysql).and(kafka)?;
        }
        if let Some(guard) = &self.guard {
            guard.dismiss()?;
        }
        self.state.env.clear();
        self.state.write(&self.folder)?;
        if self.options.remove {
            let folder = &self.folder;
            std::fs::remove_dir_all(folder).doing(|| format!("cannot remove {}", folder.display()))?;
        }
        drop(self.lock);
        Ok(())
    }
}

async fn start_in_docker(
    folder: &Path,
    options: &StackOptions,
    state: &State,
    stays: bool,
) -> Result<Started, StackError> {
    let compose = Arc::new(Compose::new(folder, state)?);
    let guard = if stays { None } else { Some(Arc::new(Guard::start(folder, options.remove)?)) };
    if let Some(guard) = &guard {
        guard.watch_docker(&compose.project)?;
    }
    let servers = ServerKind::ALL.map(|kind| {
        if options.is_given(kind) {
            return Server::new(kind, Runs::Elsewhere, given_targets(kind, options));
        }
        Server::new(kind, Runs::InDocker(Arc::clone(&compose)), vec![own_target(kind, state)])
    });
    let ready = async {
        compose.up(options).await?;
        for server in &servers {
            server.wait().await?;
        }
        ensure_topics(options, state).await
    };
    match ready.await {
        Ok(()) => Ok((servers, guard, Some(compose))),
        Err(error) => {
            if !stays {
                compose.run(&["stop"]).await?;
            }
            Err(error)
        }
    }
}
