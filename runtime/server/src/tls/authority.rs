//! The daemon's own CA: made at first start, kept in the data directory, published to clients of the same user.
//!
//! ```text
//! data/tls/ca.pem  ca.key            0600, made once
//! ~/.config/tidemill/ca.pem          the CA certificates of this user's daemons, newest last
//! ```
//! The server's certificate is made anew at every start and lives in memory only: it always has the names that the configuration
//! says, and there is no second key to look after. It is for this machine and this user; an installation with several machines
//! brings its own certificates.
use std::{
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{clock, config::config_home, error::StartError, files, limits};

const CA_DAYS: u64 = 20 * 365;
const CERTIFICATE_DAYS: u64 = 2 * 365;

/// Where clients of this user find the CA certificates: `$TIDEMILL_CA`, or `tidemill/ca.pem` in the user's configuration directory.
pub fn user_ca_path() -> PathBuf {
    std::env::var_os("TIDEMILL_CA").map_or_else(|| config_home().join("tidemill").join("ca.pem"), PathBuf::from)
}

/// A CA that can issue.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// Opens the CA in `dir`, making it if there is none, and publishes its certificate.
pub(super) fn open(dir: &Path, publish_ca: bool) -> Result<Authority, StartError> {
    let (certificate_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    let broken = |e: &dyn std::fmt::Display| {
        StartError::Tls(format!(
            "the CA in {} cannot be used ({e}); remove both its files to have a new one made",
            dir.display()
        ))
    };
    if !certificate_path.exists() || !key_path.exists() {
        let (certificate, key) = make().map_err(|e| broken(&e))?;
        files::create_dir(dir)?;
        files::write_private(&key_path, key.as_bytes())?;
        files::write_private(&certificate_path, certificate.as_bytes())?;
    }
    let pem = files::read_text(&certificate_path)?;
    let key = KeyPair::from_pem(&files::read_text(&key_path)?).map_err(|e| broken(&e))?;
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| broken(&e))?;
    // Of the CA's own certificate an issuer uses the name and the key's identifier, which are the same whenever they are made.
    let issuer = Issuer::new(ca_params(), key);
    if publish_ca && let Err(error) = publish(&pem, &user_ca_path()) {
        tracing::warn!(
            "clients of this user will not find the CA certificate by themselves: {error}; give them {}",
            certificate_path.display()
        );
    }
    Ok(Authority { issuer, certificate })
}

impl Authority {
    /// A server certificate for these hosts and addresses, with its chain and key.
    pub(super) fn issue(
        &self,
        names: &[String],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), StartError> {
        let failed =
            |e: rcgen::Error| StartError::Tls(format!("cannot make a certificate for {}: {e}", names.join(", ")));
        let mut params = params(CERTIFICATE_DAYS);
        params.distinguished_name.push(DnType::CommonName, "Tidemill");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        for name in names {
            let san = match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
            };
            params.subject_alt_names.push(san);
        }
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| StartError::Tls(e.to_owned()))?;
        Ok((vec![certificate.der().clone(), self.certificate.clone()], key))
    }
}

fn make() -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    Ok((ca_params().self_signed(&key)?.pem(), key.serialize_pem()))
}

fn ca_params() -> CertificateParams {
    let mut params = params(CA_DAYS);
    params.distinguished_name.push(DnType::CommonName, "Tidemill local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(days: u64) -> CertificateParams {
    const DAY: Duration = Duration::from_secs(86_400);
    let today = Duration::from_millis(u64::try_from(clock::wall_ms()).unwrap_or(0));
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + today.saturating_sub(DAY);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + today + DAY * u32::try_from(days).unwrap_or(365);
    params
}

/// Adds the certificate to the user's bundle, once. The bundle keeps the newest few, so that test daemons do not fill it for ever.
fn publish(pem: &str, path: &Path) -> Result<(), StartError> {
    const END: &str = "-----END CERTIFICATE-----";
    let known = std::fs::read_to_string(path).unwrap_or_default();
    let mut certificates: Vec<String> = known
        .split_inclusive(END)
        .map(|c| c.trim().to_owned())
        .filter(|c| c.ends_with(END))
        .collect();
    let ours = pem.trim().replace("\r\n", "\n");
    if certificates.iter().any(|c| c.replace("\r\n", "\n") == ours) {
        return Ok(());
    }
    certificates.push(ours);
    let keep = certificates.len().saturating_sub(limits::PUBLISHED_CAS_MAX);
    let bundle = certificates[keep..].join("\n") + "\n";
    if let Some(dir) = path.parent() {
        files::create_dir(dir)?;
    }
    // Written beside and renamed, so that a client never reads half of it.
    let beside = path.with_extension(format!("pem.{}", std::process::id()));
    let written = std::fs::File::create(&beside)
        .and_then(|mut file| file.write_all(bundle.as_bytes()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|e| StartError::File {
        path: path.to_owned(),
        error: e,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{os::unix::fs::PermissionsExt, sync::Arc};

    use rustls::{RootCertStore, client::WebPkiServerVerifier, crypto::ring, pki_types::UnixTime};

    use super::*;

    #[test]
    fn the_ca_survives_a_restart_and_its_certificates_verify() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), false).unwrap();
        let again = open(dir.path(), false).unwrap();
        assert_eq!(first.certificate, again.certificate);
        assert_eq!(
            std::fs::metadata(dir.path().join("ca.key"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        let (chain, _) = again.issue(&["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(first.certificate).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
            .build()
            .unwrap();
        for name in ["localhost", "127.0.0.1"] {
            rustls::client::danger::ServerCertVerifier::verify_server_cert(
                &*verifier,
                &chain[0],
                &chain[1..],
                &name.try_into().unwrap(),
                &[],
                UnixTime::now(),
            )
            .unwrap();
        }
    }

    #[test]
    fn a_broken_ca_is_named_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), "x").unwrap();
        std::fs::write(dir.path().join("ca.key"), "x").unwrap();
        let Err(error) = open(dir.path(), false) else {
            panic!("a broken CA was accepted")
        };
        assert!(error.to_string().contains("remove both its files"), "{error}");
    }

    #[test]
    fn the_bundle_holds_each_ca_once_and_only_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let pem = |n: usize| format!("-----BEGIN CERTIFICATE-----\n{n}\n-----END CERTIFICATE-----\n");
        for n in 0..limits::PUBLISHED_CAS_MAX + 2 {
            publish(&pem(n), &path).unwrap();
            publish(&pem(n), &path).unwrap();
        }
        let bundle = std::fs::read_to_string(&path).unwrap();
        assert_eq!(bundle.matches("BEGIN").count(), limits::PUBLISHED_CAS_MAX);
        assert!(bundle.contains(&pem(limits::PUBLISHED_CAS_MAX + 1)) && !bundle.contains("\n0\n"));
    }
}
