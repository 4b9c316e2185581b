//! librdkafka's callbacks: its logs, its errors, its requests for a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::error::{kafka_error, transient};
use super::refusal::Refusal;
use crate::config::{KafkaConfig, KafkaSecurity};
use crate::error::{Retry, ServerError};
use crate::telemetry::limiter::Limiter;

/// The shortest time between two log lines of one kind: a broker that is away must not flood the log.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Receives librdkafka's logs and errors and, with `msk_iam`, its requests for a token. Cheap to clone; clones share
/// their state.
#[derive(Clone)]
pub struct ClientEvents(Arc<Shared>);

struct Shared {
    security: KafkaSecurity,
    /// True if `all_down` or `refusal` is set. Read before these, since [`ClientEvents::answered`] is called for every
    /// record.
    troubled: AtomicBool,
    all_down: AtomicBool,
    refusal: Mutex<Option<Refusal>>,
    limiter: Limiter,
    numbering: Mutex<Streak>,
    #[cfg(feature = "kafka-tls")]
    tokens: Option<super::token::Tokens>,
}

impl ClientEvents {
    /// With `msk_iam`, an error names the missing variables of AWS.
    pub fn new(config: &KafkaConfig) -> Result<Self, ServerError> {
        Ok(Self(Arc::new(Shared {
            security: config.security.clone(),
            troubled: AtomicBool::new(false),
            all_down: AtomicBool::new(false),
            refusal: Mutex::default(),
            limiter: Limiter::new(LOG_INTERVAL),
            numbering: Mutex::default(),
            #[cfg(feature = "kafka-tls")]
            tokens: match config.security {
                KafkaSecurity::MskIam => {
                    Some(super::token::Tokens::new(crate::signature::Signer::from_env())?)
                }
                _ => None,
            },
        })))
    }

    /// Notes that Kafka has answered.
    pub fn answered(&self) {
        if self.0.troubled.load(Ordering::Relaxed) && self.0.troubled.swap(false, Ordering::Relaxed) {
            self.0.all_down.store(false, Ordering::Relaxed);
            *self.0.refusal.lock() = None;
            tracing::info!(server = "kafka", "Kafka answers again");
        }
    }

    /// True if no broker can be reached, as far as is known.
    pub fn all_down(&self) -> bool {
        self.0.all_down.load(Ordering::Relaxed)
    }

    /// True if a broker has refused this client for a lasting reason, and none has answered since.
    pub fn is_refused(&self) -> bool {
        self.0.refusal.lock().is_some_and(|refusal| refusal.certain)
    }

    /// The error of an action. If a broker refuses this client, the error says so and what to do: librdkafka's own
    /// error mostly just says that nobody answered.
    pub fn explain(&self, action: &'static str, error: KafkaError) -> ServerError {
        let error = kafka_error(action, error);
        match *self.0.refusal.lock() {
            Some(Refusal { advice, .. }) if error.retry == Retry::Transient => {
                transient(action, format!("the broker refuses this client: {advice} ({})", error.source))
            }
            _ => error,
        }
    }

    /// Logs, once in a while, that records are refused because their partition does not exist.
    pub(super) fn no_such_partition(&self, topic: &str) {
        if let Some(left_out) = self.0.limiter.admit("no such partition") {
            tracing::error!(
                server = "kafka",
                topic,
                left_out,
                "a record's partition does not exist: the topic has fewer partitions than KAFKA_PARTITIONS, or does not exist"
            );
        }
    }

    /// As [`Self::explain`], for an action whose wait is over without an answer.
    pub(super) fn explain_silence(&self, action: &'static str, waited: Duration) -> ServerError {
        let waited = waited.as_millis();
        match *self.0.refusal.lock() {
            Some(Refusal { advice, .. }) => transient(
                action,
                format!("the broker refuses this client: {advice} (not acknowledged within {waited} ms)"),
            ),
            None if self.all_down() => {
                transient(action, format!("no broker can be reached; gave up waiting after {waited} ms"))
            }
            None => transient(action, format!("not acknowledged within {waited} ms")),
        }
    }

    /// Logs a refusal once in a while, and keeps it for actions that get no answer.
    fn refused(&self, refusal: Refusal, reason: &str) {
        let advice = refusal.advice;
        let mut known = self.0.refusal.lock();
        if refusal.certain || !known.is_some_and(|known| known.certain) {
            *known = Some(refusal);
        }
        drop(known);
        self.0.troubled.store(true, Ordering::Relaxed);
        let Some(left_out) = self.0.limiter.admit(advice) else {
            return;
        };
        if refusal.certain {
            tracing::error!(
                server = "kafka",
                left_out,
                "the broker refuses this client: {advice} ({reason})"
            );
        } else {
            tracing::warn!(
                server = "kafka",
                left_out,
                "the broker may be refusing this client, unless it is just stopping: {advice} ({reason})"
            );
        }
    }
}

