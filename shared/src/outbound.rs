//! The HTTP client for calls to other services: API Gateway's `@connections`, an identity provider, AWS.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// A client that reuses its connections. Cheap to clone.
pub(crate) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// How long an unused connection is kept. API Gateway closes idle ones after about a minute.
const KEEP_IDLE: Duration = Duration::from_secs(45);

/// Prepares a client; no connection is opened yet. `connect` is the longest wait for a connection.
pub(crate) fn client(connect: Duration) -> HttpClient {
    // The provider is named here, so no other crate's choice of a process-wide default matters.
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    #[expect(clippy::expect_used, reason = "ring supports the protocol versions that rustls calls safe")]
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .with_webpki_roots()
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect));
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(KEEP_IDLE)
        .pool_timer(TokioTimer::new())
        .build(connector)
}
