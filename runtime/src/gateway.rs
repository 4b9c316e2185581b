//! What API Gateway does in AWS, on one machine: an HTTP API with a JWT authorizer, a WebSocket API, and the
//! `@connections` interface.
//!
//! It checks the token, builds the very event that AWS would send, invokes the function through its [`FunctionHost`], and maps
//! the answer back. No rule of the product is here.

mod api;
mod body;
mod callback;
mod connections;
mod event;
mod health;
mod monitoring;
mod options;
mod response;
mod routes;
mod server;
mod shared;
mod socket;
mod socket_event;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

pub use health::{HealthCheck, ServerHealth};
pub use options::GatewayOptions;
pub use shared::Behind;

use connections::Connections;
use shared::Shared;

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error("{0} is in use by another program; choose another address with --listen or HONGYAN_LISTEN")]
    InUse(SocketAddr),
    /// The machine refuses.
    #[error("{0} cannot be listened on (--listen, HONGYAN_LISTEN): {1}")]
    Refused(SocketAddr, #[source] std::io::Error),
}

/// Takes `address`, so that nobody else can; connections wait until [`Gateway::start`]. Port 0 is any free one.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => BindError::InUse(address),
        _ => BindError::Refused(address, error),
    })
}

/// The URL of what listens at `address`.
pub(crate) fn url_of(address: SocketAddr) -> Url {
    #[expect(clippy::expect_used, reason = "a socket address is always a host and port")]
    Url::parse(&format!("http://{address}")).expect("an address with a port is a URL's")
}

/// A gateway that listens. Dropping it stops it at once; [`Self::stop`] lets it finish.
pub struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    /// Serves what arrives at `listener`.
    pub fn start(listener: TcpListener, options: GatewayOptions, behind: Behind) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            room: body::Room::new(&options),
            options,
            behind,
            connections: Connections::default(),
            checks: health::Checks::default(),
            address: listener.local_addr()?,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        shared.tasks.spawn(server::accept(listener, shared.clone()));
        Ok(Self { shared })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// Takes no new connection, finishes the requests it has accepted, closes every WebSocket with 1001 and runs
    /// `$disconnect` for each. What is not finished after [`GatewayOptions::drain`] is cut off.
    pub async fn stop(self) {
        let shared = &self.shared;
        shared.stop.cancel();
        shared.connections.close_all(socket::GOING_AWAY);
        shared.tasks.close();
        if tokio::time::timeout(shared.options.drain, shared.tasks.wait()).await.is_err() {
            tracing::warn!(
                left = shared.tasks.len(),
                "gateway.stop: requests did not finish in time; they are cut off"
            );
            shared.abort.cancel();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.abort.cancel();
    }
}
