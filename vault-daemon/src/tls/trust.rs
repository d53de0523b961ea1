//! Whose certificates open the door: client CAs, their revocation lists, and the check of a chain.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::DistinguishedName;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use vault_core::clock::Timestamp;
use vault_core::crypto::sha256;
use vault_core::policy::Identity;
use webpki::{
    CertRevocationList, EndEntityCert, Error as PathError, ExpirationPolicy, KeyUsage,
    OwnedCertRevocationList, RevocationCheckDepth, RevocationOptions, RevocationOptionsBuilder,
    UnknownStatusPolicy, VerifiedPath, anchor_from_trusted_cert,
};
use x509_parser::num_bigint::BigUint;
use x509_parser::oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::Revocation;
use super::files::{self, ClientCaFiles, TlsError, TlsFiles};
use crate::identity::{Period, Refused, check_usage, name, parse};
use crate::limits::{
    ANCHORS_PER_CA_MAX, CHAIN_CERTIFICATES_MAX, CLIENT_CAS_MAX, CRLS_PER_CA_MAX, SHORT_LIVED_SECONDS,
    VERIFIED_CHAINS_MAX,
};

/// The client CAs at one point in time. It never changes; a reload makes another.
pub(super) struct Trust {
    revocation: Revocation,
    cas: Vec<Ca>,
    algorithms: WebPkiSupportedAlgorithms,
    /// What [`Trust::verify`] found, by the hash of the chain. The result depends on the chain, this trust
    /// and the time alone, so a finding stands for as long as its period. Refusals are not kept.
    verified: Mutex<HashMap<[u8; 32], Arc<Verified>>>,
}

struct Ca {
    name: String,
    anchors: Vec<Anchor>,
    lists: Vec<List>,
}

struct Anchor {
    trust: TrustAnchor<'static>,
    /// Subject and validity: webpki asks neither, since an anchor is trusted by decree.
    subject: Vec<u8>,
    period: Period,
    intermediates_max: Option<u32>,
    certificate: CertificateDer<'static>,
}

struct List {
    parsed: CertRevocationList<'static>,
    issuer: Vec<u8>,
    /// Which of the CAs of that name.
    signer: Signer,
    number: BigUint,
    this_update: u64,
    next_update: u64,
    file: PathBuf,
}

/// Whose key signed a list: names are not unique, keys are.
#[derive(Debug, Eq, PartialEq)]
enum Signer {
    /// An anchor, by its key (SPKI): the signature was checked.
    Anchor(Vec<u8>),
    /// An intermediate, by the authority key identifier of the list: webpki checks the signature at each use.
    Intermediate(Vec<u8>),
}

/// A chain that this trust accepts, for as long as nothing changes and its period lasts.
pub(super) struct Verified {
    pub(super) identity: Identity,
    pub(super) leaf_not_after: Timestamp,
    period: Period,
}

/// A date that somebody has to keep in mind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deadline {
    /// What ends: `server certificate`, `client CA NAME` or `revocation list of client CA NAME`.
    pub what: String,
    /// The file that needs a successor by then.
    pub file: PathBuf,
    /// The last second.
    pub at: Timestamp,
}

impl Trust {
    pub(super) fn load(files: &TlsFiles, algorithms: WebPkiSupportedAlgorithms) -> Result<Self, TlsError> {
        let bound = |fits: bool, problem| if fits { Ok(()) } else { Err(TlsError::ca("(all)", problem)) };
        bound(!files.client_cas.is_empty(), "there is none, so nobody could come in")?;
        bound(files.client_cas.len() <= CLIENT_CAS_MAX, "there are more than 32")?;
        let load = |ca| Ca::load(ca, files.revocation, &algorithms);
        let cas = files.client_cas.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        refuse_doubles(&cas)?;
        Ok(Self { revocation: files.revocation, cas, algorithms, verified: Mutex::default() })
    }

