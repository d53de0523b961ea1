//! Certificates that open no door: no handshake, no call, no entry, and a count under the reason.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use vault_core::clock::Clock;
use vault_daemon::certificates::{Authority, Leaf, Purpose, Request, Serial, Validity};
use vault_daemon::clock::SystemClock;
use vault_daemon::config::Config;
use vault_daemon::tls::Revocation;
use vault_proto::ConnectError;

use crate::rpcs::Answer;
use crate::site::{Site, write_private};
use crate::{logs, requests};

const CHECKOUT: &str = "spiffe://tests/checkout";

fn validity() -> Validity {
    Validity::hours_from(SystemClock.now(), 24)
}

/// Tries to come in, by hand and with the usual client: no handshake, no call, no entry.
async fn refused(site: &Site, leaf: Option<&Leaf>, reason: &str) {
    let size = site.log_size().await;
    let before = count(site, reason).await;
    let alert = alert(site, leaf).await;
    assert!(matches!(alert, Some(rustls::Error::AlertReceived(_))), "{reason}: {alert:?}");
    // The server counts after it has sent the alert.
    for _ in 0..100 {
        if count(site, reason).await > before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(count(site, reason).await, before + 1, "{reason}: {}", site.metrics().await);
    if let Some(leaf) = leaf {
        let error = tokenize(site, leaf).await.err().unwrap();
        // The alert itself may be lost behind what the client has sent at once.
        assert!(ConnectError::of(&error).is_some(), "{reason}: the vault itself has answered: {error:?}");
    }
    assert_eq!(site.log_size().await, size + 1, "{reason}: nothing but who looks is entered");
}

async fn tokenize(site: &Site, leaf: &Leaf) -> Result<Answer, tonic::Status> {
    let channel = site.connector(leaf).connect_lazy().unwrap();
    requests::with_value("Tokenize", Some(requests::card("378282246310005"))).send(channel).await
}

/// Finishes the handshake as far as a client can and waits for the first byte, which must not come: in TLS
/// 1.3 the server looks at the certificate after the client is done.
async fn alert(site: &Site, leaf: Option<&Leaf>) -> Option<rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(site.authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match leaf {
        Some(leaf) => {
            let key = PrivateKeyDer::from_pem_slice(leaf.private_key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(leaf.chain.clone(), key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(site.daemon().local_addr()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut tls = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
    let error = tls.read_u8().await.err()?;
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

async fn count(site: &Site, reason: &str) -> u64 {
    let metric = format!("vaultd_connections_refused_total{{reason=\"{reason}\"}} ");
    let text = site.metrics().await;
    text.lines().find_map(|line| line.strip_prefix(&metric)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn certificates_that_are_no_good_get_no_handshake() {
    let site = Site::start().await;
    let now = site.clock.now().seconds();
    let at = |seconds: u64| vault_core::clock::Timestamp::from_seconds(seconds);
    let past = Validity { not_before: at(now - 7_200), not_after: at(now - 3_600) };
    let future = Validity { not_before: at(now + 3_600), not_after: at(now + 7_200) };
    let client = |validity| Request::client(CHECKOUT, validity);
    let two_names = vec![CHECKOUT.to_owned(), "spiffe://tests/billing".to_owned()];
    let common_name = Some("checkout".to_owned());
    let requests = [
        (client(past), "Expired"),
        (client(future), "NotYetValid"),
        (client(Validity::hours_from(site.clock.now(), 8 * 24)), "TooLongLived"),
        (Request { purposes: vec![Purpose::Server], ..client(validity()) }, "WrongUsage"),
        (Request { uris: two_names, ..client(validity()) }, "AmbiguousName"),
        (Request { uris: Vec::new(), common_name, ..client(validity()) }, "NoName"),
    ];
    for (request, reason) in requests {
        refused(&site, Some(&site.authority.issue(&request).unwrap()), reason).await;
    }
    // A CA nobody knows, and one that only has the name of ours.
    for (name, reason) in [("strangers", "UnknownIssuer"), ("tests", "BadSignature")] {
        let authority = Authority::root(name, validity()).unwrap();
        refused(&site, Some(&authority.issue(&client(validity())).unwrap()), reason).await;
    }
}

/// Puts a revocation list in force for the tests' CA.
fn by_list(folder: &Path, authority: &Authority, config: &mut Config) {
    let list = folder.join("certs/clients.crl");
    write_private(&list, authority.revocation_list(&[], 1, validity()).unwrap().as_bytes());
    config.listen.tls.revocation = Revocation::Crl;
    config.listen.tls.client_cas[0].revocation_lists = vec![list];
}

fn revoke(site: &Site, revoked: &[&Serial], number: u64) {
    let list = site.authority.revocation_list(revoked, number, validity()).unwrap();
    write_private(&site.path("certs/clients.crl"), list.as_bytes());
    site.daemon().reload();
}

#[tokio::test]
async fn a_revoked_certificate_gets_no_handshake_from_the_reload_on() {
    let site = Site::start_with(by_list).await;
    let (revoked, other) = (site.issue("checkout"), site.issue("checkout"));
    assert!(tokenize(&site, &revoked).await.is_ok());
    revoke(&site, &[&revoked.serial], 2);
    refused(&site, Some(&revoked), "Revoked").await;
    assert!(tokenize(&site, &other).await.is_ok());
}

#[tokio::test]
async fn the_open_connection_of_a_revoked_certificate_is_closed() {
    let site = Site::start_with(by_list).await;
    let (revoked, other) = (site.issue("checkout"), site.issue("checkout"));
    let connect = |leaf: &Leaf| site.connector(leaf).connect_lazy().unwrap();
    let (theirs, ours) = (connect(&revoked), connect(&other));
    let ask =
        |channel| requests::with_value("Tokenize", Some(requests::card("378282246310005"))).send(channel);
    assert!(ask(theirs.clone()).await.is_ok() && ask(ours.clone()).await.is_ok());
    let admitted = admitted(&site).await;
    revoke(&site, &[&revoked.serial], 2);
    // Asked again every 15 seconds, without a call of its own to remind anybody.
    wait_for(&site, "vaultd_connections_ended_total{ending=\"not_admitted\"}", 1).await;
    assert!(ask(theirs).await.is_err(), "it is served after all");
    assert!(ask(ours).await.is_ok());
    assert_eq!(self::admitted(&site).await, admitted, "only what was open before is");
}

async fn admitted(site: &Site) -> u64 {
    let text = site.metrics().await;
    let count = text.lines().find_map(|line| line.strip_prefix("vaultd_connections_admitted_total "));
    count.unwrap().parse().unwrap()
}

/// Waits until a metric has a value: files are looked at every 10 seconds.
async fn wait_for(site: &Site, metric: &str, value: u64) {
    let line = format!("{metric} {value}");
    for _ in 0..300 {
        if site.metrics().await.lines().any(|other| other == line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no {line} within 30 seconds");
}

#[tokio::test]
async fn a_file_that_is_found_bad_alarms_until_it_is_mended() {
    let site = Site::start_with(by_list).await;
    wait_for(&site, "vaultd_tls_files_refused", 0).await;
    let log = logs::mark();
    write_private(&site.path("certs/clients.crl"), b"no list");
    wait_for(&site, "vaultd_tls_files_refused", 1).await;
    wait_for(&site, "vaultd_alarms_total", 1).await;
    let named = format!("{} is neither DER nor PEM", site.path("certs/clients.crl").display());
    assert!(logs::holds_since(log, named.as_bytes()), "the file is not named in the log");
    assert!(tokenize(&site, &site.issue("checkout")).await.is_ok(), "the list before is in force");

    let list = site.authority.revocation_list(&[], 2, validity()).unwrap();
    write_private(&site.path("certs/clients.crl"), list.as_bytes());
    wait_for(&site, "vaultd_tls_files_refused", 0).await;
    wait_for(&site, "vaultd_alarms_total", 1).await;
}

#[tokio::test]
async fn without_a_certificate_there_is_no_handshake() {
    refused(&Site::start().await, None, "NoCertificate").await;
}
