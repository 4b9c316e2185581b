//! Asks a server a question that only a working server can answer.

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use redis::{ErrorKind, RedisError};
use sqlx::mysql::MySqlDatabaseError;
use sqlx::{Connection as _, MySqlConnection};

use super::wait;

/// The limit of one question, so that a hanging server does not block the caller.
const ATTEMPT: Duration = Duration::from_secs(3);

/// The server to ask.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Redis { url: String, cluster: bool },
    MySql { url: String },
    Kafka { bootstrap: String },
}

/// The server has not given a good answer.
#[derive(Debug)]
pub(super) enum NotReady {
    /// A later question may get one.
    Yet(String),
    /// No later question will: the password is wrong, or the address is invalid.
    Ever(String),
}

impl Target {
    /// Asks once.
    pub(super) async fn ask(&self) -> Result<(), NotReady> {
        let attempt = async {
            match self {
                Self::Redis { url, cluster } => ask_redis(url, *cluster).await,
                Self::MySql { url } => ask_mysql(url).await,
                Self::Kafka { bootstrap } => ask_kafka(bootstrap).await,
            }
        };
        tokio::time::timeout(ATTEMPT, attempt)
            .await
            .unwrap_or_else(|_| Err(NotReady::Yet(format!("no answer in {} s", ATTEMPT.as_secs()))))
    }

    /// Asks until the server answers. `ended` returns how the server's process ended, if it has.
    pub(super) async fn wait(
        &self,
        limit: Duration,
        mut ended: impl FnMut() -> Option<String>,
    ) -> Result<(), WaitError> {
        let asked = wait::until(limit, || {
            let ended = ended();
            async move {
                match (self.ask().await, ended) {
                    (Ok(()), _) => Ok(Ok(())),
                    (Err(NotReady::Ever(reason)), _) => Err(WaitError::Refused(reason)),
                    (Err(NotReady::Yet(_)), Some(status)) => Err(WaitError::Ended(status)),
                    (Err(NotReady::Yet(reason)), None) => Ok(Err(reason)),
                }
            }
        });
        asked.await?.map_err(WaitError::Silent)
    }

    /// Host and port, without a password.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Redis { url, .. } | Self::MySql { url } => {
                let rest = url.rsplit_once('@').map_or(url.as_str(), |(_, rest)| rest);
                rest.split('/').next().unwrap_or(rest).to_owned()
            }
            Self::Kafka { bootstrap } => bootstrap.clone(),
        }
    }

    /// The name and version of the server, as it reports them.
    pub(super) async fn version(&self) -> Result<String, String> {
        match self {
            Self::Redis { url, cluster } => {
                redis_version(url, *cluster).await.map_err(|error| error.to_string())
            }
            Self::MySql { url } => mysql_version(url).await.map_err(|error| error.to_string()),
            // Kafka's protocol has no question for the version.
            Self::Kafka { .. } => Ok("Kafka".to_owned()),
        }
    }
}

/// The wait ended without a good answer.
#[derive(Debug)]
pub(super) enum WaitError {
    Refused(String),
    Ended(String),
    Silent(String),
}

async fn redis_connection(url: &str) -> Result<redis::aio::MultiplexedConnection, RedisError> {
    redis::Client::open(url)?.get_multiplexed_async_connection().await
}

async fn ask_redis(url: &str, cluster: bool) -> Result<(), NotReady> {
    let ask = async {
        let mut connection = redis_connection(url).await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        if !cluster {
            return Ok(None);
        }
        let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await?;
        let state = info.lines().find(|line| line.starts_with("cluster_state:")).unwrap_or("no state");
        Ok((state != "cluster_state:ok").then(|| state.to_owned()))
    };
    match ask.await {
        Ok(None) => Ok(()),
        Ok(Some(state)) => Err(NotReady::Yet(state)),
        Err(error) => Err(refused_by_redis(&error)),
    }
}

fn refused_by_redis(error: &RedisError) -> NotReady {
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            NotReady::Ever(format!("Redis refuses the user or the password ({error})"))
        }
        ErrorKind::InvalidClientConfig => NotReady::Ever(error.to_string()),
        _ => match error.code() {
            Some(code @ ("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
                NotReady::Ever(format!("Redis refuses the user or the password ({code})"))
            }
            _ => NotReady::Yet(error.to_string()),
        },
    }
}

