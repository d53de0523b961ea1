//! Tokenize: a value goes in, a token comes out.

use crate::audit::{Entry, LeafHash, Outcome as Recorded, leaf_hash};
use crate::clock::Timestamp;
use crate::crypto::{Entropy, Envelope, RecordHeader, RecordState};
use crate::data::{CallerText, Class, PurposeId, TenantId, Token, Value};
use crate::error::{Error, Invalid};
use crate::keys::{KeyState, KeyVersionInfo};
use crate::policy::{Grant, Right};
use crate::store::{Key, Space};

use super::batch::Planning;
use super::idempotency::{PreparedIdempotency, Rpc};
use super::open::Keys;
use super::outcome::Reply;
use super::prepare::{Prepared, Preparing, refusal};
use super::request::NewValue;

/// A tokenize call, minted and encrypted.
pub(super) struct PreparedTokenize {
    pub(super) items: Vec<PreparedItem>,
    pub(super) idempotency: Option<PreparedIdempotency>,
}

/// One item of it.
pub(super) enum PreparedItem {
    Bad { error: Error, entry: Entry },
    Ready(Box<ReadyItem>),
}

/// A record that only waits to be written.
pub(super) struct ReadyItem {
    token: Token,
    key: Key,
    envelope: Vec<u8>,
    /// Blind-index rows of the value, those that it gets first; empty where the tenant keeps none.
    index: Vec<Key>,
    /// How many of them it gets: one under the encrypting version, one under an announced one.
    indexed_under: usize,
    entry: Entry,
    encoded: (Vec<u8>, LeafHash),
}

/// What is to be encrypted, and how it is to be found.
struct NewRecord<'a> {
    tenant: &'a TenantId,
    value: &'a Value,
    header: RecordHeader,
    /// Whether the tenant has one token per value.
    indexed: bool,
}

impl Preparing<'_> {
    pub(super) fn tokenize(
        &mut self,
        items: Vec<Result<NewValue, Invalid>>,
        idempotency_key: Option<CallerText>,
        batch: bool,
        draft: &Entry,
    ) -> Result<PreparedTokenize, Error> {
        match items.as_slice() {
            // A single call is refused as a whole, before anything is minted.
            [Ok(only)] => drop(self.grant_for(only)?),
            // Whoever may tokenize nothing is refused as a whole too, before anything of the body is kept.
            _ => self.tokenize_right()?,
        }
        let rpc = if batch { Rpc::BatchTokenize } else { Rpc::Tokenize };
        let idempotency = idempotency_key.map(|key| self.idempotency(&key, rpc, &items)).transpose()?;
        let items = items.into_iter().map(|item| self.item(item, draft)).collect::<Result<_, _>>()?;
        Ok(PreparedTokenize { items, idempotency })
    }

    /// Whether the principal may tokenize anything at all.
    fn tokenize_right(&self) -> Result<(), Error> {
        let denied = |class| self.decide_class(Right::Tokenize, class, None).err();
        match (denied(Class::Pan), denied(Class::Ssn)) {
            (Some(error), Some(_)) => Err(error),
            _ => Ok(()),
        }
    }

    fn grant_for(&self, item: &NewValue) -> Result<Grant, Error> {
        let class = item.value.class();
        if item.purposes.iter().any(|purpose| !self.covered(purpose, class)) {
            return Err(Error::Denied);
        }
        self.decide_class(Right::Tokenize, class, None)
    }

    /// Whether the policy knows the purpose, for this class.
    fn covered(&self, purpose: &PurposeId, class: Class) -> bool {
        self.policy.purpose(purpose.as_str()).is_some_and(|purpose| purpose.classes().contains(class))
    }

    fn item(&mut self, item: Result<NewValue, Invalid>, draft: &Entry) -> Result<PreparedItem, Error> {
        let mut entry = draft.clone();
        self.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
        let item = match item {
            Ok(item) => item,
            Err(invalid) => return Ok(PreparedItem::bad(entry, invalid.into())),
        };
        entry.class = Some(item.value.class());
        entry.reference.clone_from(&item.reference);
        match self.grant_for(&item) {
            Ok(grant) => self.ready(&grant, item, entry).map(|ready| PreparedItem::Ready(Box::new(ready))),
            Err(error) => Ok(PreparedItem::bad(entry, error)),
        }
    }

    fn ready(&mut self, grant: &Grant, item: NewValue, mut entry: Entry) -> Result<ReadyItem, Error> {
        let tenant = Self::tenant(grant)?;
        let NewValue { value, purposes, .. } = item;
        let token = self.keys.keyring.mint(value.class(), self.entropy).map_err(|_| Error::Bug)?;
        let indexed = self.is_indexed(&tenant);
        entry.token = Some(token);
        let header = RecordHeader {
            record_version: 1,
            state: RecordState::Active,
            created_at: self.now,
            expires_at: None,
            uses_left: None,
            purposes,
            key_version: 0, // set by the key
        };
        let record = NewRecord { tenant: &tenant, value: &value, header, indexed };
        ReadyItem::make(self.keys, record, entry, self.entropy)
    }

    /// Whether the tenant has one token per value.
    pub(super) fn is_indexed(&self, tenant: &TenantId) -> bool {
        self.policy.tenant(tenant).is_some_and(|tenant| tenant.one_token_per_value())
    }
}

