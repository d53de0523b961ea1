//! The daemons that share a store: each registered by the log it writes, all with one keyring.
//!
//! Only a shared store has these rows. They are written in the commit that loads a policy, which every
//! opening does: the first such commit of a log registers it, and says so in an entry.

use crate::audit::{Action, Actor, Entry, Extension, LogFault, Origin, TreeHead, extends, head_of_row};
use crate::clock::Timestamp;
use crate::crypto::codec::{Reader, put_short_text};
use crate::crypto::{Entropy, MacKey};
use crate::data::{CallerText, VaultId};
use crate::error::{Error, Unavailable};
use crate::keys::{AnchoredLog, Keyring};
use crate::limits::ANCHOR_LOGS_MAX;
use crate::store::{Fault, Key, Space, Store, rows};

use super::batch::Planning;
use super::open::{Keys, Vault, head_key, lock, log_prefix};
use super::read_log::StoredLog;
use super::sealed::UnsealError;

const VERSION: u8 = 1;
/// States of a registered log.
const REGISTERED: u8 = 1;
const RETIRED: u8 = 2;
/// What the keys of registered logs begin with; their eight bytes follow.
const LOG: &[u8] = b"log";
const KEYRING: &[u8] = b"keyring";

/// A registered log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Registered {
    pub(super) origin: Origin,
    /// Nobody writes it any more: it is proven and anchored on, and no daemon opens with it.
    pub(super) retired: bool,
    at: Timestamp,
    /// The policy that its daemon loaded last: the first bytes of its hash.
    policy: [u8; 8],
    loaded_at: Timestamp,
}

/// A daemon as another one sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Neighbour {
    /// Its log.
    pub origin: Origin,
    /// Entries in it.
    pub log_size: u64,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// The policy that it loaded last: the first eight bytes of the SHA-256 of its file.
    pub policy: [u8; 8],
}

/// The keyring that all daemons have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Known {
    pub(super) generation: u64,
    pub(super) digest: [u8; 32],
}

impl Registered {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, if self.retired { RETIRED } else { REGISTERED }];
        put_short_text(&mut bytes, self.origin.as_str());
        bytes.extend_from_slice(&self.at.micros().to_be_bytes());
        bytes.extend_from_slice(&self.policy);
        bytes.extend_from_slice(&self.loaded_at.micros().to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        (reader.u8()? == VERSION).then_some(())?;
        let retired = match reader.u8()? {
            REGISTERED => false,
            RETIRED => true,
            _ => return None,
        };
        let origin = Origin::parse(reader.short_text()?).ok()?;
        let (at, policy) = (Timestamp::from_micros(reader.u64()?), reader.array()?);
        let loaded_at = Timestamp::from_micros(reader.u64()?);
        reader.finish()?;
        Some(Self { origin, retired, at, policy, loaded_at })
    }
}

impl Known {
    fn of(keyring: &Keyring) -> Self {
        Self { generation: keyring.generation(), digest: keyring.digest() }
    }

    fn to_bytes(self) -> Vec<u8> {
        [&[VERSION], self.generation.to_be_bytes().as_slice(), &self.digest].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        (reader.u8()? == VERSION).then_some(())?;
        let known = Self { generation: reader.u64()?, digest: reader.array()? };
        reader.finish().map(|()| known)
    }

    /// What the row says once a daemon with the keyring `own` is there; `None`: that keyring is an older
    /// one, or may lack keys that others have. A higher generation alone proves nothing: another daemon could
    /// have made keys meanwhile, fewer of them. So it counts only if `own` was made from this very keyring.
    /// Of the same keys the higher generation counts: a reseal changes it too.
    fn with(self, own: Self, descends: bool) -> Option<Self> {
        match self.digest == own.digest {
            true => Some(Self { generation: self.generation.max(own.generation), ..self }),
            false => (descends && own.generation > self.generation).then_some(own),
        }
    }
}

/// The row of a registered log.
pub(super) fn log_row(origin: &Origin) -> Key {
    Key::new(Space::Meta, None, &[LOG, &log_prefix(origin)].concat())
}

fn keyring_row() -> Key {
    Key::new(Space::Meta, None, KEYRING)
}

/// The rows that a commit reads to register this log.
pub(super) fn wanted(origin: &Origin) -> [Key; 2] {
    [log_row(origin), keyring_row()]
}

/// Why a log is not registered.
pub(super) enum Unregistered {
    /// This keyring is not that of the other daemons.
    OtherKeyring,
    /// It was retired.
    Retired,
    Failed(Error),
}

impl From<Error> for Unregistered {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What is wrong with what the store says of its daemons.
pub(super) enum RegistryFault {
    Store(Fault),
    /// A row does not authenticate: of another vault, or changed.
    Damaged,
}

/// The rows of a store, and what guards them.
pub(super) struct Registry<'a> {
    pub(super) store: &'a dyn Store,
    mac: &'a MacKey,
    vault_id: &'a VaultId,
}

