//! The targets that must answer, and the topics that Kafka must have.

use super::error::StackError;
use super::files::State;
use super::options::StackOptions;
use super::probe::Target;
use super::server_kind::ServerKind;
use super::{kafka, mysql, redis};

/// The target of a server that the stack starts. For a Redis Cluster, its first node.
pub(super) fn own_target(kind: ServerKind, state: &State) -> Target {
    match kind {
        ServerKind::Redis => Target::Redis { url: redis::url(state, 0), cluster: state.redis_cluster },
        ServerKind::MySql => Target::MySql { url: mysql::url(state) },
        ServerKind::Kafka => Target::Kafka { bootstrap: kafka::bootstrap(state) },
    }
}

/// The targets of a server that the caller has given.
pub(super) fn given_targets(kind: ServerKind, options: &StackOptions) -> Vec<Target> {
    let given = |name: &str| options.given.get(name).map(String::as_str);
    let address = given(kind.variable()).unwrap_or_default().to_owned();
    match kind {
        ServerKind::Redis => {
            vec![Target::Redis { url: address, cluster: given("REDIS_CLUSTER") == Some("true") }]
        }
        ServerKind::MySql => vec![Target::MySql { url: address }],
        // The stack speaks plaintext only. With TLS or SASL the application itself finds out whether Kafka answers.
        ServerKind::Kafka if given("KAFKA_SECURITY").unwrap_or("plaintext") == "plaintext" => {
            vec![Target::Kafka { bootstrap: address }]
        }
        ServerKind::Kafka => Vec::new(),
    }
}

/// Creates the topics, or for a given Kafka checks them. A Kafka of the stack is also ready for consumer groups then.
pub(super) async fn ensure_topics(options: &StackOptions, state: &State) -> Result<(), StackError> {
    if !options.is_given(ServerKind::Kafka) {
        let bootstrap = kafka::bootstrap(state);
        kafka::ensure_topics(&bootstrap, &options.topics, true).await?;
        return kafka::ensure_groups(&bootstrap, &options.topics).await;
    }
    match given_targets(ServerKind::Kafka, options).first() {
        Some(Target::Kafka { bootstrap }) => kafka::ensure_topics(bootstrap, &options.topics, false).await,
        _ => Ok(()),
    }
}
