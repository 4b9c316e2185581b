//! Settings, read from the environment once at start: one struct for each concern (README, "Settings").
//!
//! All faults are reported together, each with its variable and the form that it must have. Secrets cannot be printed.

mod fault;
mod minimal;
mod reader;

use std::num::NonZeroU16;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

pub use fault::ConfigError;
pub use minimal::{MINIMAL, minimal};
pub use reader::{HIDDEN, Reader, Setting};

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Redis.
    pub redis: RedisConfig,
    /// MySQL.
    pub mysql: MySqlConfig,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// The product rules that an operator may tune.
    pub im: ImConfig,
    /// How a caller's token is verified.
    pub auth: AuthConfig,
    /// Where pushes are sent.
    pub push: PushConfig,
    /// How the metrics of a Lambda are told apart in CloudWatch.
    pub metrics: MetricsConfig,
}

/// `REDIS_URL`, `REDIS_CLUSTER`, `REDIS_TLS_CA`, `REDIS_TIMEOUT_MS`.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://:password@host:port/database`, or `rediss://` for TLS. Holds a password.
    pub url: SecretString,
    /// True if the URL names a node of a Redis Cluster.
    pub cluster: bool,
    /// The authorities to trust for `rediss://` (PEM), instead of the public ones. `REDIS_TLS_CA` is the path of the
    /// file.
    pub tls_authorities: Option<Vec<u8>>,
    /// The longest wait for a connection or an answer (3 s).
    pub timeout: Duration,
}

/// `MYSQL_URL`, `MYSQL_REPLICA_URL`, `MYSQL_TLS_CA`, `MYSQL_MAX_CONNECTIONS`, `MYSQL_TIMEOUT_MS`.
#[derive(Debug, Clone)]
pub struct MySqlConfig {
    /// `mysql://user:password@host:port/database`, the writer. Holds a password.
    pub url: SecretString,
    /// A reader for history, if there is one. Holds a password.
    pub replica_url: Option<SecretString>,
    /// The authorities to trust (PEM), beside the public ones: the certificates of Aurora and RDS come from Amazon's
    /// own. With this setting the server's certificate and name are checked, unless the URL's `ssl-mode` says
    /// otherwise. `MYSQL_TLS_CA` is the path of the file.
    pub tls_authorities: Option<Vec<u8>>,
    /// The most connections that one process opens (10).
    pub max_connections: u32,
    /// The longest that one call takes, the wait for a connection included (3 s). Large batches get more.
    pub timeout: Duration,
}

/// How the connection to Kafka is secured: `KAFKA_SECURITY`.
#[derive(Debug, Clone)]
pub enum KafkaSecurity {
    /// `plaintext`: neither encrypted nor authenticated; for one machine.
    Plaintext,
    /// `ssl`: TLS.
    Ssl,
    /// `sasl_scram`: TLS with SCRAM-SHA-512, by `KAFKA_SASL_USERNAME` and `KAFKA_SASL_PASSWORD`.
    SaslScram {
        /// The SCRAM user name.
        username: String,
        /// The SCRAM password.
        password: SecretString,
    },
    /// `msk_iam`: TLS with an IAM-signed token, for Amazon MSK.
    MskIam,
}

/// `KAFKA_*`.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// `host:port`, several joined by commas.
    pub bootstrap_servers: String,
    /// How the connection is secured.
    pub security: KafkaSecurity,
    /// A PEM file with the authorities to trust, instead of the system's: `KAFKA_SSL_CA_LOCATION`.
    pub ssl_ca_location: Option<String>,
    /// The topic, `im-message-private`.
    pub topic: String,
    /// The number of the topic's partitions (10). The partition of a message is computed with it.
    pub partitions: NonZeroU16,
    /// The consumer group, `im-message-consumer`.
    pub group_id: String,
    /// The dead-letter topic, `im-message-dead-letter`.
    pub dead_letter_topic: String,
    /// The longest that a caller waits for Kafka's acknowledgement once Redis has accepted: `KAFKA_WAIT_MS` (200 ms).
    pub wait: Duration,
    /// How long the producer keeps trying to deliver a record: `KAFKA_DELIVERY_TIMEOUT_MS` (10 s).
    pub delivery_timeout: Duration,
    /// `none`, `lz4`, `gzip`, `snappy` or `zstd`, if the build of librdkafka has it: `KAFKA_COMPRESSION` (`lz4`).
    pub compression: String,
    /// How long the producer collects records before it sends them: `KAFKA_LINGER_MS` (1 ms).
    pub linger: Duration,
    /// The most records that the trigger hands to one invocation: `KAFKA_BATCH_SIZE` (100).
    pub batch_size: usize,
    /// How long the trigger waits for a batch to fill: `KAFKA_BATCH_WINDOW_MS` (20 ms).
    pub batch_window: Duration,
}

