//! AWS's request signature (SigV4), for the few calls to AWS that this project makes without the SDK.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SigningError, SigningInstructions, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::clock::{Clock, TimestampMs};

/// A request could not be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignFailure {
    #[error(transparent)]
    Parameters(#[from] v4::signing_params::BuildError),
    #[error(transparent)]
    Sign(#[from] SigningError),
    #[error("a header is not text")]
    Header,
}

/// The function's own credentials. Lambda sets them in the environment for the life of an execution environment.
#[derive(Clone)]
pub(crate) struct Signer {
    credentials: Credentials,
    region: String,
    clock: Clock,
}

impl Signer {
    /// `None` without `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_REGION`: the local gateway needs no
    /// signature.
    pub(crate) fn from_env() -> Option<Self> {
        // The machine's own clock, also in tests that shift the time: AWS compares a signature's time with its own
        // clock.
        Self::from_lookup(|name| std::env::var(name).ok(), Clock::system())
    }

    /// The AWS region of the function.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<String>, clock: Clock) -> Option<Self> {
        let lookup = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let credentials = Credentials::new(
            lookup("AWS_ACCESS_KEY_ID")?,
            lookup("AWS_SECRET_ACCESS_KEY")?,
            lookup("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        let region = lookup("AWS_REGION").or_else(|| lookup("AWS_DEFAULT_REGION"))?;
        Some(Self { credentials, region, clock })
    }

    /// Adds the headers of a signature for `service` (AWS's signing name) to `request`, whose body is `body`.
    pub(crate) fn sign(
        &self,
        service: &str,
        request: &mut Request<Full<Bytes>>,
        body: &[u8],
    ) -> Result<(), SignFailure> {
        let mut headers = Vec::with_capacity(request.headers().len());
        for (name, value) in request.headers() {
            headers.push((name.as_str(), value.to_str().map_err(|_| SignFailure::Header)?));
        }
        let uri = request.uri().to_string();
        let signable = SignableRequest::new(
            request.method().as_str(),
            &uri,
            headers.into_iter(),
            SignableBody::Bytes(body),
        )?;
        let (instructions, _) = self.instructions(service, SigningSettings::default(), signable)?;
        instructions.apply_to_request_http1x(request);
        Ok(())
    }

    /// Adds a signature to the query of `url`: everybody who has the URL may GET it within `expires`. Returns the time
    /// of the signature, ms since 1970 UTC.
    #[cfg(feature = "kafka-tls")]
    pub(crate) fn presign(
        &self,
        service: &str,
        url: &mut url::Url,
        expires: Duration,
    ) -> Result<TimestampMs, SignFailure> {
        let mut settings = SigningSettings::default();
        settings.signature_location = aws_sigv4::http_request::SignatureLocation::QueryParams;
        settings.expires_in = Some(expires);
        let signable =
            SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]))?;
        let (instructions, signed_at) = self.instructions(service, settings, signable)?;
        url.query_pairs_mut().extend_pairs(instructions.params());
        Ok(signed_at)
    }

    /// The signature's headers or parameters, and its time.
    fn instructions(
        &self,
        service: &str,
        settings: SigningSettings,
        signable: SignableRequest<'_>,
    ) -> Result<(SigningInstructions, TimestampMs), SignFailure> {
        let identity = self.credentials.clone().into();
        let now = self.clock.now_ms();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(UNIX_EPOCH + Duration::from_millis(u64::try_from(now).unwrap_or_default()))
            .settings(settings)
            .build()?
            .into();
        Ok((sign(signable, &parameters)?.into_parts().0, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let lookup = |name: &str| {
            let value = match name {
                "AWS_ACCESS_KEY_ID" => "AKIDEXAMPLE",
                "AWS_SECRET_ACCESS_KEY" => "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                "AWS_SESSION_TOKEN" => "token",
                "AWS_REGION" => "eu-west-1",
                _ => return None,
            };
            Some(value.to_owned())
        };
        Signer::from_lookup(lookup, Clock::system()).unwrap()
    }

    #[test]
    fn a_request_is_signed_for_execute_api_with_the_session_token() {
        let mut request =
            Request::post("https://abc.execute-api.eu-west-1.amazonaws.com/prod/@connections/L0=")
                .body(Full::new(Bytes::from_static(b"{}")))
                .unwrap();
        signer().sign("execute-api", &mut request, b"{}").unwrap();
        let authorization = request.headers()["authorization"].to_str().unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
        assert!(authorization.contains("/eu-west-1/execute-api/aws4_request"), "{authorization}");
        assert_eq!(request.headers()["x-amz-security-token"], "token");
        assert!(request.headers().contains_key("x-amz-date"));
    }

    #[test]
    fn without_credentials_nothing_is_signed() {
        assert!(Signer::from_lookup(|_| None, Clock::system()).is_none());
        assert!(Signer::from_lookup(|_| Some(String::new()), Clock::system()).is_none());
    }
}
