//! Throwaway certificates: the CA, leaves and revocation lists of `vaultd dev`, `TestVault` and the tests.
//!
//! ECDSA on P-256, PKCS#8 keys. A production CA is somebody else's job: docs/operations/certificates.md.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use vault_core::clock::Timestamp;
use zeroize::Zeroizing;

/// A [`Timestamp`] as rcgen's calendar type, which comes from a crate of its own and so has no name here: a
/// macro instead of a function.
macro_rules! date {
    ($at:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs($at.seconds())
    };
}

/// A certificate that could not be made.
#[derive(Debug, Error)]
#[error("could not make a certificate: {0}")]
pub struct CertificateError(#[from] rcgen::Error);

/// From when to when a certificate or revocation list counts, both ends inclusive, whole seconds.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// The first second.
    pub not_before: Timestamp,
    /// The last second.
    pub not_after: Timestamp,
}

impl Validity {
    /// From five minutes ago, so that a clock a little behind does not refuse it, for so many hours from
    /// `now`.
    pub fn hours_from(now: Timestamp, hours: u64) -> Self {
        let not_before = Timestamp::from_seconds(now.seconds().saturating_sub(300));
        Self { not_before, not_after: now.plus_seconds(hours.saturating_mul(3_600)) }
    }
}

/// What a leaf is for: its extended key usage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// `clientAuth`.
    Client,
    /// `serverAuth`.
    Server,
    /// `codeSigning`: a purpose that opens no door.
    CodeSigning,
}

/// What shall stand in a leaf. Nothing is checked: the bad certificates of the tests are made here too.
#[derive(Clone, Debug)]
pub struct Request {
    /// Subject alternative names of type URI.
    pub uris: Vec<String>,
    /// Subject alternative names of type DNS.
    pub dns_names: Vec<String>,
    /// Subject alternative names of type IP address.
    pub addresses: Vec<IpAddr>,
    /// Common name of the subject.
    pub common_name: Option<String>,
    /// Extended key usages; none: the extension is left out.
    pub purposes: Vec<Purpose>,
    /// Whether it claims to be a CA.
    pub is_ca: bool,
    /// When it counts.
    pub validity: Validity,
}

impl Request {
    /// A client named by a URI.
    pub fn client(uri: &str, validity: Validity) -> Self {
        Self { uris: vec![uri.to_owned()], purposes: vec![Purpose::Client], ..Self::empty(validity) }
    }

    /// A server reached by these names and addresses.
    pub fn server(dns_names: &[&str], addresses: &[IpAddr], validity: Validity) -> Self {
        Self {
            dns_names: dns_names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.to_vec(),
            purposes: vec![Purpose::Server],
            ..Self::empty(validity)
        }
    }

    /// No name and no purpose.
    pub fn empty(validity: Validity) -> Self {
        Self {
            uris: Vec::new(),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            common_name: None,
            purposes: Vec::new(),
            is_ca: false,
            validity,
        }
    }
}

/// The serial number of a certificate, as a revocation list names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Serial(Vec<u8>);

/// A leaf certificate with its key.
pub struct Leaf {
    /// The chain, leaf first, without the root: PEM.
    pub chain_pem: String,
    /// The chain, leaf first, without the root: DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key: PKCS#8 PEM.
    pub private_key_pem: Zeroizing<String>,
    /// The leaf's serial number.
    pub serial: Serial,
}

/// A CA that lives in memory: a root, or an intermediate below one.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    serial: Serial,
    /// Intermediates between the leaves and the root, this one first; empty for a root.
    intermediates: Vec<(String, CertificateDer<'static>)>,
}

