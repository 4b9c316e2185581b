//! One run of the compensator: its time, its errors, and its summary.

use std::fmt::Display;
use std::time::{Duration, Instant};

use hongyan::app::App;
use hongyan::error::ServerError;
use serde::{Deserialize, Serialize};

/// How long a run goes on, so that it has ended before another may begin.
const RUN_FOR: Duration = Duration::from_secs(40);

/// So many stores' errors in a row are a store that is away, and not one message's matter.
const AWAY_AFTER: u32 = 3;

/// What a run did.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Whether another run was under way, so that this one did nothing.
    pub skipped: bool,
    /// Messages that were due and looked at.
    pub due: usize,
    /// Found in MySQL and marked.
    pub marked: usize,
    /// Recalls that were written to MySQL.
    pub recalled: usize,
    /// Lost, and produced again.
    pub resent: usize,
    /// Lost, refused by Kafka for good, and so written to MySQL without it.
    pub persisted: usize,
    /// Merely queued, or sent again less than 5 minutes ago: left alone.
    pub left: usize,
    /// Not in any store: entries of sends that were never accepted.
    pub dropped: usize,
    /// What a server refused, each for itself: the next run tries again.
    pub failed: usize,
}

/// A run under way.
pub(crate) struct Run<'a> {
    pub(crate) app: &'a App,
    pub(crate) summary: Summary,
    began: Instant,
    /// Errors of servers in a row that may pass.
    streak: u32,
    /// What ended the work on a partition.
    pub(crate) failure: Option<ServerError>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(app: &'a App) -> Self {
        Self { app, summary: Summary::default(), began: Instant::now(), streak: 0, failure: None }
    }

    /// Whether there is time for one more.
    pub(crate) fn has_time(&self) -> bool {
        self.began.elapsed() < RUN_FOR
    }

    /// Notes what became of one message or one partition. Only so many errors in a row are an error of the run.
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