/// `IM_*`: the rules of the product.
#[derive(Debug, Clone)]
pub struct ImConfig {
    /// The greatest length of a conversation's recent list: `IM_CONV_CACHE_SIZE` (1000).
    pub conversation_cache_size: usize,
    /// The TTL of persisted messages in Redis: `IM_CACHE_EXPIRE_MINUTES` (30).
    pub cache_expiry: Duration,
    /// The recall window: how long after its send a message may be recalled: `IM_RECALL_LIMIT_SECONDS` (300).
    pub recall_limit: Duration,
    /// How long a message must be PENDING before the compensator looks at it: `IM_COMPENSATE_AFTER_SECONDS` (300).
    pub compensate_after: Duration,
    /// The most bytes of UTF-8 in a message's content: `IM_MAX_CONTENT_BYTES` (8192).
    pub max_content_bytes: usize,
    /// True if a user is told how far the other one has read: `IM_READ_RECEIPTS` (true).
    pub read_receipts: bool,
    /// The most sends of a user in a second, and half of those that may come at once: `IM_SENDS_PER_SECOND` (20). 0: no limit.
    pub sends_per_second: u32,
    /// The length of the lease of a worker number, and so how long a process makes ids without Redis:
    /// `IM_WORKER_LEASE_SECONDS` (600).
    pub worker_lease: Duration,
}

/// `JWT_SECRET` or `JWT_JWKS_URL`, with `JWT_ISSUER`, `JWT_AUDIENCE` and `JWT_USER_CLAIM`.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// The key that verifies signatures.
    pub key: AuthKey,
    /// The `iss` that a token must have, if this is set.
    pub issuer: Option<String>,
    /// The `aud` that a token must have, if this is set.
    pub audience: Option<String>,
    /// The claim with the caller's user id: `JWT_USER_CLAIM` (`sub`).
    pub user_claim: String,
}

/// The key that verifies signatures.
#[derive(Debug, Clone)]
pub enum AuthKey {
    /// HS256 with a shared secret of at least 32 bytes.
    Secret(SecretString),
    /// RS256 or ES256 with the public keys at this address.
    Jwks(Url),
}

/// `PUSH_ENDPOINT`, `IM_MAX_CONNECTIONS_PER_USER`.
#[derive(Debug, Clone)]
pub struct PushConfig {
    /// The base of the `@connections` interface, for functions that do not learn it from an event, e.g.
    /// `https://abc.execute-api.eu-west-1.amazonaws.com/prod`. Without it nothing is pushed.
    pub endpoint: Option<Url>,
    /// The most WebSockets of one user: `IM_MAX_CONNECTIONS_PER_USER` (20). One more closes the oldest.
    pub max_connections_per_user: usize,
}

/// `METRICS_NAMESPACE`, `METRICS_STACK`.
#[derive(Debug, Clone)]
pub struct MetricsConfig {
    /// The CloudWatch namespace (`Hongyan`).
    pub namespace: String,
    /// The dimension `stack` of every metric (`hongyan`), so that two stacks in one account do not count as one.
    pub stack: String,
}

impl Config {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads the settings from `lookup`. An empty value counts as not set.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(lookup);
        let config = Self::read(&mut reader);
        reader.finish(config)
    }

    /// Reads the settings; `reader` keeps the faults.
    pub fn read<L: Fn(&str) -> Option<String>>(reader: &mut Reader<L>) -> Self {
        Self {
            redis: RedisConfig::read(reader),
            mysql: MySqlConfig::read(reader),
            kafka: KafkaConfig::read(reader),
            im: ImConfig::read(reader),
            auth: AuthConfig::read(reader),
            push: PushConfig {
                endpoint: reader.optional_url("PUSH_ENDPOINT", &["http", "https"]),
                // A push reaches at most 100 connections of a user.
                max_connections_per_user: reader.number("IM_MAX_CONNECTIONS_PER_USER", 20, 1, 100),
            },
            metrics: MetricsConfig::read(reader),
        }
    }
}

impl RedisConfig {
    fn read<L: Fn(&str) -> Option<String>>(reader: &mut Reader<L>) -> Self {
        Self {
            url: reader.secret_url("REDIS_URL", &["redis", "rediss"]),
            cluster: reader.boolean("REDIS_CLUSTER", false),
            tls_authorities: reader.authorities("REDIS_TLS_CA"),
            timeout: reader.millis("REDIS_TIMEOUT_MS", 3_000, 1, 60_000),
        }
    }
}

