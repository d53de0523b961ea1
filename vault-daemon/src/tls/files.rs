//! The files behind the door: which there are, how each is read, and what makes one bad.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use thiserror::Error;
use zeroize::Zeroizing;

use super::Revocation;
use crate::file::{ReadError, only_for_owner, read};
use crate::limits::{CRL_FILE_BYTES_MAX, PEM_FILE_BYTES_MAX};

/// Where the door's certificates, keys and revocation lists lie.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// The server's private key, PEM (PKCS#8, SEC1 or PKCS#1); not readable by group or others.
    pub private_key: PathBuf,
    /// The CAs whose clients may come in.
    pub client_cas: Vec<ClientCaFiles>,
    /// How a client certificate that must no longer open the door is kept out.
    pub revocation: Revocation,
}

/// One client CA.
#[derive(Clone, Debug)]
pub struct ClientCaFiles {
    /// The name by which principals in the policy pin it.
    pub name: String,
    /// Its certificate, PEM; the old and the new one while they change over.
    pub certificate: PathBuf,
    /// Its revocation lists and those of its intermediates, PEM or DER.
    pub revocation_lists: Vec<PathBuf>,
}

/// What is wrong with the files behind the door.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Not there, not readable, too large.
    #[error("{} {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// A private key that others can read or change.
    #[error("{} can be read or changed by its group or by others; chmod 600 it", file.display())]
    Exposed {
        /// Which file.
        file: PathBuf,
    },
    /// Not what it should be.
    #[error("{} {problem}", file.display())]
    Unusable {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Certificate and key do not make a server.
    #[error("the server's certificate and private key cannot be used together: {0}")]
    Server(rustls::Error),
    /// Certificates and key do not make a client.
    #[error("the certificates cannot be used to call a server: {0}")]
    Client(rustls::Error),
    /// The set of CAs.
    #[error("client CA {name}: {problem}")]
    Ca {
        /// The CA's configured name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl TlsError {
    pub(crate) fn unusable(file: &Path, problem: &'static str) -> Self {
        Self::Unusable { file: file.to_owned(), problem }
    }

    pub(super) fn ca(name: &str, problem: &'static str) -> Self {
        Self::Ca { name: name.to_owned(), problem }
    }
}

impl TlsFiles {
    /// Every file, each once or more.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let of_cas = self.client_cas.iter().flat_map(|ca| {
            std::iter::once(ca.certificate.as_path()).chain(ca.revocation_lists.iter().map(PathBuf::as_path))
        });
        [self.certificate.as_path(), self.private_key.as_path()].into_iter().chain(of_cas)
    }
}

/// What tells one version of a file from the next without reading it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stamp(Option<[i64; 5]>);

impl Stamp {
    pub(super) fn of(file: &Path) -> Self {
        let numbers = |meta: Metadata| {
            let inode = meta.ino().cast_signed();
            let bytes = meta.len().cast_signed();
            [inode, bytes, meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]
        };
        Self(std::fs::metadata(file).ok().map(numbers))
    }
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (pem, _) = read_whole(file, PEM_FILE_BYTES_MAX)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match parsed {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::unusable(file, "is not PEM with a certificate")),
    }
}

/// The private key of a PEM file that only its owner can read.
pub(crate) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (pem, meta) = read_whole(file, PEM_FILE_BYTES_MAX)?;
    if !only_for_owner(&meta) {
        return Err(TlsError::Exposed { file: file.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| TlsError::unusable(file, "is not PEM with an unencrypted private key"))
}

/// The revocation lists of a file, at least one: DER, or PEM with any number.
pub(super) fn revocation_lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    const DER_SEQUENCE: u8 = 0x30;
    let (bytes, _) = read_whole(file, CRL_FILE_BYTES_MAX)?;
    if bytes.first() == Some(&DER_SEQUENCE) {
        return Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    let parsed: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match parsed {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::unusable(file, "is neither DER nor PEM with a revocation list")),
    }
}

fn read_whole(file: &Path, bytes_max: u64) -> Result<(Zeroizing<Vec<u8>>, Metadata), TlsError> {
    read(file, bytes_max).map_err(|source| TlsError::Read { file: file.to_owned(), source })
}