impl<'a> Registry<'a> {
    pub(super) fn of(store: &'a dyn Store, keyring: &'a Keyring) -> Self {
        Self { store, mac: keyring.row_mac(), vault_id: keyring.vault_id() }
    }

    /// Every registered log.
    pub(super) fn logs(&self) -> Result<Vec<Registered>, RegistryFault> {
        let rows = self.store.scan(Space::Meta, None, Some(LOG), ANCHOR_LOGS_MAX + 1)?;
        let logs = rows.iter().take_while(|(key, _)| key.bytes().starts_with(LOG));
        let log = |(key, row): &(Key, _)| self.read(key, row, Registered::from_bytes);
        let logs: Vec<Registered> = logs.map(log).collect::<Option<_>>().ok_or(RegistryFault::Damaged)?;
        if logs.len() <= ANCHOR_LOGS_MAX { Ok(logs) } else { Err(RegistryFault::Damaged) }
    }

    /// The keyring that all daemons have, if this one is it, or was made from it: from the one of the digest
    /// `base`, or while nobody else was there to make keys. `None` before the first daemon.
    ///
    /// # Errors
    /// [`UnsealError::OtherKeyring`].
    pub(super) fn check_keyring(
        &self,
        own: &Origin,
        keyring: &Keyring,
        base: Option<[u8; 32]>,
    ) -> Result<Option<Known>, UnsealError> {
        let key = keyring_row();
        let rows = self.store.read(std::slice::from_ref(&key)).map_err(UnsealError::Store)?;
        let Some(row) = rows.into_iter().next().flatten() else {
            // It comes with the first registered log, in one commit, and never goes.
            return if self.logs()?.is_empty() { Ok(None) } else { Err(UnsealError::Registry) };
        };
        let known = self.read(&key, &row, Known::from_bytes).ok_or(UnsealError::Registry)?;
        let mine = Known::of(keyring);
        let descends = mine.digest != known.digest && (base == Some(known.digest) || self.is_alone(own)?);
        match known.with(mine, descends) {
            Some(_) => Ok(Some(known)),
            None => Err(UnsealError::OtherKeyring { found: mine.generation, known: known.generation }),
        }
    }

    /// Whether no other daemon is registered, but for retired ones.
    pub(super) fn is_alone(&self, own: &Origin) -> Result<bool, UnsealError> {
        Ok(self.logs()?.iter().all(|log| log.retired || log.origin == *own))
    }

    fn read<T>(&self, key: &Key, row: &crate::store::Row, parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        parse(rows::unguard(self.mac, self.vault_id, key, &row.value).ok()?)
    }

    /// Where a log ends; `None` where it has no head.
    pub(super) fn head(&self, origin: &Origin) -> Result<Option<TreeHead>, RegistryFault> {
        let rows = self.store.read(&[head_key(origin)])?;
        let Some(row) = rows.into_iter().next().flatten() else { return Ok(None) };
        match head_of_row(&row.value) {
            Ok((found, head)) if found == *origin => Ok(Some(head)),
            _ => Err(RegistryFault::Damaged),
        }
    }

    /// Where a registered log ends, if it goes on from where it is known to have been.
    pub(super) fn extended(
        &self,
        origin: &Origin,
        known: Option<&AnchoredLog>,
    ) -> Result<Result<TreeHead, LogBehind>, RegistryFault> {
        let anchor_size = known.map_or(0, |known| known.size);
        let Some(head) = self.head(origin)? else { return Ok(Err(LogBehind { anchor_size, log_size: 0 })) };
        let Some(known) = known else { return Ok(Ok(head)) };
        let source = StoredLog { store: self.store, origin };
        let anchored = TreeHead { size: known.size, root: known.root };
        match extends(&source, &anchored, &head) {
            Ok(Extension::Extends) => Ok(Ok(head)),
            Ok(_) => Ok(Err(LogBehind { anchor_size, log_size: head.size })),
            Err(LogFault::Unavailable) => Err(Fault::Unavailable("a log cannot be read".into()).into()),
            Err(_) => Err(RegistryFault::Damaged),
        }
    }
}

/// A log that is not what the anchor knows, and more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LogBehind {
    pub(super) anchor_size: u64,
    pub(super) log_size: u64,
}

impl From<Fault> for RegistryFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Corrupt(_) => Self::Damaged,
            fault => Self::Store(fault),
        }
    }
}

impl From<RegistryFault> for Error {
    fn from(fault: RegistryFault) -> Self {
        match fault {
            RegistryFault::Damaged => Self::Corrupt,
            RegistryFault::Store(_) => Self::Unavailable(Unavailable::Store),
        }
    }
}

