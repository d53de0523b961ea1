//! The daemons that share a store: each registered by the log it writes, all with one keyring.
//!
//! Only a shared store has these rows. They are written in the commit that loads a policy, which every
//! opening does: the first such commit of a log registers it, and says so in an entry. Every commit that
//! changes one of them touches the row of the keyring too: of two at once one is planned again, on what the
//! other left.

use crate::audit::{Action, Actor, Entry, Extension, LogFault, Origin, TreeHead, extends, head_of_row};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::crypto::codec::{Reader, put_short_text};
use crate::data::CallerText;
use crate::error::{Error, Unavailable};
use crate::keys::{AnchoredLog, Keyring};
use crate::limits::{ANCHOR_LOGS_MAX, KEY_CHANGES_WAITING_MAX};
use crate::store::{Fault, Key, Row, Space, Store, rows};

use super::batch::Planning;
use super::open::{Vault, head_key, lock, log_prefix};
use super::read_log::StoredLog;
use super::sealed::UnsealError;

const VERSION: u8 = 1;
/// States of a registered log.
const REGISTERED: u8 = 1;
const RETIRED: u8 = 2;
/// What the keys of registered logs begin with; their eight bytes follow.
const LOG: &[u8] = b"log";
const KEYRING: &[u8] = b"keyring";
/// What the keys of changed keyrings begin with; the digest of the keyring follows from which each was made.
const CARRIED: &[u8] = b"keys/";

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
    /// The digest of the keyring that its daemon had in both copies and in force, when it last said so.
    pub(super) held: [u8; 32],
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
    /// Whether it has confirmed that it holds the keyring of now. Until then no key is announced, enabled or
    /// destroyed.
    pub has_keyring: bool,
}

/// The keyring that all daemons have, or are to take over.
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
        bytes.extend_from_slice(&self.held);
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
        let (loaded_at, held) = (Timestamp::from_micros(reader.u64()?), reader.array()?);
        reader.finish()?;
        Some(Self { origin, retired, at, policy, loaded_at, held })
    }
}

impl Known {
    pub(super) fn of(keyring: &Keyring) -> Self {
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

    /// Whether the row may not have become this one from `before`: it only ever counts up.
    pub(super) fn is_older_than(self, before: Self) -> bool {
        let one_generation = self.generation == before.generation;
        self.generation < before.generation || one_generation && self.digest != before.digest
    }
}

/// The row of a registered log.
pub(super) fn log_row(origin: &Origin) -> Key {
    Key::new(Space::Meta, None, &[LOG, &log_prefix(origin)].concat())
}

fn keyring_row() -> Key {
    Key::new(Space::Meta, None, KEYRING)
}

/// The row of the keyring that was made from the one with this digest.
fn carried_row(base: &[u8; 32]) -> Key {
    Key::new(Space::Meta, None, &[CARRIED, base].concat())
}

/// The rows that a commit reads to register this log, with a keyring of this digest.
pub(super) fn wanted(origin: &Origin, digest: &[u8; 32]) -> [Key; 3] {
    [log_row(origin), keyring_row(), carried_row(digest)]
}

/// Why a log is not registered, or a change of keys not made.
pub(super) enum Unregistered {
    /// This keyring is not that of the other daemons.
    OtherKeyring,
    /// It was retired.
    Retired,
    /// There are as many logs as an anchor has room for.
    TooMany,
    /// Others have not confirmed that they have the keyring from which the change was made, or too many
    /// changes already wait for one of them.
    Unconfirmed,
    Failed(Error),
}

impl From<Error> for Unregistered {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<RegistryFault> for Unregistered {
    fn from(fault: RegistryFault) -> Self {
        Self::Failed(fault.into())
    }
}

/// What is wrong with what the store says of its daemons.
pub(super) enum RegistryFault {
    Store(Fault),
    /// A row does not authenticate: of another vault, or changed.
    Damaged,
}

/// The rows of a store, read with a keyring.
pub(super) struct Registry<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) keyring: &'a Keyring,
}

impl<'a> Registry<'a> {
    pub(super) fn of(store: &'a dyn Store, keyring: &'a Keyring) -> Self {
        Self { store, keyring }
    }