    /// Refuses to go back to an older revocation list of the same CA (name and key), which would let revoked
    /// clients in: neither number nor date may go back.
    pub(super) fn check_successor(&self, next: &Self) -> Result<(), TlsError> {
        for held in self.lists() {
            // Of several lists of one CA the newest counts.
            let newest = next.lists().filter(|list| held.covers_same_as(list)).max_by_key(|list| list.age());
            if let Some(list) = newest.filter(|list| list.is_older_than(held)) {
                return Err(TlsError::unusable(&list.file, "is older than the revocation list in force"));
            }
        }
        Ok(())
    }

    fn lists(&self) -> impl Iterator<Item = &List> {
        self.cas.iter().flat_map(|ca| &ca.lists)
    }

    pub(super) fn subjects(&self) -> Vec<DistinguishedName> {
        let anchors = self.cas.iter().flat_map(|ca| &ca.anchors);
        anchors.map(|anchor| DistinguishedName::in_sequence(&anchor.trust.subject)).collect()
    }

    pub(super) fn deadlines(&self, files: &TlsFiles) -> Vec<Deadline> {
        let of_ca = |(ca, files): (&Ca, &ClientCaFiles)| {
            let certificates = ca.anchors.iter().map(|anchor| Deadline {
                what: format!("client CA {}", ca.name),
                file: files.certificate.clone(),
                at: Timestamp::from_seconds(anchor.period.not_after),
            });
            let lists = ca.lists.iter().map(|list| Deadline {
                what: format!("revocation list of client CA {}", ca.name),
                file: list.file.clone(),
                at: Timestamp::from_seconds(list.next_update),
            });
            certificates.chain(lists).collect::<Vec<_>>()
        };
        self.cas.iter().zip(&files.client_cas).flat_map(of_ca).collect()
    }

    /// The whole question: may the holder of this chain come in now, and under which name?
    ///
    /// Asked in the handshake, once more on admission, and again for every open connection; the answer is
    /// remembered, so that only the first pays for signatures.
    pub(super) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Arc<Verified>, Refused> {
        let key = chain_hash(chain);
        if let Some(found) = self.remembered(&key, now) {
            return Ok(found);
        }
        let found = Arc::new(self.verify_afresh(chain, now)?);
        self.remember(key, &found);
        Ok(found)
    }

    fn remembered(&self, key: &[u8; 32], now: Timestamp) -> Option<Arc<Verified>> {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.get(key).filter(|found| found.period.check(now.seconds()).is_ok()).cloned()
    }

