//! The connections to one server: how a connection is set up and borrowed, and how a call ends if the server does not
//! answer.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, PoolError, QueueMode, RecycleError, RecycleResult, WeakPool};
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, MySqlConnection, Row as _};
use tokio::time::{sleep, timeout, timeout_at};
use url::Url;

use super::fault::{Fault, no_answer, server_error};
use crate::config::MySqlConfig;
use crate::error::ServerError;

/// The longest pause before the next try. The actual pause is random, so that two victims of a deadlock do not meet
/// again.
const LONGEST_PAUSE_MS: u64 = 20;
/// A connection that was idle for longer is checked with a PING before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// A connection that was idle for longer is closed, before the server does so ([`WAIT_TIMEOUT_SECONDS`]).
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// The age at which a connection is replaced, so that a host name that has moved to another server is noticed.
const MAX_LIFETIME: Duration = Duration::from_mins(10);
/// How long the server keeps an idle connection. A Lambda environment that was frozen in a transaction, or a machine
/// that vanished, then holds its row locks for a minute instead of eight hours.
const WAIT_TIMEOUT_SECONDS: u32 = 60;
/// How much earlier than this side the server gives up a wait for a lock.
const MARGIN: Duration = Duration::from_millis(100);
/// MariaDB's limit for a statement counts writes too. A large batch may take longer than one call, so the limit is the
/// timeout times this.
const LARGEST_BATCH: u64 = 5;
/// The session of a migration: waits for locks as long as by MySQL's defaults, and no limit for a statement.
const MIGRATION_SESSION: &str = "/* store.migrate */ SET SESSION lock_wait_timeout = 60, \
     innodb_lock_wait_timeout = 50 /*!50708 , max_execution_time = 0 */ /*M!100101 , max_statement_time = 0 */";

tokio::task_local! {
    /// The last moment at which a statement of the running call may begin to wait for a lock.
    static LAST_WAIT: tokio::time::Instant;
    /// When the process of MySQL began that serves the running call, s since 1970 UTC.
    static SERVER_START: i64;
    /// True once the running work has asked MySQL, for [`noting_use`].
    static IS_USED: Cell<bool>;
}

/// Runs `work`, and returns whether it has asked MySQL. A task that `work` starts is not counted.
pub async fn noting_use<T>(work: impl Future<Output = T>) -> (T, bool) {
    IS_USED.scope(Cell::new(false), async { (work.await, IS_USED.with(Cell::get)) }).await
}

/// When the process of MySQL began that serves the running call, s since 1970 UTC; 0 if the server does not tell.
pub(super) fn server_start() -> i64 {
    SERVER_START.try_with(|start| *start).unwrap_or_default()
}

/// Fails if a statement that now begins to wait for a lock might still wait at the end of the call. For a transaction
/// that has waited for one lock and may need another.
pub(super) fn has_time_for_a_lock() -> Result<(), sqlx::Error> {
    match LAST_WAIT.try_with(|last| tokio::time::Instant::now() <= *last) {
        Ok(false) => {
            Err(sqlx::Error::AnyDriverError("the first lock left no time to wait for another".into()))
        }
        // Outside a call there is no limit.
        Ok(true) | Err(_) => Ok(()),
    }
}

/// A boxed future that borrows the connection (`'c`) and the caller's data (`'env`). Boxed, since the compiler cannot
/// see that the future of an `AsyncFn` can move between threads, which callers of [`Pool::run`] need.
pub(super) struct Work<'env, 'c, T> {
    future: BoxFuture<'c, Result<T, sqlx::Error>>,
    /// Tells the compiler that `'env` outlives `'c`.
    _scope: PhantomData<&'c &'env ()>,
}

/// Boxes a future as [`Work`] for [`Pool::run`].
pub(super) fn scoped<'env, 'c, T>(
    future: impl Future<Output = Result<T, sqlx::Error>> + Send + 'c,
) -> Work<'env, 'c, T> {
    Work { future: Box::pin(future), _scope: PhantomData }
}

/// The connections to one server.
#[derive(Clone)]
pub(super) struct Pool(managed::Pool<Manager>);

/// A connection that is set up. It belongs to one process of MySQL.
struct Session {
    connection: MySqlConnection,
    /// When that process began, s since 1970 UTC; 0 if the server does not tell.
    server_start: i64,
}

/// Creates connections, and decides whether one may be used again.
struct Manager {
    options: MySqlConnectOptions,
    /// `MYSQL_TIMEOUT_MS`: the longest that a call takes.
    timeout: Duration,
    /// Connections made before this moment are replaced: one of them was broken, or its server has become a reader, and
    /// the others most likely share its fate.
    distrusted_before: Mutex<Instant>,
}

impl Manager {
    fn distrust(&self) {
        *self.distrusted_before.lock() = Instant::now();
    }

