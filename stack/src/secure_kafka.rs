//! Kafka listeners like those of Amazon MSK, beside the plaintext one: TLS, and TLS with SCRAM.

use std::fmt::Write as _;
use std::path::Path;

use super::error::StackError;
use super::files::{State, write_private};

/// The files and the user with which a broker serves TLS and SCRAM. Only natively: see
/// [`super::StackOptions::with_secure_kafka`].
#[derive(Clone)]
pub struct SecureKafka {
    /// PEM: the broker's certificate, for the address 127.0.0.1, and the certificates above it.
    pub certificates: String,
    /// PEM: the private key, in PKCS#8.
    pub key: String,
    /// The user of SCRAM-SHA-512. Must not contain `]`, `,` and `"`.
    pub username: String,
    /// The user's password, with the same limits.
    pub password: String,
}

impl std::fmt::Debug for SecureKafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecureKafka").field("username", &self.username).finish_non_exhaustive()
    }
}

impl SecureKafka {
    /// Writes key and certificates into `folder`, and returns the lines of `server.properties` for these listeners.
    /// Of a line that is there twice, Kafka takes the last.
    pub(super) fn settings(
        &self,
        folder: &Path,
        state: &State,
        listeners: &str,
        advertised: &str,
    ) -> Result<String, StackError> {
        let store = folder.join("broker.pem");
        write_private(&store, format!("{}\n{}", self.key, self.certificates).as_bytes())?;
        let secure = format!(
            "SSL://127.0.0.1:{},SASL_SSL://127.0.0.1:{}",
            state.ports.kafka_tls, state.ports.kafka_scram
        );
        let mut settings =
            format!("listeners={listeners},{secure}\nadvertised.listeners={advertised},{secure}\n");
        settings.push_str(
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL\n\
             ssl.keystore.type=PEM\n\
             sasl.enabled.mechanisms=SCRAM-SHA-512\n\
             listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;\n",
        );
        // Writing into a String cannot fail.
        let _ = writeln!(settings, "ssl.keystore.location={}", store.display());
        Ok(settings)
    }

    /// The arguments of the storage tool that create the user before the broker first starts.
    pub(super) fn format_arguments(&self) -> [String; 2] {
        let user = format!("SCRAM-SHA-512=[name={},password={}]", self.username, self.password);
        ["--add-scram".to_owned(), user]
    }
}
