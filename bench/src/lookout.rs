//! Watches the service behind its answers: how soon accepted messages are PERSISTED, and how many rows a second are
//! written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http::Method;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::load::Probe;
use crate::measured::{histogram, record};
use crate::number::of_count;
use crate::pool::{Call, Pool};
use crate::scenario::{Sent, Talk};

/// Connections for watching, so that watching takes no connection from the load.
pub(crate) const CONNECTIONS: u32 = 4;
/// How often a watched message is looked at. A measured lag can be too long by this much.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The most messages watched in a second.
const WATCHED_A_SECOND: u64 = 10;
/// A message that is not persisted within this time counts as overdue.
const PATIENCE: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);

/// The results of watching.
pub(crate) struct Seen {
    /// The time from the answer to a send until the message is PERSISTED in the history, in µs.
    pub(crate) lag: Histogram<u64>,
    /// The number of messages not persisted within [`PATIENCE`].
    pub(crate) overdue: u64,
    /// The consumer's rows, if the service shows metrics.
    pub(crate) rows: Option<Rows>,
}

/// The rows that the consumer wrote, from `GET /metrics`.
pub(crate) struct Rows {
    /// The mean, from the start of the measurement until all accepted messages were written.
    pub(crate) a_second: f64,
    /// The best second.
    pub(crate) best_second: f64,
}

/// Watches a service while it is measured.
pub(crate) struct Lookout {
    pool: Arc<Pool>,
    probes: mpsc::Sender<Probe>,
    seen: Arc<Mutex<(Histogram<u64>, u64)>>,
    probing: JoinHandle<()>,
    counting: JoinHandle<f64>,
    stop: watch::Sender<bool>,
    rows_at_start: u64,
}

/// A number of rows, and when it was read.
#[derive(Clone, Copy)]
pub(crate) struct Count {
    at: Instant,
    rows: Option<u64>,
}

impl Lookout {
    pub(crate) async fn start(pool: Arc<Pool>, talk: Arc<Talk>) -> Self {
        // The channel has room for one message. A message that finds no room is not watched.
        let (probes, receiver) = mpsc::channel(1);
        let seen = Arc::new(Mutex::new((histogram(), 0)));
        let (stop, stopped) = watch::channel(false);
        let rows_at_start = written(&pool).await.unwrap_or_default();
        Self {
            probing: tokio::spawn(probe(pool.clone(), talk, receiver, seen.clone(), stopped.clone())),
            counting: tokio::spawn(best_second(pool.clone(), stopped)),
            pool,
            probes,
            seen,
            stop,
            rows_at_start,
        }
    }

    /// The channel on which accepted messages are offered.
    pub(crate) fn probes(&self) -> mpsc::Sender<Probe> {
        self.probes.clone()
    }

    /// The number of rows written so far.
    pub(crate) async fn rows(&self) -> Count {
        Count { at: Instant::now(), rows: written(&self.pool).await }
    }

    /// Waits until `accepted` messages were written since the start, and returns the results. Does not wait for a
    /// service that has died.
    pub(crate) async fn finish(self, before: Count, accepted: u64, alive: bool) -> Seen {
        if !alive {
            self.probing.abort();
        }
        let wanted = self.rows_at_start + accepted;
        let began = Instant::now();
        let mut last = self.rows().await;
        while last.rows.is_some_and(|rows| rows < wanted) && began.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.rows().await;
            // A message recalled in time never becomes a row, so also stop once no further rows come.
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
        let rows = before.rows.zip(last.rows).map(|(first, rows)| Rows {
            a_second: of_count(rows.saturating_sub(first)) / (last.at - before.at).as_secs_f64(),
            best_second,
        });
        let (lag, overdue) = self.seen.lock().clone();
        Seen { lag, overdue, rows }
    }
}

/// Watches some of the offered messages, each until it is PERSISTED.
async fn probe(
    pool: Arc<Pool>,
    talk: Arc<Talk>,
    mut offered: mpsc::Receiver<Probe>,
    seen: Arc<Mutex<(Histogram<u64>, u64)>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut watching = tokio::task::JoinSet::new();
    loop {
        let (sent, accepted) = tokio::select! {
            Some(offered) = offered.recv() => offered,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let (pool, talk, seen) = (pool.clone(), talk.clone(), seen.clone());
        watching.spawn(async move {
            let mut lag = None;
            while lag.is_none() && accepted.elapsed() < PATIENCE {
                let looked = Instant::now();
                if is_persisted(&pool, &talk, sent).await {
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

async fn is_persisted(pool: &Pool, talk: &Talk, sent: Sent) -> bool {
    let (sender, receiver) = talk.users().of(sent.turn);
    let path = format!("/conversations/{}/messages?limit=1&after={}", receiver.id, sent.id - 1);
    let authorization = sender.authorization.clone();
    let call = Call { method: Method::GET, path, authorization, body: String::new() };
    let (_, Ok(answer)) = pool.call(call).await else { return false };
    let page: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = &page["messages"][0];
    let id = message["id"].as_str().and_then(|id| id.parse().ok());
    id == Some(sent.id) && message["persistStatus"] == "PERSISTED"
}

/// The most rows of one second. Reads the counter once a second until told to stop.
async fn best_second(pool: Arc<Pool>, mut stopped: watch::Receiver<bool>) -> f64 {
    let mut best = 0.0_f64;
    let mut last: Option<(Instant, u64)> = None;
    loop {
        if let Some(rows) = written(&pool).await {
            let now = Instant::now();
            if let Some((at, before)) = last {
                let rate = of_count(rows.saturating_sub(before)) / (now - at).as_secs_f64();
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

/// The counter of written rows; `None` if the service shows no metrics.
async fn written(pool: &Pool) -> Option<u64> {
    let path = "/metrics".to_owned();
    let call = Call { method: Method::GET, path, authorization: String::new(), body: String::new() };
    let answer = pool.call(call).await.1.ok().filter(|answer| answer.status == 200)?;
    let text = std::str::from_utf8(&answer.body).ok()?;
    let counter = format!("{}{{outcome=\"written\"}} ", hongyan::telemetry::metric::PERSISTED);
    Some(text.lines().find_map(|line| line.strip_prefix(&counter)?.parse().ok()).unwrap_or_default())
}
