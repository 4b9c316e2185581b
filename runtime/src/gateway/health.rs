//! Asks the three servers whether they answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, WeakShared};
use hongyan::error::{Server, ServerError};
use parking_lot::Mutex;
use serde::Serialize;

/// The result of asking one server.
#[derive(Debug)]
pub struct ServerHealth {
    /// The server.
    pub server: Server,
    /// `Ok` if the server answered.
    pub answer: Result<(), ServerError>,
}

/// Asks all three servers, in bounded time.
pub type HealthCheck = Arc<dyn Fn() -> BoxFuture<'static, Vec<ServerHealth>> + Send + Sync>;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// `ok` or `unavailable`.
    pub(super) status: &'static str,
    /// The status of each server by name: `ok` or `unavailable`.
    servers: BTreeMap<&'static str, &'static str>,
}

/// The check under way, if there is one. Callers who ask at the same time share one check, so that many callers cost
/// the servers no more than one.
#[derive(Default)]
pub(super) struct Checks(Mutex<Option<WeakShared<BoxFuture<'static, Report>>>>);

impl Checks {
    pub(super) async fn ask(&self, check: &HealthCheck) -> Report {
        let report = {
            let mut running = self.0.lock();
            // Do not join a check that has ended, or that was given up by all its callers: its answer would be old.
            let joined =
                running.as_ref().and_then(WeakShared::upgrade).filter(|report| report.peek().is_none());
            let report = joined.unwrap_or_else(|| check().map(report).boxed().shared());
            *running = report.downgrade();
            report
        };
        report.await
    }
}

fn report(asked: Vec<ServerHealth>) -> Report {
    let mut servers = BTreeMap::new();
    for ServerHealth { server, answer } in asked {
        if let Err(error) = &answer {
            tracing::warn!(%error, "gateway.health: a server does not answer");
        }
        servers.insert(server.as_str(), if answer.is_ok() { "ok" } else { "unavailable" });
    }
    let well = servers.values().all(|server| *server == "ok");
    Report { status: if well { "ok" } else { "unavailable" }, servers }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn all_who_ask_at_the_same_time_share_one_check() {
        let (begun, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(watch::Sender::new(true)));
        let (count, gate) = (begun.clone(), held.clone());
        let check: HealthCheck = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let mut gate = gate.subscribe();
            async move {
                gate.wait_for(|held| !held).await.unwrap();
                vec![ServerHealth { server: Server::Redis, answer: Ok(()) }]
            }
            .boxed()
        });
        let checks = Checks::default();
        let mut asked: Vec<_> = (0..50).map(|_| Box::pin(checks.ask(&check))).collect();
        for asked in &mut asked {
            assert!(asked.now_or_never().is_none());
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        held.send_replace(false);
        for report in join_all(asked).await {
            assert_eq!((report.status, report.servers["redis"]), ("ok", "ok"));
        }
        checks.ask(&check).await;
        assert_eq!(begun.load(Ordering::SeqCst), 2, "a later caller gets a newer answer");

        held.send_replace(true);
        assert!(checks.ask(&check).now_or_never().is_none());
        held.send_replace(false);
        checks.ask(&check).await;
        assert_eq!(begun.load(Ordering::SeqCst), 4, "a check that nobody waits for is not joined");
    }
}
