//! The three servers behind the service: their versions, their flush settings, and their processes.

use std::net::{SocketAddr, ToSocketAddrs as _};

use hongyan::config::{Config, KafkaConfig, RedisConfig};
use hongyan::queue::client::client_config;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};
use url::Url;

use crate::process::Watched;

/// A setting that decides when accepted data is on the disk.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Setting {
    /// `Redis`, `MySQL` or `Kafka`.
    pub server: &'static str,
    /// The server's name of the setting.
    pub name: String,
    /// The value, or the reason why it is unknown.
    pub value: String,
}

impl Setting {
    fn new(server: &'static str, name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { server, name: name.into(), value: value.into() }
    }

    fn unknown(server: &'static str, why: impl std::fmt::Display) -> Self {
        Self::new(server, "flush settings", format!("not available: {why}"))
    }
}

/// The settings by which the service reaches its servers; `Err` has the reason why they are unknown.
pub(crate) type Known = Result<Config, String>;

/// The processes of the servers.
pub(crate) fn processes(known: &Known) -> [Watched; 3] {
    let at = |name, address: Option<SocketAddr>| match address {
        Some(address) => Watched::listening_at(name, address),
        None => Watched::unknown(name, "its address cannot be read"),
    };
    match known {
        Ok(config) => [
            at("Redis", address_of(config.redis.url.expose_secret(), 6379)),
            at("MySQL", address_of(config.mysql.url.expose_secret(), 3306)),
            at("Kafka", first_of(&config.kafka.bootstrap_servers)),
        ],
        Err(why) => ["Redis", "MySQL", "Kafka"].map(|name| Watched::unknown(name, why.clone())),
    }
}

/// Host and port of a server's URL.
pub(crate) fn address_of(url: &str, default: u16) -> Option<SocketAddr> {
    let url = Url::parse(url).ok()?;
    (url.host_str()?, url.port().unwrap_or(default)).to_socket_addrs().ok()?.next()
}

fn first_of(bootstrap: &str) -> Option<SocketAddr> {
    bootstrap.split(',').next()?.trim().to_socket_addrs().ok()?.next()
}

/// The versions of the servers. Kafka's protocol has no question for its version.
pub(crate) async fn versions(known: &Known) -> Vec<String> {
    let Ok(config) = known else { return Vec::new() };
    let redis = match info(&config.redis).await {
        Ok(info) => format!("Redis {}", line_of(&info, "redis_version:").unwrap_or("of unknown version")),
        Err(error) => format!("Redis: version not available: {error}"),
    };
    let mysql = match mysql_variables(config.mysql.url.expose_secret(), &["version"]).await {
        Ok(values) => format!("MySQL {}", values.concat()),
        Err(error) => format!("MySQL: version not available: {error}"),
    };
    vec![redis, mysql, "Kafka: version not available".to_owned()]
}

/// The settings that decide when each server has accepted data on its disk.
pub(crate) async fn flush_settings(known: &Known) -> Vec<Setting> {
    let config = match known {
        Ok(config) => config,
        Err(why) => return ["Redis", "MySQL", "Kafka"].map(|server| Setting::unknown(server, why)).to_vec(),
    };
    let mut settings = Vec::new();
    match redis_settings(&config.redis, &["appendonly", "appendfsync"]).await {
        Ok(values) => {
            settings.extend(values.into_iter().map(|(name, value)| Setting::new("Redis", name, value)));
        }
        Err(error) => settings.push(Setting::unknown("Redis", error)),
    }
    let names = ["innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin"];
    match mysql_variables(config.mysql.url.expose_secret(), &names).await {
        Ok(values) => {
            let pairs = names.into_iter().zip(values);
            settings.extend(pairs.map(|(name, value)| Setting::new("MySQL", name, value)));
        }
        Err(error) => settings.push(Setting::unknown("MySQL", error)),
    }
    // The producer of the service sets this, whatever the server's default is.
    settings.push(Setting::new("Kafka", "acks", "all"));
    match kafka_settings(&config.kafka, &["flush.messages", "min.insync.replicas"]).await {
        Ok(values) => {
            settings.extend(values.into_iter().map(|(name, value)| Setting::new("Kafka", name, value)));
        }
        Err(error) => settings.push(Setting::unknown("Kafka", error)),
    }
    settings
}

async fn info(config: &RedisConfig) -> redis::RedisResult<String> {
    let client = redis::Client::open(config.url.expose_secret())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("INFO").arg("server").query_async(&mut connection).await
}

fn line_of<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

async fn redis_settings(config: &RedisConfig, names: &[&str]) -> redis::RedisResult<Vec<(String, String)>> {
    let client = redis::Client::open(config.url.expose_secret())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut settings = Vec::new();
    for name in names {
        let answer: Vec<(String, String)> =
            redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await?;
        settings.extend(answer);
    }
    Ok(settings)
}

/// The values of MySQL's global variables, as text.
async fn mysql_variables(url: &str, names: &[&str]) -> Result<Vec<String>, sqlx::Error> {
    let mut connection = MySqlConnection::connect(url).await?;
    let mut values = Vec::new();
    for name in names {
        let sql = format!("SELECT CAST(@@GLOBAL.{name} AS CHAR)");
        values.push(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await?);
    }
    connection.close().await?;
    Ok(values)
}

/// The settings of the topic, as the broker has them.
async fn kafka_settings(config: &KafkaConfig, names: &[&str]) -> Result<Vec<(String, String)>, String> {
    let client: AdminClient<DefaultClientContext> =
        client_config(config).create().map_err(|error| error.to_string())?;
    let options = AdminOptions::new().request_timeout(Some(config.delivery_timeout));
    let topic = ResourceSpecifier::Topic(&config.topic);
    let answer = client.describe_configs([&topic], &options).await.map_err(|error| error.to_string())?;
    let topic = answer.into_iter().next().ok_or("no answer")?.map_err(|code| code.to_string())?;
    let entries = topic.entries.into_iter().filter(|entry| names.contains(&entry.name.as_str()));
    Ok(entries.map(|entry| (entry.name, entry.value.unwrap_or_default())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_from_a_url() {
        let address = |url| address_of(url, 6379).map(|address| address.to_string());
        assert_eq!(address("redis://:pw@127.0.0.1:7000/1").as_deref(), Some("127.0.0.1:7000"));
        assert_eq!(address("redis://:pw@127.0.0.1/1").as_deref(), Some("127.0.0.1:6379"));
        assert_eq!(address("nonsense"), None);
    }

    #[tokio::test]
    async fn servers_that_are_not_known_are_said_so() {
        let known = Err("no stack says it".to_owned());
        let settings = flush_settings(&known).await;
        assert_eq!(settings.len(), 3);
        assert!(settings.iter().all(|setting| setting.value.contains("no stack says it")), "{settings:?}");
        assert!(processes(&known).iter().all(|process| process.usage().is_err()));
    }
}
