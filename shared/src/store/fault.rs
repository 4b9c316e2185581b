//! What an error of MySQL means: the one place that decides whether trying again can help.

use sqlx::mysql::MySqlDatabaseError;

use crate::error::{Retry, Server, ServerError};

/// What kind of trouble an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Two transactions wanted the same rows; this one was the victim. The same at once works.
    Contention,
    /// A lock was not to be had for as long as a statement waits for one. The same once more may find it free; each further
    /// try would take as long again.
    LockWait,
    /// The connection is of no use any more: broken, or its server is stopping or has become a reader (a failover of
    /// Aurora). The same on another connection may work at once.
    Connection,
    /// The server names a value that it will never take.
    Value,
    /// Anything else: busy, full, a missing right or table, or not known here. A value is to blame only where the server
    /// says so: taking an unknown error for permanent would send good messages to the dead-letter topic, one by one,
    /// while taking it for transient holds them where they are and raises the alarm of the delay.
    Other,
}

impl Fault {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => error
                .try_downcast_ref::<MySqlDatabaseError>()
                .map_or(Self::Other, |error| Self::of_server(error.number(), error.code())),
            // What a row holds cannot be read, what a query binds cannot be written, or the URL is none.
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::Configuration(_) => Self::Value,
            // After a protocol error nobody knows what the next bytes of the connection mean.
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Self::Connection,
            _ => Self::Other,
        }
    }

    fn of_server(number: u16, sql_state: Option<&str>) -> Self {
        match number {
            // Too many connections, of the server or of the user: another one would be refused as well.
            1040 | 1203 | 1226 => Self::Other,
            // Lock wait timeout, of a row (innodb_lock_wait_timeout) or of a table's definition (lock_wait_timeout).
            1205 => Self::LockWait,
            // The statement took too long (MySQL's max_execution_time, MariaDB's max_statement_time): it would again.
            3024 | 1969 => Self::Other,
            // Deadlock; (MariaDB) the row changed since it was read. A duplicate is met on purpose wherever one can be;
            // one that is reported means that two writers raced.
            1213 | 1020 | 1022 | 1062 | 1586 => Self::Contention,
            // Read-only: --read-only or innodb_read_only, a read-only transaction, innodb_read_only again.
            1290 | 1792 | 1836
            // Server shutting down, normal shutdown, connection killed (MySQL's, MariaDB's), session killed,
            // disconnected for inactivity, aborting connection, network trouble of any kind.
            | 1053 | 1077 | 1079 | 1927 | 3169 | 4031 | 1152 | 1153 | 1154..=1161 | 1184 => Self::Connection,
            // Incorrect string or other value, a CHECK, an invalid JSON: MySQL gives some of them only the general state.
            1366 | 1367 | 3140 | 3819 => Self::Value,
            _ => match sql_state.and_then(|state| state.get(..2)) {
                Some("08") => Self::Connection,
                Some("40") => Self::Contention,
                // Data exception, constraint violation, SIGNAL of a trigger.
                Some("22" | "23" | "45") => Self::Value,
                _ => Self::Other,
            },
        }
    }

    /// How often the same is tried in all, at once and on a connection that works, because it may end differently.
    pub(super) fn attempts(self) -> u32 {
        match self {
            Self::Contention | Self::Connection => 5,
            Self::LockWait => 2,
            Self::Value | Self::Other => 1,
        }
    }

    fn retry(self) -> Retry {
        match self {
            Self::Value => Retry::Permanent,
            Self::Contention | Self::LockWait | Self::Connection | Self::Other => Retry::Transient,
        }
    }
}

/// No answer in time: the server hangs, is overloaded, or is cut off.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0} ms")]
pub(super) struct NoAnswer(pub(super) u128);

pub(super) fn server_error(action: &'static str, error: sqlx::Error) -> ServerError {
    ServerError { server: Server::MySql, action, retry: Fault::of(&error).retry(), source: error.into() }
}

pub(super) fn no_answer(action: &'static str, limit: std::time::Duration) -> ServerError {
    ServerError {
        server: Server::MySql,
        action,
        retry: Retry::Transient,
        source: NoAnswer(limit.as_millis()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_blames_on_the_value_is_permanent() {
        for (number, state, fault) in [
            (1406, "22001", Fault::Value),
            (1366, "HY000", Fault::Value),
            (1048, "23000", Fault::Value),
            (3819, "HY000", Fault::Value),
            (4025, "23000", Fault::Value),
            (1213, "40001", Fault::Contention),
            (1205, "HY000", Fault::LockWait),
            (1290, "HY000", Fault::Connection),
            (1836, "HY000", Fault::Connection),
            (1053, "08S01", Fault::Connection),
            (1927, "70100", Fault::Connection),
            (1040, "08004", Fault::Other),
            (1045, "28000", Fault::Other),
            (1049, "42000", Fault::Other),
            (1114, "HY000", Fault::Other),
            (1146, "42S02", Fault::Other),
            (1461, "42000", Fault::Other),
            (3024, "HY000", Fault::Other),
            (1969, "70100", Fault::Other),
            (65_000, "HY000", Fault::Other),
        ] {
            assert_eq!(Fault::of_server(number, Some(state)), fault, "{number}");
        }
        assert_eq!(Fault::of(&sqlx::Error::PoolTimedOut), Fault::Other);
        assert_eq!(server_error("store.ping", sqlx::Error::PoolTimedOut).retry, Retry::Transient);
    }
}