impl From<RegistryFault> for UnsealError {
    fn from(fault: RegistryFault) -> Self {
        match fault {
            RegistryFault::Store(fault) => Self::Store(fault),
            RegistryFault::Damaged => Self::Registry,
        }
    }
}

impl Planning<'_> {
    /// Registers a log, or brings its row up to date: `true` when it was not there. The keyring descends from
    /// the one of the digest `base`.
    pub(super) fn register(
        &mut self,
        origin: &Origin,
        base: Option<[u8; 32]>,
        policy: [u8; 8],
        now: Timestamp,
    ) -> Result<bool, Unregistered> {
        let (log, keyring) = (log_row(origin), keyring_row());
        let own = Known::of(&self.keys.keyring);
        let known =
            self.row(&keyring)?.map(|row| Known::from_bytes(row).ok_or(Error::Corrupt)).transpose()?;
        let agreed = match known {
            Some(known) => known.with(own, base == Some(known.digest)).ok_or(Unregistered::OtherKeyring)?,
            None => own,
        };
        if known != Some(agreed) {
            self.put_row(keyring, &agreed.to_bytes());
        }
        let before =
            self.row(&log)?.map(|row| Registered::from_bytes(row).ok_or(Error::Corrupt)).transpose()?;
        match &before {
            Some(before) if before.origin != *origin => return Err(Error::Corrupt.into()),
            Some(Registered { retired: true, .. }) => return Err(Unregistered::Retired),
            _ => {}
        }
        let at = before.as_ref().map_or(now, |before| before.at);
        let row = Registered { origin: origin.clone(), retired: false, at, policy, loaded_at: now };
        self.put_row(log, &row.to_bytes());
        Ok(before.is_none())
    }
}

/// The entry of a registration.
pub(super) fn registration(now: Timestamp) -> Entry {
    Entry::new(now, Actor::Vault, Action::LogRegistered)
}

impl Vault {
    /// The keyring that all daemons have, of which this one has all keys; remembered, so that it is known
    /// what a change was made from until the change is registered.
    pub(super) fn agreed(&self, keys: &Keys) -> Result<Option<Known>, UnsealError> {
        let mut agreed = lock(&self.agreed);
        let registry = Registry::of(self.store(), &keys.keyring);
        let known = registry.check_keyring(&self.origin, &keys.keyring, *agreed)?;
        *agreed = known.map(|known| known.digest);
        Ok(known)
    }

    /// Looks at the other daemons' logs: each must go on from where this one knows it to have been. What is
    /// there is remembered, and anchored with the next checkpoint. Called every few seconds; nothing to see
    /// where the store is not shared.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the store is away; [`Error::Corrupt`] when a log went back or is no
    /// longer registered: the vault must be sealed then.
    pub fn look_around(&self) -> Result<(), Error> {
        if !self.store().is_shared() {
            return Ok(());
        }
        let anchored = lock(&self.published).anchor.logs.clone();
        match self.seen_around(&anchored) {
            Ok(Some(seen)) => {
                self.remember_neighbours(&anchored, seen);
                Ok(())
            }
            Ok(None) | Err(RegistryFault::Damaged) => {
                self.must_seal(&mut self.lane());
                Err(Error::Corrupt)
            }
            Err(RegistryFault::Store(_)) => Err(Error::Unavailable(Unavailable::Store)),
        }
    }

    /// The other daemons as of now; `None` where one of their logs is not what it was.
    fn seen_around(
        &self,
        anchored: &[AnchoredLog],
    ) -> Result<Option<Vec<(Registered, TreeHead)>>, RegistryFault> {
        let keys = self.keys();
        let registry = Registry::of(self.store(), &keys.keyring);
        let logs = registry.logs()?;
        let own_is_retired = logs.iter().any(|log| log.retired && log.origin == self.origin);
        if own_is_retired || !are_registered(anchored, &logs, &self.origin) {
            return Ok(None);
        }
        let mut seen = Vec::with_capacity(logs.len());
        for log in logs.into_iter().filter(|log| log.origin != self.origin) {
            let known = anchored.iter().find(|known| known.origin == log.origin.as_str());
            let Ok(head) = registry.extended(&log.origin, known)? else { return Ok(None) };
            seen.push((log, head));
        }
        Ok(Some(seen))
    }

    fn remember_neighbours(&self, anchored: &[AnchoredLog], seen: Vec<(Registered, TreeHead)>) {
        let mut published = lock(&self.published);
        published.anchor.logs.retain(|log| log.origin == self.origin.as_str());
        published.anchor.logs.extend(seen.iter().map(|(log, head)| anchored_log(&log.origin, head)));
        published.anchor.logs.sort_by(|one, other| one.origin.cmp(&other.origin));
        if published.anchor.logs != anchored {
            published.anchored = None;
        }
        let serving = seen.into_iter().filter(|(log, _)| !log.retired);
        published.neighbours = serving.map(|(log, head)| log.seen_with(head.size)).collect();
    }

