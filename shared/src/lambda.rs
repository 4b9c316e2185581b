//! The host that every function runs in on Lambda: logs, settings, [`App`], the runtime loop, a clean stop.

use std::future::Future;
use std::io::stdout;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use lambda_runtime::tower::{Layer, Service};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, Runtime, layers, service_fn};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::secret;
use crate::telemetry::emf::{Emf, Place};
use crate::telemetry::{self, Output};
use crate::trace::{self, Trace};
use crate::traced::Traced;

/// The variables that Lambda sets for every function. lambda_runtime panics without them.
const RUNTIME_VARIABLES: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];

/// How long a stop waits for invocations under way. Lambda allows 500 ms in all when it takes an idle environment away;
/// a process of Lambda Managed Instances, or one under `cargo lambda watch`, may be busy.
const DRAIN: Duration = Duration::from_secs(5);

/// How often metrics are written if several invocations share the process. Such a process is never frozen.
const FLUSH_EVERY: Duration = Duration::from_secs(10);

/// How often the states of the process ([`App::observe`]) are written at most. Each line of the log costs money.
const OBSERVE_EVERY: Duration = Duration::from_mins(1);

/// A function's handler: `async fn handle(app: &App, event: E) -> Result<R, X>`.
pub trait Handler<'a, E>: Fn(&'a App, E) -> Self::Future {
    /// The type of its answers.
    type Response;
    /// The type of its errors.
    type Failure;
    /// The future of one call.
    type Future: Future<Output = Result<Self::Response, Self::Failure>> + Send + 'a;
}

