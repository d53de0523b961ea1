//! Rewrap: after a rotation every old record is encrypted anew under the key of now, and its index row moves.
//!
//! The vault does this itself, in bounded steps between the batches of callers. A step rewraps the records of
//! one scan and writes how far it has come in the same commit, so that a step that was cut never happened and
//! the next one goes on where the last ended, whoever killed the vault in between. Calls look values up under
//! the old and the new key meanwhile. When all records were visited, a second pass proves that neither a
//! record nor an index row is left under an old key; it reads the clear headers alone.

use std::collections::BTreeSet;

use crate::audit::{Action, Actor, Entry};
use crate::clock::Timestamp;
use crate::crypto::codec::Reader;
use crate::crypto::{Entropy, Envelope, RecordHeader};
use crate::data::{Class, TenantId, Token, Value};
use crate::error::{Error, Unavailable};
use crate::keys::{KeyState, Keyring};
use crate::limits::{REWRAP_ROWS_MAX, SCAN_ROWS_MAX};
use crate::policy::{Ask, Right};
use crate::store::{Fault, Key, Row, Space, rows};

use super::batch::Planning;
use super::lease::Lease;
use super::open::{Keys, Lane, Vault};
use super::tokenize::record_key;

/// Version of the row that says how far a rewrap has come.
const FORMAT: u8 = 1;

/// What a rewrap does now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum RewrapPhase {
    /// Records are encrypted anew.
    Rewrapping = 1,
    /// Records are looked through for any that is left.
    ProvingRecords = 2,
    /// Index rows are looked through for any that is left.
    ProvingIndex = 3,
    /// All was looked through; [`RewrapProgress::left`] says with what result.
    Done = 4,
}

impl RewrapPhase {
    const ALL: [Self; 4] = [Self::Rewrapping, Self::ProvingRecords, Self::ProvingIndex, Self::Done];

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| *phase as u8 == code)
    }

    const fn space(self) -> Space {
        match self {
            Self::Rewrapping | Self::ProvingRecords | Self::Done => Space::Record,
            Self::ProvingIndex => Space::Index,
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Rewrapping => Self::ProvingRecords,
            Self::ProvingRecords => Self::ProvingIndex,
            Self::ProvingIndex | Self::Done => Self::Done,
        }
    }
}

/// How far the rewrap of one tenant's records of a class has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RewrapProgress {
    /// The key version that the records get.
    pub target: u32,
    /// What is done now.
    pub phase: RewrapPhase,
    /// When it began.
    pub began_at: Timestamp,
    /// When its last step was.
    pub stepped_at: Timestamp,
    /// Records encrypted anew so far.
    pub rewrapped: u64,
    /// Records and index rows that the proof found under an old key, damaged records among them.
    pub left: u64,
    /// The last row looked at in this phase; empty at its beginning.
    after: Vec<u8>,
}

impl RewrapProgress {
    const fn begin(target: u32, now: Timestamp) -> Self {
        Self {
            target,
            phase: RewrapPhase::Rewrapping,
            began_at: now,
            stepped_at: now,
            rewrapped: 0,
            left: 0,
            after: Vec::new(),
        }
    }

    /// Whether it is proven that nothing is left under an old key.
    pub fn is_proven(&self) -> bool {
        self.phase == RewrapPhase::Done && self.left == 0
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.target.to_be_bytes());
        out.push(self.phase as u8);
        for number in [self.began_at.micros(), self.stepped_at.micros(), self.rewrapped, self.left] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.after);
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        (reader.u8()? == FORMAT).then_some(())?;
        Some(Self {
            target: reader.u32()?,
            phase: RewrapPhase::from_code(reader.u8()?)?,
            began_at: Timestamp::from_micros(reader.u64()?),
            stepped_at: Timestamp::from_micros(reader.u64()?),
            rewrapped: reader.u64()?,
            left: reader.u64()?,
            after: reader.rest().to_vec(),
        })
    }

    /// Goes on behind the rows of a step, or to the next phase behind the last of them.
    fn advance(&mut self, seen: &Seen, now: Timestamp) {
        self.stepped_at = now;
        if let Some(last) = &seen.last {
            self.after.clone_from(last);
            return;
        }
        self.phase = self.phase.next();
        self.after.clear();
    }
}