impl Keys {
    /// Where a value's index rows can be: under the version that encrypts first, then under one that is
    /// announced, then under every one that encrypted and that survivors may still be indexed with.
    pub(super) fn index_keys(&self, tenant: &TenantId, value: &Value) -> Vec<Key> {
        let mut versions = self.keyring.versions(tenant, value.class());
        versions.retain(|info| info.state != KeyState::Introduced);
        versions.sort_by_key(|info| (!info.state.encrypts(), std::cmp::Reverse(info.version)));
        self.index_keys_of(tenant, value, &versions)
    }

    /// Every place where an index row of a value can be: other daemons may know of an introduced version
    /// already that it is announced.
    pub(super) fn all_index_keys(&self, tenant: &TenantId, value: &Value) -> Vec<Key> {
        self.index_keys_of(tenant, value, &self.keyring.versions(tenant, value.class()))
    }

    fn index_keys_of(&self, tenant: &TenantId, value: &Value, versions: &[KeyVersionInfo]) -> Vec<Key> {
        let class = value.class();
        let keys = versions.iter().filter_map(|info| self.keyring.decrypting(tenant, class, info.version));
        keys.map(|keys| {
            let mac = keys.blind_index().mac(&[&[class.code()], value.expose_digits()]);
            index_key(tenant, class, keys.version(), &mac)
        })
        .collect()
    }

    /// Under how many versions a new value is indexed.
    fn indexed_under(&self, tenant: &TenantId, class: Class) -> usize {
        let newest = self.keyring.versions(tenant, class).pop();
        if newest.is_some_and(|info| info.state == KeyState::Announced) { 2 } else { 1 }
    }
}

/// The row of a record.
pub(super) fn record_key(tenant: &TenantId, token: &Token) -> Key {
    Key::new(Space::Record, Some(tenant), &token.to_bytes())
}

fn index_key(tenant: &TenantId, class: Class, version: u32, mac: &[u8; 32]) -> Key {
    let mut bytes = Vec::with_capacity(37);
    bytes.push(class.code());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(mac);
    Key::new(Space::Index, Some(tenant), &bytes)
}

impl PreparedItem {
    fn bad(mut entry: Entry, error: Error) -> Self {
        entry.outcome = refusal(&error);
        Self::Bad { error, entry }
    }
}

impl ReadyItem {
    /// Encrypts and indexes a value under the keys of now. The entry names the token; it is completed.
    fn make(
        keys: &Keys,
        record: NewRecord<'_>,
        mut entry: Entry,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, Error> {
        let NewRecord { tenant, value, header, indexed } = record;
        let token = entry.token.ok_or(Error::Bug)?;
        let class = value.class();
        let encrypting = keys.encrypting(tenant, class, entry.at)?;
        let index = if indexed { keys.index_keys(tenant, value) } else { Vec::new() };
        let mut nonce = [0; 24];
        entropy.fill(&mut nonce).map_err(|_| Error::Bug)?;
        let context = keys.context(tenant, &token);
        let envelope = encrypting.encrypt(&context, header, nonce, &value.to_padded());
        entry.record_version = envelope.header().record_version;
        entry.record_state = envelope.header().state.code();
        entry.key_version = envelope.header().key_version;
        let bytes = entry.to_bytes();
        let leaf = leaf_hash(&bytes);
        let key = record_key(tenant, &token);
        let indexed_under = keys.indexed_under(tenant, class);
        let envelope = envelope.to_bytes();
        Ok(Self { token, key, envelope, index, indexed_under, entry, encoded: (bytes, leaf) })
    }

    /// The same item under the keys of now: a rotation came between preparing and committing.
    fn renewed(&self, keys: &Keys, entropy: &mut dyn Entropy) -> Result<Self, Error> {
        let tenant = self.entry.tenant.as_ref().ok_or(Error::Bug)?;
        let envelope = Envelope::from_bytes(&self.envelope).map_err(|_| Error::Bug)?;
        let value = keys.decrypted(tenant, &self.token, &envelope).map_err(|_| Error::Bug)?;
        let header = envelope.header().clone();
        let record = NewRecord { tenant, value: &value, header, indexed: !self.index.is_empty() };
        Self::make(keys, record, self.entry.clone(), entropy)
    }

    /// The entry of an item whose minted token and record were not written.
    fn unwritten(&self) -> Entry {
        let mut entry = self.entry.clone();
        entry.token = None;
        entry.record_version = 0;
        entry.record_state = 0;
        entry.key_version = 0;
        entry
    }
}

impl PreparedTokenize {
    /// The same call under the keys of now.
    pub(super) fn renewed(
        &self,
        keys: &Keys,
        at: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, Error> {
        let item = |item: &PreparedItem| match item {
            PreparedItem::Bad { error, entry } => {
                Ok(PreparedItem::Bad { error: error.clone(), entry: entry.clone() })
            }
            PreparedItem::Ready(item) => {
                item.renewed(keys, entropy).map(|item| PreparedItem::Ready(Box::new(item)))
            }
        };
        let items = self.items.iter().map(item).collect::<Result<_, _>>()?;
        let idempotency = self.idempotency.as_ref().map(|one| one.renewed(keys, at)).transpose()?;
        Ok(Self { items, idempotency })
    }

    pub(super) fn keys(&self, after_conflict: bool, keys: &mut Vec<Key>) {
        for item in &self.items {
            if let PreparedItem::Ready(item) = item {
                keys.extend(item.index.iter().cloned());
                if after_conflict {
                    keys.push(item.key.clone());
                }
            }
        }
        keys.extend(self.idempotency.iter().map(|idempotency| idempotency.key.clone()));
    }
}

impl Planning<'_> {
    pub(super) fn tokenize(&mut self, work: &PreparedTokenize, call: &Prepared) -> Result<Reply, Error> {
        if let Some(idempotency) = &work.idempotency {
            match self.replayed(idempotency, call.at) {
                Ok(None) => {}
                Ok(Some(results)) => return Ok(self.replay(results, call)),
                Err(error) => return self.refuse(&call.draft, error),
            }
        }
        let results: Vec<_> = work.items.iter().map(|item| self.tokenize_item(item)).collect();
        if let Some(idempotency) = &work.idempotency {
            self.hold_existing(work);
            self.remember(idempotency, &results, call.at);
        }
        Ok(Reply::Tokenized(results))
    }

