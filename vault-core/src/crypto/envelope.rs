//! A record at rest: a clear header and an encrypted value, both authenticated together with their
//! [`Context`].
//!
//! The bytes are specified in `docs/format/envelope.md`.

use std::slice;

use thiserror::Error;
use zeroize::Zeroizing;

use super::aead::{DecryptFailed, NONCE_BYTES, RecordKey, TAG_BYTES};
use super::codec::{Reader, put_short_text};
use super::context::Context;
use crate::clock::Timestamp;
use crate::data::PurposeId;
use crate::error::Invalid;
use crate::limits::RECORD_PURPOSES_MAX;

/// Version of the record format.
const FORMAT: u8 = 1;
/// XAES-256-GCM, the only algorithm of format 1.
const ALGORITHM: u8 = 1;
/// Format, algorithm, key version, record version, state, created-at, flags, purpose count.
const FIXED_HEADER_BYTES: usize = 1 + 1 + 4 + 4 + 1 + 8 + 1 + 1;

const HAS_EXPIRY: u8 = 1;
const HAS_USES_LEFT: u8 = 2;

/// Bytes that are no envelope of a known format in its one canonical form.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the envelope is malformed")]
pub struct Malformed;

/// Whether a record may be used.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum RecordState {
    /// It may.
    Active = 1,
    /// Deactivated: kept, but not given out.
    Inactive = 2,
}

impl RecordState {
    /// The byte used in stored and authenticated formats. Never changes.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The state of a stored byte.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Active),
            2 => Some(Self::Inactive),
            _ => None,
        }
    }
}

/// The purposes a record is restricted to: a set of at most 16, in order. Empty: not restricted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Purposes(Vec<PurposeId>);

impl Purposes {
    /// No restriction.
    pub const fn unrestricted() -> Self {
        Self(Vec::new())
    }

    /// Takes a list in any order; repetitions count once.
    ///
    /// # Errors
    /// [`Invalid::PurposesInvalid`] when more than 16 differ.
    pub fn new(mut purposes: Vec<PurposeId>) -> Result<Self, Invalid> {
        purposes.sort_unstable();
        purposes.dedup();
        if purposes.len() > RECORD_PURPOSES_MAX {
            return Err(Invalid::PurposesInvalid);
        }
        Ok(Self(purposes))
    }

    /// Whether the record may be used for this purpose.
    pub fn allow(&self, purpose: &PurposeId) -> bool {
        self.0.is_empty() || self.0.binary_search(purpose).is_ok()
    }

    /// The purposes in order.
    pub fn iter(&self) -> slice::Iter<'_, PurposeId> {
        self.0.iter()
    }

    /// How many; 0: not restricted.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the record is not restricted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Purposes {
    type Item = &'a PurposeId;
    type IntoIter = slice::Iter<'a, PurposeId>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What is readable without a key. Authenticated with the value: any change encrypts anew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordHeader {
    /// Grows by one with each change of the record; begins at 1.
    pub record_version: u32,
    /// Whether the record may be used.
    pub state: RecordState,
    /// When the value was tokenized.
    pub created_at: Timestamp,
    /// When it stops being given out; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// How often it may still be given out; `None`: without limit.
    pub uses_left: Option<u32>,
    /// For what it may be used.
    pub purposes: Purposes,
    /// The version of the data key that encrypted it.
    pub key_version: u32,
}

impl RecordHeader {
    pub(super) fn encoded_len(&self) -> usize {
        let expiry = if self.expires_at.is_some() { 8 } else { 0 };
        let uses_left = if self.uses_left.is_some() { 4 } else { 0 };
        let purposes: usize = self.purposes.iter().map(|purpose| 1 + purpose.as_str().len()).sum();
        FIXED_HEADER_BYTES + expiry + uses_left + purposes
    }

    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        let expiry_flag = if self.expires_at.is_some() { HAS_EXPIRY } else { 0 };
        let uses_flag = if self.uses_left.is_some() { HAS_USES_LEFT } else { 0 };
        out.extend_from_slice(&[FORMAT, ALGORITHM]);
        out.extend_from_slice(&self.key_version.to_be_bytes());
        out.extend_from_slice(&self.record_version.to_be_bytes());
        out.push(self.state.code());
        out.extend_from_slice(&self.created_at.micros().to_be_bytes());
        out.push(expiry_flag | uses_flag);
        out.extend(self.expires_at.map(|at| at.micros().to_be_bytes()).into_iter().flatten());
        out.extend(self.uses_left.map(u32::to_be_bytes).into_iter().flatten());
        out.push(self.purposes.len() as u8); // at most 16, by construction
        self.purposes.iter().for_each(|purpose| put_short_text(out, purpose.as_str()));
    }

    #[cfg(test)]
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let header = Self::read(&mut reader)?;
        reader.finish().map(|()| header)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.array()? != [FORMAT, ALGORITHM] {
            return None;
        }
        let key_version = reader.u32()?;
        let record_version = reader.u32()?;
        let state = RecordState::from_code(reader.u8()?)?;
        let created_at = Timestamp::from_micros(reader.u64()?);
        let flags = reader.u8()?;
        if flags & !(HAS_EXPIRY | HAS_USES_LEFT) != 0 {
            return None;
        }
        let expires_at = match flags & HAS_EXPIRY {
            0 => None,
            _ => Some(Timestamp::from_micros(reader.u64()?)),
        };
        let uses_left = match flags & HAS_USES_LEFT {
            0 => None,
            _ => Some(reader.u32()?),
        };
        let purposes = read_purposes(reader)?;
        Some(Self { record_version, state, created_at, expires_at, uses_left, purposes, key_version })
    }
}

