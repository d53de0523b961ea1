//! Moving a vault's rows into another store, while nobody serves it.
//!
//! The vault stays what it is: the same keys, the same log under the same name, the same anchor. Rows are
//! bound to the vault and to their place in it, not to the engine that holds them. So a move copies them, one
//! space after the other and the heads of logs last: a store without its head is no vault, and whoever opened
//! it would be told so.
//!
//! A move that was cut off is done again: what is there already is compared instead of written.

use std::collections::BTreeSet;
use std::iter;

use thiserror::Error;

use crate::audit;
use crate::clock::Timestamp;
use crate::data::{CallerText, TenantId};
use crate::keys::{Credential, Keyring, UnsealAttempt, UnsealOutcome};
use crate::limits::{MOVED_BYTES_MAX, SCAN_ROWS_MAX};
use crate::policy::Identity;
use crate::store::{Change, Commit, Fault, Key, Row, Space, Store, Writes};

use super::read_log::StoredLog;
use super::registry::Registry;
use super::sealed::{Opening, SealedVault, UnsealError, outcome_of};

/// What was moved.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Moved {
    /// Rows in all.
    pub rows: u64,
    /// Records among them.
    pub records: u64,
    /// Entries of the vault's log.
    pub entries: u64,
}

/// Why a vault was not moved. The store that it was in is as it was.
#[derive(Debug, Error)]
pub enum MoveError {
    /// The vault does not open.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// There is no vault to move.
    #[error("there is no vault in the store to move from")]
    NoVault,
    /// Other daemons write to it, or have written to it and the other store keeps one log only.
    #[error("other daemons are registered, or were and the store to move to is not for several")]
    SeveralLogs,
    /// The other store holds another vault, or this one at another time.
    #[error("the store to move to holds other rows already")]
    Occupied,
    /// The other store is away, full or damaged.
    #[error("the store to move to: {0}")]
    Store(Fault),
    /// What was written does not read back.
    #[error("the store to move to does not give back what was written")]
    Different,
}

/// Rows of one space and tenant.
#[derive(Clone, Copy)]
struct Part<'a> {
    space: Space,
    tenant: Option<&'a TenantId>,
}

impl SealedVault {
    /// Copies every row into another store, reads all of them back, and proves the log there. Opens the vault
    /// for it and changes nothing in its own store, which nobody may serve meanwhile. `told` hears how many
    /// rows were copied, now and then.
    ///
    /// Of the two stores the one that is served next is the vault: the anchor goes on with it, and from then
    /// on the other one is refused as rolled back.
    ///
    /// # Errors
    /// [`MoveError`]. What was copied until then stays, and is taken up by the next move to the same place.
    pub fn move_to(
        &self,
        given: Credential<'_>,
        who: &Identity,
        to: &dyn Store,
        now: Timestamp,
        told: &mut dyn FnMut(u64),
    ) -> Result<Moved, MoveError> {
        let begun = self.begin(who, now)?;
        let opening =
            self.opening(given).inspect_err(|error| self.attempts.settle(&begun, outcome_of(error)))?;
        let moved = self.copy_all(&opening, to, told);
        let outcome = if moved.is_ok() { UnsealOutcome::StoreMoved } else { UnsealOutcome::Refused };
        let reason = CallerText::of_stored(&format!("from:{}:to:{}", self.store().kind(), to.kind()));
        // Entered at the next unsealing, in the log where it then is.
        let ended = UnsealAttempt { outcome, reason, ..begun.clone() };
        self.attempts.journal().replace(&begun, ended).map_err(UnsealError::Journal)?;
        moved
    }

    fn copy_all(
        &self,
        opening: &Opening,
        to: &dyn Store,
        told: &mut dyn FnMut(u64),
    ) -> Result<Moved, MoveError> {
        if !opening.has_log() {
            return Err(MoveError::NoVault);
        }
        let logs = Registry::of(self.store(), &opening.keyring).logs().map_err(UnsealError::from)?;
        let mut others = logs.iter().filter(|log| log.origin != *self.origin());
        if others.any(|log| !log.retired || !to.is_shared()) {
            return Err(MoveError::SeveralLogs);
        }
        // Its tenants are those whose rows are copied.
        self.check_newest(&opening.keyring)?;
        let tenants = tenants(&opening.keyring);
        let mut moved = Moved::default();
        for part in parts(&tenants) {
            copy(self.store(), to, part, &mut |rows| {
                moved.rows += rows;
                moved.records += if part.space == Space::Record { rows } else { 0 };
                told(moved.rows);
            })?;
        }
        for part in parts(&tenants) {
            compare(self.store(), to, part)?;
        }
        let head = opening.log.head();
        let source = StoredLog { store: to, origin: self.origin() };
        audit::check(&source, &head).map_err(|_| MoveError::Different)?;
        Ok(Moved { entries: head.size, ..moved })
    }
}

