//! A run of the compensator: its time, its errors, and its summary.

use std::fmt::Display;
use std::time::{Duration, Instant};

use hongyan::app::App;
use hongyan::error::ServerError;
use serde::{Deserialize, Serialize};

/// How long a run goes on. It must end before another may begin.
const LONGEST_RUN: Duration = Duration::from_secs(40);

/// How many transient errors in a row mean that a store is away, and not that single messages are at fault.
const AWAY_AFTER: u32 = 3;

/// The summary of a run.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Another run was under way, so this one did nothing.
    pub skipped: bool,
    /// Due messages.
    pub due: usize,
    /// Messages that MySQL has, marked.
    pub marked: usize,
    /// Recalls that were written to MySQL.
    pub recalled: usize,
    /// Lost messages that were sent again.
    pub resent: usize,
    /// Lost messages that Kafka refuses for good, written to MySQL without it.
    pub persisted: usize,
    /// Messages that are merely queued, or were sent again less than 5 minutes ago.
    pub left: usize,
    /// Entries without a message in any store: their sends were never accepted.
    pub dropped: usize,
    /// Messages and partitions that a server refused. The next run tries again.
    pub failed: usize,
}

/// A run under way.
pub(crate) struct Run<'a> {
    pub(crate) app: &'a App,
    pub(crate) summary: Summary,
    began: Instant,
    /// Transient errors in a row.
    streak: u32,
    /// The error that ended the work on a partition.
    pub(crate) failure: Option<ServerError>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(app: &'a App) -> Self {
        Self { app, summary: Summary::default(), began: Instant::now(), streak: 0, failure: None }
    }

    /// True if there is time for one more message.
    pub(crate) fn has_time(&self) -> bool {
        self.began.elapsed() < LONGEST_RUN
    }

    /// Notes the result for one message or one partition. Only [`AWAY_AFTER`] transient errors in a row are an error of
    /// the run.
    pub(crate) fn note<T>(
        &mut self,
        what: &dyn Display,
        outcome: Result<T, ServerError>,
    ) -> Result<Option<T>, ServerError> {
        match outcome {
            Ok(done) => {
                self.streak = 0;
                Ok(Some(done))
            }
            Err(error) if error.is_transient() => {
                self.streak += 1;
                if self.streak >= AWAY_AFTER {
                    return Err(error);
                }
                tracing::warn!(%what, %error, "compensate: skipped; the next run tries again");
                self.summary.failed += 1;
                Ok(None)
            }
            Err(error) => {
                tracing::error!(%what, %error, "compensate: a server refuses this message or partition; skipped, and the next run tries again");
                self.summary.failed += 1;
                Ok(None)
            }
        }
    }
}
