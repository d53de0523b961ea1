//! What an installation of `vaultd` needs in its folder: private files, and certificates of a throwaway CA.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use vault_core::clock::Clock as _;
use vault_daemon::certificates::{Authority, Request, Validity};
use vault_daemon::clock::SystemClock;

/// Writes a file that is its owner's alone.
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// Makes a folder that is its owner's alone.
pub fn make_private_folder(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
}

/// Writes the certificate of a CA, `ca.pem`, and certificates of it with their keys, good for a day: `server`
/// for localhost, and one for each client, with the identity `spiffe://TRUST_DOMAIN/CLIENT`.
pub fn write_certificates(folder: &Path, trust_domain: &str, clients: &[&str]) {
    let validity = Validity::hours_from(SystemClock.now(), 24);
    let ca = Authority::root(trust_domain, validity).unwrap();
    write_private(&folder.join("ca.pem"), ca.certificate_pem());
    let server = Request::server(&["localhost"], &[IpAddr::V4(Ipv4Addr::LOCALHOST)], validity);
    let client = |name: &&str| {
        (name.to_string(), Request::client(&format!("spiffe://{trust_domain}/{name}"), validity))
    };
    for (name, request) in clients.iter().map(client).chain([("server".to_owned(), server)]) {
        let leaf = ca.issue(&request).unwrap();
        write_private(&folder.join(format!("{name}.pem")), &leaf.chain_pem);
        write_private(&folder.join(format!("{name}.key")), &*leaf.private_key_pem);
    }
}
