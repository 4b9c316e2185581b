//! The options of a stack, from the caller and the environment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::error::StackError;
use super::files::{random_text, write_private};
use super::secure_kafka::SecureKafka;
use super::server_kind::ServerKind;

/// Where the servers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As processes of this machine.
    Native,
    /// In Docker, by `compose.yaml`.
    Docker,
}

/// A topic that a started stack must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The name of the topic.
    pub name: String,
    /// The least number of partitions.
    pub partitions: usize,
    /// The setting that an error names if the topic has fewer partitions.
    pub setting: &'static str,
    /// The largest batch of records that the topic takes, in bytes; by default the broker's limit.
    pub max_message_bytes: Option<u32>,
}

impl TopicSpec {
    /// A topic with the broker's limit of a batch.
    pub fn new(name: impl Into<String>, partitions: usize, setting: &'static str) -> Self {
        Self { name: name.into(), partitions, setting, max_message_bytes: None }
    }

    /// The topic of the messages.
    fn messages(name: &str, partitions: usize) -> Self {
        Self::new(name, partitions, "KAFKA_PARTITIONS")
    }

    /// The topic of the dead letters. A dead letter is a record of the topic of messages with more headers, so twice
    /// the broker's limit is always enough.
    fn dead_letters(name: &str) -> Self {
        let max_message_bytes = Some(2_097_152);
        Self { max_message_bytes, ..Self::new(name, 1, "KAFKA_DEAD_LETTER_TOPIC") }
    }
}

/// The files with which a server speaks TLS.
#[derive(Clone)]
pub struct ServerCertificate {
    /// PEM: the server's certificate, for the address 127.0.0.1, and the certificates above it.
    pub chain: String,
    /// PEM: the private key, in PKCS#8.
    pub key: String,
    /// PEM: the certificate of the authority. The nodes of a cluster check each other's certificates with it.
    pub authority: String,
}