impl<'a, E, H, F, R, X> Handler<'a, E> for H
where
    H: Fn(&'a App, E) -> F,
    F: Future<Output = Result<R, X>> + Send + 'a,
{
    type Response = R;
    type Failure = X;
    type Future = F;
}

/// Runs the function `name` until Lambda stops it. With `AWS_LAMBDA_MAX_CONCURRENCY` above 1 it takes that many
/// invocations at a time.
///
/// An event that is not an `E` is answered with an error; the process goes on. An error returned here ends the process:
/// a setting is missing or wrong, or the process does not run on Lambda.
pub async fn run<E, R, X, H>(name: &'static str, handler: H) -> Result<(), Error>
where
    E: Traced + DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    X: std::fmt::Display + Send + 'static,
    H: for<'a> Handler<'a, E, Response = R, Failure = X> + Clone + Send + Sync + 'static,
{
    telemetry::init(Output::Lambda)?;
    let missing: Vec<&str> =
        RUNTIME_VARIABLES.into_iter().filter(|name| std::env::var_os(name).is_none()).collect();
    if !missing.is_empty() {
        let what = format!(
            "{} not set: {name} is a Lambda function; start it with ./dev lambda",
            missing.join(", ")
        );
        return Err(what.into());
    }
    // Every library that asks for the process's TLS provider gets this one. A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let secrets = secret::settings(|name| std::env::var(name).ok())
        .await
        .inspect_err(|error| tracing::error!(%error, "lambda.start: no secrets"))?;
    let config = Config::from_lookup(|name| {
        std::env::var(name).ok().filter(|value| !value.is_empty()).or_else(|| secrets.get(name))
    })
    .inspect_err(|error| tracing::error!(%error, "lambda.start: bad settings"))?;
    let clock = Clock::system();
    let metrics = Metrics::install(name, &config, &clock)?;
    let app = Arc::new(
        App::new(&config, clock)
            .inspect_err(|error| tracing::error!(%error, "lambda.start: cannot start"))?,
    );

    let in_flight = InFlight::default();
    stop_on_signal(app.clone(), in_flight.clone(), metrics.clone()).await;
    let shared = concurrency() > 1;
    if shared {
        tokio::spawn(flush_now_and_then(metrics.clone(), app.clone()));
    }
    let service = service_fn(move |event: LambdaEvent<E>| {
        let (app, handler, metrics) = (app.clone(), handler.clone(), metrics.clone());
        async move {
            // Boxed: the types of all these futures would nest deeper than the compiler allows.
            let trace = event.payload.trace().map(Trace::admitted);
            let work = handler(&app, event.payload).boxed();
            let outcome = match trace {
                Some(trace) => trace::scope(trace, work).await,
                None => work.await,
            };
            if !shared {
                // Metrics are written before the answer: Lambda freezes the environment right after it.
                metrics.flush(&app);
            }
            outcome.map_err(|error| {
                tracing::error!(%error, "lambda.invoke: the function failed; Lambda decides what happens next");
                // The caller gets no name of a Rust type, which would tell nothing.
                Diagnostic { error_type: "FunctionError".to_owned(), error_message: error.to_string() }
            })
        }
        .boxed()
    });
    let (version, commit) = (telemetry::build::VERSION, telemetry::build::COMMIT);
    tracing::info!(function = name, version, commit, "lambda.start: ready");
    Runtime::new(service).layer(layers::TracingLayer::new()).layer(in_flight).run_concurrent().await
}

fn concurrency() -> u32 {
    std::env::var("AWS_LAMBDA_MAX_CONCURRENCY").ok().and_then(|limit| limit.parse().ok()).unwrap_or(1)
}

/// The metrics of the process.
#[derive(Clone)]
struct Metrics {
    emf: Emf,
    /// When the states of the process were last recorded.
    observed: Arc<Mutex<Option<Instant>>>,
}

impl Metrics {
    /// Installs the recorder of this process.
    fn install(function: &str, config: &Config, clock: &Clock) -> Result<Self, Error> {
        let place = Place {
            namespace: config.metrics.namespace.clone(),
            stack: config.metrics.stack.clone(),
            function: function.to_owned(),
            version: std::env::var("AWS_LAMBDA_FUNCTION_VERSION")?,
        };
        let emf = Emf::new(clock.clone(), place);
        emf.install()?;
        Ok(Self { emf, observed: Arc::default() })
    }

    /// Writes what was recorded, and the states of the process unless they were written a short time ago.
    fn flush(&self, app: &App) {
        let now = Instant::now();
        let mut observed = self.observed.lock();
        if observed.is_none_or(|last| now.duration_since(last) >= OBSERVE_EVERY) {
            *observed = Some(now);
            app.observe();
        }
        drop(observed);
        if let Err(error) = self.emf.flush(stdout().lock()) {
            tracing::warn!(%error, "lambda.metrics: not written; these numbers are lost");
        }
    }
}

async fn flush_now_and_then(metrics: Metrics, app: Arc<App>) {
    loop {
        tokio::time::sleep(FLUSH_EVERY).await;
        metrics.flush(&app);
    }
}

/// On SIGTERM: waits for the invocations under way, stops the app, writes the last metrics, ends the process. Lambda
/// sends the signal only to environments with an extension, so lambda_runtime registers one that does nothing.
async fn stop_on_signal(app: Arc<App>, in_flight: InFlight, metrics: Metrics) {
    lambda_runtime::spawn_graceful_shutdown_handler(move || async move {
        if tokio::time::timeout(DRAIN, in_flight.idle()).await.is_err() {
            tracing::warn!("lambda.stop: invocations are still under way after 5 s; they are cut off");
        }
        app.shutdown().await;
        metrics.flush(&app);
    })
    .await;
}

/// Counts the invocations between their arrival and their answer, also those that are cancelled.
#[derive(Clone, Default)]
struct InFlight(TaskTracker);

impl InFlight {
    /// Returns once no invocation is under way.
    async fn idle(&self) {
        // The tracker can only be waited for once it is closed. A closed tracker still counts invocations that arrive
        // later.
        self.0.close();
        self.0.wait().await;
    }
}

impl<S> Layer<S> for InFlight {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, tracker: self.0.clone() }
    }
}

#[derive(Clone)]
struct Counted<S> {
    inner: S,
    tracker: TaskTracker,
}

impl<S: Service<R>, R> Service<R> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = TrackedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, invocation: R) -> Self::Future {
        self.tracker.track_future(self.inner.call(invocation))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_stop_waits_for_invocations_that_are_answered_and_for_those_that_are_cancelled() {
        let in_flight = InFlight::default();
        let mut service = in_flight.layer(service_fn(async |answer: oneshot::Receiver<u8>| {
            Ok::<_, Infallible>(answer.await.unwrap())
        }));
        let (answer, waiting) = oneshot::channel();
        let (_never, cancelled) = oneshot::channel();
        let (answered, cancelled) = (service.call(waiting), service.call(cancelled));
        let mut idle = Box::pin(in_flight.idle());

        assert!(idle.as_mut().now_or_never().is_none());
        drop(cancelled);
        assert!(idle.as_mut().now_or_never().is_none());
        answer.send(7).unwrap();
        assert_eq!(answered.await.unwrap(), 7);

        idle.await;
    }
}