/// Every tenant that may have rows: one that left the policy still has its keys.
fn tenants(keyring: &Keyring) -> BTreeSet<TenantId> {
    keyring.inventory().into_iter().map(|(tenant, ..)| tenant).collect()
}

/// All that a store holds, heads of logs last.
fn parts(tenants: &BTreeSet<TenantId>) -> impl Iterator<Item = Part<'_>> {
    let (heads, others): (Vec<Space>, Vec<Space>) =
        Space::ALL.into_iter().partition(|space| *space == Space::LogHead);
    others.into_iter().chain(heads).flat_map(move |space| {
        let of_tenants = tenants.iter().map(move |tenant| Part { space, tenant: Some(tenant) });
        iter::once(Part { space, tenant: None }).chain(of_tenants)
    })
}

fn copy(
    from: &dyn Store,
    to: &dyn Store,
    part: Part<'_>,
    copied: &mut dyn FnMut(u64),
) -> Result<(), MoveError> {
    let mut pages = Pages::of(from, part);
    while let Some(page) = pages.next().map_err(source)? {
        for rows in page.chunk_by(in_one_commit(MOVED_BYTES_MAX)) {
            put(to, rows)?;
            copied(rows.len() as u64);
        }
    }
    Ok(())
}

/// Says of neighbours whether the second still fits the commit of the first: so many bytes in one.
fn in_one_commit(bytes_max: usize) -> impl FnMut(&(Key, Row), &(Key, Row)) -> bool {
    let mut bytes = 0;
    move |(_, row), (_, next)| {
        bytes += row.value.len();
        let fits = bytes + next.value.len() <= bytes_max;
        if !fits {
            bytes = 0;
        }
        fits
    }
}

/// Writes rows that are not there yet; those that are must be the same.
fn put(to: &dyn Store, rows: &[(Key, Row)]) -> Result<(), MoveError> {
    let keys: Vec<Key> = rows.iter().map(|(key, _)| key.clone()).collect();
    let found = to.read(&keys).map_err(MoveError::Store)?;
    let mut writes = Writes::new();
    for ((key, row), found) in rows.iter().zip(found) {
        match found {
            None => writes.push(key.clone(), Change::Insert(row.value.clone())),
            Some(there) if there.value == row.value => {}
            Some(_) => return Err(MoveError::Occupied),
        }
    }
    match to.commit(&writes).map_err(MoveError::Store)? {
        Commit::Done => Ok(()),
        Commit::Conflict => Err(MoveError::Occupied),
    }
}

/// Both stores hold the same rows of this part, and no others.
fn compare(from: &dyn Store, to: &dyn Store, part: Part<'_>) -> Result<(), MoveError> {
    let (mut ours, mut theirs) = (Pages::of(from, part).rows(), Pages::of(to, part).rows());
    loop {
        match (ours.next().map_err(source)?, theirs.next().map_err(MoveError::Store)?) {
            (None, None) => return Ok(()),
            (None, Some(_)) => return Err(MoveError::Occupied),
            (Some((key, row)), Some((other, copy))) if key == other && row.value == copy.value => {}
            (Some(_), _) => return Err(MoveError::Different),
        }
    }
}

fn source(fault: Fault) -> MoveError {
    MoveError::Unseal(UnsealError::Store(fault))
}

/// The rows of a part in key order, page by page.
struct Pages<'a> {
    store: &'a dyn Store,
    part: Part<'a>,
    after: Option<Vec<u8>>,
}

impl<'a> Pages<'a> {
    const fn of(store: &'a dyn Store, part: Part<'a>) -> Self {
        Self { store, part, after: None }
    }

    /// A scan may end early by its bytes; only one that finds nothing is at the end.
    fn next(&mut self) -> Result<Option<Vec<(Key, Row)>>, Fault> {
        let Part { space, tenant } = self.part;
        let rows = self.store.scan(space, tenant, self.after.as_deref(), SCAN_ROWS_MAX)?;
        let Some((last, _)) = rows.last() else { return Ok(None) };
        self.after = Some(last.bytes().to_vec());
        Ok(Some(rows))
    }

    const fn rows(self) -> Rows<'a> {
        Rows { pages: self, page: Vec::new() }
    }
}

/// The same, row by row.
struct Rows<'a> {
    pages: Pages<'a>,
    /// What is left of a page, last row first.
    page: Vec<(Key, Row)>,
}

