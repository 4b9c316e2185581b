//! What happens behind the answers: how soon accepted messages are PERSISTED, and how many rows a second are written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http::Method;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::load::{histogram, record};
use crate::pool::{Call, Pool};
use crate::scenario::Sent;

/// Connections that only look: they must not take one from the load.
pub(crate) const CONNECTIONS: u32 = 4;
/// How often a message is looked at; so much too long a lag can be.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How many messages are watched in a second at most.
const WATCHED_A_SECOND: u64 = 10;
/// A message that is not persisted by then counts as not persisted.
const PATIENCE: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);

/// What was seen.
pub(crate) struct Seen {
    /// From a send's answer to the message being PERSISTED in the history, in µs.
    pub(crate) lag: Histogram<u64>,
    /// Messages that were not after [`PATIENCE`].
    pub(crate) overdue: u64,
    /// Rows that the consumer wrote, if the service says so.
    pub(crate) rows: Option<Rows>,
}

/// Rows of the consumer, from `GET /metrics`.
pub(crate) struct Rows {
    /// In the mean of the measurement, until all that was accepted was written.
    pub(crate) a_second: f64,
    /// In the best second.
    pub(crate) best_second: f64,
}

/// Watches a service from aside.
pub(crate) struct Lookout {
    pool: Arc<Pool>,
    probes: mpsc::Sender<(Sent, Instant)>,
    seen: Arc<Mutex<(Histogram<u64>, u64)>>,
    probing: JoinHandle<()>,
    counting: JoinHandle<f64>,
    stop: watch::Sender<bool>,
    rows_at_start: u64,
}

/// How many rows there were, and when.
#[derive(Clone, Copy)]
pub(crate) struct Count {
    at: Instant,
    rows: Option<u64>,
}

impl Lookout {
    pub(crate) async fn start(pool: Arc<Pool>) -> Self {
        // A channel without room to speak of: what finds none is not watched.
        let (probes, receiver) = mpsc::channel(1);
        let seen = Arc::new(Mutex::new((histogram(), 0)));
        let (stop, stopped) = watch::channel(false);
        let rows_at_start = written(&pool).await.unwrap_or_default();
        Self {
            probing: tokio::spawn(probe(pool.clone(), receiver, seen.clone(), stopped.clone())),
            counting: tokio::spawn(best_second(pool.clone(), stopped)),
            pool,
            probes,
            seen,
            stop,
            rows_at_start,
        }
    }

    /// Where accepted messages may be offered.
    pub(crate) fn probes(&self) -> mpsc::Sender<(Sent, Instant)> {
        self.probes.clone()
    }

    /// How many rows were written so far.
    pub(crate) async fn rows(&self) -> Count {
        Count { at: Instant::now(), rows: written(&self.pool).await }
    }

    /// Waits until `accepted` messages were written since the start, and says what was seen.
    pub(crate) async fn finish(self, before: Count, accepted: u64) -> Seen {
        let wanted = self.rows_at_start + accepted;
        let began = Instant::now();
        let mut last = self.rows().await;
        while last.rows.is_some_and(|rows| rows < wanted) && began.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.rows().await;
            // What was recalled in time is never a row: it is enough that no more come.
            if now.rows == last.rows && now.at - last.at > SECOND {
                break;
            }
            if now.rows != last.rows {
                last = now;
            }
        }
        self.stop.send_replace(true);
        let best_second = self.counting.await.unwrap_or_default();
        let _ = self.probing.await;
        #[expect(clippy::cast_precision_loss, reason = "rows stay below 2^53")]
        let rows = before.rows.zip(last.rows).map(|(first, rows)| Rows {
            a_second: rows.saturating_sub(first) as f64 / (last.at - before.at).as_secs_f64(),
            best_second,
        });
        let (lag, overdue) = self.seen.lock().clone();
        Seen { lag, overdue, rows }
    }
}

/// Watches some of the messages that it is offered, each until it is PERSISTED.
async fn probe(
    pool: Arc<Pool>,
    mut offered: mpsc::Receiver<(Sent, Instant)>,
    seen: Arc<Mutex<(Histogram<u64>, u64)>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut watching = tokio::task::JoinSet::new();
    loop {
        let (sent, accepted) = tokio::select! {
            Some(offered) = offered.recv() => offered,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let (pool, seen) = (pool.clone(), seen.clone());
        watching.spawn(async move {
            let mut lag = None;
            while lag.is_none() && accepted.elapsed() < PATIENCE {
                let looked = Instant::now();
                if is_persisted(&pool, &sent).await {
                    lag = Some(accepted.elapsed());
                } else {
                    tokio::time::sleep(LOOK_EVERY.saturating_sub(looked.elapsed())).await;
                }
            }
            let mut seen = seen.lock();
            match lag {
                Some(lag) => record(&mut seen.0, lag),
                None => seen.1 += 1,
            }
        });
        tokio::time::sleep(SECOND / u32::try_from(WATCHED_A_SECOND).unwrap_or(1)).await;
    }
    while watching.join_next().await.is_some() {}
}

async fn is_persisted(pool: &Pool, sent: &Sent) -> bool {
    let before = sent.id.parse::<i64>().unwrap_or_default() - 1;
    let path = format!("/conversations/{}/messages?limit=1&after={before}", sent.to);
    let call = Call { method: Method::GET, path, authorization: sent.sender.clone(), body: String::new() };
    let (_, Ok(answer)) = pool.call(call).await else { return false };
    let page: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = &page["messages"][0];
    message["id"] == sent.id.as_str() && message["persistStatus"] == "PERSISTED"
}

/// The most rows of a second, looked at once a second until it is told to stop.
async fn best_second(pool: Arc<Pool>, mut stopped: watch::Receiver<bool>) -> f64 {
    let mut best = 0.0_f64;
    let mut last: Option<(Instant, u64)> = None;
    loop {
        if let Some(rows) = written(&pool).await {
            let now = Instant::now();
            if let Some((at, before)) = last {
                #[expect(clippy::cast_precision_loss, reason = "rows stay below 2^53")]
                let rate = rows.saturating_sub(before) as f64 / (now - at).as_secs_f64();
                best = best.max(rate);
            }
            last = Some((now, rows));
        }
        tokio::select! {
            () = tokio::time::sleep(SECOND) => {}
            _ = stopped.wait_for(|stop| *stop) => return best,
        }
    }
}

/// The counter of written rows; `None` where the service shows no metrics.
async fn written(pool: &Pool) -> Option<u64> {
    let path = "/metrics".to_owned();
    let call = Call { method: Method::GET, path, authorization: String::new(), body: String::new() };
    let answer = pool.call(call).await.1.ok().filter(|answer| answer.status == 200)?;
    let text = std::str::from_utf8(&answer.body).ok()?;
    let counter = format!("{}{{outcome=\"written\"}} ", hongyan::telemetry::metric::PERSISTED);
    Some(text.lines().find_map(|line| line.strip_prefix(&counter)?.parse().ok()).unwrap_or_default())
}
