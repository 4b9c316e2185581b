//! The token of a WebSocket handshake. A browser can set no header of a handshake, but it can offer subprotocols, and unlike
//! an address they are written to no log (`docs/contract.md`, "WebSocket").

use aws_lambda_events::http::{HeaderMap, header};

/// The subprotocol of this service.
pub const SUBPROTOCOL: &str = "hongyan.v1";
/// The beginning of the offered subprotocol that carries the token.
const BEARER: &str = "bearer.";

/// The token and the subprotocol of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The token: that of the subprotocol `bearer.TOKEN`, else that of the query.
    pub token: Option<&'a str>,
    /// The subprotocol that the server selects. A browser that offers subprotocols gives up if none is selected. The one
    /// with the token is never selected.
    pub subprotocol: Option<&'static str>,
}

impl<'a> Handshake<'a> {
    /// Reads a handshake with these headers, and `token` in its query.
    pub fn read(headers: &'a HeaderMap, token: Option<&'a str>) -> Self {
        let mut handshake = Self { token, subprotocol: None };
        let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        for offered in values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')) {
            let offered = offered.trim();
            if offered == SUBPROTOCOL {
                handshake.subprotocol = Some(SUBPROTOCOL);
            } else if let Some(token) = offered.strip_prefix(BEARER) {
                handshake.token = Some(token);
            }
        }
        handshake
    }
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::http::HeaderValue;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_token_comes_by_subprotocol_or_by_query() {
        let by_query = headers(&[]);
        assert_eq!(Handshake::read(&by_query, Some("q")), Handshake { token: Some("q"), subprotocol: None });
        assert_eq!(Handshake::read(&by_query, None), Handshake { token: None, subprotocol: None });

        for offered in
            [&["hongyan.v1, bearer.a.b.c"][..], &["bearer.a.b.c,hongyan.v1"], &["hongyan.v1", "bearer.a.b.c"]]
        {
            let headers = headers(offered);
            let wanted = Handshake { token: Some("a.b.c"), subprotocol: Some(SUBPROTOCOL) };
            assert_eq!(Handshake::read(&headers, None), wanted, "{offered:?}");
            assert_eq!(Handshake::read(&headers, Some("q")), wanted, "{offered:?}");
        }
    }

    #[test]
    fn another_subprotocol_is_neither_a_token_nor_selected() {
        for offered in ["chat", "hongyan.v2", "Bearer.a.b.c", "xbearer.a.b.c"] {
            let headers = headers(&[offered]);
            assert_eq!(
                Handshake::read(&headers, None),
                Handshake { token: None, subprotocol: None },
                "{offered}"
            );
        }
        let headers = headers(&["hongyan.v1"]);
        let wanted = Handshake { token: Some("q"), subprotocol: Some(SUBPROTOCOL) };
        assert_eq!(Handshake::read(&headers, Some("q")), wanted);
    }
}