    /// Every registered log.
    pub(super) fn logs(&self) -> Result<Vec<Registered>, RegistryFault> {
        let rows = self.store.scan(Space::Meta, None, Some(LOG), ANCHOR_LOGS_MAX + 1)?;
        let logs = rows.iter().take_while(|(key, _)| key.bytes().starts_with(LOG));
        let log = |(key, row): &(Key, _)| self.read(key, row, Registered::from_bytes);
        let logs: Vec<Registered> = logs.map(log).collect::<Option<_>>().ok_or(RegistryFault::Damaged)?;
        if logs.len() <= ANCHOR_LOGS_MAX { Ok(logs) } else { Err(RegistryFault::Damaged) }
    }

    /// The keyring that all daemons have or are to take over; `None` before the first daemon.
    pub(super) fn known(&self) -> Result<Option<Known>, RegistryFault> {
        let key = keyring_row();
        let rows = self.store.read(std::slice::from_ref(&key))?;
        let Some(row) = rows.into_iter().next().flatten() else {
            // It comes with the first registered log, in one commit, and never goes.
            return if self.logs()?.is_empty() { Ok(None) } else { Err(RegistryFault::Damaged) };
        };
        self.read(&key, &row, Known::from_bytes).map(Some).ok_or(RegistryFault::Damaged)
    }

    /// What others have made of this keyring by now; `None` where it is the one that all have, and where it
    /// is a newer one that an operator accepted, or that this daemon, being alone, made by itself.
    ///
    /// # Errors
    /// [`UnsealError::OtherKeyring`] where nothing leads from this one to theirs.
    pub(super) fn newest(&self, own: &Origin, is_accepted: bool) -> Result<Option<Keyring>, UnsealError> {
        let Some(known) = self.known()? else { return Ok(None) };
        let mut newest = None;
        for _ in 0..=KEY_CHANGES_WAITING_MAX {
            let at = newest.as_ref().unwrap_or(self.keyring);
            if at.digest() == known.digest {
                return Ok(newest);
            }
            let Some(mut next) = self.made_of(at)? else { break };
            // A reseal of this daemon's counted up, too.
            next.catch_up(at.generation().saturating_add(1));
            newest = Some(next);
        }
        let found = self.keyring.generation();
        if found > known.generation && (is_accepted || self.is_alone(own)?) {
            return Ok(None);
        }
        Err(UnsealError::OtherKeyring { found, known: known.generation })
    }

    /// The keyring that was made from this one, if it waits in the store.
    fn made_of(&self, base: &Keyring) -> Result<Option<Keyring>, RegistryFault> {
        let key = carried_row(&base.digest());
        let rows = self.store.read(std::slice::from_ref(&key))?;
        let Some(row) = rows.into_iter().next().flatten() else { return Ok(None) };
        let made = self.read(&key, &row, |bytes| base.transferred(bytes).ok());
        made.map(Some).ok_or(RegistryFault::Damaged)
    }

    /// The keyrings that wait in the store until every daemon has taken them over.
    fn carried(&self) -> Result<Vec<(Key, Row)>, RegistryFault> {
        let mut carried: Vec<(Key, Row)> = Vec::new();
        loop {
            let after = carried.last().map_or(CARRIED, |(key, _)| key.bytes());
            let rows = self.store.scan(Space::Meta, None, Some(after), KEY_CHANGES_WAITING_MAX)?;
            let before = carried.len();
            carried.extend(rows.into_iter().take_while(|(key, _)| key.bytes().starts_with(CARRIED)));
            if carried.len() == before {
                return Ok(carried);
            }
        }
    }

    /// Whether no other daemon is registered, but for retired ones.
    pub(super) fn is_alone(&self, own: &Origin) -> Result<bool, RegistryFault> {
        Ok(is_alone(&self.logs()?, own))
    }

    /// Whether this keyring is the one of now, and every other daemon has confirmed that it has it.
    pub(super) fn all_have_it(&self, own: &Origin) -> Result<bool, RegistryFault> {
        let digest = self.keyring.digest();
        let is_known = self.known()?.is_some_and(|known| known.digest == digest);
        Ok(is_known && all_have(&self.logs()?, own, &digest))
    }

