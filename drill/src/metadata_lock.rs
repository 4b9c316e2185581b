//! A schema change that waits for an open transaction, with all other statements on the message table waiting behind
//! it.

use std::time::{Duration, Instant};

use anyhow::bail;
use sqlx::{Connection as _, MySqlConnection, MySqlPool};
use tokio::task::JoinHandle;

/// How long MySQL may take until the schema change waits, and until it ends once nothing blocks it.
const LIMIT: Duration = Duration::from_secs(30);

const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Count the schema change itself, and all other waiting statements.
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
    /// Begins both, and returns once the `ALTER TABLE` waits.
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

    /// The number of statements that wait behind the `ALTER TABLE`.
    pub(crate) async fn waiting(mysql: &MySqlPool) -> anyhow::Result<i64> {
        count(mysql, OTHERS).await
    }

    /// Ends the transaction, and waits for the end of the `ALTER TABLE`.
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
