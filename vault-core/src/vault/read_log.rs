//! Reading the log: entries for auditors, proofs for whoever holds a receipt.

use std::io::Write;

use crate::audit::{
    self, ExportError, LeafHash, LogFault, LogSource, LoggedEntry, Origin, TreeHead, VerifierKey,
};
use crate::data::TenantId;
use crate::error::{Error, Invalid, Unavailable};
use crate::limits::AUDIT_ENTRIES_MAX;
use crate::policy::{Grant, Right, Scope};
use crate::store::{Key, Space, Store};

use super::open::{Vault, page_key, tile_key};

/// Part of a listing.
pub struct LogListing {
    /// The entries that the caller may read, in order.
    pub entries: Vec<LoggedEntry>,
    /// Where to go on: the first index not looked at.
    pub next: u64,
    /// Entries in the whole log.
    pub size: u64,
}

/// That an entry is in the log of a signed checkpoint.
pub struct Inclusion {
    /// Sibling hashes from the leaf upwards (RFC 6962 section 2.1.1).
    pub hashes: Vec<LeafHash>,
    /// The signed checkpoint they lead to.
    pub checkpoint: String,
}

/// This daemon's log as the store holds it.
pub(super) struct StoredLog<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) origin: &'a Origin,
}

impl LogSource for StoredLog<'_> {
    fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, LogFault> {
        let rows =
            self.store.read(&[tile_key(self.origin, level, index)]).map_err(|_| LogFault::Unavailable)?;
        Ok(rows.into_iter().next().flatten().map(|row| row.value))
    }

    fn pages_after(&self, index: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, LogFault> {
        let after = page_key(self.origin, index);
        let rows = self
            .store
            .scan(Space::LogPage, None, Some(after.bytes()), limit)
            .map_err(|_| LogFault::Unavailable)?;
        let own = rows.into_iter().map_while(|(key, row)| Some((self.page_end(&key)?, row.value)));
        Ok(own.collect())
    }
}

impl StoredLog<'_> {
    /// The end index in a page's key; `None` for a page of another log.
    fn page_end(&self, key: &Key) -> Option<u64> {
        let (_, end) = key.bytes().split_first_chunk::<8>()?;
        let end = u64::from_be_bytes(end.try_into().ok()?);
        (page_key(self.origin, end) == *key).then_some(end)
    }
}

impl Vault {
    /// Entries from index `from` on, at most `limit`, of the grant's tenant or of all.
    ///
    /// Looks at no more than 500 entries a call and says where to go on, so that a listing for one of many
    /// tenants stays bounded.
    ///
    /// # Errors
    /// [`Error::Denied`] for a grant of another right, [`Invalid::RangeInvalid`] beyond the log's end,
    /// [`Error::Unavailable`] and [`Error::Corrupt`] from the store.
    pub fn entries(&self, grant: &Grant, from: u64, limit: usize) -> Result<LogListing, Error> {
        let scope = readable(grant)?;
        let head = self.tree_head();
        let limit = limit.clamp(1, AUDIT_ENTRIES_MAX);
        let looked_at = if scope.is_none() { limit } else { AUDIT_ENTRIES_MAX };
        let seen = audit::read_entries(&self.log(), &head, from, looked_at).map_err(log_fault)?;
        let mut listing = LogListing { entries: Vec::new(), next: from, size: head.size };
        for logged in seen {
            if listing.entries.len() == limit {
                break;
            }
            listing.next = logged.index + 1;
            if scope.is_none_or(|tenant| logged.entry.tenant.as_ref() == Some(tenant)) {
                listing.entries.push(logged);
            }
        }
        Ok(listing)
    }

    /// Proves that the entry with this leaf hash is in the log, under a checkpoint signed now if need be.
    /// Open to whoever shows the leaf hash: without it an index tells nothing.
    ///
    /// # Errors
    /// [`Error::Denied`] for a grant of another right, [`Invalid::RangeInvalid`] beyond the log's end,
    /// [`Invalid::LeafHashMismatch`] for a hash that is not the one there.
    pub fn prove_inclusion(&self, grant: &Grant, index: u64, leaf: &LeafHash) -> Result<Inclusion, Error> {
        self.may_prove(grant)?;
        let published = self.covering(index.saturating_add(1));
        if index >= published.head.size {
            return Err(Error::Invalid(Invalid::RangeInvalid));
        }
        let proof = audit::inclusion_proof(&self.log(), &published.head, index).map_err(log_fault)?;
        if proof.leaf_hash != *leaf {
            return Err(Error::Invalid(Invalid::LeafHashMismatch));
        }
        Ok(Inclusion { hashes: proof.path, checkpoint: published.note.as_ref().to_owned() })
    }

    /// Proves that the log of `from` entries is the beginning of the log of `to` entries: the hashes of RFC
    /// 6962 section 2.1.2.
    ///
    /// # Errors
    /// As [`Vault::prove_inclusion`]; [`Invalid::RangeInvalid`] unless 1 ≤ `from` ≤ `to` ≤ the log's size.
    pub fn prove_consistency(&self, grant: &Grant, from: u64, to: u64) -> Result<Vec<LeafHash>, Error> {
        self.may_prove(grant)?;
        if from == 0 || from > to || to > self.tree_head().size {
            return Err(Error::Invalid(Invalid::RangeInvalid));
        }
        audit::consistency_proof(&self.log(), from, &self.tree_head_at(to)?)
            .map(|proof| proof.path)
            .map_err(log_fault)
    }

    /// Size and root of the log when it had `size` entries.
    fn tree_head_at(&self, size: u64) -> Result<TreeHead, Error> {
        let head = self.tree_head();
        if size == head.size {
            return Ok(head);
        }
        audit::consistency_proof(&self.log(), size, &head).map(|proof| proof.from).map_err(log_fault)
    }

    /// Writes the log for verification elsewhere: signed checkpoint and all entries up to it, no value among
    /// them. For the operator who has just opened the vault; callers with a grant use [`Vault::entries`].
    ///
    /// # Errors
    /// [`ExportError`] when the log cannot be read, is damaged, or `out` fails.
    pub fn export_log(&self, out: &mut dyn Write) -> Result<TreeHead, ExportError> {
        let published = self.covering(self.tree_head().size);
        let key = VerifierKey::new(self.origin.clone(), self.verifying_key());
        audit::write_export(&self.log(), &key, &published.note, out)
    }

    pub(super) fn log(&self) -> StoredLog<'_> {
        StoredLog { store: self.store(), origin: &self.origin }
    }

    fn may_prove(&self, grant: &Grant) -> Result<(), Error> {
        if grant.right() == Right::Prove { Ok(()) } else { Err(Error::Denied) }
    }
}

/// Whose entries the grant lets one read: one tenant's, or (`None`) everyone's.
fn readable(grant: &Grant) -> Result<Option<&TenantId>, Error> {
    if grant.right() != Right::AuditRead {
        return Err(Error::Denied);
    }
    match grant.principal().tenant() {
        Scope::One(tenant) => Ok(Some(tenant)),
        Scope::All => Ok(None),
    }
}

pub(super) fn log_fault(fault: LogFault) -> Error {
    match fault {
        LogFault::Unavailable => Error::Unavailable(Unavailable::Store),
        LogFault::OutOfRange => Error::Invalid(Invalid::RangeInvalid),
        LogFault::Corrupt(_) => Error::Corrupt,
    }
}
