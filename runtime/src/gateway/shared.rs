//! The state that all requests and connections of one gateway share.

use std::net::SocketAddr;
use std::sync::Arc;

use hongyan::auth::Auth;
use hongyan::clock::Clock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::GatewayOptions;
use super::body::Room;
use super::connections::Connections;
use super::health::{Checks, HealthCheck};
use crate::host::FunctionHost;

/// Answers `GET /metrics`: the metrics of this process as Prometheus' text.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// The parts that the gateway works with.
pub struct Behind {
    /// The host of the functions that answer.
    pub functions: Arc<dyn FunctionHost>,
    /// The authorizer.
    pub auth: Auth,
    /// The source of the times in the events.
    pub clock: Clock,
    /// The check behind `GET /health`.
    pub health: HealthCheck,
    /// The metrics behind `GET /metrics`. Without metrics the path does not exist.
    pub metrics: Option<Metrics>,
}

/// The state of one gateway.
pub(super) struct Shared {
    pub(super) options: GatewayOptions,
    pub(super) behind: Behind,
    pub(super) connections: Connections,
    pub(super) checks: Checks,
    pub(super) room: Room,
    pub(super) address: SocketAddr,
    /// Public connections, WebSockets and invocations under way.
    pub(super) tasks: TaskTracker,
    /// `GET /ready` says no from now on.
    pub(super) leaving: CancellationToken,
    /// No new work from now on.
    pub(super) stop: CancellationToken,
    /// Nor on the internal listener.
    pub(super) stop_internal: CancellationToken,
    /// The time to finish is over.
    pub(super) abort: CancellationToken,
}
