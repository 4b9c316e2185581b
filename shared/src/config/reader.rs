//! Reads variables and collects their faults.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::SecretString;
use url::Url;

use super::fault::ConfigError;

/// Reads one variable after the other. For a wrong one it notes the fault and returns a stand-in, so that the others
/// are read as well. [`Reader::finish`] fails if a fault was noted.
pub(super) struct Reader<L> {
    lookup: L,
    faults: Vec<String>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    pub(super) fn new(lookup: L) -> Self {
        Self { lookup, faults: Vec::new() }
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, ConfigError> {
        if self.faults.is_empty() { Ok(value) } else { Err(ConfigError { faults: self.faults }) }
    }

    pub(super) fn fault(&mut self, name: &str, wanted: impl Display) {
        self.faults.push(format!("{name} {wanted}"));
    }

    pub(super) fn has_fault(&self, name: &str) -> bool {
        self.faults.iter().any(|fault| fault.split(' ').next() == Some(name))
    }

    pub(super) fn optional(&mut self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    pub(super) fn required(&mut self, name: &str, wanted: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.fault(name, format!("must be set: {wanted}"));
            String::new()
        })
    }

    pub(super) fn text(&mut self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    /// A valid name of a Kafka topic.
    pub(super) fn topic(&mut self, name: &str, default: &str) -> String {
        let topic = self.text(name, default);
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if topic.len() > 249 || !topic.bytes().all(valid) || topic == "." || topic == ".." {
            self.fault(name, "must be a topic name: up to 249 letters, digits, '.', '_' and '-'");
        }
        topic
    }

    pub(super) fn choice(&mut self, name: &str, default: &str, choices: &[&str]) -> String {
        let value = self.text(name, default);
        if choices.contains(&value.as_str()) {
            value
        } else {
            self.fault(name, format!("must be one of {}", choices.join(", ")));
            default.to_owned()
        }
    }

    pub(super) fn boolean(&mut self, name: &str, default: bool) -> bool {
        match self.optional(name).as_deref() {
            None => default,
            Some("true") => true,
            Some("false") => false,
            Some(_) => {
                self.fault(name, "must be true or false");
                default
            }
        }
    }

    pub(super) fn number<T: FromStr + PartialOrd + Display + Copy>(
        &mut self,
        name: &str,
        default: T,
        least: T,
        most: T,
    ) -> T {
        let Some(value) = self.optional(name) else {
            return default;
        };
        match value.parse::<T>() {
            Ok(number) if number >= least && number <= most => number,
            _ => {
                self.fault(name, format!("must be a whole number from {least} to {most}"));
                default
            }
        }
    }

    pub(super) fn millis(&mut self, name: &str, default: u64, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.number(name, default, least, most))
    }

    pub(super) fn seconds(&mut self, name: &str, default: u64, least: u64, most: u64) -> Duration {
        Duration::from_secs(self.number(name, default, least, most))
    }

    pub(super) fn minutes(&mut self, name: &str, default: u64, least: u64, most: u64) -> Duration {
        Duration::from_secs(60 * self.number(name, default, least, most))
    }

    /// The content of a PEM file with certificates of authorities.
    pub(super) fn authorities(&mut self, name: &str) -> Option<Vec<u8>> {
        let path = self.optional(name)?;
        match std::fs::read(&path) {
            Ok(pem) if CertificateDer::pem_slice_iter(&pem).any(|certificate| certificate.is_ok()) => {
                Some(pem)
            }
            Ok(_) => {
                self.fault(name, format!("must be a PEM file with certificates; {path} has none"));
                None
            }
            Err(error) => {
                self.fault(name, format!("must be a PEM file with certificates; {path}: {error}"));
                None
            }
        }
    }

    pub(super) fn secret_url(&mut self, name: &str, schemes: &[&str]) -> SecretString {
        if self.optional(name).is_none() {
            self.fault(name, format!("must be set: an address that begins with {}", begins_with(schemes)));
        }
        self.optional_secret_url(name, schemes).unwrap_or_default()
    }

    pub(super) fn optional_secret_url(&mut self, name: &str, schemes: &[&str]) -> Option<SecretString> {
        self.optional_url(name, schemes).map(|url| String::from(url).into())
    }

    pub(super) fn optional_url(&mut self, name: &str, schemes: &[&str]) -> Option<Url> {
        let value = self.optional(name)?;
        match Url::parse(&value) {
            Ok(url) if schemes.contains(&url.scheme()) && url.has_host() => Some(url),
            // The value may hold a password, so it is not repeated.
            _ => {
                self.fault(name, format!("must be an address that begins with {}", begins_with(schemes)));
                None
            }
        }
    }
}

fn begins_with(schemes: &[&str]) -> String {
    schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ")
}
