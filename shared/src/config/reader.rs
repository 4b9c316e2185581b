//! Reads variables and collects their faults.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::SecretString;
use url::Url;

use super::fault::ConfigError;

/// A setting as it counts: what the environment says, or the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub name: String,
    /// The value in the form of the variable; [`HIDDEN`] in the place of a secret. `None`: not set, and without a default.
    pub value: Option<String>,
    /// The variable is set, so the value is not the default.
    pub is_set: bool,
}

/// A secret as it is shown.
pub const HIDDEN: &str = "(hidden)";

/// Reads one variable after the other. A wrong one is noted and a stand-in returned, so that the rest is read as well;
/// [`Reader::finish`] refuses the whole if anything was noted.
pub struct Reader<L> {
    lookup: L,
    faults: Vec<String>,
    settings: Vec<Setting>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    /// Reads the variables that `lookup` knows. An empty value counts as not set.
    pub fn new(lookup: L) -> Self {
        Self { lookup, faults: Vec::new(), settings: Vec::new() }
    }

    /// The settings read so far, in the order of the reading, without those that have a fault.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// `value`, unless a fault was noted.
    pub fn finish<T>(self, value: T) -> Result<T, ConfigError> {
        if self.faults.is_empty() { Ok(value) } else { Err(ConfigError { faults: self.faults }) }
    }

    /// Notes what is wrong with the variable `name`: the form it must have.
    pub fn fault(&mut self, name: &str, wanted: impl Display) {
        self.settings.retain(|setting| setting.name != name);
        self.faults.push(format!("{name} {wanted}"));
    }

    pub(super) fn has_fault(&self, name: &str) -> bool {
        self.faults.iter().any(|fault| fault.split(' ').next() == Some(name))
    }

    fn found(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// Notes what counts.
    fn note(&mut self, name: &str, value: Option<String>) {
        let is_set = self.found(name).is_some();
        self.settings.push(Setting { name: name.to_owned(), value, is_set });
    }

    pub(super) fn optional(&mut self, name: &str) -> Option<String> {
        let value = self.found(name);
        self.note(name, value.clone());
        value
    }

    pub(super) fn optional_secret(&mut self, name: &str) -> Option<SecretString> {
        let value = self.found(name);
        self.note(name, value.as_ref().map(|_| HIDDEN.to_owned()));
        value.map(SecretString::from)
    }

    pub(super) fn required(&mut self, name: &str, wanted: &str) -> String {
        if self.found(name).is_none() {
            self.fault(name, format!("must be set: {wanted}"));
            return String::new();
        }
        self.optional(name).unwrap_or_default()
    }

    pub(super) fn required_secret(&mut self, name: &str, wanted: &str) -> SecretString {
        if self.found(name).is_none() {
            self.fault(name, format!("must be set: {wanted}"));
            return SecretString::default();
        }
        self.optional_secret(name).unwrap_or_default()
    }

    pub(super) fn text(&mut self, name: &str, default: &str) -> String {
        let value = self.found(name).unwrap_or_else(|| default.to_owned());
        self.note(name, Some(value.clone()));
        value
    }

    /// A valid name of a Kafka topic.
    pub(super) fn topic(&mut self, name: &str, default: &str) -> String {
        let topic = self.found(name).unwrap_or_else(|| default.to_owned());
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if topic.len() > 249 || !topic.bytes().all(valid) || topic == "." || topic == ".." {
            self.fault(name, "must be a topic name: up to 249 letters, digits, '.', '_' and '-'");
        } else {
            self.note(name, Some(topic.clone()));
        }
        topic
    }

    pub(super) fn choice(&mut self, name: &str, default: &str, choices: &[&str]) -> String {
        let value = self.found(name).unwrap_or_else(|| default.to_owned());
        if choices.contains(&value.as_str()) {
            self.note(name, Some(value.clone()));
            value
        } else {
            self.fault(name, format!("must be one of {}", choices.join(", ")));
            default.to_owned()
        }
    }

    pub(super) fn boolean(&mut self, name: &str, default: bool) -> bool {
        let value = match self.found(name).as_deref() {
            None => default,
            Some("true") => true,
            Some("false") => false,
            Some(_) => {
                self.fault(name, "must be true or false");
                return default;
            }
        };
        self.note(name, Some(value.to_string()));
        value
    }

    /// A value that `parse` understands. A value that it does not understand is a fault: `wanted` says the form.
    pub fn parsed<T>(
        &mut self,
        name: &str,
        default: T,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let found = self.found(name);
        let value = match &found {
            None => default,
            Some(text) => {
                let Some(value) = parse(text) else {
                    self.fault(name, wanted);
                    return default;
                };
                value
            }
        };
        self.note(name, found);
        value
    }

    /// A whole number from `least` to `most`.
    pub fn number<T: FromStr + PartialOrd + Display + Copy>(
        &mut self,
        name: &str,
        default: T,
        least: T,
        most: T,
    ) -> T {
        let number = match self.found(name).map(|value| value.parse::<T>()) {
            None => default,
            Some(Ok(number)) if number >= least && number <= most => number,
            Some(_) => {
                self.fault(name, format!("must be a whole number from {least} to {most}"));
                return default;
            }
        };
        self.note(name, Some(number.to_string()));
        number
    }

    /// An IP address and a port, such as `127.0.0.1:8080`.
    pub fn address(&mut self, name: &str, default: SocketAddr) -> SocketAddr {
        let address = match self.found(name).map(|value| value.parse()) {
            None => default,
            Some(Ok(address)) => address,
            Some(Err(_)) => {
                self.fault(name, format!("must be an IP address and a port, such as {default}"));
                return default;
            }
        };
        self.note(name, Some(address.to_string()));
        address
    }

    /// A time in ms.
    pub fn millis(&mut self, name: &str, default: u64, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.number(name, default, least, most))
    }

