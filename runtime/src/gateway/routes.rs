//! From a method and a path to the route of the HTTP API ([`functions::routes`]).

use std::collections::HashMap;

use http::Method;

use crate::functions::{self, Route};

/// A route and the parameters in its path, percent-decoded.
pub(super) struct Matched {
    pub(super) route: &'static Route,
    pub(super) parameters: HashMap<String, String>,
}

/// Why no route fits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// No route has this path.
    Path,
    /// The path has these methods only.
    Method(Vec<Method>),
}

/// Finds the route of a request. `HEAD` takes the route of `GET` (RFC 9110, 9.3.2).
pub(super) fn find(method: &Method, path: &str) -> Result<Matched, NoRoute> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    for route in functions::routes() {
        let Some(parameters) = parameters(route.path, path) else {
            continue;
        };
        if route.method == *method {
            return Ok(Matched { route, parameters });
        }
        allowed.push(route.method.clone());
        if route.method == Method::GET {
            allowed.push(Method::HEAD);
        }
    }
    Err(if allowed.is_empty() { NoRoute::Path } else { NoRoute::Method(allowed) })
}

fn parameters(pattern: &str, path: &str) -> Option<HashMap<String, String>> {
    let mut parameters = HashMap::new();
    let mut segments = path.split('/');
    for wanted in pattern.split('/') {
        let segment = segments.next()?;
        if let Some(name) = wanted.strip_prefix('{').and_then(|wanted| wanted.strip_suffix('}')) {
            if segment.is_empty() {
                return None;
            }
            let value = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
            parameters.insert(name.to_owned(), value.into_owned());
        } else if segment != wanted {
            return None;
        }
    }
    segments.next().is_none().then_some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_its_function_and_parameters() {
        let found = find(&Method::POST, "/messages/12%2F3%20/recall").unwrap();
        assert_eq!(found.route.function.name, "recall");
        assert_eq!(found.parameters, HashMap::from([("id".to_owned(), "12/3 ".to_owned())]));
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(find(&method, "/unread").unwrap().route.method, Method::GET);
        }
    }

    #[test]
    fn a_wrong_method_is_told_from_a_wrong_path() {
        for path in
            ["", "/", "/messages/", "/messages//recall", "/messages/1/recall/", "/Unread", "/unread/x"]
        {
            assert_eq!(find(&Method::POST, path).err(), Some(NoRoute::Path), "{path}");
        }
        assert_eq!(find(&Method::GET, "/messages").err(), Some(NoRoute::Method(vec![Method::POST])));
        let allowed = vec![Method::GET, Method::HEAD];
        assert_eq!(find(&Method::POST, "/unread").err(), Some(NoRoute::Method(allowed)));
        assert_eq!(find(&Method::HEAD, "/messages").err(), Some(NoRoute::Method(vec![Method::POST])));
    }
}