    fn read<T>(&self, key: &Key, row: &Row, parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let (mac, vault_id) = (self.keyring.row_mac(), self.keyring.vault_id());
        parse(rows::unguard(mac, vault_id, key, &row.value).ok()?)
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

fn is_alone(logs: &[Registered], own: &Origin) -> bool {
    logs.iter().all(|log| log.retired || log.origin == *own)
}

/// Whether all other daemons, but for retired ones, have confirmed that they have the keyring of this digest.
fn all_have(logs: &[Registered], own: &Origin, digest: &[u8; 32]) -> bool {
    logs.iter().all(|log| log.retired || log.origin == *own || log.held == *digest)
}

/// A log that is to be registered with the keyring in force, or its row brought up to date.
pub(super) struct Registration<'a> {
    pub(super) registry: Registry<'a>,
    pub(super) origin: &'a Origin,
    /// The policy that is loaded; `None` where it stays the one of before.
    pub(super) policy: Option<[u8; 8]>,
    /// An operator stated that this keyring counts, whatever the row says.
    pub(super) is_accepted: bool,
    pub(super) now: Timestamp,
}

/// A keyring that the other daemons are to take over.
pub(super) struct Publication {
    pub(super) next: Known,
    pub(super) carried: Vec<u8>,
    /// Whether it may be made only once all have the keyring that it was made from.
    pub(super) needs_all: bool,
}

impl Planning<'_> {
    /// Registers a log, or brings its row up to date: `true` when it was not there. What is read here of the
    /// other logs is read after the row of the keyring, which this commit touches: it is what is there.
    pub(super) fn register(&mut self, of: &Registration<'_>) -> Result<bool, Unregistered> {
        let logs = of.registry.logs()?;
        self.stand_by_keyring(of, &logs)?;
        let log = log_row(of.origin);
        let before =
            self.row(&log)?.map(|row| Registered::from_bytes(row).ok_or(Error::Corrupt)).transpose()?;
        match &before {
            Some(before) if before.origin != *of.origin => return Err(Error::Corrupt.into()),
            Some(Registered { retired: true, .. }) => return Err(Unregistered::Retired),
            None if logs.len() >= ANCHOR_LOGS_MAX => return Err(Unregistered::TooMany),
            _ => {}
        }
        let known = before.as_ref().map(|before| (before.policy, before.loaded_at));
        let (policy, loaded_at) =
            of.policy.map(|policy| (policy, of.now)).or(known).unwrap_or(([0; 8], of.now));
        let (origin, held) = (of.origin.clone(), of.registry.keyring.digest());
        let at = before.as_ref().map_or(of.now, |before| before.at);
        let row = Registered { origin, retired: false, at, policy, loaded_at, held };
        self.put_row(log, &row.to_bytes());
        if all_have(&logs, of.origin, &held) {
            for (key, row) in of.registry.carried()? {
                self.overlay.admit(key.clone(), row);
                self.overlay.delete(&key);
            }
        }
        Ok(before.is_none())
    }

    /// This keyring is the one that all daemons have; or it becomes that, being the first, or an operator's
    /// choice, or made by a daemon that was alone.
    fn stand_by_keyring(&mut self, of: &Registration<'_>, logs: &[Registered]) -> Result<(), Unregistered> {
        let (key, own) = (keyring_row(), Known::of(of.registry.keyring));
        let known = self.row(&key)?.map(|row| Known::from_bytes(row).ok_or(Error::Corrupt)).transpose()?;
        let agreed = match known {
            None if logs.is_empty() => own,
            None => return Err(Error::Corrupt.into()),
            // A reseal counts up too.
            Some(known) if known.digest == own.digest => {
                Known { generation: known.generation.max(own.generation), ..known }
            }
            Some(known) if own.generation > known.generation => {
                let counts = of.is_accepted || is_alone(logs, of.origin);
                counts.then_some(own).ok_or(Unregistered::OtherKeyring)?
            }
            Some(_) => return Err(Unregistered::OtherKeyring),
        };
        self.put_row(key, &agreed.to_bytes());
        Ok(())
    }

    /// Replaces the keyring that all daemons have by one that was made from it.
    pub(super) fn publish(
        &mut self,
        of: &Registration<'_>,
        publication: &Publication,
    ) -> Result<bool, Unregistered> {
        let is_new = self.register(of)?;
        let base = of.registry.keyring.digest();
        let all_have = all_have(&of.registry.logs()?, of.origin, &base);
        let is_waiting = |carried: Vec<_>| !all_have && carried.len() >= KEY_CHANGES_WAITING_MAX;
        if publication.needs_all && !all_have || is_waiting(of.registry.carried()?) {
            return Err(Unregistered::Unconfirmed);
        }
        self.put_row(keyring_row(), &publication.next.to_bytes());
        self.put_row(carried_row(&base), &publication.carried);
        Ok(is_new)
    }
}

