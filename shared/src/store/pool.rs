//! The connections to one server: how each is set up, how it is borrowed, and how a call ends when the server does not.

use std::fmt;
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};
use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, MySql, MySqlConnection, MySqlPool};
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use super::fault::{Fault, no_answer, server_error};
use crate::config::MySqlConfig;
use crate::error::ServerError;

/// How often one call is tried in all, while what stopped it passes by itself (a deadlock, a broken connection).
const ATTEMPTS: u32 = 5;
/// The longest pause before the next try; the actual one is random, so that two victims do not meet again.
const LONGEST_PAUSE_MS: u64 = 20;
/// A connection idle for longer is asked whether it still works before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// Idle connections are closed after this, before the server does it ([`WAIT_TIMEOUT_SECONDS`]).
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// Connections are replaced after this, so that a name that has moved to another server is noticed.
const MAX_LIFETIME: Duration = Duration::from_mins(10);
/// The server drops a connection that says nothing for so long. A Lambda environment that was frozen in the middle of a
/// transaction, or a machine that vanished, then keeps its row locks for a minute instead of eight hours.
const WAIT_TIMEOUT_SECONDS: u32 = 60;
/// How long a call waits for a connection before it looks whether the server is there at all.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long an answer to that question is believed.
const REACHABLE_FOR: Duration = Duration::from_secs(1);

/// What a call does with its connection, for `'c`; it may use what lives for `'env`. Boxed, because a caller of
/// [`Pool::run`] must be able to move between threads, which the compiler cannot see of an `AsyncFn`.
pub(super) struct Work<'env, 'c, T> {
    future: BoxFuture<'c, Result<T, sqlx::Error>>,
    /// Says that `'env` outlives `'c`.
    _scope: PhantomData<&'c &'env ()>,
}

/// Makes a future the work of [`Pool::run`].
pub(super) fn scoped<'env, 'c, T>(
    future: impl Future<Output = Result<T, sqlx::Error>> + Send + 'c,
) -> Work<'env, 'c, T> {
    Work { future: Box::pin(future), _scope: PhantomData }
}

/// The connections to one server.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    pool: MySqlPool,
    options: MySqlConnectOptions,
    timeout: Duration,
    distrust: Distrust,
    reachable_at: tokio::sync::Mutex<Option<Instant>>,
}

/// Connections made before this moment are replaced: one of them was found broken, or led to a server that has become
/// a reader, so that the others have most likely met the same.
#[derive(Clone)]
struct Distrust(Arc<Mutex<Instant>>);

