//! The `@connections` call: `POST` and `DELETE` `{endpoint}/@connections/{connectionId}`.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use url::Url;

use crate::outbound::{self, HttpClient};
use crate::signature::{SignFailure, Signer};
use crate::trace;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// The most bytes of an answer that are read, so that its connection can be used again.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// The outcome of a call.
pub(super) enum Delivery {
    /// API Gateway took the call.
    Done,
    /// 410: the connection does not exist any more.
    Gone,
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallFailure {
    #[error("the endpoint (PUSH_ENDPOINT) cannot have a path")]
    Endpoint,
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error("the request cannot be signed: {0}")]
    Sign(#[from] SignFailure),
    #[error("no answer: {0}")]
    Send(#[from] hyper_util::client::legacy::Error),
    #[error("answered {0}")]
    Status(StatusCode),
}

impl CallFailure {
    /// The status of the answer, if there was one; 0 otherwise.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Status(status) => status.as_u16(),
            _ => 0,
        }
    }

    /// True if nothing listens at the endpoint.
    pub(super) fn is_connect(&self) -> bool {
        matches!(self, Self::Send(error) if error.is_connect())
    }
}

#[derive(Clone)]
pub(super) struct Callback {
    client: HttpClient,
    signer: Option<Signer>,
}

impl Callback {
    pub(super) fn new() -> Self {
        Self { client: outbound::client(CONNECT_TIMEOUT), signer: Signer::from_env() }
    }

    pub(super) async fn post(
        &self,
        endpoint: &Url,
        connection: &str,
        body: Bytes,
    ) -> Result<Delivery, CallFailure> {
        self.call(Method::POST, endpoint, connection, None, body).await
    }

    /// Closes a connection. Only the local gateway knows `code`, the code of the close.
    pub(super) async fn delete(
        &self,
        endpoint: &Url,
        connection: &str,
        code: Option<u16>,
    ) -> Result<Delivery, CallFailure> {
        self.call(Method::DELETE, endpoint, connection, code, Bytes::new()).await
    }

    async fn call(
        &self,
        method: Method,
        endpoint: &Url,
        connection: &str,
        code: Option<u16>,
        body: Bytes,
    ) -> Result<Delivery, CallFailure> {
        let mut url = address(endpoint, connection).ok_or(CallFailure::Endpoint)?;
        if let Some(code) = code {
            url.query_pairs_mut().append_pair("code", &code.to_string());
        }
        let mut request = Request::builder().method(method).uri(url.as_str());
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        if let Some(trace) = trace::current() {
            request = request.header(trace::TRACEPARENT, trace.to_string());
        }
        let mut request = request.body(Full::new(body.clone()))?;
        if let Some(signer) = &self.signer {
            signer.sign("execute-api", &mut request, &body)?;
        }
        let response = self.client.request(request).await?;
        let status = response.status();
        // If the answer cannot be read, its connection is lost and nothing else.
        let _ = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        match status {
            StatusCode::GONE => Ok(Delivery::Gone),
            status if status.is_success() => Ok(Delivery::Done),
            status => Err(CallFailure::Status(status)),
        }
    }
}

/// `{endpoint}/@connections/{connection}`; the id is one segment, whatever it holds.
fn address(endpoint: &Url, connection: &str) -> Option<Url> {
    let mut url = endpoint.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend(["@connections", connection]);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_keeps_the_stage_and_holds_the_id_as_one_segment() {
        for (endpoint, id, wanted) in [
            ("http://127.0.0.1:8080", "aB-_9", "http://127.0.0.1:8080/@connections/aB-_9"),
            ("https://h/prod/", "L0=", "https://h/prod/@connections/L0="),
            ("https://h/prod", "../x?y", "https://h/prod/@connections/..%2Fx%3Fy"),
        ] {
            assert_eq!(address(&endpoint.parse().unwrap(), id).unwrap().as_str(), wanted);
        }
    }
}