    fn trusts(&self, connection: &Metrics) -> bool {
        connection.created >= *self.distrusted_before.lock()
    }
}

impl managed::Manager for Manager {
    type Type = Session;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Session, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let server_start = set_up(&mut connection, self.timeout).await?;
        Ok(Session { connection, server_start })
    }

    async fn recycle(&self, session: &mut Session, used: &Metrics) -> RecycleResult<sqlx::Error> {
        if !self.trusts(used) || used.age() > MAX_LIFETIME || used.last_used() > IDLE_TIMEOUT {
            return Err(RecycleError::message("too old"));
        }
        if used.last_used() <= TRUSTED_IDLE {
            return Ok(());
        }
        // A third of the time: if the server has vanished, the rest must do for the server that has replaced it.
        let answer = match timeout(self.timeout / 3, session.connection.ping()).await {
            Ok(answer) => answer.map_err(RecycleError::from),
            Err(_) => Err(RecycleError::message("no answer")),
        };
        answer.inspect_err(|_| self.distrust())
    }
}

impl Pool {
    /// Prepares the connections; none is opened yet. Must be called in a Tokio runtime.
    pub(super) fn new(url: &SecretString, config: &MySqlConfig) -> Result<Self, ServerError> {
        let invalid = |error: sqlx::Error| server_error("store.connect", error);
        let options = options(url.expose_secret(), config).map_err(invalid)?;
        let manager =
            Manager { options, timeout: config.timeout, distrusted_before: Mutex::new(Instant::now()) };
        let pool = managed::Pool::builder(manager)
            .max_size(config.max_connections as usize)
            // The newest idle connection is used first, so that surplus ones stay idle and are closed.
            .queue_mode(QueueMode::Lifo)
            .build()
            .map_err(|error| invalid(sqlx::Error::Configuration(error.into())))?;
        tokio::spawn(close_idle(pool.weak()));
        Ok(Self(pool))
    }

    /// Runs `work` on a connection and ends within `limit`, the wait for the connection included. After a deadlock or a
    /// broken connection `work` runs again, so it must be safe to repeat. A transaction that `work` leaves open is
    /// rolled back.
    pub(super) async fn run<'env, T>(
        &self,
        action: &'static str,
        limit: Duration,
        work: impl for<'c> Fn(&'c mut MySqlConnection) -> Work<'env, 'c, T>,
    ) -> Result<T, ServerError> {
        let deadline = tokio::time::Instant::now() + limit;
        // Outside of `noting_use` nobody wants to know.
        let _ = IS_USED.try_with(|is_used| is_used.set(true));
        // If this side gives up, the server's statement goes on waiting for its lock. So no statement begins without
        // time for that wait; otherwise callers who try again would pile up statements in the server.
        let last_wait = deadline - (lock_wait(self.0.manager().timeout) + MARGIN).min(limit / 2);
        let mut attempt = 1;
        loop {
            let mut lease = match timeout_at(last_wait, Box::pin(self.lease())).await {
                Ok(lease) => lease.map_err(|error| server_error(action, error))?,
                Err(_) => return Err(no_answer(action, limit)),
            };
            let server_start = lease.session().server_start;
            let work = work(&mut lease.session().connection).future;
            let worked = LAST_WAIT.scope(last_wait, SERVER_START.scope(server_start, work));
            let Ok(result) = timeout_at(deadline, worked).await else {
                self.0.manager().distrust();
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
                (_, Fault::Connection) => self.0.manager().distrust(),
                // The server has answered, so the connection works.
                (sqlx::Error::Database(_), _) => lease.give_back(),
                // A part of an answer may be left in the connection, so it is closed.
                _ => drop(lease),
            }
            let pause = Duration::from_millis(rand::random_range(1..=LONGEST_PAUSE_MS));
            if attempt >= fault.attempts() || tokio::time::Instant::now() + pause >= last_wait {
                return Err(server_error(action, error));
            }
            tracing::debug!(action, attempt, %error, "trying again");
            sleep(pause).await;
            attempt += 1;
        }
    }

    /// Opens a connection outside the pool, for migrations.
    pub(super) async fn connect(&self, action: &'static str) -> Result<MySqlConnection, ServerError> {
        let manager = self.0.manager();
        let prepared = async {
            let mut connection = managed::Manager::create(manager).await?.connection;
            sqlx::raw_sql(MIGRATION_SESSION).execute(&mut connection).await?;
            Ok(connection)
        };
        match timeout(manager.timeout, prepared).await {
            Ok(connection) => connection.map_err(|error| server_error(action, error)),
            Err(_) => Err(no_answer(action, manager.timeout)),
        }
    }

    /// Closes the idle connections. A busy one is closed when its call ends; no new call begins.
    pub(super) async fn close(&self) {
        let idle = self.0.retain(|_, _| false).removed;
        self.0.close();
        close_all(idle).await;
    }

    /// How many connections are open.
    pub(super) fn size(&self) -> u32 {
        u32::try_from(self.0.status().size).unwrap_or(u32::MAX)
    }

    async fn lease(&self) -> Result<Lease, sqlx::Error> {
        match self.0.get().await {
            Ok(connection) => Ok(Lease(Some(connection))),
            Err(PoolError::Backend(error)) => Err(error),
            // The pool has neither hooks nor time limits, so only a closed pool remains.
            Err(_) => Err(sqlx::Error::PoolClosed),
        }
    }
}