impl Distrust {
    fn begin(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn covers(&self, age: Duration) -> bool {
        let before = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Instant::now() - age < before
    }
}

impl Pool {
    pub(super) fn new(url: &SecretString, config: &MySqlConfig) -> Result<Self, ServerError> {
        let options =
            options(url.expose_secret(), config).map_err(|error| server_error("store.connect", error))?;
        let timeout = config.timeout;
        let distrust = Distrust(Arc::new(Mutex::new(Instant::now())));
        let distrusted = distrust.clone();
        let pool = MySqlPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(timeout)
            .idle_timeout(IDLE_TIMEOUT)
            .max_lifetime(MAX_LIFETIME)
            .after_connect(move |connection, _| Box::pin(set_up(connection, timeout)))
            // Asking a connection before each use would cost every call a round trip.
            .test_before_acquire(false)
            .before_acquire(move |connection, used: PoolConnectionMetadata| {
                let replace = distrusted.covers(used.age);
                Box::pin(async move {
                    if replace {
                        return Ok(false);
                    }
                    if used.idle_for > TRUSTED_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options.clone());
        Ok(Self(Arc::new(Inner {
            pool,
            options,
            timeout,
            distrust,
            reachable_at: tokio::sync::Mutex::default(),
        })))
    }

    /// Runs `work` on a connection and ends within `limit`, waiting for the connection included. When the server made
    /// it the victim of a deadlock, or the connection broke, the whole of it is done again: it must be safe to repeat.
    /// A transaction that `work` leaves open is rolled back.
    pub(super) async fn run<'env, T>(
        &self,
        action: &'static str,
        limit: Duration,
        work: impl for<'c> Fn(&'c mut MySqlConnection) -> Work<'env, 'c, T>,
    ) -> Result<T, ServerError> {
        let deadline = Instant::now() + limit;
        let mut attempt = 1;
        loop {
            let mut lease = match timeout_at(deadline, self.lease()).await {
                Ok(lease) => lease.map_err(|error| server_error(action, error))?,
                Err(_) => return Err(no_answer(action, limit)),
            };
            let Ok(result) = timeout_at(deadline, work(lease.connection()).future).await else {
                self.0.distrust.begin();
                return Err(no_answer(action, limit));
            };
            let error = match result {
                Ok(done) => {
                    lease.give_back();
                    return Ok(done);
                }
                Err(error) => error,
            };
            let fault = Fault::of(&error);
            match (&error, fault) {
                (_, Fault::Connection) => self.0.distrust.begin(),
                // The server has answered, so the connection is in order.
                (sqlx::Error::Database(_), _) => lease.give_back(),
                // Whatever it is, the rest of an answer may still lie in the connection: it goes with the lease.
                _ => drop(lease),
            }
            let pause = Duration::from_millis(rand::random_range(1..=LONGEST_PAUSE_MS));
            if !fault.retry_at_once() || attempt == ATTEMPTS || Instant::now() + pause >= deadline {
                return Err(server_error(action, error));
            }
            tracing::debug!(action, attempt, %error, "trying again");
            sleep(pause).await;
            attempt += 1;
        }
    }

    /// One more connection, outside of the pool.
    pub(super) async fn connect(&self, action: &'static str) -> Result<MySqlConnection, ServerError> {
        let limit = self.0.timeout;
        let connect = async {
            let mut connection = self.0.options.connect().await?;
            set_up(&mut connection, limit).await?;
            Ok(connection)
        };
        match tokio::time::timeout(limit, connect).await {
            Ok(connection) => connection.map_err(|error| server_error(action, error)),
            Err(_) => Err(no_answer(action, limit)),
        }
    }

    pub(super) async fn close(&self) {
        self.0.pool.close().await;
    }

    async fn lease(&self) -> Result<Lease, sqlx::Error> {
        tokio::select! {
            connection = self.0.pool.acquire() => Ok(Lease(Some(connection?))),
            refused = self.refused() => Err(refused),
        }
    }

    /// Returns once it is sure that nobody listens at the server's address. The pool takes a refused connection for a
    /// server that is starting and tries until its time is over; a caller is better off with a quick 503.
    async fn refused(&self) -> sqlx::Error {
        sleep(PATIENCE).await;
        loop {
            {
                // One at a time asks, and the others believe it: no storm of connections when the pool is merely busy.
                let mut reachable_at = self.0.reachable_at.lock().await;
                if reachable_at.is_none_or(|at| at.elapsed() > REACHABLE_FOR) {
                    match self.0.options.connect().await {
                        Err(sqlx::Error::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                            return error.into();
                        }
                        Ok(connection) => drop(connection.close().await),
                        // It is for the pool to report, which meets the same.
                        Err(_) => {}
                    }
                    *reachable_at = Some(Instant::now());
                }
            }
            sleep(REACHABLE_FOR).await;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold the password.
        f.debug_struct("Pool")
            .field("host", &self.0.options.get_host())
            .field("port", &self.0.options.get_port())
            .field("connections", &self.0.pool.size())
            .finish_non_exhaustive()
    }
}

/// Where the server is, who comes, and how it is secured.
fn options(url: &str, config: &MySqlConfig) -> Result<MySqlConnectOptions, sqlx::Error> {
    let options = MySqlConnectOptions::from_str(url)?
        // The session sets its whole sql_mode itself.
        .pipes_as_concat(false)
        .no_engine_substitution(false);
    let Some(authorities) = &config.tls_authorities else { return Ok(options) };
    let options = options.ssl_ca_from_pem(authorities.clone());
    let url = Url::parse(url).map_err(|error| sqlx::Error::Configuration(error.into()))?;
    // sqlx knows it by both names.
    let has_mode = url.query_pairs().any(|(name, _)| matches!(&*name, "ssl-mode" | "sslmode"));
    Ok(if has_mode { options } else { options.ssl_mode(MySqlSslMode::VerifyIdentity) })
}

/// What every connection must have, whatever the server's own settings are.
async fn set_up(connection: &mut MySqlConnection, timeout: Duration) -> Result<(), sqlx::Error> {
    // Several tries fit into the time of one call.
    let lock_wait_seconds = (timeout.as_secs() / 3).clamp(1, 50);
    // The numbers are our own.
    sqlx::raw_sql(AssertSqlSafe(format!(
        "/* store.connect */ SET SESSION \
         sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
         wait_timeout = {WAIT_TIMEOUT_SECONDS}, innodb_lock_wait_timeout = {lock_wait_seconds}; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
    )))
    .execute(connection)
    .await
    .map(drop)
}

/// A borrowed connection. It goes back to the pool only by [`Self::give_back`]: when a call is cut off, by its limit or
/// because its caller is gone, the rest of the server's answer is still on its way, and the next call would read it as
/// its own.
struct Lease(Option<PoolConnection<MySql>>);

impl Lease {
    fn connection(&mut self) -> &mut MySqlConnection {
        #[expect(clippy::expect_used, reason = "only give_back and drop take it, and both end the lease")]
        self.0.as_mut().expect("a lease holds its connection")
    }

    fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            // Not closed politely, as the server may not be listening: the socket just goes.
            drop(connection.detach());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_authorities_the_server_is_checked_unless_the_url_has_a_mode() {
        let config = |tls_authorities: Option<Vec<u8>>| MySqlConfig {
            url: SecretString::default(),
            replica_url: None,
            tls_authorities,
            max_connections: 1,
            timeout: Duration::from_secs(1),
        };
        let mode = |url: &str, config: &MySqlConfig| options(url, config).unwrap().get_ssl_mode();
        let (with, without) = (config(Some(b"PEM".to_vec())), config(None));
        for (url, expected) in [
            ("mysql://u:p@h/d", MySqlSslMode::VerifyIdentity),
            ("mysql://u:ssl-mode=@h/ssl-mode=?charset=utf8mb4", MySqlSslMode::VerifyIdentity),
            ("mysql://u:p@h/d?ssl-mode=VERIFY_CA", MySqlSslMode::VerifyCa),
            ("mysql://u:p@h/d?sslmode=REQUIRED", MySqlSslMode::Required),
        ] {
            assert!(same(mode(url, &with), expected), "{url}");
        }
        assert!(same(mode("mysql://u:p@h/d", &without), MySqlSslMode::Preferred));
    }

    fn same(a: MySqlSslMode, b: MySqlSslMode) -> bool {
        std::mem::discriminant(&a) == std::mem::discriminant(&b)
    }
}
