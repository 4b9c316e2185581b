//! How every Kafka client of this project connects, and where what librdkafka says about it goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, TopicPartitionList};
use secrecy::ExposeSecret;

use super::error::{is_settling, kafka_error, permanent};
use crate::config::{KafkaConfig, KafkaSecurity};
use crate::error::ServerError;

const ACTION: &str = "queue.connect";

/// The settings that producers and consumers share: where Kafka is, how the connection is secured, and how soon it is
/// tried again. A security that this build cannot have is an error naming `KAFKA_SECURITY`.
pub fn client_config(config: &KafkaConfig) -> Result<ClientConfig, ServerError> {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("client.id", "hongyan")
        .set("socket.keepalive.enable", "true")
        // A Lambda that was frozen must not use a connection that a load balancer (350 s) or the broker (10 min) has
        // dropped meanwhile: librdkafka closes it itself when it wakes, and connects anew.
        .set("connections.max.idle.ms", "180000")
        // The default's 10 s would be a late recovery after a short outage.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.connection.setup.timeout.ms", "5000")
        .set("log.connection.close", "false")
        .set_log_level(RDKafkaLogLevel::Info);
    secure(&mut client, config)?;
    Ok(client)
}

fn secure(client: &mut ClientConfig, config: &KafkaConfig) -> Result<(), ServerError> {
    let name = match &config.security {
        KafkaSecurity::Plaintext => return Ok(()),
        KafkaSecurity::Ssl => {
            client.set("security.protocol", "ssl");
            "ssl"
        }
        KafkaSecurity::SaslScram { username, password } => {
            client
                .set("security.protocol", "sasl_ssl")
                .set("sasl.mechanism", "SCRAM-SHA-512")
                .set("sasl.username", username)
                .set("sasl.password", password.expose_secret());
            "sasl_scram"
        }
        KafkaSecurity::MskIam => {
            client.set("security.protocol", "sasl_ssl").set("sasl.mechanism", "OAUTHBEARER");
            "msk_iam"
        }
    };
    if let Some(path) = &config.ssl_ca_location {
        client.set("ssl.ca.location", path);
    }
    if cfg!(feature = "msk") {
        Ok(())
    } else {
        Err(permanent(
            ACTION,
            format!(
                "KAFKA_SECURITY is {name}, but this build has no TLS for Kafka: build with the cargo feature `msk`, or \
                 set it to plaintext"
            ),
        ))
    }
}

/// Names the variable behind a setting that librdkafka refused.
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

/// Receives what librdkafka has to say: its logs, its errors and, with `msk_iam`, its request for a token. Cheap to
/// clone; clones share what they know.
#[derive(Clone)]
pub struct ClientEvents(Arc<Shared>);

struct Shared {
    all_down: AtomicBool,
    limiter: Limiter,
    #[cfg(feature = "msk")]
    tokens: Option<super::token::Tokens>,
}

impl ClientEvents {
    /// With `msk_iam` this must be called inside a tokio runtime, which later signs the tokens.
    pub fn new(config: &KafkaConfig) -> Result<Self, ServerError> {
        #[cfg(not(feature = "msk"))]
        let _ = config;
        Ok(Self(Arc::new(Shared {
            all_down: AtomicBool::new(false),
            limiter: Limiter::default(),
            #[cfg(feature = "msk")]
            tokens: match config.security {
                KafkaSecurity::MskIam => Some(super::token::Tokens::new()?),
                _ => None,
            },
        })))
    }

    /// Notes that Kafka has answered.
    pub fn answered(&self) {
        // Read before write: this is called for every record.
        if self.0.all_down.load(Ordering::Relaxed) && self.0.all_down.swap(false, Ordering::Relaxed) {
            tracing::info!(server = "kafka", "Kafka answers again");
        }
    }

    /// Whether, as far as is known, no broker can be reached.
    pub fn all_down(&self) -> bool {
        self.0.all_down.load(Ordering::Relaxed)
    }
}