/// Closes connections that were idle for [`IDLE_TIMEOUT`], as long as the pool exists.
async fn close_idle(pool: WeakPool<Manager>) {
    loop {
        sleep(IDLE_TIMEOUT / 3).await;
        let Some(pool) = pool.upgrade().filter(|pool| !pool.is_closed()) else { return };
        close_all(pool.retain(|_, used| used.last_used() <= IDLE_TIMEOUT).removed).await;
    }
}

/// Closes connections politely if the server listens; it would count and log an aborted connection.
async fn close_all(sessions: Vec<Session>) {
    let closed = sessions.into_iter().map(|session| timeout(TRUSTED_IDLE, session.connection.close()));
    for closed in join_all(closed).await {
        if let Ok(Err(error)) = closed {
            tracing::debug!(%error, "a connection was not closed cleanly");
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold the password.
        f.debug_struct("Pool")
            .field("host", &self.0.manager().options.get_host())
            .field("port", &self.0.manager().options.get_port())
            .field("connections", &self.0.status().size)
            .finish_non_exhaustive()
    }
}

/// The server's address, the user, and the security of the connection.
fn options(url: &str, config: &MySqlConfig) -> Result<MySqlConnectOptions, sqlx::Error> {
    let options = MySqlConnectOptions::from_str(url)?
        // The session sets its whole sql_mode itself.
        .pipes_as_concat(false)
        .no_engine_substitution(false);
    let Some(authorities) = &config.tls_authorities else { return Ok(options) };
    let options = options.ssl_ca_from_pem(authorities.clone());
    let url = Url::parse(url).map_err(|error| sqlx::Error::Configuration(error.into()))?;
    // sqlx accepts both spellings.
    let has_mode = url.query_pairs().any(|(name, _)| matches!(&*name, "ssl-mode" | "sslmode"));
    Ok(if has_mode { options } else { options.ssl_mode(MySqlSslMode::VerifyIdentity) })
}

/// How long a statement waits for a lock, in a call of `timeout`: several such waits fit into one call. The server
/// counts in whole seconds.
fn lock_wait(timeout: Duration) -> Duration {
    Duration::from_secs((timeout.as_secs() / 3).clamp(1, 50))
}

/// Sets up a session, whatever the server's own settings are, and returns when the server's process began, s since 1970 UTC; 0 if the
/// server does not tell. MySQL reads the comments that begin with `!`, MariaDB
/// those that begin with `M!`: each has its own name for the limit of a statement.
async fn set_up(connection: &mut MySqlConnection, timeout: Duration) -> Result<i64, sqlx::Error> {
    let lock_wait_seconds = lock_wait(timeout).as_secs();
    let select_ms = timeout.as_millis();
    let statement_seconds = (timeout.as_secs().max(1)).saturating_mul(LARGEST_BATCH);
    // One round trip. The numbers come from this file and the settings.
    let rows = sqlx::raw_sql(AssertSqlSafe(format!(
        "/* store.connect */ SET SESSION \
         sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
         wait_timeout = {WAIT_TIMEOUT_SECONDS}, innodb_lock_wait_timeout = {lock_wait_seconds}, \
         lock_wait_timeout = {lock_wait_seconds} \
         /*!50708 , max_execution_time = {select_ms} */ /*M!100101 , max_statement_time = {statement_seconds} */; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SELECT 'Now' AS Variable_name, CAST(UNIX_TIMESTAMP() AS CHAR) AS Value; \
         SHOW GLOBAL STATUS LIKE 'Uptime'"
    )))
    .fetch_all(connection)
    .await?;
    // The second may change between the two statements, so one process has starts that differ by a second or two.
    let told: Vec<i64> =
        rows.iter().filter_map(|row| row.try_get::<String, _>("Value").ok()?.parse().ok()).collect();
    Ok(if let [now, uptime] = told[..] { now - uptime } else { 0 })
}

/// A borrowed connection. Only [`Self::give_back`] returns it to the pool. If a call is cut off, by its limit or
/// because its caller is dropped, the server's answer may still be on its way, and the next call would read it as its
/// own.
struct Lease(Option<managed::Object<Manager>>);

impl Lease {
    fn session(&mut self) -> &mut Session {
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
            // The socket is just closed, since the server may not be listening.
            drop(managed::Object::take(connection));
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