impl MySqlConfig {
    /// Reads these settings alone; `reader` keeps the faults.
    pub fn read<L: Fn(&str) -> Option<String>>(reader: &mut Reader<L>) -> Self {
        Self {
            url: reader.secret_url("MYSQL_URL", &["mysql"]),
            replica_url: reader.optional_secret_url("MYSQL_REPLICA_URL", &["mysql"]),
            tls_authorities: reader.authorities("MYSQL_TLS_CA"),
            max_connections: reader.number("MYSQL_MAX_CONNECTIONS", 10, 1, 1_000),
            timeout: reader.millis("MYSQL_TIMEOUT_MS", 3_000, 1, 60_000),
        }
    }
}

impl KafkaConfig {
    /// True if this build of librdkafka has TLS and SASL.
    const HAS_TLS: bool = cfg!(feature = "kafka-tls");

    /// Reads these settings alone; `reader` keeps the faults.
    pub fn read<L: Fn(&str) -> Option<String>>(reader: &mut Reader<L>) -> Self {
        let security =
            reader.choice("KAFKA_SECURITY", "plaintext", &["plaintext", "ssl", "sasl_scram", "msk_iam"]);
        if !(Self::HAS_TLS || security == "plaintext") {
            reader.fault(
                "KAFKA_SECURITY",
                format!(
                    "is {security}, but this build has no TLS for Kafka: build with the cargo feature kafka-tls (for AWS \
                     msk), or set it to plaintext"
                ),
            );
        }
        let security = match security.as_str() {
            "ssl" => KafkaSecurity::Ssl,
            "sasl_scram" => KafkaSecurity::SaslScram {
                username: reader
                    .required("KAFKA_SASL_USERNAME", "the SCRAM user, since KAFKA_SECURITY is sasl_scram"),
                password: reader.required_secret(
                    "KAFKA_SASL_PASSWORD",
                    "their password, since KAFKA_SECURITY is sasl_scram",
                ),
            },
            "msk_iam" => KafkaSecurity::MskIam,
            _ => KafkaSecurity::Plaintext,
        };
        Self {
            bootstrap_servers: reader
                .required("KAFKA_BOOTSTRAP_SERVERS", "host:port, several joined by commas"),
            security,
            ssl_ca_location: reader.optional("KAFKA_SSL_CA_LOCATION"),
            topic: reader.topic("KAFKA_TOPIC", "im-message-private"),
            partitions: reader.number(
                "KAFKA_PARTITIONS",
                NonZeroU16::MIN.saturating_add(9),
                NonZeroU16::MIN,
                NonZeroU16::MAX,
            ),
            group_id: reader.text("KAFKA_GROUP_ID", "im-message-consumer"),
            dead_letter_topic: reader.topic("KAFKA_DEAD_LETTER_TOPIC", "im-message-dead-letter"),
            wait: reader.millis("KAFKA_WAIT_MS", 200, 1, 60_000),
            delivery_timeout: reader.millis("KAFKA_DELIVERY_TIMEOUT_MS", 10_000, 100, 120_000),
            compression: reader.choice(
                "KAFKA_COMPRESSION",
                "lz4",
                &["none", "lz4", "gzip", "snappy", "zstd"],
            ),
            linger: reader.millis("KAFKA_LINGER_MS", 1, 0, 1_000),
            batch_size: reader.number("KAFKA_BATCH_SIZE", 100, 1, 10_000),
            batch_window: reader.millis("KAFKA_BATCH_WINDOW_MS", 20, 0, 300_000),
        }
    }
}

impl ImConfig {
    fn read<L: Fn(&str) -> Option<String>>(reader: &mut Reader<L>) -> Self {
        Self {
            conversation_cache_size: reader.number("IM_CONV_CACHE_SIZE", 1_000, 1, 10_000),
            cache_expiry: reader.minutes("IM_CACHE_EXPIRE_MINUTES", 30, 1, 24 * 60),
            recall_limit: reader.seconds("IM_RECALL_LIMIT_SECONDS", 300, 0, 7 * 24 * 3_600),
            compensate_after: reader.seconds("IM_COMPENSATE_AFTER_SECONDS", 300, 0, 24 * 3_600),
            // The column `content` is a TEXT, which holds 65,535 bytes.
            max_content_bytes: reader.number("IM_MAX_CONTENT_BYTES", 8_192, 1, 65_535),
            read_receipts: reader.boolean("IM_READ_RECEIPTS", true),
            sends_per_second: reader.number("IM_SENDS_PER_SECOND", 20, 0, 1_000_000),
            worker_lease: reader.seconds("IM_WORKER_LEASE_SECONDS", 600, 2, 3_600),
        }
    }
}

