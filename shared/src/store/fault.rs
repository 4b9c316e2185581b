//! Errors of MySQL by kind: the one place that decides whether trying again can help.

use sqlx::mysql::MySqlDatabaseError;

use crate::error::{Retry, Server, ServerError};
use crate::redact;

/// The kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Two transactions wanted the same rows, and this one was the victim. The same transaction works at once.
    Contention,
    /// A statement waited for a lock as long as it may. One more try may find the lock free; more tries would each wait
    /// as long again.
    LockWait,
    /// The connection is useless: it is broken, or its server is stopping or has become a reader (a failover of
    /// Aurora). The same call on another connection may work at once.
    Connection,
    /// The server refuses a value, and always will.
    Value,
    /// Any other error: busy, full, a missing right or table, or an unknown one. Only the server may blame a value. An
    /// unknown error that counted as permanent would send good messages to the dead-letter topic one by one; one that
    /// counts as transient holds the messages where they are and raises the alarm of the delay.
    Other,
}

impl Fault {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => error
                .try_downcast_ref::<MySqlDatabaseError>()
                .map_or(Self::Other, |error| Self::of_server(error.number(), error.code())),
            // A row cannot be read, a bound value cannot be written, or the URL is invalid.
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::Configuration(_) => Self::Value,
            // After a protocol error the meaning of the connection's next bytes is unknown.
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Self::Connection,
            _ => Self::Other,
        }
    }

    fn of_server(number: u16, sql_state: Option<&str>) -> Self {
        match number {
            // Too many connections, of the server or of the user: another connection would be refused as well. Or the
            // statement took too long (MySQL's max_execution_time, MariaDB's max_statement_time), and would again.
            1040 | 1203 | 1226 | 3024 | 1969 => Self::Other,
            // Lock wait timeout, for a row (innodb_lock_wait_timeout) or a table's definition (lock_wait_timeout).
            1205 => Self::LockWait,
            // Deadlock; (MariaDB) the row changed since it was read. Statements expect duplicates where they may occur,
            // so one that is reported means that two writers raced.
            1213 | 1020 | 1022 | 1062 | 1586 => Self::Contention,
            // Read-only: --read-only or innodb_read_only, a read-only transaction, innodb_read_only again.
            1290 | 1792 | 1836
            // Server shutting down, normal shutdown, connection killed (MySQL's, MariaDB's), session killed,
            // disconnected for inactivity, aborting connection, network trouble of any kind.
            | 1053 | 1077 | 1079 | 1927 | 3169 | 4031 | 1152 | 1153 | 1154..=1161 | 1184 => Self::Connection,
            // Incorrect string or other value, a CHECK, invalid JSON: MySQL gives some of them only the general state.
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

    /// How many times a call is tried at once, on a working connection.
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

/// The server did not answer in time: it hangs, is overloaded, or is cut off.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0} ms")]
pub(super) struct NoAnswer(pub(super) u128);

pub(super) fn server_error(action: &'static str, error: sqlx::Error) -> ServerError {
    let retry = Fault::of(&error).retry();
    let source = match error {
        // The server quotes values, and an error is logged.
        sqlx::Error::Database(_) => redact::mysql(&error.to_string()).into(),
        error => error.into(),
    };
    ServerError { server: Server::MySql, action, retry, source }
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
