//! Tokens for Amazon MSK's access control by IAM (`KAFKA_SECURITY=msk_iam`): a signed URL with which the broker asks
//! IAM who signed it. The form is that of MSK's own signers for other languages.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use url::Url;

use super::error::permanent;
use crate::error::ServerError;
use crate::signature::Signer;

/// The longest lifetime that MSK allows. librdkafka asks for the next token after 80 % of it.
const LIFE: Duration = Duration::from_mins(15);

/// Signs tokens with the credentials of the process.
pub(super) struct Tokens(Signer);

impl Tokens {
    /// A permanent error if the environment has no credentials or no region: no token could ever be signed.
    pub(super) fn new(signer: Option<Signer>) -> Result<Self, ServerError> {
        let signer = signer.ok_or_else(|| {
            permanent(
                "queue.connect",
                "KAFKA_SECURITY is msk_iam, so AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION must be set, and \
                 AWS_SESSION_TOKEN for a role. Lambda sets them; elsewhere the AWS command line prints all but the \
                 region: eval \"$(aws configure export-credentials --format env)\"",
            )
        })?;
        Ok(Self(signer))
    }

    /// Signs a token that is valid for [`LIFE`] from now. Needs no network, so any thread may call it.
    pub(super) fn sign(&self) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let mut url = Url::parse(&format!("https://kafka.{}.amazonaws.com/", self.0.region()))?;
        url.query_pairs_mut().append_pair("Action", "kafka-cluster:Connect");
        let signed_at = self.0.presign("kafka-cluster", &mut url, LIFE)?;
        url.query_pairs_mut().append_pair("User-Agent", concat!("hongyan/", env!("CARGO_PKG_VERSION")));
        Ok(OAuthToken {
            token: URL_SAFE_NO_PAD.encode(url.as_str()),
            // The token itself names its principal.
            principal_name: String::new(),
            // The signature's time is in whole seconds.
            lifetime_ms: signed_at / 1000 * 1000 + i64::try_from(LIFE.as_millis())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Instant;

    use parking_lot::Mutex;
    use rdkafka::ClientConfig;
    use rdkafka::client::ClientContext;
    use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};

    use super::*;
    use crate::clock::Clock;
    use crate::error::Retry;

    fn credentials(name: &str) -> Option<String> {
        let value = match name {
            "AWS_ACCESS_KEY_ID" => "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY" => "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "AWS_SESSION_TOKEN" => "session+token/=",
            "AWS_REGION" => "ap-southeast-1",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn url_of(token: &OAuthToken) -> Url {
        let bytes = URL_SAFE_NO_PAD.decode(&token.token).unwrap();
        Url::parse(std::str::from_utf8(&bytes).unwrap()).unwrap()
    }

    fn query_of(url: &Url) -> HashMap<String, String> {
        url.query_pairs().into_owned().collect()
    }

    #[test]
    fn a_token_is_a_url_signed_for_the_region_and_a_quarter_of_an_hour() {
        let tokens = Tokens::new(Signer::from_lookup(credentials, Clock::system())).unwrap();
        let before = Clock::system().now_ms();
        let token = tokens.sign().unwrap();
        let url = url_of(&token);
        assert_eq!(url.host_str(), Some("kafka.ap-southeast-1.amazonaws.com"));
        let query = query_of(&url);
        assert_eq!(query["Action"], "kafka-cluster:Connect");
        assert_eq!(query["X-Amz-Algorithm"], "AWS4-HMAC-SHA256");
        assert_eq!(query["X-Amz-Expires"], "900");
        assert_eq!(query["X-Amz-SignedHeaders"], "host");
        assert_eq!(query["X-Amz-Security-Token"], "session+token/=");
        assert_eq!(query["X-Amz-Signature"].len(), 64);
        let scope = &query["X-Amz-Credential"];
        assert!(scope.starts_with("AKIDEXAMPLE/"), "{scope}");
        assert!(scope.ends_with("/ap-southeast-1/kafka-cluster/aws4_request"), "{scope}");
        let after = Clock::system().now_ms();
        let life = 900_000;
        assert!(
            (before / 1000 * 1000 + life..=after + life).contains(&token.lifetime_ms),
            "{}",
            token.lifetime_ms
        );
    }

    #[test]
    fn the_signature_is_that_of_amazons_own_signer() {
        // The signature that Amazon's crate aws-msk-iam-sasl-signer 1.0.1 made with these credentials in this second.
        let clock = Clock::fixed(1_795_550_778_999);
        let token = Tokens::new(Signer::from_lookup(credentials, clock)).unwrap().sign().unwrap();
        assert_eq!(token.lifetime_ms, 1_795_551_678_000);
        let query = query_of(&url_of(&token));
        assert_eq!(query["X-Amz-Date"], "20261124T200618Z");
        assert_eq!(
            query["X-Amz-Signature"],
            "ae2684d17b6684fef6e65c1bcdab04ac30e411000d25cf4596e2729885d711ef"
        );
    }

    #[test]
    fn a_later_token_lives_longer() {
        let later = Arc::new(AtomicI64::new(0));
        let tokens =
            Tokens::new(Signer::from_lookup(credentials, Clock::shifted(Arc::clone(&later)))).unwrap();
        let first = tokens.sign().unwrap();
        later.store(720_000, Ordering::SeqCst);
        let second = tokens.sign().unwrap();
        assert!(second.lifetime_ms >= first.lifetime_ms + 720_000);
        assert_ne!(
            query_of(&url_of(&first))["X-Amz-Signature"],
            query_of(&url_of(&second))["X-Amz-Signature"]
        );
    }

    #[test]
    fn without_credentials_the_error_names_the_variables_and_is_permanent() {
        let error = Tokens::new(Signer::from_lookup(|_| None, Clock::system())).err().unwrap();
        assert_eq!(error.retry, Retry::Permanent);
        let text = error.source.to_string();
        for name in [
            "KAFKA_SECURITY",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_REGION",
        ] {
            assert!(text.contains(name), "{text}");
        }
    }
    /// A client like those of this project that also notes until when each token is valid.
    struct Noting {
        tokens: Tokens,
        good_until: Mutex<Vec<i64>>,
    }

    impl ClientContext for Noting {
        const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

        fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
            let token = self.tokens.sign()?;
            self.good_until.lock().push(token.lifetime_ms);
            Ok(token)
        }
    }

    impl ProducerContext for Noting {
        type DeliveryOpaque = ();

        fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
    }

    #[test]
    fn the_next_token_is_signed_before_the_last_one_ends() {
        // A clock that is so late that its tokens are valid for seconds only. librdkafka asks for the next token after
        // four fifths of that time, so a busy machine has the last fifth, 3 s.
        const VALID_MS: i64 = 15_000;
        let behind = Arc::new(AtomicI64::new(VALID_MS - 900_000));
        let clock = Clock::shifted(behind);
        let tokens = Tokens::new(Signer::from_lookup(credentials, clock)).unwrap();
        let producer: BaseProducer<Noting> = ClientConfig::new()
            .set("bootstrap.servers", "127.0.0.1:1")
            .set("security.protocol", "sasl_ssl")
            .set("sasl.mechanism", "OAUTHBEARER")
            .create_with_context(Noting { tokens, good_until: Mutex::default() })
            .unwrap();
        let good_until = || producer.context().good_until.lock().clone();
        let began = Instant::now();
        while good_until().len() < 2 && began.elapsed() < Duration::from_mins(1) {
            producer.poll(Duration::from_millis(50));
        }
        let [first, second, ..] = good_until()[..] else { panic!("{:?}", good_until()) };
        let asked_again = second - VALID_MS;
        assert!(
            asked_again < first,
            "signed at {asked_again}, when the token before it had ended at {first}"
        );
    }
}
