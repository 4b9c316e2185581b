//! The open loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use crate::options::Options;
use crate::pool::{Answer, Pool};
use crate::scenario::{Kind, Sent, Talk};

/// More requests than this never wait at a time: a service that answers nothing must not fill the machine's memory.
const MOST_UNDER_WAY: usize = 200_000;

/// Requests at a constant rate, and what became of them.
pub(crate) struct Load {
    rate: u64,
    shared: Arc<Shared>,
}

struct Shared {
    pool: Arc<Pool>,
    talk: Arc<Talk>,
    probes: mpsc::Sender<(Sent, Instant)>,
    measured: Mutex<Measured>,
    accepted: AtomicU64,
    under_way: Arc<Semaphore>,
}

/// What was measured.
pub(crate) struct Measured {
    /// From the moment a request was due to its answer, in µs, by what it does.
    pub(crate) latencies: BTreeMap<Kind, Histogram<u64>>,
    /// From the moment a request was due to that at which the generator got to it, in µs: its own delay.
    pub(crate) late: Histogram<u64>,
    /// How long requests waited until one of the connections was free, in µs.
    pub(crate) waited: Histogram<u64>,
    /// Answers that were none of success, by what was done and the problem's code.
    pub(crate) errors: BTreeMap<(Kind, String), u64>,
    /// How many requests were due.
    pub(crate) due: u64,
    /// How many were left out, because too many were under way.
    pub(crate) left_out: u64,
}

impl Load {
    pub(crate) fn new(
        options: &Options,
        pool: Arc<Pool>,
        talk: Arc<Talk>,
        probes: mpsc::Sender<(Sent, Instant)>,
    ) -> Self {
        let measured = Measured {
            latencies: BTreeMap::new(),
            late: histogram(),
            waited: histogram(),
            errors: BTreeMap::new(),
            due: 0,
            left_out: 0,
        };
        let shared = Shared {
            pool,
            talk,
            probes,
            measured: Mutex::new(measured),
            accepted: AtomicU64::new(0),
            under_way: Arc::new(Semaphore::new(MOST_UNDER_WAY)),
        };
        Self { rate: options.rate, shared: Arc::new(shared) }
    }

    /// Lets requests go for so long. It does not wait for their answers.
    pub(crate) async fn run(&self, time: Duration, measured: bool) -> anyhow::Result<()> {
        let (shared, rate, handle) = (self.shared.clone(), self.rate, Handle::current());
        let count = rate.saturating_mul(time.as_secs());
        // A thread of its own: tokio's timer ticks once a millisecond, which is as long as a send may take.
        tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            for number in 0..count {
                let due = began + Duration::from_nanos(number.saturating_mul(1_000_000_000) / rate);
                let now = Instant::now();
                if due > now {
                    std::thread::sleep(due - now);
                }
                let Ok(place) = shared.under_way.clone().try_acquire_owned() else {
                    shared.measured().left_out += 1;
                    continue;
                };
                let shared = shared.clone();
                handle.spawn(async move {
                    shared.one(number, due, measured).await;
                    drop(place);
                });
            }
            if measured {
                shared.measured().due += count;
            }
        })
        .await?;
        Ok(())
    }

    /// Waits until every request was answered, but no longer than `limit`.
    pub(crate) async fn finished(&self, limit: Duration) {
        let all = u32::try_from(MOST_UNDER_WAY).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(limit, self.shared.under_way.acquire_many(all)).await;
    }

    /// How many messages were accepted, those of the warm-up among them.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn measured(&self) -> MutexGuard<'_, Measured> {
        self.shared.measured()
    }
}

impl Shared {
    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock()
    }

    async fn one(&self, number: u64, due: Instant, measured: bool) {
        let reached = Instant::now();
        let next = self.talk.next(number);
        let kind = next.kind;
        let (call, between) = next.apart();
        let (connected, answer) = self.pool.call(call).await;
        let answered = Instant::now();
        if measured {
            let mut measured = self.measured();
            record(measured.latencies.entry(kind).or_insert_with(histogram), answered - due);
            record(&mut measured.late, reached - due);
            record(&mut measured.waited, connected - reached);
            if let Some(code) = code_of(&answer) {
                *measured.errors.entry((kind, code)).or_default() += 1;
            }
        }
        if let Ok(answer) = &answer
            && let Some(sent) = Talk::accepted(between, answer)
        {
            self.accepted.fetch_add(1, Ordering::Relaxed);
            // A message that is watched is not recalled.
            if let Err(refused) = self.probes.try_send((sent, answered)) {
                let (sent, _) = refused.into_inner();
                self.talk.remember(sent);
            }
        }
    }
}

/// Why an answer is none of success.
fn code_of(answer: &Result<Answer, String>) -> Option<String> {
    match answer {
        Ok(answer) if answer.status < 400 => None,
        Ok(answer) => {
            let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let code = problem["code"].as_str().unwrap_or("no problem in the body");
            Some(format!("{} {code}", answer.status))
        }
        Err(error) => Some(error.clone()),
    }
}

/// For times in µs, to three digits; what is longer than ten minutes counts as ten.
pub(crate) fn histogram() -> Histogram<u64> {
    // It fails only for bounds that are the wrong way round, or more than 5 digits.
    Histogram::new_with_bounds(1, 600_000_000, 3).unwrap_or_else(|_| unreachable!())
}

pub(crate) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
}
