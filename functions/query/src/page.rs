//! Which page is asked for, parsed once.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use hongyan::error::ApiError;
use hongyan::http;
use hongyan::id::MessageId;

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// Newest first, older than this id; `None`: from the newest on.
    Before(Option<MessageId>),
    /// Oldest first, newer than this id.
    After(MessageId),
}

/// A page that may be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PageRequest {
    pub(crate) cursor: Cursor,
    /// 1 to 100.
    pub(crate) limit: usize,
}

impl PageRequest {
    pub(crate) fn parse(event: &ApiGatewayV2httpRequest) -> Result<Self, ApiError> {
        let cursor = |name| http::query_parameter(event, name).map(str::parse::<MessageId>).transpose();
        Ok(Self {
            cursor: match (cursor("before")?, cursor("after")?) {
                (Some(_), Some(_)) => {
                    return Err(ApiError::InvalidRequest("give before or after, not both".to_owned()));
                }
                (before, None) => Cursor::Before(before),
                (None, Some(after)) => Cursor::After(after),
            },
            limit: match http::query_parameter(event, "limit") {
                None => DEFAULT_LIMIT,
                Some(limit) => {
                    limit.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(|| {
                        ApiError::InvalidRequest("limit must be a whole number from 1 to 100".to_owned())
                    })?
                }
            },
        })
    }
}
