//! A schema change that waits behind an open transaction, and every statement on the table of messages behind it.

use std::time::{Duration, Instant};

use anyhow::bail;
use sqlx::{Connection as _, MySqlConnection, MySqlPool};
use tokio::task::JoinHandle;

/// How long MySQL may take until the schema change waits, and until it is done once nothing holds it up.
const LIMIT: Duration = Duration::from_secs(30);

const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Of the schema change itself, or of all others.
const ALTERS: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
    WHERE STATE LIKE 'Waiting for table metadata lock%' AND INFO LIKE 'ALTER%'";
const OTHERS: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
    WHERE STATE LIKE 'Waiting for table metadata lock%' AND (INFO IS NULL OR INFO NOT LIKE 'ALTER%')";

/// An open transaction that has read `message`, and an `ALTER TABLE` that waits for its end.
pub(crate) struct MetadataLock {
    reader: MySqlConnection,
    altering: JoinHandle<Result<(), sqlx::Error>>,
}

impl MetadataLock {
    /// Begins both, and waits until the `ALTER TABLE` waits.
    pub(crate) async fn take(mysql: &MySqlPool) -> anyhow::Result<Self> {
        let mut reader = mysql.acquire().await?.detach();
        sqlx::raw_sql("BEGIN").execute(&mut reader).await?;
        sqlx::raw_sql("SELECT id FROM message LIMIT 1").execute(&mut reader).await?;
        let mut writer = mysql.acquire().await?.detach();
        let altering = tokio::spawn(async move {
            sqlx::raw_sql("ALTER TABLE message COMMENT 'altered while in use'").execute(&mut writer).await?;
            writer.close().await
        });
        let start = Instant::now();
        while count(mysql, ALTERS).await? == 0 {
            if start.elapsed() > LIMIT {
                bail!("ALTER TABLE does not wait for the open transaction");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(Self { reader, altering })
    }

    /// How many statements wait behind the `ALTER TABLE`.
    pub(crate) async fn waiting(mysql: &MySqlPool) -> anyhow::Result<i64> {
        count(mysql, OTHERS).await
    }

    /// Ends the transaction, and waits until the `ALTER TABLE` is done.
    pub(crate) async fn release(mut self) -> anyhow::Result<()> {
        sqlx::raw_sql("COMMIT").execute(&mut self.reader).await?;
        self.reader.close().await?;
        tokio::time::timeout(LIMIT, self.altering).await???;
        Ok(())
    }
}

async fn count(mysql: &MySqlPool, statement: &'static str) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(statement).fetch_one(mysql).await?)
}