impl MetricsConfig {
    fn read<L: Fn(&str) -> Option<String>>(reader: &mut Reader<L>) -> Self {
        let namespace = reader.text("METRICS_NAMESPACE", "Hongyan");
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-_/#: ".contains(&byte);
        if namespace.len() > 255
            || !namespace.bytes().all(valid)
            || namespace.trim() != namespace
            || namespace.starts_with(':')
            || namespace.starts_with("AWS/")
        {
            reader.fault(
                "METRICS_NAMESPACE",
                "must be a CloudWatch namespace: up to 255 letters, digits, spaces and . - _ / # :, not beginning with : \
                 or AWS/",
            );
        }
        let stack = reader.text("METRICS_STACK", "hongyan");
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if stack.len() > 128 || !stack.bytes().all(valid) {
            reader.fault("METRICS_STACK", "must be the stack's name: up to 128 letters, digits and . - _");
        }
        Self { namespace, stack }
    }
}

impl AuthConfig {
    fn read<L: Fn(&str) -> Option<String>>(reader: &mut Reader<L>) -> Self {
        let secret = reader.optional_secret("JWT_SECRET");
        let jwks = reader.optional_url("JWT_JWKS_URL", &["https", "http"]);
        let key = match (secret, jwks) {
            (Some(_), Some(url)) => {
                reader.fault("JWT_SECRET", "and JWT_JWKS_URL are both set: set one of them");
                AuthKey::Jwks(url)
            }
            (None, Some(url)) => AuthKey::Jwks(url),
            (Some(secret), None) => {
                if secret.expose_secret().len() < AuthKey::MIN_SECRET_BYTES {
                    reader.fault("JWT_SECRET", "must have at least 32 bytes");
                }
                AuthKey::Secret(secret)
            }
            (None, None) => {
                if !reader.has_fault("JWT_JWKS_URL") {
                    reader.fault(
                        "JWT_SECRET",
                        "or JWT_JWKS_URL must be set: without one no caller could be trusted",
                    );
                }
                AuthKey::Secret(String::new().into())
            }
        };
        let user_claim = reader.text("JWT_USER_CLAIM", "sub");
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
        let taken = ["iss", "aud", "exp", "nbf", "iat", "jti"].contains(&user_claim.as_str());
        if user_claim.len() > 128 || !user_claim.bytes().all(valid) || taken {
            reader.fault(
                "JWT_USER_CLAIM",
                "must be the name of a claim that holds a user id: up to 128 letters, digits and _ - . : /, and none of iss, \
                 aud, exp, nbf, iat, jti",
            );
        }
        Self {
            key,
            issuer: reader.optional("JWT_ISSUER"),
            audience: reader.optional("JWT_AUDIENCE"),
            user_claim,
        }
    }
}

impl AuthKey {
    /// An HS256 key may not be shorter than its hash (RFC 7518, 3.2).
    pub const MIN_SECRET_BYTES: usize = 32;
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn complete() -> HashMap<&'static str, &'static str> {
        let mut settings = HashMap::from(MINIMAL);
        settings.insert("REDIS_URL", "redis://:hunter2@127.0.0.1:6379/1");
        settings.insert("MYSQL_URL", "mysql://hongyan:hunter2@127.0.0.1:3306/hongyan");
        settings
    }

    fn read(settings: &HashMap<&'static str, &'static str>) -> Result<Config, ConfigError> {
        Config::from_lookup(|name| settings.get(name).map(ToString::to_string))
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let config = read(&complete()).unwrap();
        assert_eq!((config.kafka.topic.as_str(), config.kafka.partitions.get()), ("im-message-private", 10));
        assert_eq!(config.kafka.group_id, "im-message-consumer");
        assert_eq!(config.kafka.dead_letter_topic, "im-message-dead-letter");
        assert_eq!(config.im.conversation_cache_size, 1_000);
        assert_eq!(config.im.cache_expiry, Duration::from_mins(30));
        assert_eq!(config.im.recall_limit, Duration::from_mins(5));
        assert_eq!(config.im.compensate_after, Duration::from_mins(5));
        assert_eq!(config.im.max_content_bytes, 8_192);
        assert!(config.im.read_receipts);
        assert_eq!((config.push.max_connections_per_user, config.im.sends_per_second), (20, 20));
        assert_eq!(config.kafka.batch_size, 100);
    }

