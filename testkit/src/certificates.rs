//! Certificates for servers that speak TLS, made anew for each run.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// An authority that a test trusts, or does not.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate in PEM: what a client needs to trust it.
    pub certificate: String,
}

impl Authority {
    /// A new one, of which nobody knows.
    ///
    /// # Panics
    /// If the machine has no randomness.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Writes its own certificate into a file of that name, for a client that trusts it; where the file is.
    ///
    /// # Panics
    /// If the folder cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, &self.certificate).unwrap();
        path
    }

    /// A server's certificate for `address`, a host name or an IP address, and its key, both in PEM.
    ///
    /// # Panics
    /// If it is neither.
    pub fn issue(&self, address: &str) -> (String, String) {
        let params = CertificateParams::new([address.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        (certificate, key.serialize_pem())
    }
}
