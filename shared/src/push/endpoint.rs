//! Endpoints of gateways in registrations: one that was read from Redis is called only if this process could have
//! written it.

use url::{Host, Url};

/// The endpoint to register for connections of the gateway at `own` (`PUSH_ENDPOINT`). `None` if `own` is not on this
/// machine: it is API Gateway's then, and the same for every process.
pub(super) fn to_register(own: &Url) -> Option<String> {
    of_this_machine(own.as_str()).map(String::from)
}

/// `text` as the endpoint of a gateway on this machine: `http://`, a loopback address, a port, and nothing else. Local
/// runtimes call each other by it. (Gateways on several machines would need another check here.)
pub(super) fn of_this_machine(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_loopback = match url.host()? {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(_) => false,
    };
    // The URL is built again from its parts: a user, a path or a query would make a difference.
    let rebuilt = format!("http://{}:{}/", url.host_str()?, url.port_or_known_default()?);
    let is_plain = Url::parse(&rebuilt).is_ok_and(|rebuilt| rebuilt == url);
    (is_loopback && is_plain).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_loopback_endpoint_is_called() {
        for good in ["http://127.0.0.1:8080", "http://127.0.0.1:8080/", "http://[::1]:9/", "http://127.0.0.1"]
        {
            assert!(of_this_machine(good).is_some(), "{good}");
        }
        for wrong in [
            "",
            "127.0.0.1:8080",
            "https://127.0.0.1:8080/",
            "http://10.0.0.1:8080/",
            "http://169.254.169.254/",
            "http://localhost:8080/",
            "http://127.0.0.1.example.com:8080/",
            "http://user@127.0.0.1:8080/",
            "http://:x@127.0.0.1:8080/",
            "http://127.0.0.1:8080/path",
            "http://127.0.0.1:8080/?query",
            "http://127.0.0.1:8080/#fragment",
            "file:///etc/passwd",
        ] {
            assert!(of_this_machine(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_endpoint_of_api_gateway_is_not_registered() {
        let own = |url: &str| to_register(&url.parse().unwrap());
        assert_eq!(own("http://127.0.0.1:8080"), Some("http://127.0.0.1:8080/".to_owned()));
        assert_eq!(own("https://a.execute-api.eu-central-1.amazonaws.com/live"), None);
    }
}
