//! MySQL without the service: multi-row inserts into a table with the columns and indexes of `message`, one commit
//! for each statement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, MySql, MySqlConnection, QueryBuilder};

use super::taken::Taken;
use crate::content::Contents;

const TABLE: &str = "hongyan_bench_message";
const CONNECTIONS: i64 = 4;
const ROWS: i64 = 500;
/// The number of ids reserved for one connection; more than the connection writes.
const IDS: i64 = 1 << 40;
/// The number of conversations of the rows.
const CONVERSATIONS: i64 = 100;

pub(super) async fn measure(url: &str, contents: &Arc<Contents>, time: Duration) -> anyhow::Result<Taken> {
    let mut connection = MySqlConnection::connect(url).await?;
    execute(&mut connection, format!("DROP TABLE IF EXISTS {TABLE}")).await?;
    execute(&mut connection, format!("CREATE TABLE {TABLE} LIKE message")).await?;
    let taken = write(url, contents, time).await;
    execute(&mut connection, format!("DROP TABLE {TABLE}")).await?;
    connection.close().await?;
    taken
}

async fn execute(connection: &mut MySqlConnection, sql: String) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

async fn write(url: &str, contents: &Arc<Contents>, time: Duration) -> anyhow::Result<Taken> {
    let mut writers = tokio::task::JoinSet::new();
    let began = Instant::now();
    for writer in 0..CONNECTIONS {
        let (url, contents) = (url.to_owned(), contents.clone());
        writers.spawn(async move {
            let mut connection = MySqlConnection::connect(&url).await?;
            let mut written = 0;
            while began.elapsed() < time {
                insert(&mut connection, writer * IDS + written, &contents).await?;
                written += ROWS;
            }
            connection.close().await?;
            Ok::<i64, sqlx::Error>(written)
        });
    }
    let mut messages = 0;
    while let Some(written) = writers.join_next().await {
        messages += u64::try_from(written??).unwrap_or_default();
    }
    let how = format!("inserts of {ROWS} rows, each committed, on {CONNECTIONS} connections");
    Ok(Taken { messages, time: began.elapsed(), how })
}

async fn insert(connection: &mut MySqlConnection, first: i64, contents: &Contents) -> sqlx::Result<()> {
    let mut query = QueryBuilder::<MySql>::new(format!(
        "INSERT INTO {TABLE} (id, conv_id, from_user_id, to_id, content, msg_type, send_time, persist_status, seq) "
    ));
    query.push_values(1..=ROWS, |mut row, number| {
        let id = first + number;
        let low = 2 * (id % CONVERSATIONS) + 1;
        row.push_bind(id)
            .push_bind(format!("{low}_{}", low + 1))
            .push_bind(low)
            .push_bind(low + 1)
            .push_bind(contents.number(usize::try_from(id).unwrap_or_default()))
            .push("1")
            .push_bind(id)
            .push("'PERSISTED'")
            .push_bind(id);
    });
    query.build().execute(connection).await.map(drop)
}
