//! The chat page at `/`, and the tokens that it uses on the machine of a developer (`docs/decisions/0054-the-page.md`).
//!
//! The files are built from `web/` and are part of the binary.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hongyan::error::ApiError;
use hongyan::id::UserId;
use http::{HeaderMap, HeaderName, header};
use serde::Deserialize;
use serde_json::json;

use super::options::Page;
use super::response;
use super::shared::Shared;

/// The files of the page: path, kind, contents.
const FILES: [(&str, &str, &[u8]); 4] = [
    ("/", "text/html; charset=utf-8", include_bytes!("../../page/index.html")),
    ("/app.js", "text/javascript; charset=utf-8", include_bytes!("../../page/app.js")),
    ("/app.css", "text/css; charset=utf-8", include_bytes!("../../page/app.css")),
    ("/icon.svg", "image/svg+xml", include_bytes!("../../page/icon.svg")),
];

/// Scripts and styles come from the page's own files alone, so words in a message can never become code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How long a token of the page is good. The page asks for a new one before that.
const TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// The paths of the page.
pub(super) fn router(page: Page) -> Router<Arc<Shared>> {
    let mut router = Router::new();
    if page == Page::None {
        return router;
    }
    for (path, kind, contents) in FILES {
        let headers: [(HeaderName, &'static str); 6] = [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ];
        router = router.route(path, get(move || async move { (headers, contents) }));
    }
    if page == Page::WithTokens {
        router = router.route("/dev/token", post(token));
    }
    router
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    user_id: UserId,
}

/// Makes a token for any user, for a browser of this machine. The body must be JSON, which a page of another origin may not send
/// without a preflight; and the host must be this machine by name, so that no foreign name that leads here reads the answer.
async fn token(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Json(wanted): Json<Wanted>,
) -> Response {
    if !peer.ip().to_canonical().is_loopback() || !names_this_machine(&headers) {
        return response::problem(&ApiError::NotFound("there is no such path"));
    }
    let now = shared.behind.clock.now_ms();
    match shared.behind.auth.issue(wanted.user_id, now, TOKEN_LIFETIME) {
        Ok(token) => {
            Json(json!({ "token": token, "lifetimeMs": TOKEN_LIFETIME.as_millis() })).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "gateway.page: no token can be made; the tokens are another issuer's");
            response::problem(&ApiError::NotFound("there is no such path"))
        }
    }
}

/// True if the request was sent to `localhost` or to a loopback address.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name).trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_get_tokens() {
        let named = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, http::HeaderValue::from_static(host));
            names_this_machine(&headers)
        };
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.0.0.1", "[::1]:8080", "[::1]"] {
            assert!(named(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1:8080", "[::2]:8080"]
        {
            assert!(!named(host), "{host}");
        }
    }
}