    fn remember(&self, key: [u8; 32], found: &Arc<Verified>) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= VERIFIED_CHAINS_MAX {
            verified.clear();
        }
        verified.insert(key, Arc::clone(found));
    }

    fn verify_afresh(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Verified, Refused> {
        let (leaf, intermediates) = chain.split_first().ok_or(Refused::NoCertificate)?;
        if chain.len() > CHAIN_CERTIFICATES_MAX {
            return Err(Refused::Malformed);
        }
        let parsed = parse(leaf)?;
        let (ca, path_period) = self.find_anchor(leaf, intermediates, now)?;
        check_usage(&parsed)?;
        let identity = name(&parsed)?.issued_by(&ca.name);
        let leaf_period = Period::of(&parsed)?;
        Ok(Verified {
            identity,
            leaf_not_after: Timestamp::from_seconds(leaf_period.not_after),
            period: path_period.and(leaf_period).and(ca.lists_period(now)),
        })
    }

    /// The first CA, in the order of the configuration, that anchors a valid path; or the most telling
    /// refusal.
    fn find_anchor(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<(&Ca, Period), Refused> {
        let end_entity = EndEntityCert::try_from(leaf).map_err(|error| refused(&error))?;
        let mut refusal = Refused::UnknownIssuer;
        for ca in &self.cas {
            for anchor in &ca.anchors {
                match self.verify_path(ca, anchor, &end_entity, intermediates, now) {
                    Ok(period) => return Ok((ca, period)),
                    Err(Refused::UnknownIssuer) => {}
                    Err(other) => refusal = other,
                }
            }
        }
        Err(refusal)
    }

    fn verify_path(
        &self,
        ca: &Ca,
        anchor: &Anchor,
        end_entity: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Period, Refused> {
        // webpki chooses by the issuer's name: a list of another anchor of that name would hide this one's.
        let lists: Vec<&CertRevocationList<'_>> =
            ca.lists.iter().filter(|list| list.may_speak_under(anchor)).map(|list| &list.parsed).collect();
        let revocation = match self.revocation {
            Revocation::Crl => Some(crl_options(&lists)?),
            Revocation::ShortLived => None,
        };
        let path = end_entity
            .verify_for_usage(
                self.algorithms.all,
                std::slice::from_ref(&anchor.trust),
                intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(now.seconds())),
                KeyUsage::client_auth(),
                revocation,
                None,
            )
            .map_err(|error| refused(&error))?;
        anchor.period.check(now.seconds())?;
        anchor.check_length(&path)?;
        self.path_period(&path).map(|period| period.and(anchor.period))
    }

    /// How long the certificates below the anchor count; with `short-lived` none of them for long.
    fn path_period(&self, path: &VerifiedPath<'_>) -> Result<Period, Refused> {
        let leaf = path.end_entity().der();
        let intermediates = path.intermediate_certificates().map(|certificate| certificate.der());
        let mut all = ALWAYS;
        for certificate in std::iter::once(leaf).chain(intermediates) {
            let period = Period::of(&parse(&certificate)?)?;
            if self.revocation == Revocation::ShortLived && period.seconds() > SHORT_LIVED_SECONDS {
                return Err(Refused::TooLongLived);
            }
            all = all.and(period);
        }
        Ok(all)
    }
}

const ALWAYS: Period = Period { not_before: 0, not_after: u64::MAX };

/// Every certificate of the chain, no certificate without a list, no list past its next update.
fn crl_options<'a>(lists: &'a [&'a CertRevocationList<'a>]) -> Result<RevocationOptions<'a>, Refused> {
    let builder = RevocationOptionsBuilder::new(lists).map_err(|_| Refused::RevocationUnknown)?;
    Ok(builder
        .with_depth(RevocationCheckDepth::Chain)
        .with_status_policy(UnknownStatusPolicy::Deny)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build())
}

