//! A Kafka like MSK's, on a real broker with TLS and SCRAM listeners. All clients of Kafka work over each listener,
//! and a client that is refused learns the reason and the remedy.

#![expect(clippy::unwrap_used, reason = "a test; the helpers beside it are part of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hongyan::config::KafkaConfig;
use hongyan::error::{Retry, ServerError};
use hongyan::queue::{DeadLetter, KafkaBatchResponse, KafkaEvent, Progress, Queue};
use hongyan_runtime::dlq::{self, Filter, RedriveOptions};
use hongyan_runtime::host::InvokeError;
use hongyan_runtime::trigger::{Trigger, TriggerOptions};
use hongyan_stack::{SecureKafka, ServerKind, Stack, StackOptions};
use hongyan_testkit::certificates::Authority;
use hongyan_testkit::kafka::{config_with, create_topic, persist};
use hongyan_testkit::servers::address_of;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::time::timeout;

const WAIT: Duration = Duration::from_secs(30);
const USER: &str = "hongyan";
const PASSWORD: &str = "a-password-of-scram";

/// The broker of this test binary, with a certificate for 127.0.0.1, and authorities for clients.
struct Broker {
    stack: Stack,
    /// The authority that signed the certificate.
    authority: PathBuf,
    /// Another authority.
    stranger: PathBuf,
    _folder: TempDir,
}

async fn broker() -> &'static Broker {
    static BROKER: OnceCell<Broker> = OnceCell::const_new();
    let start = || async {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("the authority of a test");
        let (certificates, key) = authority.issue("127.0.0.1");
        let secure =
            SecureKafka { certificates, key, username: USER.to_owned(), password: PASSWORD.to_owned() };
        let stack = Stack::start(StackOptions::temporary().with_secure_kafka(secure)).await.unwrap();
        Broker {
            stack,
            authority: authority.write(folder.path(), "authority.pem"),
            stranger: Authority::new("another").write(folder.path(), "stranger.pem"),
            _folder: folder,
        }
    };
    BROKER.get_or_init(start).await
}

fn over_tls(address: &str, authority: &Path) -> KafkaConfig {
    let authority = authority.to_str().unwrap();
    config_with(address, 10, &[("KAFKA_SECURITY", "ssl"), ("KAFKA_SSL_CA_LOCATION", authority)])
}

impl Broker {
    fn plaintext(&self) -> String {
        address_of(&self.stack, ServerKind::Kafka)
    }

    fn with_scram(&self, username: &str, password: &str) -> KafkaConfig {
        let more = [
            ("KAFKA_SECURITY", "sasl_scram"),
            ("KAFKA_SASL_USERNAME", username),
            ("KAFKA_SASL_PASSWORD", password),
            ("KAFKA_SSL_CA_LOCATION", self.authority.to_str().unwrap()),
        ];
        config_with(&self.stack.kafka_with_scram(), 10, &more)
    }

    /// Sends, reads, asks for the group's progress and redrives with `config`, on new topics.
    async fn serves(&self, config: KafkaConfig) {
        let plaintext = config_with(&self.plaintext(), 1, &[]);
        create_topic(&plaintext, &config.topic, 10).await;
        create_topic(&plaintext, &config.dead_letter_topic, 1).await;
        let queue = Queue::new(&config).unwrap();
        queue.send(&persist(1, 1, 2), WAIT).await.unwrap();
        queue.ping().await.unwrap();
        let progress = queue.progress().await.unwrap();
        assert!(matches!(progress[4], Progress::Behind { .. }), "{progress:?}");

        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let invoke = move |event: KafkaEvent| {
            count.fetch_add(event.records.values().map(Vec::len).sum(), Ordering::SeqCst);
            async { Ok::<_, InvokeError>(KafkaBatchResponse::done()) }
        };
        let trigger = Trigger::start(TriggerOptions::new(config.clone()), invoke).await.unwrap();
        timeout(WAIT, trigger.drain()).await.unwrap().unwrap();
        assert_eq!(seen.load(Ordering::SeqCst), 1);
        assert_eq!(queue.progress().await.unwrap(), [Progress::CaughtUp; 10]);

        let letter = DeadLetter {
            key: Some(b"1_2".to_vec()),
            value: Some(b"{}".to_vec()),
            error: "missing field `action`".to_owned(),
            attempts: 1,
            topic: config.topic.clone(),
            partition: 4,
            offset: 0,
            failed_at_ms: 1,
            trace: None,
        };
        queue.dead_letter(letter).await.unwrap();
        assert_eq!(dlq::list(&config, Filter::default()).await.unwrap().len(), 1);
        let redriven = dlq::redrive(&config, RedriveOptions::default()).await.unwrap();
        assert_eq!(redriven.sent, 1, "{redriven}");
        timeout(WAIT, trigger.drain()).await.unwrap().unwrap();
        assert_eq!(seen.load(Ordering::SeqCst), 2);
        timeout(WAIT, trigger.stop()).await.unwrap();
        queue.flush(WAIT).await.unwrap();
    }
}