/// The entry of a registration.
pub(super) fn registration(now: Timestamp) -> Entry {
    Entry::new(now, Actor::Vault, Action::LogRegistered)
}

impl Vault {
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
    fn seen_around(&self, anchored: &[AnchoredLog]) -> Result<Option<Vec<Seen>>, RegistryFault> {
        let keyring = self.keyring();
        let registry = Registry::of(self.store(), &keyring);
        let known = registry.known()?.map(|known| known.digest);
        let logs = registry.logs()?;
        let own_is_retired = logs.iter().any(|log| log.retired && log.origin == self.origin);
        if own_is_retired || !are_registered(anchored, &logs, &self.origin) {
            return Ok(None);
        }
        let mut seen = Vec::with_capacity(logs.len());
        for log in logs.into_iter().filter(|log| log.origin != self.origin) {
            let anchored = anchored.iter().find(|known| known.origin == log.origin.as_str());
            let Ok(head) = registry.extended(&log.origin, anchored)? else { return Ok(None) };
            let has_keyring = known == Some(log.held);
            seen.push(Seen { log, head, has_keyring });
        }
        Ok(Some(seen))
    }

    fn remember_neighbours(&self, anchored: &[AnchoredLog], seen: Vec<Seen>) {
        let mut published = lock(&self.published);
        published.anchor.logs.retain(|log| log.origin == self.origin.as_str());
        let logs = seen.iter().map(|seen| anchored_log(&seen.log.origin, &seen.head));
        published.anchor.logs.extend(logs);
        published.anchor.logs.sort_by(|one, other| one.origin.cmp(&other.origin));
        if published.anchor.logs != anchored {
            published.anchored = None;
        }
        let serving = seen.into_iter().filter(|seen| !seen.log.retired);
        published.neighbours = serving.map(Seen::neighbour).collect();
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
        let wanted = [key.clone(), keyring_row()];
        self.own_step(&mut lane, &keys, &wanted, entropy, |planning| {
            planning.overlay.hold(&keyring_row());
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

    /// Whether this daemon was retired while it was cut off from the store.
    pub(super) fn is_retired(&self) -> Result<bool, RegistryFault> {
        if !self.store().is_shared() {
            return Ok(false);
        }
        let logs = Registry::of(self.store(), &self.keyring()).logs()?;
        Ok(logs.iter().any(|log| log.retired && log.origin == self.origin))
    }

    /// The other daemons that are registered, as they were when last looked at.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        lock(&self.published).neighbours.clone()
    }
}

/// Another daemon as it was when last looked at.
struct Seen {
    log: Registered,
    head: TreeHead,
    has_keyring: bool,
}

impl Seen {
    fn neighbour(self) -> Neighbour {
        let Self { log, head, has_keyring } = self;
        let Registered { origin, at, policy, .. } = log;
        Neighbour { origin, log_size: head.size, registered_at: at, policy, has_keyring }
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

/// The row of a daemon that has this keyring, for tests that need many.
#[cfg(test)]
pub(super) fn registered(origin: &Origin, keyring: &Keyring) -> Vec<u8> {
    let (origin, at) = (origin.clone(), Timestamp::default());
    let held = keyring.digest();
    Registered { origin, retired: false, at, policy: [0; 8], loaded_at: at, held }.to_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop loudly")]

    use super::*;
    use crate::data::documents::shows;

    fn registered() -> Registered {
        let origin = Origin::parse("vault.example/log").unwrap();
        let at = Timestamp::from_seconds(1_700_000_000);
        let loaded_at = at.plus_seconds(60);
        Registered { origin, retired: false, at, policy: [4; 8], loaded_at, held: [5; 32] }
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
            carried_row(&known.digest).encoded(),
        ] {
            shows("store-rows.md", bytes);
        }
        assert_eq!(Registered::from_bytes(&registered.to_bytes()), Some(registered));
        assert_eq!(Known::from_bytes(&known.to_bytes()), Some(known));
    }

    #[test]
    fn the_row_of_the_keyring_only_counts_up() {
        let of = |generation, digest| Known { generation, digest: [digest; 32] };
        let before = of(3, 5);
        assert!(!before.is_older_than(before) && !of(4, 5).is_older_than(before));
        assert!(!of(4, 6).is_older_than(before));
        for older in [of(2, 5), of(2, 6), of(3, 6)] {
            assert!(older.is_older_than(before), "{older:?}");
        }
    }
}
