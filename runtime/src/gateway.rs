//! The part of API Gateway, on one machine: an HTTP API with a JWT authorizer, a WebSocket API, and the
//! `@connections` interface.
//!
//! The gateway checks the token, builds the event that AWS would send, invokes the function through its
//! [`FunctionHost`] and maps the answer back. It holds no rule of the product.

mod api;
mod body;
mod callback;
mod connections;
pub mod cors;
mod event;
mod health;
mod monitoring;
mod options;
mod page;
mod response;
mod routes;
mod server;
mod shared;
mod socket;
mod socket_event;
mod traced;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

pub use health::{HealthCheck, ServerHealth};
pub use options::{GatewayOptions, Page};
pub use shared::{Behind, Metrics};

use connections::Connections;
use shared::Shared;

/// The gateway cannot listen on the address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens on the address.
    #[error("{address} is in use by another program; choose another address with {setting}")]
    InUse {
        /// The address.
        address: SocketAddr,
        /// The option and the variable that choose another address.
        setting: &'static str,
    },
    /// The system refuses to let this process listen on the address.
    #[error("{address} cannot be listened on ({setting}): {source}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The option and the variable that choose another address.
        setting: &'static str,
        /// The error of the system.
        source: std::io::Error,
    },
}

/// Binds `address`. Connections wait until [`Gateway::start`]. Port 0 takes any free port.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    bind_for(address, "--listen or HONGYAN_LISTEN").await
}

/// Binds the address of the internal listener.
pub async fn bind_internal(address: SocketAddr) -> Result<TcpListener, BindError> {
    bind_for(address, "--internal-listen or HONGYAN_INTERNAL_LISTEN").await
}

async fn bind_for(address: SocketAddr, setting: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => BindError::InUse { address, setting },
        _ => BindError::Refused { address, setting, source },
    })
}

/// The URL of the server that listens at `address`.
pub(crate) fn url_of(address: SocketAddr) -> Url {
    #[expect(clippy::expect_used, reason = "a socket address is always a host and port")]
    Url::parse(&format!("http://{address}")).expect("an address with a port is a URL's")
}

/// A gateway that listens. Dropping it cuts off requests under way; [`Self::stop`] lets them finish.
pub struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    /// Serves the connections that arrive at `listener`. With `internal`, only that listener has the paths for
    /// functions and operators (`/health`, `/ready`, `/metrics`, `/@connections`). Without it, `listener` has them
    /// too.
    pub fn start(
        listener: TcpListener,
        internal: Option<TcpListener>,
        options: GatewayOptions,
        behind: Behind,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            room: body::Room::new(&options),
            options,
            behind,
            connections: Connections::default(),
            checks: health::Checks::default(),
            address: listener.local_addr()?,
            tasks: TaskTracker::new(),
            leaving: CancellationToken::new(),
            stop: CancellationToken::new(),
            stop_internal: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        let door = server::Door::public(&shared, internal.is_some());
        shared.tasks.spawn(server::accept(listener, door, shared.clone()));
        if let Some(internal) = internal {
            tokio::spawn(server::accept(internal, server::Door::internal(&shared), shared.clone()));
        }
        Ok(Self { shared })
    }

    /// The address that the gateway listens on.
    pub fn addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// From now on `GET /ready` answers 503. Nothing else changes.
    pub fn leave(&self) {
        self.shared.leaving.cancel();
    }

    /// Takes no new connection from clients, finishes the accepted requests, closes every WebSocket with code 1001
    /// and runs `$disconnect` for each. Requests not finished after [`GatewayOptions::drain`] are cut off. The
    /// internal listener goes on until this is dropped.
    pub async fn drain(&self) {
        let shared = &self.shared;
        shared.leaving.cancel();
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

    /// Drains as [`Self::drain`] does, and ends the internal listener.
    pub async fn stop(self) {
        self.drain().await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.leaving.cancel();
        self.shared.stop.cancel();
        self.shared.stop_internal.cancel();
        self.shared.abort.cancel();
    }
}