    /// An outcome that is remembered must not outlive its token: whoever erases a token that this call found
    /// removes the outcome too, or comes first. A lane that is alone needs no such precondition.
    fn hold_existing(&mut self, work: &PreparedTokenize) {
        if self.keys.accounts.are_shared() {
            let ready = work.items.iter().filter_map(|item| match item {
                PreparedItem::Ready(item) => Some(item),
                PreparedItem::Bad { .. } => None,
            });
            ready.flat_map(|item| &item.index).for_each(|key| self.overlay.hold(key));
        }
    }

    /// The stored outcome, with one entry for the whole call.
    fn replay(&mut self, results: Vec<Result<Token, Error>>, call: &Prepared) -> Reply {
        let mut entry = call.draft.clone();
        entry.outcome = Recorded::Replayed;
        entry.count = call.items;
        if let [Ok(token)] = results.as_slice() {
            entry.token = Some(*token);
            entry.class = Some(token.class());
        }
        self.enter(&entry);
        Reply::Tokenized(results)
    }

    fn tokenize_item(&mut self, item: &PreparedItem) -> Result<Token, Error> {
        let item = match item {
            PreparedItem::Ready(item) => item,
            PreparedItem::Bad { error, entry } => {
                self.enter(entry);
                return Err(error.clone());
            }
        };
        match self.indexed(&item.index) {
            Ok(Some(existing)) => {
                self.enter_existing(item, existing);
                return Ok(existing);
            }
            Ok(None) => {}
            Err(error) => return self.refuse_item(&item.unwritten(), error),
        }
        if self.overlay.value(&item.key) != Ok(None) {
            // A token minted twice: the random source is broken. Nothing is ever overwritten.
            return self.refuse_item(&item.unwritten(), Error::Bug);
        }
        self.overlay.put(item.key.clone(), item.envelope.clone());
        for key in item.index.iter().take(item.indexed_under) {
            self.put_row(key.clone(), &item.token.to_bytes());
        }
        self.enter_encoded(&item.encoded.0, item.encoded.1);
        Ok(item.token)
    }

    /// The token that the value already has.
    pub(super) fn indexed(&self, index: &[Key]) -> Result<Option<Token>, Error> {
        for key in index {
            if let Some(row) = self.row(key)? {
                return Token::from_bytes(row).map(Some).map_err(|_| Error::Corrupt);
            }
        }
        Ok(None)
    }

    /// The entry of a value that keeps its token: nothing was written.
    fn enter_existing(&mut self, item: &ReadyItem, existing: Token) {
        let mut entry = item.unwritten();
        entry.token = Some(existing);
        entry.outcome = Recorded::Existing;
        self.enter(&entry);
    }

    pub(super) fn refuse_item<T>(&mut self, entry: &Entry, error: Error) -> Result<T, Error> {
        let mut entry = entry.clone();
        entry.outcome = refusal(&error);
        self.enter(&entry);
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_rows_are_the_documented_ones() {
        let tenant = TenantId::parse("acme").unwrap();
        let token = Token::from_parts(Class::Pan, [2; 16], [3; 4]);
        crate::data::documents::shows("store-rows.md", record_key(&tenant, &token).encoded());
        crate::data::documents::shows("store-rows.md", index_key(&tenant, Class::Pan, 5, &[6; 32]).encoded());
    }
}
