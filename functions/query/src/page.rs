//! The parameters of a page of history, parsed once.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use hongyan::error::ApiError;
use hongyan::http;
use hongyan::id::MessageId;
use hongyan::message::Message;

/// The messages of a page if the request has no `limit`.
pub const DEFAULT_LIMIT: usize = 20;
/// The most messages of a page.
pub const MAX_LIMIT: usize = 100;
/// The most bytes of JSON of a page's messages. Lambda refuses an answer of more than 6 MB.
pub const MAX_PAGE_BYTES: usize = 5_000_000;

/// The start and the direction of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// Newest first, older than this id, or from the newest message on.
    Before(Option<MessageId>),
    /// Oldest first, newer than this id.
    After(MessageId),
}

/// A valid request for a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PageRequest {
    pub(crate) cursor: Cursor,
    /// The number of messages, 1 to 100.
    pub(crate) limit: usize,
}

/// The messages of a page.
pub(crate) struct Found {
    pub(crate) messages: Vec<Message>,
    /// Redis' recent list led to them.
    pub(crate) by_list: bool,
}

impl PageRequest {
    pub(crate) fn parse(event: &ApiGatewayV2httpRequest) -> Result<Self, ApiError> {
        let cursor = |name| -> Result<Option<MessageId>, ApiError> {
            Ok(http::query_parameter(event, name)?.map(str::parse).transpose()?)
        };
        Ok(Self {
            cursor: match (cursor("before")?, cursor("after")?) {
                (Some(_), Some(_)) => {
                    return Err(ApiError::InvalidRequest("give before or after, not both".to_owned()));
                }
                (before, None) => Cursor::Before(before),
                (None, Some(after)) => Cursor::After(after),
            },
            limit: match http::query_parameter(event, "limit")? {
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn parse(query: Vec<(&str, Vec<String>)>) -> Result<PageRequest, ApiError> {
        let query: HashMap<String, Vec<String>> =
            query.into_iter().map(|(name, values)| (name.to_owned(), values)).collect();
        let mut event = ApiGatewayV2httpRequest::default();
        event.query_string_parameters = query.into();
        PageRequest::parse(&event)
    }

    fn one(name: &'static str, value: &str) -> (&'static str, Vec<String>) {
        (name, vec![value.to_owned()])
    }

    #[test]
    fn a_page_is_asked_for_in_one_way() {
        let id = MessageId::new(7).unwrap();
        let page = |cursor, limit| Some(PageRequest { cursor, limit });
        assert_eq!(parse(vec![]).ok(), page(Cursor::Before(None), DEFAULT_LIMIT));
        assert_eq!(
            parse(vec![one("before", "7"), one("limit", "1")]).ok(),
            page(Cursor::Before(Some(id)), 1)
        );
        assert_eq!(
            parse(vec![one("after", "7"), one("limit", "100")]).ok(),
            page(Cursor::After(id), MAX_LIMIT)
        );
        for wrong in [
            vec![one("before", "7"), one("after", "7")],
            vec![one("limit", "0")],
            vec![one("limit", "101")],
            vec![one("limit", "")],
            vec![one("limit", "1.0")],
            vec![("limit", vec!["1".to_owned(), "2".to_owned()])],
            vec![("after", vec!["1".to_owned(), "1".to_owned()])],
        ] {
            assert!(matches!(parse(wrong.clone()), Err(ApiError::InvalidRequest(_))), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_a_page_within_bounds_or_refused(
            query in prop::collection::hash_map(
                prop::sample::select(vec!["limit", "before", "after", "other"]),
                prop::collection::vec(prop_oneof!["[0-9]{0,21}", ".{0,12}"], 1..3),
                0..4,
            )
        ) {
            match parse(query.into_iter().collect()) {
                Ok(page) => prop_assert!((1..=MAX_LIMIT).contains(&page.limit)),
                Err(error) => prop_assert_eq!(error.status(), 400),
            }
        }
    }
}
