//! Waits until no message is on its way.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hongyan::queue::Progress;

use crate::site::Site;

/// How long settling may take. After 20 s without a store the consumer may pause for half a minute.
const LIMIT: Duration = Duration::from_mins(3);

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long the consumer gets for its work before the compensator runs.
const BEFORE_COMPENSATION: Duration = Duration::from_millis(500);

/// Longer than the compensator waits for a message, and than its pause between two tries.
pub(crate) const COMPENSATE_AFTER_MS: i64 = 301_000;

/// Waits until the consumer group has read every record and nothing is pending. If the consumer leaves a message
/// pending, runs the compensator, with the clock put forward by five minutes each time.
pub(crate) async fn settle(site: &Site) -> anyhow::Result<()> {
    let start = Instant::now();
    let (mut read_since, mut compensated): (Option<Instant>, _) = (None, Ok(()));
    loop {
        let (reason, read) = match look(site).await {
            Ok((0, true)) => return Ok(()),
            Ok((pending, read)) => {
                (format!("{pending} pending, {}", if read { "all read" } else { "not all read" }), read)
            }
            // A server that has just come back may not answer every question yet.
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

/// The number of pending messages, and whether the group has read every record.
async fn look(site: &Site) -> anyhow::Result<(u64, bool)> {
    let progress = site.app.queue.progress().await?;
    let pending = site.app.cache.pending_count().await?;
    Ok((pending, progress.iter().all(|progress| *progress == Progress::CaughtUp)))
}