impl ClientContext for ClientEvents {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = cfg!(feature = "kafka-tls");

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // An error of a connection also arrives at `error`, except when the broker just closes the connection.
        if facility == "FAIL" {
            tracing::debug!(server = "kafka", facility, "{text}");
            if let Some(refusal) = Refusal::read(&self.0.security, None, text).filter(|it| !it.certain) {
                self.refused(refusal, text);
            }
            return;
        }
        if facility == "GETPID" {
            let mut numbering = self.0.numbering.lock();
            if !numbering.lasts(Instant::now()) {
                tracing::info!(
                    server = "kafka",
                    "Kafka has given this producer no number yet (it may be starting); asking again: {text}"
                );
                return;
            }
        }
        let Some(left_out) = self.0.limiter.admit(facility) else {
            tracing::debug!(server = "kafka", facility, "{text}");
            return;
        };
        // librdkafka's "error" is mostly a connection that it will open again by itself. An error of a record is
        // reported to the caller who sent the record.
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
        let code = error.rdkafka_error_code();
        if let Some(refusal) = Refusal::read(&self.0.security, code, reason) {
            self.refused(refusal, reason);
            return;
        }
        match code {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                self.0.troubled.store(true, Ordering::Relaxed);
                let refusal = *self.0.refusal.lock();
                // A refusal was logged already.
                if !self.0.all_down.swap(true, Ordering::Relaxed) && refusal.is_none() {
                    tracing::warn!(
                        server = "kafka",
                        "no broker of KAFKA_BOOTSTRAP_SERVERS can be reached; trying again until one can: {reason}"
                    );
                }
            }
            Some(RDKafkaErrorCode::Fatal) => tracing::error!(server = "kafka", %error, "{reason}"),
            _ => {
                // The broker was shutting down, and had not refused this client.
                self.0.refusal.lock().take_if(|refusal| !refusal.certain);
                if let Some(left_out) = self.0.limiter.admit("error") {
                    tracing::warn!(server = "kafka", %error, left_out, "{reason}");
                }
            }
        }
    }

    #[cfg(feature = "kafka-tls")]
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

/// A fault that librdkafka reports again and again while it lasts.
#[derive(Default)]
struct Streak(Option<(Instant, Instant)>);

impl Streak {
    /// A fault that ends within this time is not reported.
    const PATIENCE: Duration = Duration::from_secs(10);
    /// librdkafka asks for a producer's number every half second. After a longer gap the number had arrived.
    const GAP: Duration = Duration::from_secs(5);

    /// Notes one more report. True if the fault has lasted longer than [`Streak::PATIENCE`].
    fn lasts(&mut self, now: Instant) -> bool {
        let began = match self.0 {
            Some((began, last)) if now.duration_since(last) < Self::GAP => began,
            _ => now,
        };
        self.0 = Some((began, now));
        now.duration_since(began) > Self::PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, minimal};

    #[test]
    fn a_trouble_lasts_when_it_comes_again_for_ten_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut streak = Streak::default();
        assert!([0, 4, 8, 10].map(at).into_iter().all(|now| !streak.lasts(now)));
        assert!(streak.lasts(at(11)));
        // The fault was over for a while.
        assert!([30, 34, 38].map(at).into_iter().all(|now| !streak.lasts(now)));
    }

    #[test]
    fn a_refusal_is_told_to_whoever_waits_until_a_broker_answers() {
        let events = ClientEvents::new(&Config::from_lookup(minimal).unwrap().kafka).unwrap();
        let happens = |code, reason| events.error(KafkaError::Global(code), reason);
        let told = || {
            let timed_out = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
            let error = events.explain("queue.ping", timed_out);
            assert_eq!(error.retry, Retry::Transient);
            error.source.to_string()
        };
        let hangs_up = "Disconnected (after 3ms in state APIVERSION_QUERY)";
        happens(RDKafkaErrorCode::BrokerTransportFailure, hangs_up);
        assert!(told().contains("KAFKA_SECURITY") && !events.is_refused(), "{}", told());
        happens(RDKafkaErrorCode::BrokerTransportFailure, "Connection refused");
        assert!(!told().contains("KAFKA"), "it was only stopping: {}", told());

        happens(RDKafkaErrorCode::SSL, "SSL handshake failed: certificate verify failed");
        happens(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        happens(RDKafkaErrorCode::BrokerTransportFailure, hangs_up);
        assert!(told().contains("KAFKA_SSL_CA_LOCATION") && events.is_refused(), "{}", told());
        events.answered();
        assert!(!told().contains("KAFKA") && !events.is_refused() && !events.all_down(), "{}", told());
    }
}
