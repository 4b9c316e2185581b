//! The connection to a single Redis server.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionLike as _, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Pipeline, RedisResult, TlsCertificates, Value};

use super::breaker::{Refusal, cannot_write};
use crate::cache::step::{Answer, Step, write_probe};

/// The pause between a failed probe and the next one.
const PAUSE: Duration = Duration::from_millis(100);

/// A multiplexed connection that reconnects by itself, with a circuit breaker. Cheap to clone.
///
/// The breaker opens when a command has waited for the whole of `REDIS_TIMEOUT_MS` while no other command was answered,
/// or when the server has refused a write ([`Refusal`]). While the breaker is open, commands fail at once instead of
/// waiting or being refused one by one; callers have other ways. The breaker closes when a new connection takes a
/// write. A PING would not do: a server that makes all writes wait answers it.
#[derive(Clone)]
pub(super) struct Single {
    client: Client,
    /// `REDIS_TIMEOUT_MS`: the longest that one batch may take, and the longest that connecting may take.
    timeout: Duration,
    current: Arc<Mutex<Current>>,
}

struct Current {
    connection: ConnectionManager,
    /// How many batches were answered so far.
    answers: u64,
    /// The reason why the circuit breaker is open, if it is.
    open: Option<Refusal>,
}

impl Single {
    /// Prepares a connection to the server at `url`; nothing is sent yet.
    pub(super) fn new(
        url: &str,
        timeout: Duration,
        certificates: Option<TlsCertificates>,
    ) -> RedisResult<Self> {
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(url, certificates),
            None => Client::open(url),
        }?;
        let connection = connect(&client, timeout)?;
        let current = Arc::new(Mutex::new(Current { connection, answers: 0, open: None }));
        Ok(Self { client, timeout, current })
    }

    /// Runs the steps in this order, in one round trip. With `frees`, the steps free memory and reach a full server
    /// too.
    pub(super) async fn send(&self, steps: &[Step], by_hash: bool, frees: bool) -> RedisResult<Vec<Answer>> {
        let (mut connection, answers) = {
            let current = self.current.lock();
            match &current.open {
                None => {}
                Some(Refusal::Full) if frees => {}
                Some(refusal) => return Err(refusal.error()),
            }
            (current.connection.clone(), current.answers)
        };
        let mut pipeline = Pipeline::with_capacity(steps.len());
        for step in steps {
            pipeline.add_command(step.command(by_hash));
        }
        let values = match connection.req_packed_commands(&pipeline, 0, steps.len()).await {
            Ok(values) => values,
            Err(failure) => {
                if failure.is_timeout() {
                    self.suspect(answers);
                } else if let Some(refusal) = Refusal::of(&failure) {
                    self.open(refusal);
                }
                return Err(failure);
            }
        };
        self.current.lock().answers += 1;
        let answers: Vec<Answer> = values.into_iter().map(Value::extract_error).collect();
        if let Some(refusal) = answers.iter().find_map(|answer| answer.as_ref().err().and_then(Refusal::of)) {
            self.open(refusal);
        }
        Ok(answers)
    }

    /// True while the circuit breaker is open.
    pub(super) fn is_open(&self) -> bool {
        self.current.lock().open.is_some()
    }

    /// Handles the time-out of a command that was sent when `answers` batches had been answered. If any other was
    /// answered meanwhile, Redis is only slow; otherwise the circuit breaker opens.
    fn suspect(&self, answers: u64) {
        if self.current.lock().answers == answers {
            self.open(Refusal::Silent);
        }
    }

    /// Opens the circuit breaker until a probe succeeds. Does nothing if the breaker is open.
    fn open(&self, refusal: Refusal) {
        let mut current = self.current.lock();
        if current.open.is_some() {
            return;
        }
        tracing::warn!(
            timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            reason = refusal.reason(),
            "cache.connection: the circuit breaker is open; commands fail at once until Redis takes writes again"
        );
        current.open = Some(refusal);
        drop(current);
        tokio::spawn(self.clone().close_when_it_takes_writes());
    }

    /// Probes on a new connection each time. The old connection may lead to a host that has vanished without closing
    /// it; the operating system would wait for that host for a quarter of an hour.
    async fn close_when_it_takes_writes(self) {
        loop {
            match self.probe_anew().await {
                Ok(connection) => {
                    let mut current = self.current.lock();
                    // Counts as an answer, so that a command that was sent before and times out only now opens nothing.
                    *current = Current { connection, answers: current.answers + 1, open: None };
                    tracing::info!(
                        "cache.connection: Redis takes writes again; the circuit breaker is closed"
                    );
                    return;
                }
                Err(failure) => {
                    // The reason decides which steps may pass, and it may have changed.
                    if let Some(refusal) = Refusal::of(&failure) {
                        self.current.lock().open = Some(refusal);
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A new connection whose server has taken a write. If the server refuses the write for a reason that concerns only
    /// this command (a missing right, for example), the connection counts as well: the callers will see that error.
    async fn probe_anew(&self) -> RedisResult<ConnectionManager> {
        let mut connection = connect(&self.client, self.timeout)?;
        match connection.req_packed_command(&write_probe()).await {
            Err(failure) if failure.is_io_error() || cannot_write(&failure) => Err(failure),
            _ => Ok(connection),
        }
    }
}

fn connect(client: &Client, timeout: Duration) -> RedisResult<ConnectionManager> {
    // The client itself does not retry: `Redis::attempt` tries a broken connection once more, so a server that is away
    // is known at once.
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}