/// The rewrap whose turn it is.
struct Due {
    tenant: TenantId,
    class: Class,
    progress: RewrapProgress,
    /// Held while rewrapping, where several daemons could.
    lease: Option<Lease>,
}

/// The rows of one step.
struct Seen {
    rows: Vec<(Key, Row)>,
    /// Where the next step goes on; `None` when no row of the class follows.
    last: Option<Vec<u8>>,
}

/// A record that gets the new key.
struct Old {
    key: Key,
    stored: Vec<u8>,
    token: Token,
    header: RecordHeader,
    value: Value,
    /// Where its value's index rows can be, under the new key first.
    index: Vec<Key>,
}

impl Vault {
    /// One bounded step of the rewrap that is due: at most one scan and one commit. Gives how far it has come
    /// then; `None` when nothing is due.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the store is away; [`Error::Corrupt`] for damaged rows, once where it is
    /// the row that says how far the rewrap has come: that is written anew, and the rewrap begins anew.
    pub fn rewrap_step(
        &self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Option<RewrapProgress>, Error> {
        let Some(found) = self.due_rewrap(now)? else { return Ok(None) };
        let mut lane = self.lane();
        let keys = self.keys();
        let (due, damaged) = found;
        let stepped = self.take_step(&mut lane, &keys, due, now, entropy)?;
        // The row is written anew by now: the alarm is raised once.
        if damaged { Err(Error::Corrupt) } else { Ok(stepped) }
    }

    /// The first rewrap that is not done, and whether its row was damaged: it begins anew then.
    fn due_rewrap(&self, now: Timestamp) -> Result<Option<(Due, bool)>, Error> {
        let (keyring, policy) = (self.keyring(), self.policy());
        policy.decide(Some(policy.vault_itself()), Ask::to(Right::Rewrap))?;
        let rotated = rotated(&keyring);
        let lease = self.store().is_shared().then(|| Lease::of(&self.origin, b"rewrap"));
        if let (Some(lease), false) = (&lease, rotated.is_empty())
            && lease.is_anothers(self.store(), &keyring, now)?
        {
            return Ok(None);
        }
        let places: Vec<Key> =
            rotated.iter().map(|(tenant, class, _)| progress_key(tenant, *class)).collect();
        let rows = if places.is_empty() {
            Vec::new()
        } else {
            self.store().read(&places).map_err(|error| fault(&error))?
        };
        for (((tenant, class, target), place), row) in rotated.into_iter().zip(&places).zip(rows) {
            let found = row.map(|row| progress_of(&keyring, place, &row.value)).transpose();
            let damaged = found.is_err();
            let progress = found.ok().flatten().filter(|found| found.target == target);
            // Nobody may still write under an older version when it begins.
            if progress.is_none() && lease.is_some() && !self.all_have_keyring()? {
                continue;
            }
            let progress = progress.unwrap_or_else(|| RewrapProgress::begin(target, now));
            if progress.phase != RewrapPhase::Done {
                return Ok(Some((Due { tenant, class, progress, lease }, damaged)));
            }
        }
        Ok(None)
    }

    /// How far the rewrap of a tenant's records of a class has come; `None` where there never was one.
    ///
    /// # Errors
    /// As [`Vault::rewrap_step`].
    pub fn rewrap_progress(&self, tenant: &TenantId, class: Class) -> Result<Option<RewrapProgress>, Error> {
        let key = progress_key(tenant, class);
        let found = self.store().read(std::slice::from_ref(&key)).map_err(|error| fault(&error))?;
        let row = found.into_iter().next().flatten();
        row.map(|row| progress_of(&self.keyring(), &key, &row.value)).transpose()
    }

    fn take_step(
        &self,
        lane: &mut Lane,
        keys: &Keys,
        due: Due,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Option<RewrapProgress>, Error> {
        let seen = self.seen(&due)?;
        let Due { ref tenant, class, mut progress, ref lease } = due;
        let old = match progress.phase {
            RewrapPhase::Rewrapping => keys.old(tenant, &seen.rows, progress.target),
            _ => Vec::new(),
        };
        progress.left += left(&keys.keyring, tenant, class, &progress, &seen.rows);
        progress.rewrapped += old.len() as u64;
        progress.advance(&seen, now);
        let place = progress_key(tenant, class);
        let mut wanted = vec![place.clone()];
        wanted.extend(old.iter().flat_map(|old| old.index.iter().chain([&old.key]).cloned()));
        wanted.extend(lease.iter().map(|lease| lease.key.clone()));
        let mut is_anothers = false;
        self.own_step(lane, keys, &wanted, entropy, |planning| {
            is_anothers = lease.as_ref().is_some_and(|lease| !lease.take(planning, now));
            if is_anothers {
                return Ok(Vec::new());
            }
            old.iter().try_for_each(|old| planning.rewrap(tenant, old, now))?;
            planning.put_row(place.clone(), &progress.to_bytes());
            let mut entry = Entry::new(now, Actor::Vault, Action::Rewrap);
            (entry.tenant, entry.class) = (Some(tenant.clone()), Some(class));
            entry.key_version = progress.target;
            entry.count = u32::try_from(old.len()).unwrap_or(u32::MAX);
            entry.policy = keys.policy.short_hash();
            planning.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
            Ok(vec![entry])
        })?;
        Ok((!is_anothers).then_some(progress))
    }

    /// The next rows of the class. Their keys begin with its code, in both spaces.
    fn seen(&self, due: &Due) -> Result<Seen, Error> {
        let Due { tenant, class, progress, .. } = due;
        let limit = if progress.phase == RewrapPhase::Rewrapping { REWRAP_ROWS_MAX } else { SCAN_ROWS_MAX };
        let start = [class.code()];
        let after = if progress.after.is_empty() { &start[..] } else { &progress.after };
        let space = progress.phase.space();
        let mut rows =
            self.store().scan(space, Some(tenant), Some(after), limit).map_err(|error| fault(&error))?;
        rows.retain(|(key, _)| key.bytes().first() == Some(&class.code()));
        // A scan may end early by its bytes; only one that finds nothing of the class is at the end.
        let last = rows.last().map(|(key, _)| key.bytes().to_vec());
        Ok(Seen { rows, last })
    }
}

/// What the proof counts: rows that name an older key version than the target, or none of the keyring's, and
/// those whose header does not even read. Other daemons may write under a newer one already.
fn left(
    keyring: &Keyring,
    tenant: &TenantId,
    class: Class,
    progress: &RewrapProgress,
    rows: &[(Key, Row)],
) -> u64 {
    let is_good =
        |version| version >= progress.target && keyring.decrypting(tenant, class, version).is_some();
    let is_left = |(key, row): &&(Key, Row)| match progress.phase {
        RewrapPhase::ProvingRecords => {
            let envelope = Envelope::from_bytes(&row.value).ok();
            envelope.is_none_or(|envelope| !is_good(envelope.header().key_version))
        }
        RewrapPhase::ProvingIndex => {
            let version = key.bytes().get(1..5).and_then(|bytes| bytes.try_into().ok());
            version.is_none_or(|bytes| !is_good(u32::from_be_bytes(bytes)))
        }
        RewrapPhase::Rewrapping | RewrapPhase::Done => false,
    };
    rows.iter().filter(is_left).count() as u64
}

/// Every tenant and class with a retired key that still decrypts, and the version that encrypts now.
fn rotated(keyring: &Keyring) -> Vec<(TenantId, Class, u32)> {
    let inventory = keyring.inventory();
    let of_state = |state| {
        let of_state = inventory.iter().filter(move |(.., info)| info.state == state);
        of_state.map(|(tenant, class, info)| (tenant, *class, info.version))
    };
    let retired: BTreeSet<_> =
        of_state(KeyState::DecryptOnly).map(|(tenant, class, _)| (tenant, class)).collect();
    let enabled =
        of_state(KeyState::Enabled).filter(|(tenant, class, _)| retired.contains(&(*tenant, *class)));
    enabled.map(|(tenant, class, version)| (tenant.clone(), class, version)).collect()
}

fn progress_key(tenant: &TenantId, class: Class) -> Key {
    Key::new(Space::Meta, Some(tenant), &[b"rewrap", &[class.code()][..]].concat())
}

const fn away() -> Error {
    Error::Unavailable(Unavailable::Store)
}

/// Why the store gave no rows.
fn fault(fault: &Fault) -> Error {
    match fault {
        Fault::Corrupt(_) => Error::Corrupt,
        _ => away(),
    }
}

/// What a row says of a rewrap.
fn progress_of(keyring: &Keyring, place: &Key, row: &[u8]) -> Result<RewrapProgress, Error> {
    let value = rows::unguard(keyring.row_mac(), keyring.vault_id(), place, row);
    value.ok().and_then(RewrapProgress::from_bytes).ok_or(Error::Corrupt)
}

impl Keys {
    /// The records among these rows that have an older key than the target. One that does not decrypt stays
    /// as it is: the proof counts it.
    fn old(&self, tenant: &TenantId, rows: &[(Key, Row)], target: u32) -> Vec<Old> {
        let old = |(key, row): &(Key, Row)| {
            let token = Token::from_bytes(key.bytes()).ok()?;
            let envelope = Envelope::from_bytes(&row.value).ok()?;
            let header = envelope.header().clone();
            (header.key_version < target).then_some(())?;
            let value = self.decrypted(tenant, &token, &envelope).ok()?;
            let index = self.index_keys(tenant, &value);
            Some(Old { key: key.clone(), stored: row.value.clone(), token, header, value, index })
        };
        rows.iter().filter_map(old).collect()
    }
}

impl Planning<'_> {
    /// Encrypts one record under the key of now and moves its index row.
    fn rewrap(&mut self, tenant: &TenantId, old: &Old, now: Timestamp) -> Result<(), Error> {
        if self.overlay.value(&old.key)? != Some(&old.stored) {
            // Another writer of this store came between: the step is repeated on what it left.
            return Err(away());
        }
        debug_assert_eq!(record_key(tenant, &old.token), old.key, "a record stands under its token");
        let encrypting = self.keys.encrypting(tenant, old.token.class(), now)?;
        let mut nonce = [0; 24];
        self.entropy.fill(&mut nonce).map_err(|_| Error::Bug)?;
        let context = self.keys.context(tenant, &old.token);
        let envelope = encrypting.encrypt(&context, old.header.clone(), nonce, &old.value.to_padded());
        self.overlay.put(old.key.clone(), envelope.to_bytes());
        let token = old.token.to_bytes();
        let Some((new, older)) = old.index.split_first() else { return Ok(()) };
        let leads_here = |key: &Key| self.row(key).is_ok_and(|row| row == Some(&token));
        // A row that is damaged or leads elsewhere stays, for the proof to count.
        let is_free = self.row(new).is_ok_and(|row| row.is_none_or(|row| row == token));
        let moving: Vec<&Key> = older.iter().filter(|key| is_free && leads_here(key)).collect();
        for key in &moving {
            self.overlay.delete(key);
        }
        if !moving.is_empty() {
            self.put_row(new.clone(), &token);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_is_the_documented_one() {
        let token = Token::from_parts(Class::Pan, [2; 16], [3; 4]);
        let progress = RewrapProgress {
            stepped_at: Timestamp::from_seconds(1_800_000_060),
            rewrapped: 256,
            after: token.to_bytes().to_vec(),
            ..RewrapProgress::begin(2, Timestamp::from_seconds(1_800_000_000))
        };
        crate::data::documents::shows("store-rows.md", &progress.to_bytes());
        assert_eq!(RewrapProgress::from_bytes(&progress.to_bytes()), Some(progress));
    }

    #[test]
    fn no_other_bytes_are_a_progress() {
        let bytes = RewrapProgress::begin(2, Timestamp::from_seconds(0)).to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(RewrapProgress::from_bytes(&bytes[..length]), None, "{length} bytes");
        }
        for (at, byte) in [(0, 2), (5, 0), (5, 5)] {
            let mut changed = bytes.clone();
            changed[at] = byte;
            assert_eq!(RewrapProgress::from_bytes(&changed), None, "byte {at}");
        }
    }
}
