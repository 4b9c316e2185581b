//! The settings and questions that every Kafka client of this project shares.

use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, TopicPartitionList};
use secrecy::ExposeSecret;

use super::error::{is_settling, kafka_error, permanent};
pub use super::events::ClientEvents;
use crate::config::{KafkaConfig, KafkaSecurity};
use crate::error::ServerError;

const ACTION: &str = "queue.connect";

/// The settings of producers and consumers: the addresses, the security of the connection, the pauses before it is
/// tried again.
pub fn client_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("client.id", "hongyan")
        .set("socket.keepalive.enable", "true")
        // A Lambda environment that was frozen must not use a connection that a load balancer (350 s) or the broker (10
        // min) has dropped meanwhile. With this limit librdkafka itself closes the connection when it wakes, and
        // connects again.
        .set("connections.max.idle.ms", "180000")
        // The default of 10 s would delay the recovery after a short outage.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.connection.setup.timeout.ms", "5000")
        // How soon a topic that was created again, or was given more partitions, is seen. The default is 5 min.
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set_log_level(RDKafkaLogLevel::Info);
    match &config.security {
        // A build without TLS does not know the settings below.
        KafkaSecurity::Plaintext => return client,
        KafkaSecurity::Ssl => {
            client.set("security.protocol", "ssl");
        }
        KafkaSecurity::SaslScram { username, password } => {
            client
                .set("security.protocol", "sasl_ssl")
                .set("sasl.mechanism", "SCRAM-SHA-512")
                .set("sasl.username", username)
                .set("sasl.password", password.expose_secret());
        }
        KafkaSecurity::MskIam => {
            client.set("security.protocol", "sasl_ssl").set("sasl.mechanism", "OAUTHBEARER");
        }
    }
    if let Some(path) = &config.ssl_ca_location {
        client.set("ssl.ca.location", path);
    }
    client
}

/// The error of a setting that librdkafka refused, with the name of our variable.
pub fn refused(error: KafkaError) -> ServerError {
    let variable = match &error {
        KafkaError::ClientConfig(_, _, key, _) => match key.as_str() {
            "bootstrap.servers" => Some("KAFKA_BOOTSTRAP_SERVERS"),
            "compression.type" => Some("KAFKA_COMPRESSION"),
            "linger.ms" => Some("KAFKA_LINGER_MS"),
            "message.timeout.ms" => Some("KAFKA_DELIVERY_TIMEOUT_MS"),
            "ssl.ca.location" => Some("KAFKA_SSL_CA_LOCATION"),
            _ => None,
        },
        KafkaError::ClientCreation(text) if text.contains("ssl.ca.location") => Some("KAFKA_SSL_CA_LOCATION"),
        _ => None,
    };
    match variable {
        Some(variable) => permanent(ACTION, format!("{variable}: {error}")),
        None => kafka_error(ACTION, error),
    }
}

/// Asks a `question` on a consumer that has no partitions yet, and meanwhile serves librdkafka's callbacks (its logs,
/// its request for a token). `question` gets the time that it may take. It is asked again while Kafka does not answer
/// or the group's coordinator is moving, until `limit` has passed or `events` knows that the broker refuses this
/// client. Blocks.
pub fn first_answer<C: ConsumerContext, T>(
    consumer: &BaseConsumer<C>,
    events: &ClientEvents,
    limit: Duration,
    question: impl Fn(Duration) -> KafkaResult<T>,
) -> KafkaResult<T> {
    const STEP: Duration = Duration::from_secs(1);
    const SERVE: Duration = Duration::from_millis(10);
    let began = Instant::now();
    loop {
        while consumer.poll(SERVE).is_some() {}
        let answer = question(STEP.min(limit));
        let Err(error) = &answer else {
            events.answered();
            return answer;
        };
        while consumer.poll(SERVE).is_some() {}
        if !(is_settling(error) || is_silence(error)) || events.is_refused() || began.elapsed() >= limit {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// True if the error means that no answer has come yet.
fn is_silence(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::WaitingForCoordinator
        )
    )
}

/// The committed offsets of the consumer's group in the partitions `asked`, and in the same order the start and the end
/// of each partition's log. A refused partition is an error. Blocks for at most `timeout` per request; for use with
/// [`first_answer`].
pub fn group_offsets<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    asked: &TopicPartitionList,
    timeout: Duration,
) -> KafkaResult<(TopicPartitionList, Vec<(i64, i64)>)> {
    let committed = consumer.committed_offsets(asked.clone(), timeout)?;
    let mut bounds = Vec::with_capacity(committed.count());
    for place in committed.elements() {
        place.error()?;
        bounds.push(consumer.fetch_watermarks(place.topic(), place.partition(), timeout)?);
    }
    Ok((committed, bounds))
}
