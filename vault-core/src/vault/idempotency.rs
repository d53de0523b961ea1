//! Idempotency keys: the same call again has the same outcome, for 24 hours.
//!
//! The row holds a keyed MAC of the request's canonical body, never a plain hash: an unkeyed hash of a body
//! with a PAN in it is a hash of the PAN. Each class of values in the body has its own MAC under that class's
//! key, so that closing a deletion epoch also ends what the row could confirm.

use crate::clock::Timestamp;
use crate::crypto::{MacKey, sha256};
use crate::data::{CallerText, Class, TenantId, Token, Value};
use crate::error::{Error, Invalid};
use crate::limits::IDEMPOTENCY_SECONDS;
use crate::store::{Key, Space, rows};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::batch::Planning;
use super::open::Keys;
use super::prepare::Preparing;
use super::request::NewValue;

/// Calls whose idempotency keys never meet.
#[derive(Clone, Copy)]
pub(super) enum Rpc {
    Tokenize = 1,
    BatchTokenize = 2,
}

/// An idempotency key with what the lane needs to recognise the same body.
pub(super) struct PreparedIdempotency {
    pub(super) key: Key,
    tenant: TenantId,
    bodies: Vec<ClassBody>,
}

/// The canonical body as one class sees it: the whole shape of the call, and the values of this class.
struct ClassBody {
    class: Class,
    /// Version and MAC under the encrypting key.
    version: u32,
    mac: [u8; 32],
    canonical: Zeroizing<Vec<u8>>,
}

/// Begins the key of a trace, as an RPC begins that of an outcome.
const TRACE: u8 = 0;

/// What the keys of all traces of a token begin with. A trace leads from a token to an idempotency row that
/// has it for an outcome, so that erasing finds the row; it ends when the row does.
pub(super) fn trace_start(token: &Token) -> Vec<u8> {
    [&[TRACE][..], &token.to_bytes()].concat()
}

/// A trace and its value. It has a key of its own for every outcome: traces are written without being read.
fn trace(tenant: &TenantId, token: &Token, row: &Key, expires_at: Timestamp) -> (Key, Vec<u8>) {
    let ends = expires_at.micros().to_be_bytes();
    let hash = sha256(&[row.bytes()]);
    let hash = hash.get(..TRACE_HASH_BYTES).unwrap_or_default();
    let bytes = [&trace_start(token)[..], &ends, hash].concat();
    (Key::new(Space::Idempotency, Some(tenant), &bytes), [&ends, row.bytes()].concat())
}

const TRACE_HASH_BYTES: usize = 16;

/// Whether a row has this token for an outcome.
pub(super) fn remembers(row: &[u8], token: &Token) -> Result<bool, Error> {
    let remembered = Remembered::parse(row).ok_or(Error::Corrupt)?;
    let results = decode_results(remembered.results).ok_or(Error::Corrupt)?;
    Ok(results.contains(&Ok(*token)))
}

/// The row that a trace leads to; `None` when the trace does not authenticate.
pub(super) fn traced(keys: &Keys, tenant: &TenantId, trace: &Key, row: &[u8]) -> Option<Key> {
    let value = rows::unguard(keys.keyring.row_mac(), keys.keyring.vault_id(), trace, row).ok()?;
    let (_, bytes) = value.split_first_chunk::<8>()?;
    Some(Key::new(Space::Idempotency, Some(tenant), bytes))
}

/// Bytes of one class's MAC in the row: class, key version, MAC.
const CLASS_MAC_BYTES: usize = 1 + 4 + 32;

impl PreparedIdempotency {
    /// The same key and body under the keys of now.
    pub(super) fn renewed(&self, keys: &Keys, at: Timestamp) -> Result<Self, Error> {
        let body = |body: &ClassBody| {
            let keys = keys.encrypting(&self.tenant, body.class, at)?;
            let canonical = body.canonical.clone();
            let mac = body_mac(keys.idempotency(), &self.key, &canonical);
            Ok(ClassBody { class: body.class, version: keys.version(), mac, canonical })
        };
        let bodies = self.bodies.iter().map(body).collect::<Result<_, Error>>()?;
        Ok(Self { key: self.key.clone(), tenant: self.tenant.clone(), bodies })
    }
}

