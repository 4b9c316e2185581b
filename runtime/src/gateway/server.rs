//! The listening end: takes connections up to the limit, and serves each until it ends or the gateway stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use axum::routing::get;
use hongyan::error::ApiError;
use hongyan::telemetry::limiter::Limiter;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::Place;
use super::options::LOG_REFUSALS_EVERY;
use super::shared::Shared;
use super::{api, callback, monitoring, page, response, socket, traced};

/// The pause after the system failed to give a connection, for example because no file descriptor was left.
const AFTER_ERROR: Duration = Duration::from_millis(50);
/// How long the answer to a connection above the limit may take.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The paths for functions and operators.
fn internal() -> Router<Arc<Shared>> {
    let connections = get(callback::get).post(callback::post).delete(callback::delete);
    Router::new()
        .route("/@connections/{id}", connections)
        .route_layer(axum::middleware::from_fn(callback::loopback_only))
        .route("/health", get(monitoring::health))
        .route("/ready", get(monitoring::ready))
        .route("/metrics", get(monitoring::metrics))
        .method_not_allowed_fallback(method_not_allowed)
}

async fn method_not_allowed() -> Response {
    response::problem(&ApiError::MethodNotAllowed)
}

/// One of the gateway's listeners, and how it stops.
pub(super) struct Door {
    router: Router,
    /// Cancelled when the listener must take no new connection. Idle connections then end.
    stop: CancellationToken,
    /// The tasks of its connections.
    tasks: TaskTracker,
}

impl Door {
    /// The listener for clients. It has all paths that the internal listener, if there is one, does not have. All
    /// other paths belong to the HTTP API.
    pub(super) fn public(shared: &Arc<Shared>, has_internal: bool) -> Self {
        let others = if has_internal { Router::new() } else { internal() };
        let mut api = Router::new().fallback(api::handle).with_state(shared.clone());
        if let Some(cors) = shared.options.cors_origins.layer() {
            api = api.layer(cors);
        }
        let router = others
            .route("/ws", get(socket::upgrade))
            .merge(page::router(shared.options.page))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback_service(api);
        Self {
            router: router.layer(axum::middleware::from_fn(traced::begin)).with_state(shared.clone()),
            stop: shared.stop.clone(),
            tasks: shared.tasks.clone(),
        }
    }

    /// The listener for functions and operators. It goes on until everything else has ended, and no stop waits for
    /// its connections.
    pub(super) fn internal(shared: &Arc<Shared>) -> Self {
        let nothing = || async { response::problem(&ApiError::NotFound("there is no such path")) };
        Self {
            router: internal()
                .fallback(nothing)
                .layer(axum::middleware::from_fn(traced::begin))
                .with_state(shared.clone()),
            stop: shared.stop_internal.clone(),
            tasks: TaskTracker::new(),
        }
    }
}

/// Takes connections until the listener is told to stop.
pub(super) async fn accept(listener: TcpListener, door: Door, shared: Arc<Shared>) {
    let Door { router, stop, tasks } = door;
    let log = Limiter::new(LOG_REFUSALS_EVERY);
    let places = Arc::new(Semaphore::new(shared.options.max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "gateway.accept: no connection; trying again");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            if let Some(left_out) = log.admit("connections") {
                tracing::warn!(%peer, refused = left_out + 1, "gateway.accept: too many connections; some were refused");
            }
            tasks.spawn(refuse(stream));
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = Service { router: router.clone(), peer, place: Place::new(place) };
        tasks.spawn(serve(stream, service, stop.clone(), shared.clone()));
    }
}

/// Answers the requests of one connection.
struct Service {
    router: Router,
    peer: SocketAddr,
    place: Place,
}

async fn serve(stream: TcpStream, service: Service, stop: CancellationToken, shared: Arc<Shared>) {
    let Service { router, peer, place } = service;
    let options = &shared.options;
    let router = TowerToHyperService::new(router);
    // Hyper limits how slowly a client may send a request, but not how slowly it may read the answer.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(options.send_timeout));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(place.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(options.max_header_bytes.max(8 * 1024))
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = shared.abort.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "gateway.connection: broke off");
    }
}

async fn refuse(mut stream: TcpStream) {
    let told = async {
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await
    };
    // The answer is a courtesy: a client that does not read it is refused all the same.
    let _ = tokio::time::timeout(REFUSE_TIMEOUT, told).await;
}
