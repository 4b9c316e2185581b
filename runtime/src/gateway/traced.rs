//! The trace of a request: from its header `traceparent`, or a new one where that is missing or malformed.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use hongyan::trace::{self, TRACEPARENT};
use hongyan::traced;
use http::{HeaderName, HeaderValue};

/// Answers the request in its trace. The functions get the trace in the event's header.
pub(super) async fn begin(mut request: Request, next: Next) -> Response {
    let trace = traced::of_headers(request.headers()).admitted();
    if let Ok(header) = HeaderValue::from_str(&trace.to_string()) {
        request.headers_mut().insert(HeaderName::from_static(TRACEPARENT), header);
    }
    trace::scope(trace, next.run(request)).await
}
