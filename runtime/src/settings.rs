//! The settings of `hongyan serve`: those of the functions, the gateway's limits, the listeners, and how it stops.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hongyan::config::{Config, Reader};

use crate::gateway::GatewayOptions;

/// Where the public listener is by default.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Where the internal listener is by default.
pub const INTERNAL_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// The part of a stop that is kept for the steps after the gateway: batches in flight, and records that Kafka has not
/// acknowledged.
const AFTER_GATEWAY: Duration = Duration::from_secs(8);

/// All of them.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// The settings of the functions.
    pub config: Config,
    /// The gateway's limits.
    pub gateway: GatewayOptions,
    /// Where clients come to: `HONGYAN_LISTEN` (127.0.0.1:8080).
    pub listen: SocketAddr,
    /// Where functions and operators come to: `HONGYAN_INTERNAL_LISTEN` (127.0.0.1:8081). A loopback address, or that of
    /// all interfaces: functions of this process push by way of this listener, and it takes pushes from loopback only.
    pub internal_listen: SocketAddr,
    /// How long a stop takes at most: `HONGYAN_STOP_SECONDS` (25 s).
    pub stop: Duration,
    /// The part of it in which `/ready` already says no while new connections are still taken, so that a load balancer can
    /// send them elsewhere: `HONGYAN_STOP_DELAY_SECONDS` (5 s).
    pub stop_delay: Duration,
}

impl ServeSettings {
    /// Reads them; `reader` keeps the faults.
    pub fn read<L: Fn(&str) -> Option<String>>(reader: &mut Reader<L>) -> Self {
        let config = Config::read(reader);
        let mut gateway = GatewayOptions::read(reader);
        let listen = reader.address("HONGYAN_LISTEN", LISTEN);
        let internal_listen = reader.address("HONGYAN_INTERNAL_LISTEN", INTERNAL_LISTEN);
        if !(internal_listen.ip().is_loopback() || internal_listen.ip().is_unspecified()) {
            reader.fault(
                "HONGYAN_INTERNAL_LISTEN",
                "must be a loopback address, or 0.0.0.0 or [::] with a port",
            );
        }
        let stop = reader.seconds("HONGYAN_STOP_SECONDS", 25, 2, 3_600);
        let stop_delay = reader.seconds("HONGYAN_STOP_DELAY_SECONDS", 5, 0, 3_600);
        if stop_delay >= stop {
            reader.fault("HONGYAN_STOP_DELAY_SECONDS", "must be less than HONGYAN_STOP_SECONDS");
        }
        let rest = stop.saturating_sub(stop_delay);
        gateway.drain = rest.saturating_sub(AFTER_GATEWAY.min(rest / 2));
        Self { config, gateway, listen, internal_listen, stop, stop_delay }
    }
}

#[cfg(test)]
mod tests {
    use hongyan::config::minimal;

    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<ServeSettings, Vec<String>> {
        let found =
            |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let mut reader = Reader::new(|name: &str| found(name).or_else(|| minimal(name)));
        let settings = ServeSettings::read(&mut reader);
        reader.finish(settings).map_err(|error| error.faults)
    }

    #[test]
    fn the_stop_fits_into_a_pod_s_grace_period_and_each_part_into_the_stop() {
        let settings = read(&[]).unwrap();
        assert_eq!((settings.listen, settings.internal_listen), (LISTEN, INTERNAL_LISTEN));
        assert!(settings.stop < Duration::from_secs(30));
        assert_eq!(settings.stop_delay + settings.gateway.drain + AFTER_GATEWAY, settings.stop);
        let short = read(&[("HONGYAN_STOP_SECONDS", "4"), ("HONGYAN_STOP_DELAY_SECONDS", "0")]).unwrap();
        assert_eq!(short.gateway.drain, Duration::from_secs(2));
    }

    #[test]
    fn what_cannot_work_together_is_a_fault() {
        let faults = read(&[
            ("HONGYAN_STOP_DELAY_SECONDS", "25"),
            ("HONGYAN_INTERNAL_LISTEN", "10.0.0.5:8081"),
            ("HONGYAN_LISTEN", "localhost"),
        ])
        .unwrap_err();
        assert_eq!(
            faults,
            [
                "HONGYAN_LISTEN must be an IP address and a port, such as 127.0.0.1:8080",
                "HONGYAN_INTERNAL_LISTEN must be a loopback address, or 0.0.0.0 or [::] with a port",
                "HONGYAN_STOP_DELAY_SECONDS must be less than HONGYAN_STOP_SECONDS",
            ]
        );
    }
}
