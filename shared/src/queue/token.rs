//! Tokens for Amazon MSK's IAM access control (`KAFKA_SECURITY=msk_iam`): a signed URL that the broker checks with AWS.

use std::time::Duration;

use aws_msk_iam_sasl_signer::generate_auth_token;
use aws_types::region::Region;
use rdkafka::client::OAuthToken;
use tokio::runtime::Handle;

use super::error::permanent;
use crate::error::ServerError;

/// librdkafka asks again after 80 % of a token's life; a call that hangs must not hold its thread for ever.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Signs tokens with the credentials of the process.
pub(super) struct Tokens {
    region: String,
    runtime: Handle,
}

impl Tokens {
    /// Reads `AWS_REGION`, which Lambda sets. Called inside the runtime that later fetches the credentials.
    pub(super) fn new() -> Result<Self, ServerError> {
        const ACTION: &str = "queue.connect";
        let region = std::env::var("AWS_REGION")
            .map_err(|_| permanent(ACTION, "AWS_REGION must be set, since KAFKA_SECURITY is msk_iam"))?;
        let runtime = Handle::try_current().map_err(|error| permanent(ACTION, error))?;
        Ok(Self { region, runtime })
    }

    /// Called on a thread of librdkafka's or of this crate's own, never on one of the runtime's, where blocking would
    /// be refused.
    pub(super) fn sign(&self) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let region = Region::new(self.region.clone());
        let (token, lifetime_ms) = self
            .runtime
            .block_on(async { tokio::time::timeout(TIMEOUT, generate_auth_token(region)).await })??;
        Ok(OAuthToken { token, principal_name: String::new(), lifetime_ms })
    }
}
