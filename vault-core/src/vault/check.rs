//! Check: the store proved against the log.
//!
//! No engine reliably notices a flipped bit or a row that is gone. Records are authenticated one by one; the
//! log says which records there must be and in which version. Together they show what is missing, damaged,
//! older, or never written by this vault.

use std::collections::{BTreeSet, HashMap};

use crate::audit::{self, Action, Actor, Entry, Origin, Outcome as Recorded, TreeHead};
use crate::clock::Timestamp;
use crate::crypto::{Entropy, Envelope};
use crate::data::{TenantId, Token};
use crate::error::{Error, Unavailable};
use crate::limits::{AUDIT_ENTRIES_MAX, SCAN_ROWS_MAX};
use crate::store::{Key, Row, Space, rows};

use super::open::{Keys, Vault};
use super::read_log::{StoredLog, log_fault};
use super::registry::Registry;
use super::tokenize::record_key;

/// What is wrong with one row or entry. Tokens are named by their row, never by their value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// The log says that this record was written; it is not there.
    Missing {
        /// Whose.
        tenant: TenantId,
        /// Which.
        token: Token,
    },
    /// The record is there in another version than the log's last.
    OtherVersion {
        /// Whose.
        tenant: TenantId,
        /// Which.
        token: Token,
        /// The version in the store.
        stored: u32,
        /// The version the log names last.
        logged: u32,
    },
    /// A record that no entry speaks of.
    Foreign {
        /// Whose.
        tenant: TenantId,
        /// Which.
        token: Token,
    },
    /// The log says that this record was erased; a row of it is there.
    Erased {
        /// Whose.
        tenant: TenantId,
        /// Which.
        token: Token,
    },
    /// A row that does not authenticate, does not parse, or is not found by its key.
    Damaged {
        /// Its space.
        space: Space,
        /// Whose; `None` where rows are the vault's own.
        tenant: Option<TenantId>,
    },
    /// An index row whose token has no record.
    DanglingIndex {
        /// Whose.
        tenant: TenantId,
    },
}

/// The result of a check.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CheckReport {
    /// The logs of all daemons, by their origins.
    pub logs: Vec<CheckedLog>,
    /// Entries read from them.
    pub entries: u64,
    /// Records that the log names and that decrypt.
    pub records: u64,
    /// Index rows that authenticate and lead to a record.
    pub index_rows: u64,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

/// The highest version of each record that a log names; [`ERASED`] once one says that it is gone.
type Logged = HashMap<(TenantId, Token), u32>;

/// Above the version of any record.
const ERASED: u32 = u32::MAX;

/// A log as far as it has been read.
struct Read {
    origin: Origin,
    head: TreeHead,
    entries: u64,
}

/// One registered log, proven.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckedLog {
    /// Its name.
    pub origin: Origin,
    /// Its entries.
    pub size: u64,
}

impl Vault {
    /// Reads every log whole, and every row that is not a log's. Memory grows with the number of records
    /// (about 100 bytes each): meant for a vault that serves nobody else meanwhile. Leaves one entry with the
    /// number of findings.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the log itself cannot be read, [`Error::Unavailable`] when the store is away.
    pub fn check(&self, now: Timestamp, entropy: &mut dyn Entropy) -> Result<CheckReport, Error> {
        let mut lane = self.lane();
        let keys = self.keys();
        let mut report = CheckReport::default();
        let mut logs = self.logs(&keys)?;
        let mut logged = self.logged(&mut logs, &mut report)?;
        for tenant in tenants(&keys, &logged) {
            self.check_records(&keys, &tenant, &mut logged, &mut report)?;
            self.check_index(&keys, &tenant, &mut report)?;
            for space in [Space::Idempotency, Space::Meta] {
                self.check_guarded(&keys, space, Some(&tenant), &mut report)?;
            }
        }
        for space in [Space::Quota, Space::Seen, Space::Meta] {
            self.check_guarded(&keys, space, None, &mut report)?;
        }
        let missing = logged.into_iter().filter(|(_, version)| *version != ERASED);
        let missing = missing.map(|((tenant, token), _)| Finding::Missing { tenant, token });
        report.findings.extend(missing);
        self.excuse_newer(&keys, &mut logs, &mut report)?;
        self.own_step(&mut lane, &keys, &[], entropy, |planning| {
            let mut entry = Entry::new(now, Actor::Vault, Action::Check);
            entry.count = u32::try_from(report.findings.len()).unwrap_or(u32::MAX);
            entry.policy = keys.policy.short_hash();
            planning.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
            Ok(vec![entry])
        })?;
        Ok(report)
    }

