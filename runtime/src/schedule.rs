//! Runs the compensator like EventBridge Scheduler: every minute, and never two runs at the same time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_lambda_events::eventbridge::EventBridgeEvent;
use hongyan::clock::Clock;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often the compensator runs (`docs/protocol.md`, R17).
pub const INTERVAL: Duration = Duration::from_mins(1);

/// A run failed: the function answered with an error, or panicked. The next run starts as planned.
#[derive(Debug, thiserror::Error)]
#[error("a scheduled run failed: {0}")]
pub struct RunError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

type Run<T> =
    dyn Fn(EventBridgeEvent) -> Pin<Box<dyn Future<Output = Result<T, RunError>> + Send>> + Send + Sync;

struct Inner<T> {
    run: Box<Run<T>>,
    clock: Clock,
    /// Locked for as long as a run lasts.
    running: Mutex<()>,
}

/// A running schedule. `T` is the answer of a run. Dropping the schedule stops it without waiting for the run under
/// way.
pub struct Schedule<T> {
    inner: Arc<Inner<T>>,
    stopping: CancellationToken,
    timer: JoinHandle<()>,
}

impl<T: fmt::Debug + Send + 'static> Schedule<T> {
    /// Calls `run` every `interval`; the first call comes after one `interval`. A run that takes longer delays the
    /// next one.
    pub fn start<R, F, E>(interval: Duration, clock: Clock, run: R) -> Self
    where
        R: Fn(EventBridgeEvent) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let run: Box<Run<T>> = Box::new(move |event| {
            let answer = run(event);
            Box::pin(async move { answer.await.map_err(|error| RunError(error.into())) })
        });
        let inner = Arc::new(Inner { run, clock, running: Mutex::new(()) });
        let stopping = CancellationToken::new();
        let timer = tokio::spawn(tick(Arc::clone(&inner), interval, stopping.clone()));
        Self { inner, stopping, timer }
    }

    /// Runs now, after the run under way if there is one, and waits for the answer.
    pub async fn fire_now(&self) -> Result<T, RunError> {
        fire(&self.inner).await
    }

    /// Starts no further run, and waits for the end of the run under way.
    pub async fn stop(self) {
        self.stopping.cancel();
        drop(self.inner.running.lock().await);
    }
}

impl<T> Drop for Schedule<T> {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.timer.abort();
    }
}

impl<T> fmt::Debug for Schedule<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").finish_non_exhaustive()
    }
}

async fn tick<T: fmt::Debug + Send + 'static>(
    inner: Arc<Inner<T>>,
    interval: Duration,
    stopping: CancellationToken,
) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
        match fire(&inner).await {
            Ok(answer) => tracing::debug!(?answer, "a scheduled run is done"),
            Err(error) => tracing::warn!(%error, "the next run comes as planned"),
        }
    }
}

async fn fire<T: Send + 'static>(inner: &Arc<Inner<T>>) -> Result<T, RunError> {
    let for_task = Arc::clone(inner);
    // In a task of its own: a panic fails only this run, and the run goes on if the caller of `fire_now` goes away.
    let run = tokio::spawn(async move {
        let _turn = for_task.running.lock().await;
        let event = scheduled_event(for_task.clock.now_ms());
        (for_task.run)(event).await
    });
    match run.await {
        Ok(answer) => answer,
        Err(error) => Err(RunError(Box::new(error))),
    }
}

/// The event that EventBridge Scheduler sends.
fn scheduled_event(now_ms: i64) -> EventBridgeEvent {
    let mut event = EventBridgeEvent::default();
    event.version = Some("0".to_owned());
    event.id = Some(Uuid::new_v4().to_string());
    "Scheduled Event".clone_into(&mut event.detail_type);
    "aws.scheduler".clone_into(&mut event.source);
    event.account = Some("123456789012".to_owned());
    let now = Duration::from_millis(u64::try_from(now_ms).unwrap_or_default());
    event.time = UNIX_EPOCH.checked_add(now).map(Into::into);
    event.region = Some("local".to_owned());
    event.resources =
        Some(vec!["arn:aws:scheduler:local:123456789012:schedule/default/hongyan-compensator".to_owned()]);
    event.detail = serde_json::json!({});
    event
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_event_is_that_of_the_sample() {
        let sample: serde_json::Value =
            serde_json::from_str(include_str!("../../events/schedule.json")).unwrap();
        let made = serde_json::to_value(scheduled_event(1_732_723_200_000)).unwrap();
        let names = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(names(&made), names(&sample));
        for same in ["version", "detail-type", "source", "detail"] {
            assert_eq!(made[same], sample[same], "{same}");
        }
        assert_eq!(made["time"], "2024-11-27T16:00:00Z");
        let id = made["id"].as_str().unwrap();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
    }

    #[tokio::test]
    async fn it_fires_by_itself_and_on_demand_and_never_twice_at_a_time() {
        let (runs, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (many, gone) = (Arc::clone(&runs), Arc::clone(&at_once));
        let schedule = Schedule::start(Duration::from_millis(5), Clock::system(), move |_| {
            let (runs, at_once) = (Arc::clone(&many), Arc::clone(&gone));
            async move {
                assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "two runs at a time");
                tokio::time::sleep(Duration::from_millis(2)).await;
                at_once.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, std::io::Error>(runs.fetch_add(1, Ordering::SeqCst))
            }
        });
        let (one, two) = tokio::join!(schedule.fire_now(), schedule.fire_now());
        assert_ne!(one.unwrap(), two.unwrap());
        while runs.load(Ordering::SeqCst) < 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        schedule.stop().await;
        let stopped_at = runs.load(Ordering::SeqCst);
        assert_eq!(at_once.load(Ordering::SeqCst), 0, "the last run was finished");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(runs.load(Ordering::SeqCst), stopped_at);
    }

    #[tokio::test]
    async fn a_run_that_fails_or_panics_does_not_end_it() {
        let runs = Arc::new(AtomicUsize::new(0));
        let many = Arc::clone(&runs);
        let schedule = Schedule::start(INTERVAL, Clock::system(), move |_| {
            let run = many.fetch_add(1, Ordering::SeqCst);
            async move {
                match run {
                    0 => Err("the store is away"),
                    1 => panic!("on purpose"),
                    _ => Ok(run),
                }
            }
        });
        assert!(schedule.fire_now().await.unwrap_err().to_string().contains("the store is away"));
        assert!(schedule.fire_now().await.is_err());
        assert_eq!(schedule.fire_now().await.unwrap(), 2);
    }
}