impl Rows<'_> {
    fn next(&mut self) -> Result<Option<(Key, Row)>, Fault> {
        if self.page.is_empty() {
            self.page = self.pages.next()?.unwrap_or_default();
            self.page.reverse();
        }
        Ok(self.page.pop())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop loudly")]

    use std::sync::Arc;

    use super::super::open::Vault;
    use super::super::scene::{Scene, entries, keeper};
    use super::super::tests::{POLICY, VISA, detokenize, identity, only, tokenize};
    use super::*;
    use crate::audit::Action;
    use crate::data::Token;
    use crate::store::memory::{Injected, MemoryStore};

    const NUMBERS: [&[u8]; 3] = [VISA, b"5555555555554444", b"378282246310005"];

    /// A sealed vault in which some values are stored.
    fn filled() -> (Scene, Vec<Token>) {
        let mut scene = Scene::new();
        let vault = scene.unseal_under(POLICY).unwrap();
        let mut token = |number| {
            let request = tokenize(number, None);
            let prepared = vault.prepare(&identity("checkout"), request, scene.now, &mut scene.entropy);
            only(vault.commit(&[prepared], &mut scene.entropy).pop().unwrap()).unwrap()
        };
        let tokens = NUMBERS.map(&mut token).to_vec();
        scene.close(vault);
        (scene, tokens)
    }

    fn moved(scene: &Scene, to: &dyn Store) -> Result<Moved, MoveError> {
        scene.sealed.move_to(scene.passphrase(), &keeper(), to, scene.now, &mut |_| {})
    }

    fn releases(scene: &mut Scene, vault: &Vault, token: Token) -> bool {
        let request = detokenize(token, "settlement");
        let prepared = vault.prepare(&identity("billing"), request, scene.now, &mut scene.entropy);
        vault.commit(&[prepared], &mut scene.entropy).pop().unwrap().into_result().is_ok()
    }

    #[test]
    fn a_moved_vault_goes_on_where_it_was_and_the_old_store_is_refused() {
        for to in [MemoryStore::shared(), MemoryStore::new()] {
            let (mut scene, tokens) = filled();
            let to = Arc::new(to);
            let told = moved(&scene, to.as_ref()).unwrap();
            assert_eq!((told.records, told.rows), (3, scene.store.image().len() as u64));
            let old = std::mem::replace(&mut scene.store, to);
            scene.reopen();
            let vault = scene.unseal_under(POLICY).unwrap();
            assert!(vault.tree_head().size > told.entries, "the log goes on");
            for token in &tokens {
                assert!(releases(&mut scene, &vault, *token));
            }
            let entry = entries(&vault).into_iter().find(|entry| entry.action == Action::StoreMoved).unwrap();
            assert_eq!(entry.note.unwrap().as_str(), "from:memory:to:memory");
            assert_eq!(vault.check(scene.now, &mut scene.entropy).unwrap().findings, []);
            scene.close(vault);
            scene.store = old;
            scene.reopen();
            let refused = scene.unseal_under(POLICY).err();
            assert!(matches!(refused, Some(UnsealError::RolledBack { .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_move_that_was_cut_off_is_done_again() {
        let (scene, _) = filled();
        let to = MemoryStore::shared();
        to.inject([Injected::Pass, Injected::Pass, Injected::Unavailable]);
        assert!(matches!(moved(&scene, &to), Err(MoveError::Store(Fault::Unavailable(_)))));
        assert!(to.image().len() < scene.store.image().len());
        to.reopen().unwrap();
        moved(&scene, &to).unwrap();
        moved(&scene, &to).unwrap();
        assert_eq!(to.image().len(), scene.store.image().len());
    }

    #[test]
    fn a_store_with_other_rows_is_left_alone() {
        let (scene, _) = filled();
        let other = filled().0.store;
        let before = other.image();
        // Made with the same randomness it has the very same rows.
        moved(&scene, other.as_ref()).unwrap();
        assert_eq!(other.image(), before);
        let (key, row) = before.into_iter().find(|(key, _)| key.space() == Space::Record).unwrap();
        let changed = Row { value: [row.value.as_slice(), b"x"].concat(), ..row };
        other.danger_set(key, Some(changed));
        assert!(matches!(moved(&scene, other.as_ref()), Err(MoveError::Occupied)));
    }

    #[test]
    fn a_row_too_many_or_another_one_is_noticed_when_read_back() {
        let (scene, _) = filled();
        let to = MemoryStore::shared();
        to.danger_set(Key::new(Space::Meta, None, b"foreign"), Some(Row { version: 1, value: vec![1] }));
        assert!(matches!(moved(&scene, &to), Err(MoveError::Occupied)));
    }

    #[test]
    fn what_does_not_open_is_not_moved() {
        let (scene, _) = filled();
        let to = MemoryStore::new();
        let given = Credential::Passphrase(b"another passphrase altogether");
        let refused = scene.sealed.move_to(given, &keeper(), &to, scene.now, &mut |_| {});
        assert!(matches!(refused, Err(MoveError::Unseal(UnsealError::WrongPassphrase))), "{refused:?}");
        assert!(to.image().is_empty());
    }
}
