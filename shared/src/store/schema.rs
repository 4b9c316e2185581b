//! The schema of the writer's database: which migrations it lacks, and how it gets them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use sqlx::migrate::{AppliedMigration, Migrate as _, MigrateError, Migrator};
use sqlx::mysql::MySqlDatabaseError;
use sqlx::{Connection as _, MySqlConnection};

use super::Store;
use super::pool::scoped;
use crate::error::{Retry, Server, ServerError};

/// The schema, `migrations/`, as it was when this was built.
static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// The book of applied migrations, that of sqlx's own tool.
const BOOK: &str = "_sqlx_migrations";
/// "Table does not exist".
const NO_SUCH_TABLE: u16 = 1146;

/// One file of `migrations/`. `Display` shows it as `0001 message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The number that the file's name begins with.
    pub number: i64,
    /// The rest of the name, with spaces.
    pub description: String,
}

impl Migration {
    fn of(migration: &sqlx::migrate::Migration) -> Self {
        Self { number: migration.version, description: migration.description.to_string() }
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04} {}", self.number, self.description)
    }
}

/// A migration that was just applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The migration.
    pub migration: Migration,
    /// How long it took.
    pub took: Duration,
}

impl Store {
    /// Brings the schema of the writer's database up to date, and tells each migration once it is applied. Two at a time
    /// wait for each other; repeating it does nothing. The error names the migration that failed and why.
    #[tracing::instrument(name = "store.migrate", skip_all)]
    pub async fn migrate(&self, mut applied: impl FnMut(Applied) + Send) -> Result<(), ServerError> {
        // A connection of its own: building an index may take longer than any statement of the service is given.
        let mut connection = self.writer.connect("store.migrate").await?;
        apply_missing(&mut connection, &mut applied)
            .await
            .map_err(|error| failed("store.migrate", Retry::Permanent, error))?;
        // The work is done; a connection that does not close cleanly changes nothing about it.
        if let Err(error) = MySqlConnection::close(connection).await {
            tracing::debug!(%error, "the connection of the migration was not closed cleanly");
        }
        Ok(())
    }

    /// The migrations that the writer's database lacks, in order; changes nothing. A database that a newer version has
    /// migrated lacks none. Fails on one whose migrations are not those of this build, as [`Self::migrate`] does.
    #[tracing::instrument(name = "store.pending_migrations", skip_all)]
    pub async fn pending_migrations(&self) -> Result<Vec<Migration>, ServerError> {
        const ACTION: &str = "store.pending_migrations";
        let book = self
            .writer
            .run(ACTION, self.timeout, |connection| {
                scoped(async move {
                    let rows = sqlx::query_as::<_, (i64, Vec<u8>, bool)>(
                        "SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version",
                    );
                    match rows.fetch_all(connection).await {
                        Err(error) if is_no_such_table(&error) => Ok(Vec::new()),
                        rows => rows,
                    }
                })
            })
            .await?;
        let refused = |error| failed(ACTION, Retry::Permanent, error);
        if let Some((version, ..)) = book.iter().find(|(.., success)| !success) {
            return Err(refused(MigrateError::Dirty(*version)));
        }
        let book = book
            .into_iter()
            .map(|(version, checksum, _)| AppliedMigration { version, checksum: checksum.into() });
        let missing = missing(book.collect()).map_err(refused)?;
        Ok(missing.into_iter().map(Migration::of).collect())
    }
}

fn failed(action: &'static str, retry: Retry, error: MigrateError) -> ServerError {
    ServerError { server: Server::MySql, action, retry, source: error.into() }
}

fn is_no_such_table(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    error.is_some_and(|error| error.number() == NO_SUCH_TABLE)
}

/// Applies what is missing, as sqlx's own migrator does; that does not say which migrations it applied.
async fn apply_missing(
    connection: &mut MySqlConnection,
    applied: &mut (impl FnMut(Applied) + Send),
) -> Result<(), MigrateError> {
    lock(connection).await?;
    connection.ensure_migrations_table(BOOK).await?;
    if let Some(version) = connection.dirty_version(BOOK).await? {
        return Err(MigrateError::Dirty(version));
    }
    let book = connection.list_applied_migrations(BOOK).await?;
    if let Some(unknown) = book.iter().find(|entry| !MIGRATIONS.version_exists(entry.version)) {
        return Err(MigrateError::VersionMissing(unknown.version));
    }
    for migration in missing(book)? {
        let took = connection.apply(BOOK, migration).await?;
        applied(Applied { migration: Migration::of(migration), took });
    }
    Ok(())
}

/// Waits until nobody else migrates this database. The end of the connection gives the locks back.
async fn lock(connection: &mut MySqlConnection) -> Result<(), MigrateError> {
    loop {
        // sqlx's own lock asks for an endless wait by -1, which MariaDB refuses, and sqlx does not look at the answer.
        let taken: Option<i64> =
            sqlx::query_scalar("SELECT GET_LOCK(CONCAT('hongyan.migrate.', SHA1(DATABASE())), 10)")
                .fetch_one(&mut *connection)
                .await?;
        match taken {
            Some(1) => break,
            Some(_) => {}
            None => return Err(sqlx::Error::Protocol("GET_LOCK failed".to_owned()).into()),
        }
    }
    // With this one, on MySQL, sqlx's own tool waits too.
    connection.lock().await
}

/// The migrations that are not in the book, in order. One that is there must be the same as when it was applied.
fn missing(book: Vec<AppliedMigration>) -> Result<Vec<&'static sqlx::migrate::Migration>, MigrateError> {
    let book: BTreeMap<i64, AppliedMigration> =
        book.into_iter().map(|entry| (entry.version, entry)).collect();
    let mut missing = Vec::new();
    for migration in MIGRATIONS.iter().filter(|migration| !migration.migration_type.is_down_migration()) {
        match book.get(&migration.version) {
            Some(entry) if entry.checksum != migration.checksum => {
                return Err(MigrateError::VersionMismatch(migration.version));
            }
            Some(_) => {}
            None => missing.push(migration),
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(migration: &sqlx::migrate::Migration) -> AppliedMigration {
        AppliedMigration { version: migration.version, checksum: migration.checksum.clone() }
    }

    #[test]
    fn what_the_book_does_not_have_is_missing() {
        let all: Vec<AppliedMigration> = MIGRATIONS.iter().map(applied).collect();
        assert_eq!(missing(all.clone()).unwrap().len(), 0);
        assert_eq!(missing(Vec::new()).unwrap().len(), all.len());
        assert_eq!(missing(all[1..].to_vec()).unwrap()[0].version, 1, "also before others");
        let mut newer = all.clone();
        newer.push(AppliedMigration { version: 1_000, checksum: vec![1].into() });
        assert_eq!(missing(newer).unwrap().len(), 0, "a newer version's migrations only add");
        let mut other = all;
        other[2].checksum = vec![1].into();
        assert!(matches!(missing(other), Err(MigrateError::VersionMismatch(3))));
    }

    #[test]
    fn a_migration_is_shown_as_its_file_is_named() {
        let first = Migration::of(MIGRATIONS.iter().next().unwrap());
        assert_eq!(first.to_string(), "0001 message");
    }
}
