//! Kafka's listeners as Amazon MSK has them: TLS, and TLS with SCRAM, beside the plaintext one.

use std::fmt::Write as _;
use std::path::Path;

use super::error::StackError;
use super::files::{State, write_private};

/// What a broker needs to be reached over TLS and to know a SCRAM user. Natively only: see
/// [`super::StackOptions::with_secure_kafka`].
#[derive(Clone)]
pub struct SecureKafka {
    /// PEM: the broker's certificate, for the address 127.0.0.1, and those that vouch for it.
    pub certificates: String,
    /// PEM: its private key, in PKCS#8.
    pub key: String,
    /// Who may come in by SCRAM-SHA-512. Without `]`, `,` and `"`.
    pub username: String,
    /// Their password, with the same limits.
    pub password: String,
}

impl std::fmt::Debug for SecureKafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecureKafka").field("username", &self.username).finish_non_exhaustive()
    }
}

impl SecureKafka {
    /// Writes key and certificates into `folder`, and says what `server.properties` has beside the plaintext listener's
    /// settings: of a line that is there twice, Kafka takes the last.
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

    /// What the storage tool is told, so that the user is there before the broker first starts.
    pub(super) fn format_arguments(&self) -> [String; 2] {
        let user = format!("SCRAM-SHA-512=[name={},password={}]", self.username, self.password);
        ["--add-scram".to_owned(), user]
    }
}