    /// Every log that there is, with its head of now.
    fn logs(&self, keys: &Keys) -> Result<Vec<Read>, Error> {
        let own = Read { origin: self.origin.clone(), head: self.tree_head(), entries: 0 };
        if !self.store().is_shared() {
            return Ok(vec![own]);
        }
        let registry = Registry::of(self.store(), &keys.keyring);
        let mut logs = vec![own];
        for log in registry.logs().map_err(Error::from)?.into_iter().filter(|log| log.origin != self.origin) {
            let head = registry.head(&log.origin).map_err(Error::from)?.ok_or(Error::Corrupt)?;
            logs.push(Read { origin: log.origin, head, entries: 0 });
        }
        logs.sort_by(|one, other| one.origin.cmp(&other.origin));
        Ok(logs)
    }

    /// What the logs say was written, after proving each against its head.
    fn logged(&self, logs: &mut [Read], report: &mut CheckReport) -> Result<Logged, Error> {
        let mut logged = Logged::new();
        for log in logs {
            let source = StoredLog { store: self.store(), origin: &log.origin };
            audit::check(&source, &log.head).map_err(log_fault)?;
            self.read_on(log, &mut logged)?;
            report.entries += log.entries;
            report.logs.push(CheckedLog { origin: log.origin.clone(), size: log.entries });
        }
        Ok(logged)
    }

    /// Reads a log from where it was read to up to its head.
    fn read_on(&self, log: &mut Read, logged: &mut Logged) -> Result<(), Error> {
        let source = StoredLog { store: self.store(), origin: &log.origin };
        while log.entries < log.head.size {
            let part = audit::read_entries(&source, &log.head, log.entries, AUDIT_ENTRIES_MAX);
            let part = part.map_err(log_fault)?;
            let Some(last) = part.last() else {
                return Err(Error::Corrupt);
            };
            log.entries = last.index + 1;
            part.iter().for_each(|part| remember(&part.entry, logged));
        }
        Ok(())
    }

    /// What other daemons wrote or erased while this one looked is in what their logs got since.
    fn excuse_newer(&self, keys: &Keys, logs: &mut [Read], report: &mut CheckReport) -> Result<(), Error> {
        let registry = Registry::of(self.store(), &keys.keyring);
        let mut newer = Logged::new();
        for log in logs.iter_mut().filter(|log| log.origin != self.origin) {
            log.head = registry.head(&log.origin).map_err(Error::from)?.ok_or(Error::Corrupt)?;
            self.read_on(log, &mut newer)?;
        }
        report.findings.retain(|finding| match finding {
            Finding::Foreign { tenant, token } => !newer.contains_key(&(tenant.clone(), *token)),
            Finding::Missing { tenant, token } => newer.get(&(tenant.clone(), *token)) != Some(&ERASED),
            _ => true,
        });
        Ok(())
    }

    fn check_records(
        &self,
        keys: &Keys,
        tenant: &TenantId,
        logged: &mut Logged,
        report: &mut CheckReport,
    ) -> Result<(), Error> {
        self.each_row(Space::Record, Some(tenant), |key, row, found| {
            let named = Token::from_bytes(key.bytes()).ok().map(|token| (tenant.clone(), token));
            if let Some((tenant, token)) = named.filter(|place| logged.get(place) == Some(&ERASED)) {
                report.findings.push(Finding::Erased { tenant, token });
                return;
            }
            let Some((token, version)) = authentic(keys, tenant, &key, &row).filter(|_| found) else {
                if let Ok(token) = Token::from_bytes(key.bytes()) {
                    logged.remove(&(tenant.clone(), token));
                }
                report.findings.push(damaged(Space::Record, Some(tenant)));
                return;
            };
            let tenant = tenant.clone();
            match logged.remove(&(tenant.clone(), token)) {
                Some(logged) if logged == version => report.records += 1,
                Some(logged) => {
                    report.findings.push(Finding::OtherVersion { tenant, token, stored: version, logged });
                }
                None => report.findings.push(Finding::Foreign { tenant, token }),
            }
        })
    }