impl Ca {
    fn load(
        files: &ClientCaFiles,
        revocation: Revocation,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<Self, TlsError> {
        let certificates = files::certificates(&files.certificate)?;
        if certificates.len() > ANCHORS_PER_CA_MAX {
            return Err(TlsError::unusable(&files.certificate, "has more than 8 certificates"));
        }
        let anchor = |certificate| Anchor::new(certificate, &files.certificate);
        let anchors = certificates.into_iter().map(anchor).collect::<Result<Vec<_>, _>>()?;
        let mut ca = Self { name: files.name.clone(), anchors, lists: Vec::new() };
        if revocation == Revocation::Crl {
            ca.load_lists(files, algorithms)?;
        }
        Ok(ca)
    }

    fn load_lists(
        &mut self,
        files: &ClientCaFiles,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), TlsError> {
        for file in &files.revocation_lists {
            for der in files::revocation_lists(file)? {
                self.lists.push(List::new(&der, file, &self.anchors, algorithms)?);
            }
        }
        if self.lists.len() > CRLS_PER_CA_MAX {
            return Err(TlsError::ca(&self.name, "has more than 32 revocation lists"));
        }
        let listed = |anchor: &Anchor| self.lists.iter().any(|list| list.is_of(anchor));
        if !self.anchors.iter().all(listed) {
            return Err(TlsError::ca(
                &self.name,
                "has no revocation list of its own, so nobody could come in",
            ));
        }
        // webpki takes the first list that speaks for a certificate: it must be the newest.
        self.lists.sort_by(|one, other| other.age().cmp(&one.age()));
        Ok(())
    }

    /// Until when the lists that are not stale yet stay so. webpki calls a list stale from its next update
    /// on.
    fn lists_period(&self, now: Timestamp) -> Period {
        let ends = self.lists.iter().map(|list| list.next_update.saturating_sub(1));
        let next = ends.filter(|end| *end >= now.seconds()).min();
        Period { not_before: 0, not_after: next.unwrap_or(u64::MAX) }
    }
}

impl Anchor {
    fn new(certificate: CertificateDer<'static>, file: &Path) -> Result<Self, TlsError> {
        let bad = |problem| TlsError::unusable(file, problem);
        let parsed = parse(&certificate).map_err(|_| bad("has a malformed certificate"))?;
        let trust = anchor_from_trusted_cert(&certificate)
            .map_err(|_| bad("has a certificate that cannot anchor trust"))?
            .to_owned();
        // Without this a leaf in the wrong place would let its holder issue further leaves.
        let constraints = parsed.basic_constraints().ok().flatten().map(|extension| extension.value);
        let intermediates_max = match constraints {
            Some(constraints) if constraints.ca => constraints.path_len_constraint,
            _ => return Err(bad("has a certificate that is no CA")),
        };
        let may_issue = parsed.key_usage().map(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
        if !may_issue.unwrap_or(false) {
            return Err(bad("has a certificate whose key usage forbids issuing certificates"));
        }
        let subject = parsed.subject().as_raw().to_vec();
        let period = Period::of(&parsed).map_err(|_| bad("has a certificate with a malformed validity"))?;
        Ok(Self { trust, subject, period, intermediates_max, certificate })
    }

    /// Its subject public key info.
    fn key(&self) -> &[u8] {
        self.trust.subject_public_key_info.as_ref()
    }

    fn check_length(&self, path: &VerifiedPath<'_>) -> Result<(), Refused> {
        let intermediates = path.intermediate_certificates().count();
        let fits = self.intermediates_max.is_none_or(|most| intermediates <= most as usize);
        if fits { Ok(()) } else { Err(Refused::UnknownIssuer) }
    }
}

impl List {
    fn new(
        der: &CertificateRevocationListDer<'_>,
        file: &Path,
        anchors: &[Anchor],
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<Self, TlsError> {
        let bad = |problem| TlsError::unusable(file, problem);
        let owned = OwnedCertRevocationList::from_der(der)
            .map_err(|_| bad("is malformed, or a delta or indirect revocation list"))?;
        let Ok(([], read)) = CertificateRevocationList::from_der(der) else {
            return Err(bad("is malformed"));
        };
        let issuer = read.issuer().as_raw().to_vec();
        let signer = signer_of(&read, &issuer, anchors, algorithms)
            .ok_or_else(|| bad("is not signed by the CA it names"))?;
        let seconds = |time: i64| u64::try_from(time).map_err(|_| bad("has a malformed date"));
        let next_update = read.next_update().ok_or_else(|| bad("has no next update"))?;
        let number = read.crl_number().ok_or_else(|| bad("has no CRL number, which RFC 5280 demands"))?;
        Ok(Self {
            parsed: CertRevocationList::Owned(owned),
            number: number.clone(),
            this_update: seconds(read.last_update().timestamp())?,
            next_update: seconds(next_update.timestamp())?,
            issuer,
            signer,
            file: file.to_owned(),
        })
    }

    /// Lists of one issuer in the order in which they were made.
    fn age(&self) -> (&BigUint, u64) {
        (&self.number, self.this_update)
    }

    fn is_older_than(&self, held: &Self) -> bool {
        self.number < held.number || self.this_update < held.this_update
    }

    fn covers_same_as(&self, other: &Self) -> bool {
        let scope = |list: &Self| list.parsed.issuing_distribution_point().map(<[u8]>::to_vec);
        self.issuer == other.issuer && self.signer == other.signer && scope(self) == scope(other)
    }

    fn is_of(&self, anchor: &Anchor) -> bool {
        matches!(&self.signer, Signer::Anchor(key) if *key == anchor.key())
    }

    fn may_speak_under(&self, anchor: &Anchor) -> bool {
        matches!(self.signer, Signer::Intermediate(_)) || self.is_of(anchor)
    }
}

/// Whose a list is; `None` if it names an anchor and is signed by none of that name. A list of an
/// intermediate is checked when a client shows that intermediate; webpki checks all of them again at each
/// use.
fn signer_of(
    list: &CertificateRevocationList<'_>,
    issuer: &[u8],
    anchors: &[Anchor],
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<Signer> {
    let mut issuers = anchors.iter().filter(|anchor| anchor.subject == issuer).peekable();
    if issuers.peek().is_none() {
        let mut extensions = list.extensions().iter();
        let key = extensions.find(|extension| extension.oid == OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER);
        return Some(Signer::Intermediate(key.map_or(&[][..], |key| key.value).to_vec()));
    }
    let message = list.tbs_cert_list.as_ref();
    let signed_by = |anchor: &&Anchor| {
        EndEntityCert::try_from(&anchor.certificate).is_ok_and(|certificate| {
            let verifies = |algorithm: &&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
                certificate.verify_signature(*algorithm, message, &list.signature_value.data).is_ok()
            };
            algorithms.all.iter().any(verifies)
        })
    };
    issuers.find(signed_by).map(|anchor| Signer::Anchor(anchor.key().to_vec()))
}

/// One key under two names would make the name of the CA depend on the order of the file.
fn refuse_doubles(cas: &[Ca]) -> Result<(), TlsError> {
    let mut names = HashSet::new();
    let mut keys = HashMap::new();
    for ca in cas {
        if !names.insert(&ca.name) {
            return Err(TlsError::ca(&ca.name, "stands there twice"));
        }
        for anchor in &ca.anchors {
            if *keys.entry(anchor.key()).or_insert(&ca.name) != &ca.name {
                return Err(TlsError::ca(&ca.name, "has the key of another client CA"));
            }
        }
    }
    Ok(())
}

/// Length-prefixed, so that no two chains give one input.
fn chain_hash(chain: &[CertificateDer<'_>]) -> [u8; 32] {
    let lengths: Vec<[u8; 8]> =
        chain.iter().map(|certificate| (certificate.len() as u64).to_be_bytes()).collect();
    let pairs = lengths.iter().zip(chain);
    let parts: Vec<&[u8]> =
        pairs.flat_map(|(length, certificate)| [length.as_slice(), certificate.as_ref()]).collect();
    sha256(&parts)
}

fn refused(error: &PathError) -> Refused {
    match error {
        PathError::CertExpired { .. } => Refused::Expired,
        PathError::CertNotValidYet { .. } => Refused::NotYetValid,
        PathError::CertRevoked => Refused::Revoked,
        PathError::CrlExpired { .. } => Refused::RevocationStale,
        PathError::IssuerNotCrlSigner
        | PathError::InvalidCrlSignatureForPublicKey
        | PathError::UnknownRevocationStatus
        | PathError::UnsupportedCrlSignatureAlgorithmContext(_)
        | PathError::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => Refused::RevocationUnknown,
        PathError::InvalidSignatureForPublicKey => Refused::BadSignature,
        PathError::UnsupportedSignatureAlgorithmContext(_)
        | PathError::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Refused::WeakAlgorithm,
        PathError::EmptyEkuExtension | PathError::RequiredEkuNotFoundContext(_) => Refused::WrongUsage,
        PathError::CaUsedAsEndEntity => Refused::WrongUsage,
        PathError::UnknownIssuer => Refused::UnknownIssuer,
        _ => Refused::Malformed,
    }
}
