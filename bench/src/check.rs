//! After all loads: looks for every accepted message in MySQL, which must have it once.

use serde::Serialize;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection as _};

/// The number of ids in one query.
const AT_ONCE: usize = 1_000;
/// The number of missing ids that are shown.
const SHOWN: usize = 10;

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The number of accepted messages, including the history and the warm-up.
    pub accepted: u64,
    /// Of these, the number of rows in MySQL.
    pub rows: u64,
    /// Of these, the number recalled before they became a row: MySQL has their tombstone instead.
    pub tombstones: u64,
    /// Of these, the number of messages with neither a row nor a tombstone.
    pub missing: u64,
    /// A few of the missing ids.
    pub missing_ids: Vec<i64>,
    /// Rows of the measurement's users beyond the accepted messages.
    pub more_rows: u64,
    /// Sends without an answer or with a 5xx. Such a message may have been kept, so there may be up to this many more
    /// rows.
    pub unsure: u64,
}

impl Checked {
    /// True if MySQL has every accepted message, and none twice.
    pub fn holds(&self) -> bool {
        self.missing == 0 && self.more_rows <= self.unsure
    }

    /// Adds the figures of another result.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.accepted += other.accepted;
        self.rows += other.rows;
        self.tombstones += other.tombstones;
        self.missing += other.missing;
        self.missing_ids.extend(other.missing_ids);
        self.missing_ids.truncate(SHOWN);
        self.more_rows += other.more_rows;
        self.unsure += other.unsure;
        self
    }
}

/// Looks for each of the `accepted` ids, and counts the rows of the users from `first` to `last`.
pub(crate) async fn every_message_is_there_once(
    url: &str,
    accepted: &[i64],
    (first, last): (i64, i64),
    unsure: u64,
) -> Result<Checked, sqlx::Error> {
    let mut connection = MySqlConnection::connect(url).await?;
    let (mut rows, mut tombstones, mut missing_ids) = (0, 0, Vec::new());
    for ids in accepted.chunks(AT_ONCE) {
        let found = find(&mut connection, "SELECT id FROM message WHERE id IN", ids).await?;
        rows += found.len() as u64;
        let mut left: Vec<i64> = ids.iter().copied().filter(|id| found.binary_search(id).is_err()).collect();
        if !left.is_empty() {
            let sql = "SELECT DISTINCT message_id FROM message_recall WHERE message_id IN";
            let found = find(&mut connection, sql, &left).await?;
            tombstones += found.len() as u64;
            left.retain(|id| found.binary_search(id).is_err());
        }
        missing_ids.extend(left);
    }
    // The index `uk_client_msg` begins with the sender, so this reads a range of it.
    let all: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM message WHERE from_user_id BETWEEN ? AND ?")
        .bind(first)
        .bind(last)
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    let missing = missing_ids.len() as u64;
    missing_ids.truncate(SHOWN);
    let more_rows = u64::try_from(all).unwrap_or_default().saturating_sub(rows);
    let accepted = accepted.len() as u64;
    Ok(Checked { accepted, rows, tombstones, missing, missing_ids, more_rows, unsure })
}

/// The ids of `ids` that are in the table, in order.
async fn find(connection: &mut MySqlConnection, sql: &str, ids: &[i64]) -> Result<Vec<i64>, sqlx::Error> {
    let list: Vec<String> = ids.iter().map(i64::to_string).collect();
    // The statement contains numbers only, and no text from outside.
    let sql = format!("{sql} ({})", list.join(","));
    let mut found: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await?;
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_too_many_is_excused_only_by_a_send_of_unknown_fate() {
        let checked = Checked {
            accepted: 3,
            rows: 2,
            tombstones: 1,
            missing: 0,
            missing_ids: Vec::new(),
            more_rows: 0,
            unsure: 0,
        };
        assert!(checked.holds());
        assert!(!Checked { missing: 1, ..checked.clone() }.holds());
        assert!(!Checked { more_rows: 1, ..checked.clone() }.holds());
        assert!(Checked { more_rows: 1, unsure: 1, ..checked }.holds());
    }
}
