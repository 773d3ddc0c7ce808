//! Who a client is, from the certificate it showed.
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The first URI name (a SPIFFE id, usually) of the certificate, else its first DNS name, else `None`.
///
/// The chain has been verified by then; names are all that is read here.
pub fn principal(chain: &[CertificateDer<'_>]) -> Option<String> {
    let certificate = EndEntityCert::try_from(chain.first()?).ok()?;
    let name = certificate
        .valid_uri_names()
        .next()
        .or_else(|| certificate.valid_dns_names().next())?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_uri_goes_before_a_dns_name() {
        let names = vec![
            SanType::DnsName("a.example".try_into().unwrap()),
            SanType::URI("spiffe://x/mill".try_into().unwrap()),
        ];
        assert_eq!(principal(&[certificate(names)]).as_deref(), Some("spiffe://x/mill"));
        let names = vec![SanType::DnsName("a.example".try_into().unwrap())];
        assert_eq!(principal(&[certificate(names)]).as_deref(), Some("a.example"));
    }

    #[test]
    fn no_names_and_no_certificate_are_nobody() {
        assert_eq!(principal(&[certificate(Vec::new())]), None);
        assert_eq!(principal(&[]), None);
        assert_eq!(principal(&[CertificateDer::from(vec![0x30, 0x80])]), None);
    }
}
