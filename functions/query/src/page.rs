//! The parameters of a page of history, parsed once.

use std::fmt::Display;
use std::str::FromStr;

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
            limit: limit(event, DEFAULT_LIMIT, MAX_LIMIT)?,
        })
    }
}

/// The `limit` of a request, from 1 to `most`; `default` without one.
pub(crate) fn limit<T>(event: &ApiGatewayV2httpRequest, default: T, most: T) -> Result<T, ApiError>
where
    T: FromStr + PartialOrd + Display + From<u8> + Copy,
{
    let Some(text) = http::query_parameter(event, "limit")? else { return Ok(default) };
    let limit = text.parse().ok().filter(|limit| (T::from(1)..=most).contains(limit));
    limit.ok_or_else(|| ApiError::InvalidRequest(format!("limit must be a whole number from 1 to {most}")))
}

/// How many of these items, at least one, have at most [`MAX_PAGE_BYTES`] of JSON together. An item is a message, or
/// `None` for a few short fields.
pub(crate) fn fitting<'a>(items: impl Iterator<Item = Option<&'a Message>> + Clone) -> usize {
    // Nearly all pages are far below the limit. Counting their JSON would take as long as writing it.
    if items.clone().map(most_bytes).sum::<usize>() <= MAX_PAGE_BYTES {
        return items.count();
    }
    let mut bytes = 0;
    let fitting = items.take_while(|item| {
        bytes += item.map_or(SHORT_BYTES, |message| {
            serde_json::to_vec(message).map_or(MAX_PAGE_BYTES, |json| json.len())
        });
        bytes <= MAX_PAGE_BYTES
    });
    fitting.count().max(1)
}

/// The bytes that count for an item without a message.
const SHORT_BYTES: usize = 100;

/// At least the bytes that count for an item.
fn most_bytes(item: Option<&Message>) -> usize {
    /// A control character takes six bytes in JSON.
    const BYTES_OF_A_BYTE: usize = 6;
    /// More than the JSON of a message without its content and its `clientMsgId`, which has at most 64 bytes.
    const BYTES_OF_THE_REST: usize = 1_024;
    item.map_or(SHORT_BYTES, |message| BYTES_OF_A_BYTE * message.content.len() + BYTES_OF_THE_REST)
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
