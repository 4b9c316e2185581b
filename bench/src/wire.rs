//! HTTP/1.1 on one connection: writes requests and parses answers.

use std::io::Write as _;
use std::ops::Range;

/// More header fields than the gateway ever sends.
const MAX_HEADERS: usize = 32;

/// A complete answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The place of the body.
    pub(crate) body: Range<usize>,
    /// True if the service closes the connection after this answer.
    pub(crate) closes: bool,
}

/// Writes a request with a JSON body; without one, the body is empty.
pub(crate) fn write_request(
    out: &mut Vec<u8>,
    host: &str,
    authorization: &str,
    method: &str,
    path: &str,
    body: &str,
) {
    // Writing into memory cannot fail.
    let _ = write!(
        out,
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: {authorization}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
}

/// Parses the answer at the beginning of `bytes`; `None` while some of it is missing.
pub(crate) fn parse_answer(bytes: &[u8]) -> Result<Option<Answer>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(bytes).map_err(|error| format!("the answer is no HTTP: {error}"))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let status = head.code.unwrap_or_default();
    let field = |name: &str| {
        let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    };
    let body = match field("content-length").map(str::parse::<usize>) {
        Some(Ok(body)) => body,
        None if status == 204 || status == 304 => 0,
        _ => return Err("the answer says no content-length".to_owned()),
    };
    let closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let body = length..length.saturating_add(body);
    Ok((bytes.len() >= body.end).then_some(Answer { status, body, closes }))
}

/// The id of the message in the body of a send's answer.
pub(crate) fn id_of(body: &[u8]) -> Option<i64> {
    // In a content each `"` has a `\` before it, so this text can stand nowhere else.
    const FIELD: &[u8] = b"\"id\":\"";
    let start = body.windows(FIELD.len()).position(|part| part == FIELD)? + FIELD.len();
    let digits = body[start..].split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_the_last_byte_of_its_body() {
        let whole = b"HTTP/1.1 201 Created\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{\"id\":\"42\"}";
        for end in 0..whole.len() {
            assert_eq!(parse_answer(&whole[..end]), Ok(None), "{end} bytes");
        }
        let answer = parse_answer(whole).unwrap().unwrap();
        assert_eq!((answer.status, answer.closes), (201, true));
        assert_eq!(id_of(&whole[answer.body]), Some(42));
    }

    #[test]
    fn an_answer_without_a_length_or_that_is_no_http_is_an_error() {
        assert!(parse_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse_answer(b"SSH-2.0-OpenSSH\r\n").is_err());
        assert!(parse_answer(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().is_some());
    }

    #[test]
    fn a_content_that_looks_like_an_id_is_none() {
        let body = serde_json::json!({"content": r#"{"id":"7"}"#, "id": "8"}).to_string();
        assert_eq!(id_of(body.as_bytes()), Some(8));
        assert_eq!(id_of(b"{}"), None);
    }

    #[test]
    fn a_request_says_how_long_its_body_is() {
        let mut bytes = Vec::new();
        write_request(&mut bytes, "h:1", "Bearer t", "POST", "/messages", "鸿");
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with("POST /messages HTTP/1.1\r\nhost: h:1\r\nauthorization: Bearer t\r\n"),
            "{text}"
        );
        assert!(text.ends_with("content-length: 3\r\n\r\n鸿"), "{text}");
    }
}