impl Authority {
    /// A root of its own.
    ///
    /// # Errors
    /// [`CertificateError`] when the key or the certificate cannot be made.
    pub fn root(common_name: &str, validity: Validity) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let (params, serial) = authority_params(common_name, validity, &key);
        let issuer = CertifiedIssuer::self_signed(params, key)?;
        Ok(Self { issuer, serial, intermediates: Vec::new() })
    }

    /// A CA below this one.
    ///
    /// # Errors
    /// [`CertificateError`] when the key or the certificate cannot be made.
    pub fn intermediate(&self, common_name: &str, validity: Validity) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let (params, serial) = authority_params(common_name, validity, &key);
        let issuer = CertifiedIssuer::signed_by(params, key, &self.issuer)?;
        let mut intermediates = vec![(issuer.pem(), issuer.der().clone())];
        intermediates.extend(self.intermediates.iter().cloned());
        Ok(Self { issuer, serial, intermediates })
    }

    /// This CA's own certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// This CA's own certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// The serial number of this CA's own certificate.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Issues a leaf with a new key.
    ///
    /// # Errors
    /// [`CertificateError`] when a name is not ASCII, or the key or the certificate cannot be made.
    pub fn issue(&self, request: &Request) -> Result<Leaf, CertificateError> {
        let key = KeyPair::generate()?;
        let (params, serial) = leaf_params(request, &key)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut chain_pem = certificate.pem();
        let mut chain = vec![certificate.der().clone()];
        for (pem, der) in &self.intermediates {
            chain_pem.push_str(pem);
            chain.push(der.clone());
        }
        Ok(Leaf { chain_pem, chain, private_key_pem: Zeroizing::new(key.serialize_pem()), serial })
    }

    /// Signs a revocation list, PEM. `number` must grow from one list of this CA to the next.
    ///
    /// # Errors
    /// [`CertificateError`] when the list cannot be made, for example with an empty validity.
    pub fn revocation_list(
        &self,
        revoked: &[&Serial],
        number: u64,
        validity: Validity,
    ) -> Result<String, CertificateError> {
        let revoked_certs =
            revoked.iter().map(|serial| revoked_params(serial, validity.not_before)).collect();
        let params = CertificateRevocationListParams {
            this_update: date!(validity.not_before),
            next_update: date!(validity.not_after),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.pem()?)
    }
}

fn authority_params(common_name: &str, validity: Validity, key: &KeyPair) -> (CertificateParams, Serial) {
    let (mut params, serial) = params(Some(common_name), validity, key);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params, serial)
}

fn leaf_params(request: &Request, key: &KeyPair) -> Result<(CertificateParams, Serial), CertificateError> {
    let (mut params, serial) = params(request.common_name.as_deref(), request.validity, key);
    for uri in &request.uris {
        params.subject_alt_names.push(SanType::URI(Ia5String::try_from(uri.as_str())?));
    }
    for name in &request.dns_names {
        params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name.as_str())?));
    }
    params.subject_alt_names.extend(request.addresses.iter().copied().map(SanType::IpAddress));
    params.extended_key_usages = request.purposes.iter().copied().map(extended_key_usage).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if request.is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    Ok((params, serial))
}

fn params(common_name: Option<&str>, validity: Validity, key: &KeyPair) -> (CertificateParams, Serial) {
    let mut params = CertificateParams::default();
    params.not_before = date!(validity.not_before);
    params.not_after = date!(validity.not_after);
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.use_authority_key_identifier_extension = true;
    let serial = serial_for(&params, key);
    params.serial_number = Some(SerialNumber::from_slice(&serial.0));
    (params, serial)
}

/// Unique because the key is: the first bytes of the public key's hash, made positive and never shorter.
fn serial_for(params: &CertificateParams, key: &KeyPair) -> Serial {
    let mut bytes: Vec<u8> = params.key_identifier(key).into_iter().take(16).collect();
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x3F) | 0x40;
    }
    Serial(bytes)
}

fn extended_key_usage(purpose: Purpose) -> ExtendedKeyUsagePurpose {
    match purpose {
        Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Purpose::CodeSigning => ExtendedKeyUsagePurpose::CodeSigning,
    }
}

fn revoked_params(serial: &Serial, at: Timestamp) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(&serial.0),
        revocation_time: date!(at),
        reason_code: None,
        invalidity_date: None,
    }
}