impl Preparing<'_> {
    pub(super) fn idempotency(
        &self,
        text: &CallerText,
        rpc: Rpc,
        items: &[Result<NewValue, Invalid>],
    ) -> Result<PreparedIdempotency, Error> {
        let principal = self.principal.as_ref().ok_or(Error::Denied)?;
        let tenant = principal.tenant().one().cloned().ok_or(Error::Denied)?;
        let mut bytes = vec![rpc as u8];
        bytes.extend_from_slice(principal.id().as_str().as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(text.as_str().as_bytes());
        let key = Key::new(Space::Idempotency, Some(&tenant), &bytes);
        let present = |class| items.iter().flatten().any(|item| item.value.class() == class);
        let classes = Class::ALL.into_iter().filter(|class| present(*class));
        let body = |class| self.class_body(&tenant, class, &key, items).transpose();
        let bodies = classes.filter_map(body).collect::<Result<_, Error>>()?;
        Ok(PreparedIdempotency { key, tenant, bodies })
    }

    /// `None` for a class that the tenant does not keep: there is no key to compare such values with, and
    /// each of them is refused whatever it is.
    fn class_body(
        &self,
        tenant: &TenantId,
        class: Class,
        key: &Key,
        items: &[Result<NewValue, Invalid>],
    ) -> Result<Option<ClassBody>, Error> {
        if self.keys.keyring.versions(tenant, class).is_empty() {
            return Ok(None);
        }
        let keys = self.keys.encrypting(tenant, class, self.now)?;
        let canonical = canonical(class, items);
        let mac = body_mac(keys.idempotency(), key, &canonical);
        Ok(Some(ClassBody { class, version: keys.version(), mac, canonical }))
    }
}

fn body_mac(mac_key: &MacKey, key: &Key, canonical: &[u8]) -> [u8; 32] {
    let length = (key.bytes().len() as u64).to_be_bytes();
    mac_key.mac(&[&length, key.bytes(), canonical])
}

/// Every item in order, each part length-prefixed; values of another class stand there as their class alone.
fn canonical(class: Class, items: &[Result<NewValue, Invalid>]) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(64 + items.len() * 192));
    body.push(class.code());
    for item in items {
        match item {
            Ok(item) => canonical_item(class, item, &mut body),
            Err(invalid) => body.extend_from_slice(&[0, *invalid as u8]),
        }
    }
    body
}

fn canonical_item(class: Class, item: &NewValue, body: &mut Vec<u8>) {
    body.push(item.value.class().code());
    if item.value.class() == class {
        push_part(body, &padded(&item.value));
    }
    push_part(body, item.reference.as_ref().map_or("", |text| text.as_str()).as_bytes());
    body.extend_from_slice(&(item.purposes.len() as u32).to_be_bytes());
    for purpose in &item.purposes {
        push_part(body, purpose.as_str().as_bytes());
    }
}

fn padded(value: &Value) -> Zeroizing<Vec<u8>> {
    value.to_padded()
}

fn push_part(body: &mut Vec<u8>, part: &[u8]) {
    body.extend_from_slice(&(part.len() as u32).to_be_bytes());
    body.extend_from_slice(part);
}

/// A row: when it ends, the MACs of the body, the outcome.
struct Remembered<'a> {
    expires_at: Timestamp,
    macs: &'a [u8],
    results: &'a [u8],
}

impl<'a> Remembered<'a> {
    fn parse(row: &'a [u8]) -> Option<Self> {
        let (expires_at, rest) = row.split_first_chunk()?;
        let (classes, rest) = rest.split_first()?;
        let (macs, results) = rest.split_at_checked(usize::from(*classes) * CLASS_MAC_BYTES)?;
        Some(Self { expires_at: Timestamp::from_micros(u64::from_be_bytes(*expires_at)), macs, results })
    }
}

/// When a row in [`Space::Idempotency`] ends, an outcome or a trace.
pub(super) fn expires_at(row: &[u8]) -> Option<Timestamp> {
    row.first_chunk().map(|micros| Timestamp::from_micros(u64::from_be_bytes(*micros)))
}