fn has_all(text: &str, names: &[&str]) -> bool {
    names.iter().all(|name| text.contains(name))
}

/// Repeats `action` until its error contains `names`, and returns the error, or the last one. A try may end before
/// the broker has said anything. A broker that only closes the connection counts as refusing until another error
/// happens.
async fn told_by<E>(names: &[&str], text: impl Fn(&E) -> String, action: impl AsyncFn() -> E) -> E {
    let began = Instant::now();
    loop {
        let error = action().await;
        if has_all(&text(&error), names) || began.elapsed() > WAIT {
            return error;
        }
    }
}

/// Every use of `config` ends soon, with an error that contains `names`.
async fn is_told(config: KafkaConfig, names: &[&str]) {
    let began = Instant::now();
    let told: Mutex<Vec<String>> = Mutex::default();
    let note = |what: &str, error: String| {
        assert!(has_all(&error, names), "{what} does not name {names:?}: {error}");
        told.lock().push(error);
    };
    let queue = Queue::new(&config).unwrap();
    let (event, source) = (persist(1, 1, 2), |error: &ServerError| error.source.to_string());
    let send = async || queue.send(&event, Duration::from_millis(200)).await.unwrap_err();
    let error = told_by(names, source, send).await;
    assert_eq!(error.retry, Retry::Transient, "it may be let in once the settings are mended: {error}");
    note("send", error.source.to_string());
    let start = async || {
        let invoke = |_event| async { Ok::<_, InvokeError>(KafkaBatchResponse::done()) };
        Trigger::start(TriggerOptions::new(config.clone()), invoke).await.unwrap_err()
    };
    let (ping, progress, list, trigger) = tokio::join!(
        told_by(names, source, async || queue.ping().await.unwrap_err()),
        told_by(names, source, async || queue.progress().await.unwrap_err()),
        told_by(names, source, async || dlq::list(&config, Filter::default()).await.unwrap_err()),
        told_by(names, ToString::to_string, start),
    );
    note("ping", ping.source.to_string());
    note("progress", progress.source.to_string());
    note("dlq", list.source.to_string());
    note("trigger", trigger.to_string());
    assert!(began.elapsed() < 2 * WAIT, "{:?}", began.elapsed());
    eprintln!("{}", told.lock()[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_all_works() {
    let broker = broker().await;
    broker.serves(over_tls(&broker.stack.kafka_over_tls(), &broker.authority)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_scram_all_works() {
    let broker = broker().await;
    broker.serves(broker.with_scram(USER, PASSWORD)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told() {
    let config = broker().await.with_scram(USER, "another");
    is_told(config, &["KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "KAFKA_SASL_SECRET_ARN"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_nobody_vouches_for_is_told() {
    let broker = broker().await;
    let config = over_tls(&broker.stack.kafka_over_tls(), &broker.stranger);
    is_told(config, &["KAFKA_SSL_CA_LOCATION"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_name_that_the_certificate_is_not_made_for_is_told() {
    let broker = broker().await;
    let by_name = broker.stack.kafka_over_tls().replace("127.0.0.1", "localhost");
    let config = over_tls(&by_name, &broker.authority);
    is_told(config, &["KAFKA_BOOTSTRAP_SERVERS", "host name"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_tls_at_a_tls_listener_is_told() {
    let config = config_with(&broker().await.stack.kafka_over_tls(), 10, &[]);
    is_told(config, &["KAFKA_SECURITY"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_user_at_a_scram_listener_is_told() {
    let broker = broker().await;
    let config = over_tls(&broker.stack.kafka_with_scram(), &broker.authority);
    is_told(config, &["KAFKA_SECURITY", "sasl_scram", "msk_iam"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_authorities_that_is_not_there_is_told_before_anything_begins() {
    let broker = broker().await;
    let missing = broker.stranger.with_file_name("missing.pem");
    let error = Queue::new(&over_tls(&broker.stack.kafka_over_tls(), &missing)).unwrap_err();
    assert_eq!(error.retry, Retry::Permanent);
    assert!(error.source.to_string().contains("KAFKA_SSL_CA_LOCATION"), "{}", error.source);
}