    /// A time in seconds.
    pub fn seconds(&mut self, name: &str, default: u64, least: u64, most: u64) -> Duration {
        Duration::from_secs(self.number(name, default, least, most))
    }

    pub(super) fn minutes(&mut self, name: &str, default: u64, least: u64, most: u64) -> Duration {
        Duration::from_secs(60 * self.number(name, default, least, most))
    }

    /// The content of a PEM file with certificates of authorities.
    pub(super) fn authorities(&mut self, name: &str) -> Option<Vec<u8>> {
        let Some(path) = self.found(name) else {
            self.note(name, None);
            return None;
        };
        match std::fs::read(&path) {
            Ok(pem) if CertificateDer::pem_slice_iter(&pem).any(|certificate| certificate.is_ok()) => {
                self.note(name, Some(path));
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
        if self.found(name).is_none() {
            self.fault(name, format!("must be set: an address that begins with {}", begins_with(schemes)));
            return SecretString::default();
        }
        self.optional_secret_url(name, schemes).unwrap_or_default()
    }

    pub(super) fn optional_secret_url(&mut self, name: &str, schemes: &[&str]) -> Option<SecretString> {
        self.optional_url(name, schemes).map(|url| String::from(url).into())
    }

    pub(super) fn optional_url(&mut self, name: &str, schemes: &[&str]) -> Option<Url> {
        let Some(value) = self.found(name) else {
            self.note(name, None);
            return None;
        };
        match Url::parse(&value) {
            Ok(url) if schemes.contains(&url.scheme()) && url.has_host() => {
                self.note(name, Some(without_password(&url)));
                Some(url)
            }
            // The value may hold a password: it is not repeated.
            _ => {
                self.fault(name, format!("must be an address that begins with {}", begins_with(schemes)));
                None
            }
        }
    }
}

/// The address with [`HIDDEN`] in the place of its password.
fn without_password(url: &Url) -> String {
    match url.password() {
        // The password is percent-encoded in both, so that nothing else in the address is the same text.
        Some(password) => {
            let (before, after) = url.as_str().split_once('@').unwrap_or((url.as_str(), ""));
            let before = before.strip_suffix(password).unwrap_or_default();
            format!("{before}{HIDDEN}@{after}")
        }
        None => url.to_string(),
    }
}

fn begins_with(schemes: &[&str]) -> String {
    schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ")
}