impl ServerCertificate {
    /// Writes the three files into `folder`, and returns the paths of chain, key and authority.
    pub(super) fn write(&self, folder: &Path) -> Result<[PathBuf; 3], StackError> {
        let files =
            [("server.pem", &self.chain), ("server.key", &self.key), ("authority.pem", &self.authority)];
        for (name, pem) in files {
            write_private(&folder.join(name), pem.as_bytes())?;
        }
        Ok(files.map(|(name, _)| folder.join(name)))
    }
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificate").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// The options of a stack: where the data is, and which servers to start.
#[derive(Debug, Clone)]
pub struct StackOptions {
    pub(super) folder: PathBuf,
    pub(super) given: BTreeMap<String, String>,
    pub(super) topics: Vec<TopicSpec>,
    pub(super) place: Option<Place>,
    pub(super) background: bool,
    pub(super) remove: bool,
    pub(super) redis_cluster: bool,
    pub(super) secure_redis: Option<ServerCertificate>,
    pub(super) secure_mysql: Option<ServerCertificate>,
    pub(super) secure_kafka: Option<SecureKafka>,
    pub(super) kafka_proxy: Option<SocketAddr>,
}

impl StackOptions {
    /// A stack that keeps its data in `folder` and ends with the calling process.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            given: BTreeMap::new(),
            topics: vec![
                TopicSpec::messages("im-message-private", 10),
                TopicSpec::dead_letters("im-message-dead-letter"),
            ],
            place: None,
            background: false,
            remove: false,
            redis_cluster: false,
            secure_redis: None,
            secure_mysql: None,
            secure_kafka: None,
            kafka_proxy: None,
        }
    }

    /// A stack for a test, in a new folder. The folder is removed with the stack, even if the process is killed.
    pub fn temporary() -> Self {
        let folder = std::env::temp_dir().join(format!("hongyan-{}", random_text(8)));
        Self { remove: true, ..Self::new(folder) }
    }

    /// Applies the environment: given servers (`REDIS_URL`, `MYSQL_URL`, `KAFKA_BOOTSTRAP_SERVERS`, and the settings
    /// that belong to them), the names and partitions of the topics, and `HONGYAN_STACK`.
    pub fn with_environment(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, StackError> {
        self.given.extend(variables.into_iter().filter(|(_, value)| !value.is_empty()));
        let text =
            |name: &str, default: &str| self.given.get(name).map_or(default, String::as_str).to_owned();
        let partitions = match self.given.get("KAFKA_PARTITIONS").map(|text| text.parse::<u16>()) {
            None => 10,
            Some(Ok(number)) if number > 0 => usize::from(number),
            Some(_) => {
                let reason = "must be a whole number from 1 to 65535".to_owned();
                return Err(StackError::Setting { variable: "KAFKA_PARTITIONS", reason });
            }
        };
        self.topics = vec![
            TopicSpec::messages(&text("KAFKA_TOPIC", "im-message-private"), partitions),
            TopicSpec::dead_letters(&text("KAFKA_DEAD_LETTER_TOPIC", "im-message-dead-letter")),
        ];
        self.place = match self.given.get("HONGYAN_STACK").map(String::as_str) {
            None => self.place,
            Some("native") => Some(Place::Native),
            Some("docker") => Some(Place::Docker),
            Some(_) => {
                let reason = "must be native or docker".to_owned();
                return Err(StackError::Setting { variable: "HONGYAN_STACK", reason });
            }
        };
        if !self.is_given(ServerKind::Redis) {
            self.redis_cluster = self.given.get("REDIS_CLUSTER").is_some_and(|value| value == "true");
        }
        Ok(self)
    }

    /// The servers go on when this process ends. [`super::down`] stops them.
    #[must_use]
    pub fn in_background(mut self) -> Self {
        self.background = true;
        self
    }

    /// Chooses where the servers run. By default they run in Docker if an engine answers at the first start, and
    /// otherwise natively; later starts keep the choice.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Redis as a cluster of three nodes. A cluster has database 0 only.
    #[must_use]
    pub fn with_redis_cluster(mut self) -> Self {
        self.redis_cluster = true;
        self
    }

    /// Redis, or each node of its cluster, with a TLS port beside the plaintext port. Only natively.
    /// [`super::Stack::redis_over_tls`] has the URL. Clients that come to a cluster over TLS are redirected to the
    /// nodes' TLS ports.
    #[must_use]
    pub fn with_secure_redis(mut self, certificate: ServerCertificate) -> Self {
        self.secure_redis = Some(certificate);
        self
    }

    /// MySQL that accepts only connections over TLS. Only natively.
    #[must_use]
    pub fn with_secure_mysql(mut self, certificate: ServerCertificate) -> Self {
        self.secure_mysql = Some(certificate);
        self
    }

    /// Kafka with a TLS and a SCRAM listener beside the plaintext listener. Only natively.
    /// [`super::Stack::kafka_over_tls`] and [`super::Stack::kafka_with_scram`] have the addresses.
    #[must_use]
    pub fn with_secure_kafka(mut self, secure: SecureKafka) -> Self {
        self.secure_kafka = Some(secure);
        self
    }

    /// Kafka with a second listener, whose clients are sent on to `proxy` instead of to Kafka itself. Only natively.
    /// [`super::Stack::kafka_behind_proxy`] has the address that the proxy must lead to.
    #[must_use]
    pub fn with_kafka_proxy(mut self, proxy: SocketAddr) -> Self {
        self.kafka_proxy = Some(proxy);
        self
    }

    /// The topics of the stack, in place of the application's two.
    #[must_use]
    pub fn with_topics(mut self, topics: Vec<TopicSpec>) -> Self {
        self.topics = topics;
        self
    }

    /// True if an option was chosen that `compose.yaml` cannot provide.
    pub(super) fn natively_only(&self) -> bool {
        self.redis_cluster
            || self.secure_redis.is_some()
            || self.secure_mysql.is_some()
            || self.secure_kafka.is_some()
    }

    /// True if the caller has given this server, so that the stack starts none.
    pub(super) fn is_given(&self, kind: ServerKind) -> bool {
        self.given.contains_key(kind.variable())
    }
}
