//! Certificates: which authority to trust, and who we are.
//!
//! The authority is looked for in this order: given to the builder; the file named by `TIDEMILL_CA`; the user's
//! `tidemill/ca.pem` in the configuration directory, where a daemon of the same user puts it at its first start.
//! There is no way to skip verification, and 0-RTT is never used.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Result};

/// Environment variable that names the PEM file of the certificate authority to trust.
pub const CA_VARIABLE: &str = "TIDEMILL_CA";

/// ALPN of the data protocol.
pub(crate) const ALPN_DATA: &[u8] = b"kafka";

/// ALPN of the management protocol.
pub(crate) const ALPN_ADMIN: &[u8] = b"tidemill-admin/1";

/// Where certificates come from: a file, or bytes already read.
#[derive(Clone, Debug)]
pub(crate) enum Pem {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Pem {
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let (bytes, name) = self.read()?;
        let certificates: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let certificates = certificates.map_err(|e| Error::tls(format!("{name} is not PEM: {e}")))?;
        if certificates.is_empty() {
            return Err(Error::tls(format!("{name} holds no certificate")));
        }
        Ok(certificates)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>> {
        let (bytes, name) = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| Error::tls(format!("{name} holds no private key: {e}")))
    }

    fn read(&self) -> Result<(Vec<u8>, String)> {
        match self {
            Pem::Bytes(bytes) => Ok((bytes.clone(), "the PEM given".to_owned())),
            Pem::File(path) => match std::fs::read(path) {
                Ok(bytes) => Ok((bytes, path.display().to_string())),
                Err(e) => Err(Error::tls(format!("cannot read {}: {e}", path.display()))),
            },
        }
    }
}

/// What the builder collected about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) ca: Option<Pem>,
    pub(crate) identity: Option<(Pem, Pem)>,
}

impl Tls {
    /// A TLS 1.3 configuration for one ALPN.
    pub(crate) fn client_config(&self, alpn: &[u8]) -> Result<rustls::ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| Error::tls(e.to_string()))?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificate.certificates()?, key.key()?)
                .map_err(|e| Error::tls(format!("the client certificate and its key: {e}")))?,
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_early_data = false;
        Ok(config)
    }

    fn roots(&self) -> Result<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in self.ca()?.certificates()? {
            roots
                .add(certificate)
                .map_err(|e| Error::tls(format!("the certificate authority: {e}")))?;
        }
        Ok(roots)
    }

    fn ca(&self) -> Result<Pem> {
        if let Some(ca) = &self.ca {
            return Ok(ca.clone());
        }
        if let Some(path) = std::env::var_os(CA_VARIABLE) {
            return Ok(Pem::File(PathBuf::from(path)));
        }
        match default_ca_path() {
            Some(path) if path.exists() => Ok(Pem::File(path)),
            Some(path) => Err(Error::tls(format!(
                "no certificate authority to trust: a daemon of this user writes {} at its first start; \
                 for another daemon give its CA file, or name it in {CA_VARIABLE}",
                path.display()
            ))),
            None => Err(Error::tls(format!(
                "no certificate authority to trust: give its file, or name it in {CA_VARIABLE}"
            ))),
        }
    }
}

/// `$XDG_CONFIG_HOME/tidemill/ca.pem`, or `~/.config/tidemill/ca.pem`; none without a home directory.
pub fn default_ca_path() -> Option<PathBuf> {
    let config = match std::env::var_os("XDG_CONFIG_HOME") {
        Some(path) if Path::new(&path).is_absolute() => PathBuf::from(path),
        _ => PathBuf::from(std::env::var_os("HOME")?).join(".config"),
    };
    Some(config.join("tidemill").join("ca.pem"))
}
