//! Certificates and the TLS configurations made of them.
//!
//! TLS 1.3 only and never 0-RTT: a replayed request could write twice. Without configured certificates the daemon is its own CA
//! (see [`authority`]), so that a client of the same user connects without any set-up.
pub mod authority;
mod principal;

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

pub use self::{authority::user_ca_path, principal::principal};
use crate::{config::Config, error::StartError};

/// ALPN of Kafka's protocol.
pub const ALPN_KAFKA: &[u8] = b"kafka";
/// ALPN of management calls.
pub const ALPN_ADMIN: &[u8] = b"tidemill-admin/1";

/// TLS for both kinds of listener.
#[derive(Clone)]
pub struct Configs {
    /// For QUIC: data and management.
    pub quic: Arc<ServerConfig>,
    /// For TLS over TCP: data.
    pub tcp: Arc<ServerConfig>,
}

/// Reads or makes the certificates and builds both configurations. `names` are hosts and addresses that clients will ask for.
pub fn configs(config: &Config, names: &[String]) -> Result<Configs, StartError> {
    let (chain, key) = match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => (read_certificates(certificate)?, read_key(key)?),
        _ => authority::open(&config.data_dir.join("tls"), config.tls.publish_ca)?.issue(names)?,
    };
    let provider = Arc::new(ring::default_provider());
    let base = base(config, &provider, chain, key)?;
    let with_alpn = |alpn: &[&[u8]]| {
        let mut config = base.clone();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    Ok(Configs {
        quic: with_alpn(&[ALPN_KAFKA, ALPN_ADMIN]),
        tcp: with_alpn(&[]),
    })
}

fn base(
    config: &Config,
    provider: &Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, StartError> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| StartError::Tls(format!("no TLS 1.3: {e}")))?;
    let builder = match &config.tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|e| StartError::Tls(format!("tls.client-ca = {}: {e}", path.display())))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build();
            builder.with_client_cert_verifier(
                verifier.map_err(|e| StartError::Tls(format!("tls.client-ca = {}: {e}", path.display())))?,
            )
        }
    };
    let mut tls = builder
        .with_single_cert(chain, key)
        .map_err(|e| StartError::Tls(format!("the certificate and its key cannot be used: {e}")))?;
    tls.max_early_data_size = 0;
    Ok(tls)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let unusable = |e: String| StartError::Tls(format!("{} holds no usable PEM certificates: {e}", path.display()));
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|e| unusable(e.to_string()))?
        .collect();
    let certificates = certificates.map_err(|e| unusable(e.to_string()))?;
    if certificates.is_empty() {
        Err(unusable("there is none in it".to_owned()))
    } else {
        Ok(certificates)
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, StartError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|e| StartError::Tls(format!("{} holds no usable PEM private key: {e}", path.display())))
}
