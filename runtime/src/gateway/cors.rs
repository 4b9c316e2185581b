//! Cross-origin requests (CORS): the web pages of other origins that may call the HTTP API from a browser.
//!
//! On AWS, API Gateway answers in the same way: `template.yaml` has the same methods, headers and time.

use std::collections::BTreeSet;
use std::time::Duration;

use hongyan::config::Reader;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

use crate::functions;

/// The headers that a page may send.
pub const ALLOWED_HEADERS: [HeaderName; 2] = [header::AUTHORIZATION, header::CONTENT_TYPE];
/// The headers of an answer that a page may read, beside those that every page may read.
pub const EXPOSED_HEADERS: [HeaderName; 2] = [header::RETRY_AFTER, header::LOCATION];
/// How long a browser may keep the answer to a preflight.
pub const MAX_AGE: Duration = Duration::from_mins(10);

/// The origins whose pages may call the HTTP API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Allowed);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Allowed {
    /// No page of another origin.
    #[default]
    None,
    /// Every page.
    Any,
    /// The pages of these origins.
    Of(Vec<Origin>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// This origin, as a browser writes it.
    Exact(String),
    /// This scheme and host, on any port.
    AnyPort(String),
}

impl Origins {
    /// Reads `CORS_ORIGINS`: `*`, or origins joined by commas. By default no origin is allowed.
    pub(super) fn read<L: Fn(&str) -> Option<String>>(reader: &mut Reader<L>) -> Self {
        let wanted =
            "must be *, or origins joined by commas, such as https://chat.example.com or http://localhost:*";
        reader.parsed("CORS_ORIGINS", Self::default(), wanted, Self::parse)
    }

    /// Parses the value of `CORS_ORIGINS`. `None` if a part is not an origin.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.contains(&"*") {
            return (parts.len() == 1).then_some(Self(Allowed::Any));
        }
        let origins: Option<Vec<Origin>> = parts.into_iter().map(Origin::parse).collect();
        Some(Self(Allowed::Of(origins?)))
    }

    /// The layer that answers preflights and lets the pages read answers. `None` if no origin is allowed: the answers are
    /// then those of an API without CORS.
    pub(super) fn layer(&self) -> Option<CorsLayer> {
        let origins = match &self.0 {
            Allowed::None => return None,
            Allowed::Any => AllowOrigin::any(),
            Allowed::Of(origins) => {
                let origins = origins.clone();
                AllowOrigin::predicate(move |origin, _| origins.iter().any(|allowed| allowed.is(origin)))
            }
        };
        let layer = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods(allowed_methods())
            .allow_headers(ALLOWED_HEADERS)
            .expose_headers(EXPOSED_HEADERS)
            .max_age(MAX_AGE);
        Some(layer)
    }
}

/// The methods of all routes. `HEAD` needs no permission.
pub fn allowed_methods() -> Vec<Method> {
    let names: BTreeSet<&str> = functions::routes().iter().map(|route| route.method.as_str()).collect();
    names.into_iter().filter_map(|name| name.parse().ok()).collect()
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        if let Some(host) = text.strip_suffix(":*") {
            let (_, name) = host.split_once("://")?;
            // An IPv6 address has colons too, inside brackets.
            let has_port = name.rsplit_once(']').map_or(name, |(_, rest)| rest).contains(':');
            let host = as_browsers_write(host)?;
            return (!has_port).then_some(Self::AnyPort(host));
        }
        as_browsers_write(text).map(Self::Exact)
    }

    fn is(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        match self {
            Self::Exact(allowed) => origin == allowed,
            Self::AnyPort(host) => match origin.strip_prefix(host.as_str()) {
                Some("") => true,
                Some(rest) => rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()),
                None => false,
            },
        }
    }
}

/// The origin in the form of the header `Origin`: in lower case, without the scheme's own port. `None` if the text is more
/// or less than an origin.
fn as_browsers_write(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let only_host = !rest.is_empty() && !rest.contains(['/', '?', '#', '@', '*', ' ', '\\']);
    let url = Url::parse(text).ok().filter(|url| only_host && url.has_host())?;
    let origin = url.origin();
    // The pages of a phone app have a scheme of its own, such as `capacitor://localhost`.
    Some(if origin.is_tuple() {
        origin.ascii_serialization()
    } else {
        format!("{scheme}://{rest}").to_ascii_lowercase()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(setting: &str, origin: &str) -> bool {
        match Origins::parse(setting).unwrap().0 {
            Allowed::None => false,
            Allowed::Any => true,
            Allowed::Of(origins) => {
                let origin = HeaderValue::from_str(origin).unwrap();
                origins.iter().any(|allowed| allowed.is(&origin))
            }
        }
    }

    #[test]
    fn an_origin_is_allowed_as_a_whole() {
        let setting =
            "https://chat.example.com, HTTPS://Admin.Example.com:443,http://[::1]:3000,capacitor://localhost";
        for allowed in [
            "https://chat.example.com",
            "https://admin.example.com",
            "http://[::1]:3000",
            "capacitor://localhost",
        ] {
            assert!(allows(setting, allowed), "{allowed}");
        }
        for other in [
            "http://chat.example.com",
            "https://chat.example.com:8443",
            "https://chat.example.com.evil.example",
            "https://evil.example",
            "https://example.com",
            "null",
            "",
        ] {
            assert!(!allows(setting, other), "{other}");
        }
        assert!(allows("*", "https://evil.example"));
    }

    #[test]
    fn any_port_of_a_host_is_that_host_alone() {
        let setting = "http://localhost:*,http://[::1]:*";
        for allowed in ["http://localhost", "http://localhost:5173", "http://[::1]:1", "http://[::1]"] {
            assert!(allows(setting, allowed), "{allowed}");
        }
        for other in [
            "https://localhost:5173",
            "http://localhost.evil.example",
            "http://localhost:",
            "http://localhost:99999",
            "http://localhost:80.evil.example",
            "http://localhostess:80",
        ] {
            assert!(!allows(setting, other), "{other}");
        }
    }

    #[test]
    fn a_setting_that_is_no_list_of_origins_is_a_fault() {
        for wrong in [
            "chat.example.com",
            "https://",
            "https://chat.example.com/",
            "https://chat.example.com/app",
            "https://*.example.com",
            "https://a.example,",
            "*,https://a.example",
            "https://user@a.example",
            "http://localhost:80:*",
            "http://[::1]:80:*",
            "null",
        ] {
            assert_eq!(Origins::parse(wrong), None, "{wrong}");
        }
        let mut reader = Reader::new(|name: &str| (name == "CORS_ORIGINS").then(|| "localhost".to_owned()));
        let read = Origins::read(&mut reader);
        let faults = reader.finish(read).unwrap_err().faults;
        assert!(faults[0].starts_with("CORS_ORIGINS must be *, or origins"), "{faults:?}");
    }
}
