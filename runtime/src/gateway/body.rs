//! Reads the body of a request in bounded time and into bounded memory. Each body has a limit, and all bodies
//! together have one.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use hongyan::error::ApiError;
use hongyan::telemetry::limiter::Limiter;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::options::{GatewayOptions, LOG_REFUSALS_EVERY};

/// The memory for the bodies of all requests under way.
pub(super) struct Room {
    /// One permit for each byte.
    bytes: Semaphore,
    log: Limiter,
}

/// A body and its share of the memory, which is freed when the body is dropped.
pub(super) struct Held<'a> {
    pub(super) bytes: Bytes,
    _part: SemaphorePermit<'a>,
}

impl Room {
    pub(super) fn new(options: &GatewayOptions) -> Self {
        let bytes = Semaphore::new(options.max_bodies_bytes.min(Semaphore::MAX_PERMITS));
        Self { bytes, log: Limiter::new(LOG_REFUSALS_EVERY) }
    }

    /// Reads a body. Answers 413 above the limit of one body, 400 if the body breaks off or takes too long, and 503
    /// if there is no memory for it now.
    pub(super) async fn read(
        &self,
        options: &GatewayOptions,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Held<'_>, ApiError> {
        let max_bytes = options.max_body_bytes;
        let stated: Option<usize> =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if stated.is_some_and(|length| length > max_bytes) {
            return Err(ApiError::ContentTooLarge { max_bytes });
        }
        let read = tokio::time::timeout(options.body_timeout, self.collect(body, max_bytes));
        read.await
            .unwrap_or_else(|_| Err(ApiError::InvalidRequest("the body took too long to arrive".to_owned())))
    }

    async fn collect(&self, body: Body, max_bytes: usize) -> Result<Held<'_>, ApiError> {
        let mut body = Limited::new(body, max_bytes);
        let mut bytes = BytesMut::new();
        let mut part = self.part(0)?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                Some(_) => ApiError::ContentTooLarge { max_bytes },
                None => ApiError::InvalidRequest("the body broke off".to_owned()),
            })?;
            if let Ok(data) = frame.into_data() {
                part.merge(self.part(data.len())?);
                bytes.extend_from_slice(&data);
            }
        }
        Ok(Held { bytes: bytes.freeze(), _part: part })
    }

    fn part(&self, bytes: usize) -> Result<SemaphorePermit<'_>, ApiError> {
        let part = u32::try_from(bytes).ok().and_then(|bytes| self.bytes.try_acquire_many(bytes).ok());
        part.ok_or_else(|| {
            if let Some(left_out) = self.log.admit("bodies") {
                tracing::warn!(
                    refused = left_out + 1,
                    "gateway.body: the bodies of all requests take up all the room; some were refused"
                );
            }
            ApiError::Unavailable(None)
        })
    }
}