impl Planning<'_> {
    /// The outcome of the same call before, if there was one in the last 24 hours.
    #[allow(clippy::type_complexity, reason = "the outcome of each item, once for the call")]
    pub(super) fn replayed(
        &self,
        prepared: &PreparedIdempotency,
        at: Timestamp,
    ) -> Result<Option<Vec<Result<Token, Error>>>, Error> {
        let Some(row) = self.row(&prepared.key)? else {
            return Ok(None);
        };
        let remembered = Remembered::parse(row).ok_or(Error::Corrupt)?;
        if at >= remembered.expires_at {
            return Ok(None);
        }
        if !self.same_body(prepared, remembered.macs) {
            return Err(Error::IdempotencyKeyReused);
        }
        decode_results(remembered.results).map(Some).ok_or(Error::Corrupt)
    }

    /// Compares under the key version that the row was written with.
    fn same_body(&self, prepared: &PreparedIdempotency, macs: &[u8]) -> bool {
        let stored = macs.chunks_exact(CLASS_MAC_BYTES);
        stored.len() == prepared.bodies.len()
            && stored.zip(&prepared.bodies).all(|(stored, body)| self.same_class_body(prepared, body, stored))
    }

    fn same_class_body(&self, prepared: &PreparedIdempotency, body: &ClassBody, stored: &[u8]) -> bool {
        let Some(([class, version @ ..], mac)) = stored.split_first_chunk::<5>() else {
            return false;
        };
        let version = u32::from_be_bytes(*version);
        if *class != body.class.code() {
            return false;
        }
        if version == body.version {
            return bool::from(body.mac.ct_eq(mac));
        }
        let keys = self.keys.keyring.decrypting(&prepared.tenant, body.class, version);
        keys.is_some_and(|keys| {
            body_mac(keys.idempotency(), &prepared.key, &body.canonical).ct_eq(mac).into()
        })
    }

    /// Remembers an outcome that wrote something. A call without any token is a refusal: not remembered.
    pub(super) fn remember(
        &mut self,
        prepared: &PreparedIdempotency,
        results: &[Result<Token, Error>],
        at: Timestamp,
    ) {
        if !results.iter().any(Result::is_ok) {
            return;
        }
        let expires_at = at.plus_seconds(IDEMPOTENCY_SECONDS);
        let mut row = expires_at.micros().to_be_bytes().to_vec();
        row.push(prepared.bodies.len() as u8);
        for body in &prepared.bodies {
            row.push(body.class.code());
            row.extend_from_slice(&body.version.to_be_bytes());
            row.extend_from_slice(&body.mac);
        }
        encode_results(results, &mut row);
        self.put_row(prepared.key.clone(), &row);
        results.iter().flatten().for_each(|token| self.put_trace(prepared, token, expires_at));
    }

    fn put_trace(&mut self, prepared: &PreparedIdempotency, token: &Token, expires_at: Timestamp) {
        let (trace, value) = trace(&prepared.tenant, token, &prepared.key, expires_at);
        self.put_row(trace.clone(), &value);
        if let Some(around) = &mut self.around {
            around.entry(*token).or_default().traces.push((trace, prepared.key.clone()));
        }
    }
}

const TOKEN: u8 = 1;
const REFUSED: u8 = 2;

fn encode_results(results: &[Result<Token, Error>], row: &mut Vec<u8>) {
    for result in results {
        match result {
            Ok(token) => {
                row.push(TOKEN);
                row.extend_from_slice(&token.to_bytes());
            }
            Err(error) => row.extend_from_slice(&[REFUSED, refused_code(error)]),
        }
    }
}

/// The verdicts an item of a remembered batch can have.
const fn refused_code(error: &Error) -> u8 {
    match error {
        Error::Invalid(invalid) => *invalid as u8,
        Error::Denied => 0xf0,
        Error::Corrupt => 0xf1,
        _ => 0xff,
    }
}

fn refused_error(code: u8) -> Error {
    match code {
        0xf0 => Error::Denied,
        0xf1 => Error::Corrupt,
        code => Invalid::from_code(code).map_or(Error::Bug, Error::Invalid),
    }
}

fn decode_results(mut row: &[u8]) -> Option<Vec<Result<Token, Error>>> {
    let mut results = Vec::new();
    while let Some((kind, rest)) = row.split_first() {
        let (result, rest) = match *kind {
            TOKEN => {
                let (token, rest) = rest.split_at_checked(21)?;
                (Ok(Token::from_bytes(token).ok()?), rest)
            }
            REFUSED => {
                let (code, rest) = rest.split_first()?;
                (Err(refused_error(*code)), rest)
            }
            _ => return None,
        };
        results.push(result);
        row = rest;
    }
    Some(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Purposes;
    use crate::data::{PurposeId, Ssn};

    #[test]
    fn a_trace_is_the_documented_one() {
        let tenant = TenantId::parse("acme").unwrap();
        let row = Key::new(Space::Idempotency, Some(&tenant), b"\x01checkout\0order-1");
        let token = Token::from_parts(Class::Pan, [2; 16], [3; 4]);
        let (key, value) = trace(&tenant, &token, &row, Timestamp::from_seconds(1_700_086_400));
        crate::data::documents::shows("store-rows.md", key.encoded());
        crate::data::documents::shows("store-rows.md", &value);
        assert_eq!(expires_at(&value), Some(Timestamp::from_seconds(1_700_086_400)), "swept as its row");
    }

    #[test]
    fn body_and_outcome_are_the_documented_ones() {
        let item = NewValue {
            value: Value::Ssn(Ssn::parse(b"123456789").unwrap()),
            purposes: Purposes::new(vec![PurposeId::parse("refund").unwrap()]).unwrap(),
            reference: Some(CallerText::parse("order-1").unwrap()),
        };
        crate::data::documents::shows(
            "store-rows.md",
            &canonical(Class::Ssn, &[Ok(item), Err(Invalid::PanLuhn)]),
        );
        let token = Token::from_parts(Class::Ssn, [2; 16], [3; 4]);
        let results = [Ok(token), Err(Error::Invalid(Invalid::PanLuhn)), Err(Error::Denied)];
        let mut row = Vec::new();
        encode_results(&results, &mut row);
        crate::data::documents::shows("store-rows.md", &row);
        assert_eq!(decode_results(&row), Some(results.to_vec()));
    }
}