    fn check_index(&self, keys: &Keys, tenant: &TenantId, report: &mut CheckReport) -> Result<(), Error> {
        let mut tokens = Vec::new();
        self.each_row(Space::Index, Some(tenant), |key, row, found| {
            let value = rows::unguard(keys.keyring.row_mac(), keys.keyring.vault_id(), &key, &row.value);
            match value.ok().filter(|_| found).and_then(|value| Token::from_bytes(value).ok()) {
                Some(token) => tokens.push(token),
                None => {
                    report.findings.push(damaged(Space::Index, Some(tenant)));
                }
            }
        })?;
        for part in tokens.chunks(SCAN_ROWS_MAX) {
            let records: Vec<Key> = part.iter().map(|token| record_key(tenant, token)).collect();
            let found = self.store().read(&records).map_err(|_| Error::Unavailable(Unavailable::Store))?;
            let there = found.iter().filter(|row| row.is_some()).count();
            report.index_rows += there as u64;
            let dangling = found.len() - there;
            report.findings.extend((0..dangling).map(|_| Finding::DanglingIndex { tenant: tenant.clone() }));
        }
        Ok(())
    }

    /// Rows that say nothing of records: each authenticates under its place.
    fn check_guarded(
        &self,
        keys: &Keys,
        space: Space,
        tenant: Option<&TenantId>,
        report: &mut CheckReport,
    ) -> Result<(), Error> {
        self.each_row(space, tenant, |key, row, found| {
            let value = rows::unguard(keys.keyring.row_mac(), keys.keyring.vault_id(), &key, &row.value);
            if value.is_err() || !found {
                report.findings.push(damaged(space, tenant));
            }
        })
    }

    /// Visits the rows in key order, each with whether asking for its key gives the same row: an engine may
    /// scan what its damaged indexes or filters no longer find.
    fn each_row(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        mut visit: impl FnMut(Key, Row, bool),
    ) -> Result<(), Error> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self
                .store()
                .scan(space, tenant, after.as_deref(), SCAN_ROWS_MAX)
                .map_err(|_| Error::Unavailable(Unavailable::Store))?;
            // A scan may end early by its bytes; only one that finds nothing is at the end.
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.bytes().to_vec());
            let asked: Vec<Key> = rows.iter().map(|(key, _)| key.clone()).collect();
            let found = self.store().read(&asked).map_err(|_| Error::Unavailable(Unavailable::Store))?;
            for ((key, row), found) in rows.into_iter().zip(found) {
                let same = found.as_ref() == Some(&row);
                visit(key, row, same);
            }
        }
    }
}

fn damaged(space: Space, tenant: Option<&TenantId>) -> Finding {
    Finding::Damaged { space, tenant: tenant.cloned() }
}

/// Every tenant that there is or was: one that left the policy still has its keys, records and entries.
fn tenants(keys: &Keys, logged: &Logged) -> BTreeSet<TenantId> {
    let with_keys = keys.keyring.inventory().into_iter().map(|(tenant, ..)| tenant);
    with_keys.chain(logged.keys().map(|(tenant, _)| tenant.clone())).collect()
}

/// Takes in what an entry says was written.
fn remember(entry: &Entry, logged: &mut Logged) {
    let version = match (entry.action, entry.outcome) {
        (Action::Tokenize, Recorded::Done) => entry.record_version,
        (Action::Erase, Recorded::Done) => ERASED,
        _ => return,
    };
    if let (Some(tenant), Some(token)) = (&entry.tenant, entry.token) {
        // Several logs have no common order; of a record only versions grow, and nothing comes after its end.
        let last = logged.entry((tenant.clone(), token)).or_default();
        *last = (*last).max(version);
    }
}

/// The token and version of a record that decrypts under its context.
fn authentic(keys: &Keys, tenant: &TenantId, key: &Key, row: &Row) -> Option<(Token, u32)> {
    let token = Token::from_bytes(key.bytes()).ok()?;
    let envelope = Envelope::from_bytes(&row.value).ok()?;
    keys.decrypted(tenant, &token, &envelope).ok()?;
    keys.keyring.verify_tag(&token).then_some((token, envelope.header().record_version))
}