/// Only the order in which [`Purposes`] writes them is accepted.
fn read_purposes(reader: &mut Reader<'_>) -> Option<Purposes> {
    let count = usize::from(reader.u8()?);
    if count > RECORD_PURPOSES_MAX {
        return None;
    }
    let mut purposes = Vec::with_capacity(count);
    for _ in 0..count {
        purposes.push(PurposeId::parse(reader.short_text()?).ok()?);
    }
    purposes.is_sorted_by(|a, b| a < b).then_some(Purposes(purposes))
}

/// One record as it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    header: RecordHeader,
    nonce: [u8; NONCE_BYTES],
    ciphertext: Vec<u8>,
}

impl Envelope {
    /// Encrypts a padded value under its context and header. The nonce must be fresh from an entropy source.
    pub fn encrypt(
        key: &RecordKey,
        context: &Context<'_>,
        header: RecordHeader,
        nonce: [u8; NONCE_BYTES],
        plaintext: &[u8],
    ) -> Self {
        let ciphertext = key.encrypt(&nonce, &context.associated_data(&header), plaintext);
        Self { header, nonce, ciphertext }
    }

    /// Decrypts the padded value.
    ///
    /// # Errors
    /// [`DecryptFailed`] under any other key, context, header, nonce or ciphertext.
    pub fn decrypt(
        &self,
        key: &RecordKey,
        context: &Context<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, DecryptFailed> {
        key.decrypt(&self.nonce, &context.associated_data(&self.header), &self.ciphertext)
    }

    /// What is readable without a key. Not trustworthy before [`decrypt`](Self::decrypt) succeeded.
    pub const fn header(&self) -> &RecordHeader {
        &self.header
    }

    /// The stored bytes: header ‖ nonce ‖ ciphertext ‖ tag.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.header.encoded_len() + NONCE_BYTES + self.ciphertext.len());
        self.header.encode_into(&mut out);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.ciphertext);
        out
    }

    /// Reads stored bytes, accepting exactly what [`to_bytes`](Self::to_bytes) writes.
    ///
    /// # Errors
    /// [`Malformed`] for any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(Reader::new(bytes)).ok_or(Malformed)
    }

    fn read(mut reader: Reader<'_>) -> Option<Self> {
        let header = RecordHeader::read(&mut reader)?;
        let nonce = reader.array()?;
        let ciphertext = reader.rest();
        (ciphertext.len() >= TAG_BYTES).then(|| Self { header, nonce, ciphertext: ciphertext.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Entropy, Key32, SeededEntropy};
    use crate::data::{Class, Environment, TenantId, Token, VaultId};

    struct Place {
        environment: Environment,
        vault_id: VaultId,
        tenant: TenantId,
        class: Class,
        token: Token,
    }

    impl Place {
        fn new() -> Self {
            Self {
                environment: Environment::parse("test").unwrap(),
                vault_id: VaultId::from_bytes([1; 16]),
                tenant: TenantId::parse("acme").unwrap(),
                class: Class::Pan,
                token: Token::from_parts(Class::Pan, [2; 16], [3; 4]),
            }
        }

        fn context(&self) -> Context<'_> {
            Context {
                environment: &self.environment,
                vault_id: &self.vault_id,
                tenant: &self.tenant,
                class: self.class,
                token: &self.token,
            }
        }
    }

    fn key(seed: u64) -> RecordKey {
        RecordKey::new(&Key32::generate(&mut SeededEntropy::new(seed)).unwrap())
    }

    fn nonce(entropy: &mut dyn Entropy) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        entropy.fill(&mut nonce).unwrap();
        nonce
    }

    fn purposes(names: &[&str]) -> Purposes {
        Purposes::new(names.iter().map(|name| PurposeId::parse(name).unwrap()).collect()).unwrap()
    }

    fn full_header() -> RecordHeader {
        RecordHeader {
            record_version: 7,
            state: RecordState::Active,
            created_at: Timestamp::from_seconds(1_700_000_000),
            expires_at: Some(Timestamp::from_seconds(1_800_000_000)),
            uses_left: Some(3),
            purposes: purposes(&["refund", "settlement"]),
            key_version: 5,
        }
    }

    fn bare_header() -> RecordHeader {
        RecordHeader {
            expires_at: None,
            uses_left: None,
            purposes: Purposes::unrestricted(),
            ..full_header()
        }
    }

    type Change = fn(&mut RecordHeader);

    const PLAINTEXT: &[u8; 96] = &[9; 96];

    fn envelope(header: RecordHeader) -> Envelope {
        Envelope::encrypt(&key(1), &Place::new().context(), header, [4; NONCE_BYTES], PLAINTEXT)
    }

    #[test]
    fn what_was_encrypted_decrypts_after_a_round_trip_through_bytes() {
        for header in [full_header(), bare_header()] {
            let bytes = envelope(header.clone()).to_bytes();
            let read = Envelope::from_bytes(&bytes).unwrap();
            assert_eq!(read.header(), &header);
            assert_eq!(read.to_bytes(), bytes);
            assert_eq!(*read.decrypt(&key(1), &Place::new().context()).unwrap(), PLAINTEXT);
        }
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let key = RecordKey::new(&Key32::from_bytes(Zeroizing::new([7; 32])));
        let place = Place::new();
        let sealed = Envelope::encrypt(&key, &place.context(), full_header(), [4; NONCE_BYTES], PLAINTEXT);
        crate::data::documents::shows("envelope.md", &place.context().associated_data(&full_header()));
        crate::data::documents::shows("envelope.md", &sealed.to_bytes());
    }

    #[test]
    fn sizes_are_as_documented() {
        assert_eq!(envelope(bare_header()).to_bytes().len(), 21 + 24 + 96 + 16);
        let longest: Vec<_> = (0..16).map(|n| format!("p{n:02}{}", "x".repeat(29))).collect();
        let longest = purposes(&longest.iter().map(String::as_str).collect::<Vec<_>>());
        let header = RecordHeader { purposes: longest, ..full_header() };
        assert_eq!(header.encoded_len(), 561);
    }

    #[test]
    fn a_record_opens_in_no_other_context() {
        let sealed = envelope(full_header());
        let mut others: Vec<(&str, Place)> = vec![
            ("environment", Place { environment: Environment::parse("prod").unwrap(), ..Place::new() }),
            ("tenant", Place { tenant: TenantId::parse("acme2").unwrap(), ..Place::new() }),
            ("class", Place { class: Class::Ssn, ..Place::new() }),
            ("token class", Place { token: Token::from_parts(Class::Ssn, [2; 16], [3; 4]), ..Place::new() }),
        ];
        for byte in 0..16 {
            let (mut id, mut bits) = ([1; 16], [2; 16]);
            id[byte] ^= 1;
            bits[byte] ^= 1;
            others.push(("vault id", Place { vault_id: VaultId::from_bytes(id), ..Place::new() }));
            others.push((
                "token",
                Place { token: Token::from_parts(Class::Pan, bits, [3; 4]), ..Place::new() },
            ));
        }
        for byte in 0..4 {
            let mut tag = [3; 4];
            tag[byte] ^= 1;
            others
                .push(("tag", Place { token: Token::from_parts(Class::Pan, [2; 16], tag), ..Place::new() }));
        }
        for (what, place) in others {
            assert_eq!(sealed.decrypt(&key(1), &place.context()), Err(DecryptFailed), "{what}");
        }
        assert_eq!(sealed.decrypt(&key(2), &Place::new().context()), Err(DecryptFailed), "key");
        assert!(sealed.decrypt(&key(1), &Place::new().context()).is_ok());
    }

    #[test]
    fn a_record_opens_under_no_other_header() {
        let changes: [(&str, Change); 10] = [
            ("record version", |header| header.record_version += 1),
            ("state", |header| header.state = RecordState::Inactive),
            ("created at", |header| {
                header.created_at = Timestamp::from_micros(header.created_at.micros() + 1);
            }),
            ("expiry", |header| header.expires_at = header.expires_at.map(|at| at.plus_seconds(1))),
            ("no expiry", |header| header.expires_at = None),
            ("uses left", |header| header.uses_left = Some(4)),
            ("no use limit", |header| header.uses_left = None),
            ("one purpose more", |header| header.purposes = purposes(&["refund", "settlement", "x"])),
            ("no purposes", |header| header.purposes = Purposes::unrestricted()),
            ("key version", |header| header.key_version += 1),
        ];
        for (what, change) in changes {
            let mut changed = envelope(full_header());
            change(&mut changed.header);
            assert_eq!(changed.decrypt(&key(1), &Place::new().context()), Err(DecryptFailed), "{what}");
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_or_fails_to_decrypt() {
        for header in [full_header(), bare_header()] {
            let bytes = envelope(header).to_bytes();
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let opened = Envelope::from_bytes(&flipped)
                    .is_ok_and(|read| read.decrypt(&key(1), &Place::new().context()).is_ok());
                assert!(!opened, "bit {bit}");
            }
        }
    }

    #[test]
    fn whatever_is_read_is_written_the_same() {
        // Canonical: no two byte strings mean the same envelope.
        for header in [full_header(), bare_header()] {
            let bytes = envelope(header).to_bytes();
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(read) = Envelope::from_bytes(&flipped) {
                    assert_eq!(read.to_bytes(), flipped, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn every_truncation_and_extension_is_refused_or_fails_to_decrypt() {
        let bytes = envelope(full_header()).to_bytes();
        let opens = |bytes: &[u8]| {
            Envelope::from_bytes(bytes)
                .is_ok_and(|read| read.decrypt(&key(1), &Place::new().context()).is_ok())
        };
        for length in 0..bytes.len() {
            assert!(!opens(&bytes[..length]), "{length} bytes");
        }
        assert!(!opens(&[&bytes[..], &[0]].concat()));
        assert!(opens(&bytes));
    }

    #[test]
    fn purposes_are_read_in_their_one_order_only() {
        let unsorted = Purposes(vec![PurposeId::parse("b").unwrap(), PurposeId::parse("a").unwrap()]);
        let repeated = Purposes(vec![PurposeId::parse("a").unwrap(), PurposeId::parse("a").unwrap()]);
        let many = Purposes((0..17).map(|n| PurposeId::parse(&format!("p{n:02}")).unwrap()).collect());
        for purposes in [unsorted, repeated, many] {
            let bytes = envelope(RecordHeader { purposes, ..full_header() }).to_bytes();
            assert_eq!(Envelope::from_bytes(&bytes), Err(Malformed));
        }
        let names = (0..17).map(|n| PurposeId::parse(&format!("p{n:02}")).unwrap()).collect();
        assert_eq!(Purposes::new(names), Err(Invalid::PurposesInvalid));
    }

    #[test]
    fn purposes_restrict_unless_there_are_none() {
        let (refund, other) = (PurposeId::parse("refund").unwrap(), PurposeId::parse("other").unwrap());
        assert!(purposes(&["settlement", "refund", "refund"]).allow(&refund));
        assert!(!purposes(&["settlement", "refund"]).allow(&other));
        assert!(Purposes::unrestricted().allow(&other));
    }

    #[test]
    fn ciphertexts_of_300_records_open_in_no_other_place() {
        let mut entropy = SeededEntropy::new(3);
        let key = key(1);
        let places: Vec<_> = (0..300_u16)
            .map(|n| {
                let mut bits = [0; 16];
                entropy.fill(&mut bits).unwrap();
                let tenant = TenantId::parse(["acme", "initech", "umbrella"][usize::from(n % 3)]).unwrap();
                Place { tenant, token: Token::from_parts(Class::Pan, bits, [0; 4]), ..Place::new() }
            })
            .collect();
        let envelopes: Vec<_> = places
            .iter()
            .map(|place| {
                let nonce = nonce(&mut entropy);
                Envelope::encrypt(&key, &place.context(), bare_header(), nonce, PLAINTEXT)
            })
            .collect();
        let opened = |at: usize, from: usize| envelopes[from].decrypt(&key, &places[at].context()).is_ok();
        let opening = (0..300).flat_map(|at| (0..300).map(move |from| (at, from)));
        let opening: Vec<_> = opening.filter(|(at, from)| opened(*at, *from)).collect();
        assert_eq!(opening, (0..300).map(|n| (n, n)).collect::<Vec<_>>(), "only where they belong");
    }
}
