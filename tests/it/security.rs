//! Who may connect: TLS over TCP as Kafka's clients speak it, and certificates that clients must show, over TLS and over QUIC.
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

use crate::{
    daemon::{Daemon, free_port},
    kcat::kcat_is_missing,
};

/// A daemon that also listens with TLS over TCP; where.
fn with_tls(settings: &[(&str, &str)]) -> (Daemon, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let mut all = vec![("LISTEN_TLS", address.as_str())];
    all.extend(settings);
    (Daemon::with(&all), address)
}

/// kcat over TLS; what it printed, or why it gave up.
fn kcat(
    daemon: &Daemon,
    address: &str,
    identity: Option<&Identity>,
    args: &[&str],
    input: &Path,
) -> Result<String, String> {
    let mut command = Command::new("kcat");
    let ca = format!("ssl.ca.location={}", daemon.ca_file().display());
    command.args([
        "-b",
        address,
        "-m",
        "5",
        "-X",
        "security.protocol=ssl",
        "-X",
        &ca,
        "-X",
        "message.timeout.ms=5000",
    ]);
    if let Some(identity) = identity {
        let certificate = format!("ssl.certificate.location={}", identity.certificate.display());
        let key = format!("ssl.key.location={}", identity.key.display());
        command.args(["-X", &certificate, "-X", &key]);
    }
    let input = fs::File::open(input).unwrap();
    let output = command.args(args).stdin(Stdio::from(input)).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(said(&output.stdout))
    } else {
        Err(said(&output.stderr))
    }
}

/// A client's certificate and key, as files.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

/// A CA of clients, and its certificate as a file.
struct ClientCa {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl ClientCa {
    fn make(dir: &Path, name: &str) -> ClientCa {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let file = dir.join(format!("{name}.pem"));
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        ClientCa {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    fn issue(&self, name: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://example/{name}").try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let identity = Identity {
            certificate: self.file.with_extension(format!("{name}.pem")),
            key: self.file.with_extension(format!("{name}.key")),
        };
        fs::write(
            &identity.certificate,
            params.signed_by(&key, &self.issuer).unwrap().pem(),
        )
        .unwrap();
        fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}

#[test]
fn kcat_writes_and_reads_over_tls() {
    if kcat_is_missing("kcat_writes_and_reads_over_tls") {
        return;
    }
    let (daemon, address) = with_tls(&[]);
    daemon.run(&["topic", "create", "t", "--partitions", "1"]);
    let input = daemon.scratch().join("input");
    fs::write(&input, "one\ntwo\nthree\n").unwrap();
    kcat(&daemon, &address, None, &["-P", "-t", "t"], &input).unwrap();
    let read = kcat(&daemon, &address, None, &["-C", "-t", "t", "-e", "-q"], &input).unwrap();
    assert_eq!(read, "one\ntwo\nthree\n");
}

#[test]
fn clients_must_show_a_certificate_of_the_right_ca_where_one_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (ClientCa::make(dir.path(), "ours"), ClientCa::make(dir.path(), "theirs"));
    let (right, wrong) = (ours.issue("mill"), theirs.issue("mill"));
    let client_ca = ours.file.to_str().unwrap();
    let (daemon, address) = with_tls(&[("TLS_CLIENT_CA", client_ca), ("LISTEN_TCP", "off")]);

    // Over QUIC, with the command line.
    let list = |identity: Option<&Identity>| {
        let mut command = daemon.tidemill();
        command.env("TIDEMILL_TIMEOUT", "3s").args(["topic", "list"]);
        if let Some(identity) = identity {
            command
                .arg("--cert")
                .arg(&identity.certificate)
                .arg("--key")
                .arg(&identity.key);
        }
        command.output().unwrap()
    };
    assert!(list(Some(&right)).status.success(), "{:?}", list(Some(&right)));
    for refused in [list(None), list(Some(&wrong))] {
        assert!(!refused.status.success(), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("certificate"), "it says what is wrong: {said}");
    }

    if kcat_is_missing("clients_must_show_a_certificate (the part over TLS)") {
        return;
    }
    let nothing = dir.path().join("nothing");
    fs::write(&nothing, "").unwrap();
    let listing = kcat(&daemon, &address, Some(&right), &["-L"], &nothing).unwrap();
    assert!(listing.contains(&address), "{listing}");
    kcat(&daemon, &address, None, &["-L"], &nothing).unwrap_err();
    kcat(&daemon, &address, Some(&wrong), &["-L"], &nothing).unwrap_err();
}
