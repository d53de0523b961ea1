//! Reading one record: tag, row, state, purposes, decryption. Every way to a stored value goes through here.

use crate::audit::Entry;
use crate::clock::Timestamp;
use crate::crypto::{Context, Envelope, RecordHeader, RecordState};
use crate::data::{PurposeId, TenantId, Token, Value};
use crate::error::{Error, State};
use crate::policy::Grant;
use crate::store::Key;

use super::batch::Planning;
use super::open::Keys;
use super::prepare::Preparing;
use super::tokenize::record_key;

/// Where a record would be. A token whose tag is wrong has no place: it is answered like an unknown one, in
/// the same commit, without a read.
pub(super) struct RecordRef {
    pub(super) token: Token,
    pub(super) tenant: TenantId,
    pub(super) key: Option<Key>,
}

/// A decrypted record.
pub(super) struct Opened {
    pub(super) header: RecordHeader,
    pub(super) value: Value,
}

impl Opened {
    /// Names the record's version, state and key in an entry.
    pub(super) const fn describe(&self, entry: &mut Entry) {
        entry.record_version = self.header.record_version;
        entry.record_state = self.header.state.code();
        entry.key_version = self.header.key_version;
    }
}

impl Preparing<'_> {
    pub(super) fn record_ref(&self, grant: &Grant, token: Token) -> Result<RecordRef, Error> {
        let tenant = Self::tenant(grant)?;
        let key = self.keys.keyring.verify_tag(&token).then(|| record_key(&tenant, &token));
        Ok(RecordRef { token, tenant, key })
    }

    /// Names a token in an entry, if it is one of ours: an entry keeps nothing a stranger made up.
    pub(super) fn name_token(&self, entry: &mut Entry, token: &Token) {
        entry.class = Some(token.class());
        entry.token = self.keys.keyring.verify_tag(token).then_some(*token);
    }
}

impl Planning<'_> {
    /// The record as the calls before left it, decrypted. Unknown, foreign, expired and outside the record's
    /// purposes are one answer.
    pub(super) fn opened(
        &self,
        record: &RecordRef,
        purpose: Option<&PurposeId>,
        at: Timestamp,
    ) -> Result<Opened, Error> {
        let Opened { header, value } = self.decrypted(record)?;
        if header.expires_at.is_some_and(|end| at >= end) || !admits(&header, purpose) {
            return Err(Error::UnknownToken);
        }
        if purpose.is_some() && header.state == RecordState::Inactive {
            return Err(Error::State(State::TokenInactive));
        }
        Ok(Opened { header, value })
    }

    /// The record as the calls before left it, decrypted, whether or not it may be used.
    pub(super) fn decrypted(&self, record: &RecordRef) -> Result<Opened, Error> {
        let key = record.key.as_ref().ok_or(Error::UnknownToken)?;
        let row = self.overlay.value(key)?.ok_or(Error::UnknownToken)?;
        let envelope = Envelope::from_bytes(row).map_err(|_| Error::Corrupt)?;
        let value = self.keys.decrypted(&record.tenant, &record.token, &envelope)?;
        Ok(Opened { header: envelope.header().clone(), value })
    }
}

impl Keys {
    /// What a record of this token is bound to.
    pub(super) fn context<'a>(&'a self, tenant: &'a TenantId, token: &'a Token) -> Context<'a> {
        Context {
            environment: self.keyring.environment(),
            vault_id: self.keyring.vault_id(),
            tenant,
            class: token.class(),
            token,
        }
    }

    /// The value of a record, if it is authentic in its place.
    pub(super) fn decrypted(
        &self,
        tenant: &TenantId,
        token: &Token,
        envelope: &Envelope,
    ) -> Result<Value, Error> {
        let version = envelope.header().key_version;
        let keys = self.keyring.decrypting(tenant, token.class(), version).ok_or(Error::Corrupt)?;
        let plaintext = keys.decrypt(envelope, &self.context(tenant, token)).map_err(|_| Error::Corrupt)?;
        Value::from_padded(token.class(), &plaintext).map_err(|_| Error::Corrupt)
    }
}

/// Whether the record may be used for this purpose. Views and comparisons name none: they release nothing.
fn admits(header: &RecordHeader, purpose: Option<&PurposeId>) -> bool {
    purpose.is_none_or(|purpose| header.purposes.allow(purpose))
}
