//! Waits until nothing is on its way any more.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hongyan::queue::Progress;

use crate::site::Site;

/// How long it may take. After 20 s without a store the consumer may pause for half a minute.
const LIMIT: Duration = Duration::from_mins(3);

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long the consumer is given for what it is about before the compensator comes.
const BEFORE_COMPENSATION: Duration = Duration::from_millis(500);

/// More than the compensator waits, for a message and between two tries at it.
pub(crate) const COMPENSATE_AFTER_MS: i64 = 301_000;

/// Waits until the consumer group has read everything and nothing is pending. What the consumer does not settle by itself,
/// the compensator does, for which five minutes pass each time.
pub(crate) async fn settle(site: &Site) -> anyhow::Result<()> {
    let start = Instant::now();
    let (mut read_since, mut compensated): (Option<Instant>, _) = (None, Ok(()));
    loop {
        let (reason, read) = match look(site).await {
            Ok((0, true)) => return Ok(()),
            Ok((pending, read)) => {
                (format!("{pending} pending, {}", if read { "all read" } else { "not all read" }), read)
            }
            // A server that has just come back may not answer everything yet.
            Err(error) => (error.to_string(), false),
        };
        if let Some(ended) = site.ended().await {
            bail!("{ended}");
        }
        if start.elapsed() > LIMIT {
            compensated.context("the last run of the compensator")?;
            bail!("not settled after {LIMIT:?}: {reason}");
        }
        match read_since {
            _ if !read => read_since = None,
            None => read_since = Some(Instant::now()),
            Some(since) if since.elapsed() > BEFORE_COMPENSATION => {
                compensated = site.compensate_after(COMPENSATE_AFTER_MS).await;
                read_since = None;
            }
            Some(_) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// How many are pending, and whether the group has read everything.
async fn look(site: &Site) -> anyhow::Result<(u64, bool)> {
    let progress = site.app.queue.progress().await?;
    let pending = site.app.cache.pending_count().await?;
    Ok((pending, progress.iter().all(|progress| *progress == Progress::CaughtUp)))
}