    /// Ends the registration of another daemon for ever: its log stays, and stays proven, but no daemon
    /// opens with it again. Whoever calls this has made sure that it does not serve.
    ///
    /// # Errors
    /// [`Error::Denied`] for this daemon's own log and for one that is not registered,
    /// [`Error::Unavailable`].
    pub fn retire(&self, origin: &Origin, now: Timestamp, entropy: &mut dyn Entropy) -> Result<(), Error> {
        if *origin == self.origin || !self.store().is_shared() {
            return Err(Error::Denied);
        }
        let key = log_row(origin);
        let mut lane = self.lane();
        let keys = self.keys();
        self.own_step(&mut lane, &keys, std::slice::from_ref(&key), entropy, |planning| {
            let row = planning.row(&key)?.ok_or(Error::Denied)?;
            let registered = Registered::from_bytes(row).filter(|row| row.origin == *origin);
            let registered = registered.ok_or(Error::Corrupt)?;
            if registered.retired {
                return Ok(Vec::new());
            }
            planning.put_row(key.clone(), &Registered { retired: true, ..registered }.to_bytes());
            let mut entry = Entry::new(now, Actor::Vault, Action::LogRetired);
            entry.reference = log_name(origin);
            entry.policy = keys.policy.short_hash();
            planning.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
            Ok(vec![entry])
        })
        .map(drop)
    }

    /// Whether this daemon was retired while it was cut off from the store; `None` while that cannot be read.
    pub(super) fn is_retired(&self) -> Option<bool> {
        if !self.store().is_shared() {
            return Some(false);
        }
        let keys = self.keys();
        let logs = Registry::of(self.store(), &keys.keyring).logs().ok()?;
        Some(logs.iter().any(|log| log.retired && log.origin == self.origin))
    }

    /// The other daemons that are registered, as they were when last looked at.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        lock(&self.published).neighbours.clone()
    }
}

impl Registered {
    fn seen_with(self, log_size: u64) -> Neighbour {
        Neighbour { origin: self.origin, log_size, registered_at: self.at, policy: self.policy }
    }
}

/// How an entry names a log: as the keys of its rows do.
pub(super) fn log_name(origin: &Origin) -> Option<CallerText> {
    let log: String = log_prefix(origin).iter().map(|byte| format!("{byte:02x}")).collect();
    CallerText::of_stored(&format!("log:{log}"))
}

/// A log as the anchor has it.
pub(super) fn anchored_log(origin: &Origin, head: &TreeHead) -> AnchoredLog {
    AnchoredLog { origin: origin.as_str().to_owned(), size: head.size, root: head.root }
}

/// Whether every log that the anchor knows, but for `own`, is registered.
pub(super) fn are_registered(anchored: &[AnchoredLog], logs: &[Registered], own: &Origin) -> bool {
    let registered = |known: &AnchoredLog| {
        known.origin == own.as_str() || logs.iter().any(|log| log.origin.as_str() == known.origin)
    };
    anchored.iter().all(registered)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop loudly")]

    use super::*;
    use crate::data::documents::shows;

    fn registered() -> Registered {
        let origin = Origin::parse("vault.example/log").unwrap();
        let at = Timestamp::from_seconds(1_700_000_000);
        Registered { origin, retired: false, at, policy: [4; 8], loaded_at: at.plus_seconds(60) }
    }

    #[test]
    fn the_rows_are_the_documented_ones() {
        let registered = registered();
        let known = Known { generation: 3, digest: [5; 32] };
        for bytes in [
            log_row(&registered.origin).encoded(),
            &registered.to_bytes(),
            keyring_row().encoded(),
            &known.to_bytes(),
        ] {
            shows("store-rows.md", bytes);
        }
        assert_eq!(Registered::from_bytes(&registered.to_bytes()), Some(registered));
        assert_eq!(Known::from_bytes(&known.to_bytes()), Some(known));
    }

    #[test]
    fn of_two_keyrings_the_newer_counts_and_none_that_has_other_keys_beside_it() {
        let known = Known { generation: 3, digest: [5; 32] };
        let own = |generation, digest| Known { generation, digest: [digest; 32] };
        for (other, descends, agreed) in [
            (own(3, 5), false, Some(known)),
            (own(2, 5), false, Some(known)),
            (own(4, 5), false, Some(own(4, 5))),
            (own(4, 6), true, Some(own(4, 6))),
            (own(4, 6), false, None),
            (own(3, 6), true, None),
            (own(2, 6), true, None),
        ] {
            assert_eq!(known.with(other, descends), agreed, "{other:?}, {descends}");
        }
    }
}