async fn redis_version(url: &str, cluster: bool) -> Result<String, RedisError> {
    let mut connection = redis_connection(url).await?;
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?").trim();
    Ok(format!("Redis {version}{}", if cluster { " (cluster)" } else { "" }))
}

async fn ask_mysql(url: &str) -> Result<(), NotReady> {
    let ask = async {
        let mut connection = MySqlConnection::connect(url).await?;
        sqlx::query("SELECT 1").execute(&mut connection).await?;
        connection.close().await
    };
    ask.await.map_err(|error| match &error {
        sqlx::Error::Configuration(_) => NotReady::Ever(error.to_string()),
        sqlx::Error::Database(inner) => {
            // 1044 and 1045: access denied to the database or the user. 1049: no such database.
            let number = inner.try_downcast_ref().map_or(0, MySqlDatabaseError::number);
            let text = format!("MySQL refuses: {}", inner.message());
            if matches!(number, 1044 | 1045 | 1049) { NotReady::Ever(text) } else { NotReady::Yet(text) }
        }
        _ => NotReady::Yet(error.to_string()),
    })
}

async fn mysql_version(url: &str) -> Result<String, sqlx::Error> {
    let mut connection = MySqlConnection::connect(url).await?;
    let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut connection).await?;
    connection.close().await?;
    let name = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
    Ok(format!("{name} {}", version.split('-').next().unwrap_or(&version)))
}

async fn ask_kafka(bootstrap: &str) -> Result<(), NotReady> {
    // A Kafka client that cannot connect waits longer before each further try. So make the client only once the port
    // is open.
    let first = bootstrap.split(',').next().unwrap_or(bootstrap);
    tokio::net::TcpStream::connect(first).await.map_err(|error| NotReady::Yet(error.to_string()))?;
    let topics = topics(bootstrap, ATTEMPT).await.map_err(NotReady::Yet)?;
    match topics.iter().find(|topic| !topic.ready) {
        Some(topic) => Err(NotReady::Yet(format!("topic {} has a partition without a leader", topic.name))),
        None => Ok(()),
    }
}

/// A topic as the brokers describe it.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) partitions: usize,
    /// True if every partition has a leader.
    pub(super) ready: bool,
}

/// All topics.
pub(super) async fn topics(bootstrap: &str, limit: Duration) -> Result<Vec<Topic>, String> {
    let config = kafka_config(bootstrap);
    let ask = move || -> Result<Vec<Topic>, KafkaError> {
        let client: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
        let metadata = client.fetch_metadata(None, limit)?;
        Ok(metadata
            .topics()
            .iter()
            .map(|topic| Topic {
                name: topic.name().to_owned(),
                partitions: topic.partitions().len(),
                ready: topic.error().is_none()
                    && topic.partitions().iter().all(|part| part.leader() >= 0 && part.error().is_none()),
            })
            .collect())
    };
    ask_kafka_client(ask).await
}

/// Asks for the offsets of a consumer group. A new broker answers only after it has created the topic for such
/// offsets; a member that joins earlier waits for seconds.
pub(super) async fn group_offsets(bootstrap: &str, topic: &str, limit: Duration) -> Result<(), String> {
    let mut config = kafka_config(bootstrap);
    config.set("group.id", "hongyan-stack");
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition(topic, 0);
    let ask = move || -> Result<(), KafkaError> {
        let client: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
        client.committed_offsets(partitions, limit).map(drop)
    };
    ask_kafka_client(ask).await
}

/// Asks with a blocking Kafka client, on a thread that may block.
async fn ask_kafka_client<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, String> {
    let answer = tokio::task::spawn_blocking(ask).await.map_err(|error| error.to_string())?;
    answer.map_err(|error| error.to_string())
}

pub(super) fn kafka_config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("client.id", "hongyan-stack");
    config
}

/// A Kafka client that does not log: the caller gets every failure.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::trace!(facility, message, "stack.kafka_client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::trace!(%error, reason, "stack.kafka_client");
    }
}

impl ConsumerContext for Quiet {}