    #[test]
    fn every_fault_is_reported_at_once_by_its_variable() {
        let settings = HashMap::from([
            ("REDIS_URL", "http://x"),
            ("KAFKA_SECURITY", "tls"),
            ("KAFKA_PARTITIONS", "0"),
            ("IM_RECALL_LIMIT_SECONDS", "5m"),
            ("IM_MAX_CONTENT_BYTES", "70000"),
            ("JWT_SECRET", "short"),
            ("KAFKA_TOPIC", "no spaces"),
            ("REDIS_CLUSTER", "yes"),
            ("METRICS_NAMESPACE", "AWS/Lambda"),
            ("METRICS_STACK", "blue green"),
            ("JWT_USER_CLAIM", "exp"),
        ]);
        let faults = read(&settings).unwrap_err().faults;
        for name in [
            "REDIS_URL",
            "MYSQL_URL",
            "KAFKA_BOOTSTRAP_SERVERS",
            "KAFKA_SECURITY",
            "KAFKA_PARTITIONS",
            "IM_RECALL_LIMIT_SECONDS",
            "IM_MAX_CONTENT_BYTES",
            "JWT_SECRET",
            "KAFKA_TOPIC",
            "REDIS_CLUSTER",
            "METRICS_NAMESPACE",
            "METRICS_STACK",
            "JWT_USER_CLAIM",
        ] {
            assert_eq!(
                faults.iter().filter(|fault| fault.starts_with(name)).count(),
                1,
                "{name} in {faults:#?}"
            );
        }
        assert_eq!(faults.len(), 13, "{faults:#?}");
    }

    #[test]
    fn what_this_build_of_the_kafka_client_cannot_do_is_refused_in_one_line() {
        for security in ["ssl", "msk_iam"] {
            let mut settings = complete();
            settings.insert("KAFKA_SECURITY", security);
            let faults = read(&settings).map_or_else(|error| error.faults, |_| Vec::new());
            assert_eq!(faults.len(), usize::from(!KafkaConfig::HAS_TLS), "{faults:#?}");
            for fault in faults {
                assert!(fault.starts_with("KAFKA_SECURITY is ") && fault.contains("kafka-tls"), "{fault}");
            }
        }
    }

    #[test]
    fn neither_secrets_nor_passwords_can_be_printed() {
        let printed = format!("{:?}", read(&complete()).unwrap());
        assert!(!printed.contains("hunter2") && !printed.contains("0123456789abcdef"), "{printed}");
        let mut wrong = complete();
        wrong.insert("MYSQL_URL", "postgres://hongyan:hunter2@h/d");
        assert!(!read(&wrong).unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn the_settings_that_count_are_told_without_secrets() {
        let mut settings = complete();
        settings.insert("MYSQL_URL", "mysql://hunter:h%40unter2@h/d?x=:h%40unter2@");
        settings.insert("KAFKA_PARTITIONS", "none");
        let lookup = |name: &str| settings.get(name).map(ToString::to_string);
        let mut reader = Reader::new(lookup);
        Config::read(&mut reader);
        let told = |name: &str| {
            let told: Vec<_> = reader.settings().iter().filter(|setting| setting.name == name).collect();
            assert!(told.len() <= 1, "{told:?}");
            told.first().map(|setting| (setting.value.as_deref(), setting.is_set))
        };
        assert_eq!(told("REDIS_URL"), Some((Some("redis://:(hidden)@127.0.0.1:6379/1"), true)));
        assert_eq!(told("MYSQL_URL"), Some((Some("mysql://hunter:(hidden)@h/d?x=:h%40unter2@"), true)));
        assert_eq!(told("JWT_SECRET"), Some((Some(HIDDEN), true)));
        assert_eq!(told("KAFKA_TOPIC"), Some((Some("im-message-private"), false)));
        assert_eq!(told("IM_CACHE_EXPIRE_MINUTES"), Some((Some("30"), false)));
        assert_eq!(told("JWT_ISSUER"), Some((None, false)));
        assert_eq!(told("KAFKA_PARTITIONS"), None, "a stand-in counts for nothing");
    }

    #[test]
    fn start_is_refused_without_a_way_to_check_tokens() {
        let mut settings = complete();
        settings.remove("JWT_SECRET");
        assert!(read(&settings).unwrap_err().faults[0].starts_with("JWT_SECRET"));
        settings.insert("JWT_JWKS_URL", "https://login.example.com/.well-known/jwks.json");
        assert!(matches!(read(&settings).unwrap().auth.key, AuthKey::Jwks(_)));
    }
}