impl ClientContext for ClientEvents {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = cfg!(feature = "msk");

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let Some(left_out) = self.0.limiter.admit(facility, Instant::now()) else {
            tracing::debug!(server = "kafka", facility, "{text}");
            return;
        };
        // What librdkafka calls an error is mostly a connection that it will try again by itself; what becomes of the
        // records is reported where they were sent.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(server = "kafka", facility, left_out, "{text}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(server = "kafka", facility, left_out, "{text}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(server = "kafka", facility, "{text}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                if !self.0.all_down.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        server = "kafka",
                        "no broker of KAFKA_BOOTSTRAP_SERVERS can be reached; trying again until one can: {reason}"
                    );
                }
            }
            Some(RDKafkaErrorCode::Fatal) => tracing::error!(server = "kafka", %error, "{reason}"),
            // A refused password or certificate does not mend itself.
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                if let Some(left_out) = self.0.limiter.admit("authentication", Instant::now()) {
                    tracing::error!(server = "kafka", %error, left_out, "{reason}");
                }
            }
            _ => {
                if let Some(left_out) = self.0.limiter.admit("error", Instant::now()) {
                    tracing::warn!(server = "kafka", %error, left_out, "{reason}");
                }
            }
        }
    }

    #[cfg(feature = "msk")]
    fn generate_oauth_token(
        &self,
        _config: Option<&str>,
    ) -> Result<rdkafka::client::OAuthToken, Box<dyn std::error::Error>> {
        match &self.0.tokens {
            Some(tokens) => tokens.sign(),
            None => Err("a token was asked for although KAFKA_SECURITY is not msk_iam".into()),
        }
    }
}

impl ConsumerContext for ClientEvents {}

/// Lets one line of a kind through in [`Limiter::INTERVAL`] and counts the others, so that a broker that is away does
/// not flood the log.
#[derive(Default)]
struct Limiter(Mutex<HashMap<String, (Instant, u64)>>);

impl Limiter {
    const INTERVAL: Duration = Duration::from_secs(30);

    /// `Some` with how many of this kind were left out before, if the line may be written.
    fn admit(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(kind) {
            Some((last, left_out)) if now.duration_since(*last) < Self::INTERVAL => {
                *left_out += 1;
                None
            }
            Some((last, left_out)) => {
                *last = now;
                Some(std::mem::take(left_out))
            }
            None => {
                kinds.insert(kind.to_owned(), (now, 0));
                Some(0)
            }
        }
    }
}

/// What the consumer's group has committed in the partitions `asked` for. While the group's coordinator is settling, as
/// after a start of Kafka, it is asked again, until about `timeout` has passed. Blocks; each question at most `timeout`.
pub fn committed_offsets(
    consumer: &BaseConsumer<ClientEvents>,
    asked: &TopicPartitionList,
    timeout: Duration,
) -> KafkaResult<TopicPartitionList> {
    let began = Instant::now();
    loop {
        let answer = consumer.committed_offsets(asked.clone(), timeout).and_then(|committed| {
            committed.elements().iter().try_for_each(TopicPartitionListElem::error)?;
            Ok(committed)
        });
        match answer {
            Err(error) if is_settling(&error) && began.elapsed() < timeout => {
                std::thread::sleep(Duration::from_millis(100));
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_a_kind_in_half_a_minute() {
        let limiter = Limiter::default();
        let start = Instant::now();
        assert_eq!(limiter.admit("FAIL", start), Some(0));
        assert_eq!(limiter.admit("FAIL", start), None);
        assert_eq!(limiter.admit("FAIL", start + Duration::from_secs(29)), None);
        assert_eq!(limiter.admit("other", start), Some(0));
        assert_eq!(limiter.admit("FAIL", start + Duration::from_secs(30)), Some(2));
        assert_eq!(limiter.admit("FAIL", start + Duration::from_secs(61)), Some(0));
    }
}
