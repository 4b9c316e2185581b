//! The connection to one Redis server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike as _, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Pipeline, RedisResult, TlsCertificates, Value};

use super::redis::Step;

/// How long after a sign of life failed to come the next is asked for.
const PAUSE: Duration = Duration::from_millis(100);

/// A multiplexed connection that mends itself. Once its server has let a command wait for the whole of
/// `REDIS_TIMEOUT_MS` and answered no other meanwhile, commands fail at once until it answers a new connection: callers
/// have other ways, and each of them would wait as long. Cheap to clone.
#[derive(Clone)]
pub(super) struct Single {
    client: Client,
    /// `REDIS_TIMEOUT_MS`: the longest that one batch takes, and that a connection takes to be made.
    timeout: Duration,
    current: Arc<Mutex<Current>>,
    /// How often the connection broke, the start counted as the first.
    breaks: Arc<AtomicU64>,
}

struct Current {
    connection: ConnectionManager,
    /// How many batches were answered.
    answers: u64,
    /// Whether commands fail at once.
    hangs: bool,
}

impl Single {
    /// Prepares a connection to the server at `url`; nothing is sent yet.
    pub(super) fn new(
        url: &str,
        timeout: Duration,
        certificates: Option<TlsCertificates>,
        breaks: Arc<AtomicU64>,
    ) -> RedisResult<Self> {
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(url, certificates),
            None => Client::open(url),
        }?;
        let connection = connect(&client, timeout)?;
        let current = Arc::new(Mutex::new(Current { connection, answers: 0, hangs: false }));
        Ok(Self { client, timeout, current, breaks })
    }

    /// Runs them in this order, in one round trip.
    pub(super) async fn send(&self, steps: &[Step], by_hash: bool) -> RedisResult<Vec<Value>> {
        let (mut connection, answers) = {
            let current = self.lock();
            if current.hangs {
                return Err(
                    std::io::Error::new(std::io::ErrorKind::TimedOut, "it has stopped answering").into()
                );
            }
            (current.connection.clone(), current.answers)
        };
        let mut pipeline = Pipeline::with_capacity(steps.len());
        for step in steps {
            pipeline.add_command(step.command(by_hash));
        }
        let answer = connection.req_packed_commands(&pipeline, 0, steps.len()).await;
        match &answer {
            Ok(_) => self.lock().answers += 1,
            Err(failure) if failure.is_timeout() => self.suspect(answers),
            Err(_) => {}
        }
        answer
    }

    /// A command that was sent after so many answers has had none in its time.
    fn suspect(&self, answers: u64) {
        let mut current = self.lock();
        // Another was answered: slow, or this one was.
        if current.hangs || current.answers != answers {
            return;
        }
        current.hangs = true;
        tracing::warn!(
            timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            "cache.connection: Redis has stopped answering; until it does again, nothing waits for it"
        );
        tokio::spawn(self.clone().until_it_answers());
    }

    /// Asks by a connection of its own each time: the one that is open may lead to a host that is gone, which closes
    /// nothing, and the system would wait on it for a quarter of an hour.
    async fn until_it_answers(self) {
        loop {
            if let Ok(connection) = self.connect_anew().await {
                // First: whoever sees the new connection must see that it may lead to another memory.
                self.breaks.fetch_add(1, Ordering::SeqCst);
                let mut current = self.lock();
                // One answer more, so that what was sent before and ends only now raises no suspicion.
                *current = Current { connection, answers: current.answers + 1, hangs: false };
                tracing::info!("cache.connection: Redis answers again");
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A connection that was answered. A refusal in words, for a missing right or because it is loading, is an answer too.
    async fn connect_anew(&self) -> RedisResult<ConnectionManager> {
        let mut connection = connect(&self.client, self.timeout)?;
        match connection.req_packed_command(&::redis::cmd("PING")).await {
            Err(failure) if failure.is_io_error() => Err(failure),
            _ => Ok(connection),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(client: &Client, timeout: Duration) -> RedisResult<ConnectionManager> {
    // Whoever meets a broken connection tries once more (`Redis::attempt`); a server that is away is known at once.
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}
