//! Brokers that refuse this client, explained to the person who set it up. librdkafka names its own settings, these
//! texts name ours.

use rdkafka::error::RDKafkaErrorCode;

use crate::config::KafkaSecurity;

/// The reason why a broker does not serve this client, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) advice: &'static str,
    /// True if the reason lasts. If not, the broker may also just be stopping: with TLS and SASL a broker closes the
    /// connection of a client that does not speak them, without a word.
    pub(super) certain: bool,
}

impl Refusal {
    /// The refusal that an error of librdkafka shows, if it shows one.
    pub(super) fn read(
        security: &KafkaSecurity,
        code: Option<RDKafkaErrorCode>,
        reason: &str,
    ) -> Option<Self> {
        let certain = |advice| Some(Self { advice, certain: true });
        let perhaps = |advice| Some(Self { advice, certain: false });
        match (security, hung_up(reason)) {
            (KafkaSecurity::Plaintext, Some((_, "APIVERSION_QUERY"))) => {
                return perhaps(
                    "it hangs up on a client without TLS: KAFKA_SECURITY must be ssl, sasl_scram or msk_iam, or \
                     KAFKA_BOOTSTRAP_SERVERS name a plaintext listener",
                );
            }
            // The broker closes the connection at the first request.
            (KafkaSecurity::Plaintext | KafkaSecurity::Ssl, Some((0..1000, "UP"))) => {
                return perhaps(
                    "it hangs up on a client without a user: KAFKA_SECURITY must be sasl_scram or msk_iam, or \
                     KAFKA_BOOTSTRAP_SERVERS name another listener",
                );
            }
            _ => {}
        }
        match (code, security) {
            // OpenSSL has the same words for an unknown authority and for a certificate with another name.
            _ if reason.contains("certificate verify failed") => certain(
                "its certificate is not trusted: KAFKA_SSL_CA_LOCATION must name the PEM file of the authority that signed \
                 it (unset: the system's authorities), and KAFKA_BOOTSTRAP_SERVERS the host name that it is made for",
            ),
            _ if reason.contains("connecting to a PLAINTEXT broker listener?") => perhaps(
                "it hangs up on TLS: KAFKA_BOOTSTRAP_SERVERS must name a TLS listener, or KAFKA_SECURITY be plaintext",
            ),
            (Some(RDKafkaErrorCode::Authentication), KafkaSecurity::SaslScram { .. }) => certain(
                "user or password is wrong: check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, or the secret of \
                 KAFKA_SASL_SECRET_ARN, and that the listener takes SCRAM-SHA-512",
            ),
            (Some(RDKafkaErrorCode::Authentication), KafkaSecurity::MskIam) => certain(
                "the role may not come in: it needs kafka-cluster:Connect on the cluster, AWS_REGION must be the \
                 cluster's, and the credentials in the environment must not have expired",
            ),
            (Some(RDKafkaErrorCode::SSL), _) => certain("TLS with it failed: check KAFKA_SSL_CA_LOCATION"),
            _ => None,
        }
    }
}

/// The age of the connection in ms and its state when the broker closed it; `None` if the broker did not.
fn hung_up(reason: &str) -> Option<(u64, &str)> {
    let (_, after) = reason.split_once("Disconnected")?.1.rsplit_once("(after ")?;
    let (age, state) = after.split_once("ms in state ")?;
    Some((age.parse().ok()?, state.split([',', ')']).next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_the_settings_to_look_at() {
        let scram = KafkaSecurity::SaslScram { username: "user".to_owned(), password: "password".into() };
        let ssl = Some(RDKafkaErrorCode::SSL);
        let authentication = Some(RDKafkaErrorCode::Authentication);
        let away = Some(RDKafkaErrorCode::BrokerTransportFailure);
        let untrusted = "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate";
        let tls_to_plaintext =
            "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?";
        let plaintext_to_tls = "Disconnected: connection closed by peer: receive 0 after POLLIN (after 586ms in state \
                                APIVERSION_QUERY, 1 identical error(s) suppressed)";
        let tls_to_sasl = "Disconnected: connection closed by peer (after 3ms in state UP)";
        for (security, code, reason, certain, names) in [
            (&KafkaSecurity::Ssl, ssl, untrusted, true, ["KAFKA_SSL_CA_LOCATION", "KAFKA_BOOTSTRAP_SERVERS"]),
            (&KafkaSecurity::Ssl, ssl, "another", true, ["KAFKA_SSL_CA_LOCATION", "TLS"]),
            (&scram, authentication, "failed", true, ["KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"]),
            (&KafkaSecurity::MskIam, authentication, "denied", true, ["kafka-cluster:Connect", "AWS_REGION"]),
            (
                &KafkaSecurity::Ssl,
                away,
                tls_to_plaintext,
                false,
                ["KAFKA_SECURITY", "KAFKA_BOOTSTRAP_SERVERS"],
            ),
            (&KafkaSecurity::Plaintext, away, plaintext_to_tls, false, ["KAFKA_SECURITY", "ssl"]),
            (&KafkaSecurity::Ssl, away, tls_to_sasl, false, ["KAFKA_SECURITY", "sasl_scram"]),
        ] {
            let refusal = Refusal::read(security, code, reason).unwrap();
            assert_eq!(refusal.certain, certain, "{reason}");
            assert!(names.iter().all(|name| refusal.advice.contains(name)), "{}", refusal.advice);
        }
    }

    #[test]
    fn a_broker_that_is_away_refuses_nobody() {
        let reason = "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused";
        let code = Some(RDKafkaErrorCode::BrokerTransportFailure);
        assert_eq!(Refusal::read(&KafkaSecurity::Ssl, code, reason), None);
        let reason = "127.0.0.1:1/1: Disconnected: connection closed by peer (after 61234ms in state UP)";
        assert_eq!(Refusal::read(&KafkaSecurity::Plaintext, None, reason), None);
    }
}
