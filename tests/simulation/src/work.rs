//! Numbered commits of every shape: what batch `n` changes, and what is there after it, follows from `n`.

use std::collections::BTreeMap;

use vault_core::data::TenantId;
use vault_core::limits::SCAN_ROWS_MAX;
use vault_core::store::memory::{Image, MemoryStore};
use vault_core::store::{Change, Commit, Fault, Key, Row, Space, Store, Writes};
use vault_recorder::Dice;

const RECORD_BYTES: usize = 600;
const ENTRY_BYTES: usize = 200;
const TOKEN_BYTES: usize = 16;
/// More than sled keeps in one piece.
const LARGE_BYTES: usize = 9_000;

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn key(space: Space, bytes: &[u8]) -> Key {
    Key::new(space, Some(&tenant()), bytes)
}

/// Bytes that follow from a number and look like none.
fn noise(space: Space, number: u64, length: usize) -> Vec<u8> {
    let mut dice = Dice::new(number.wrapping_mul(31).wrapping_add(u64::from(space.code()) << 56));
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| dice.roll().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

/// A key as random as a token's.
fn random_key(space: Space, number: u64) -> Key {
    key(space, &noise(space, number, TOKEN_BYTES))
}

fn insert(writes: &mut Writes, key: Key, value: Vec<u8>) {
    writes.push(key, Change::Insert(value));
}

fn next(before: u64, value: Vec<u8>) -> Change {
    match before {
        0 => Change::Insert(value),
        version => Change::Replace { version, value },
    }
}

/// The changes of commit `n`, counted from 1.
///
/// # Panics
/// Never, since names and sizes are fixed.
pub fn batch(n: u64) -> Writes {
    let mut writes = Writes::new();
    insert(&mut writes, random_key(Space::Record, n), noise(Space::Record, n, RECORD_BYTES));
    insert(&mut writes, random_key(Space::Index, n), noise(Space::Index, n, TOKEN_BYTES));
    insert(&mut writes, key(Space::LogPage, &n.to_be_bytes()), noise(Space::LogPage, n, ENTRY_BYTES));
    writes.push(head(), next(n - 1, n.to_be_bytes().to_vec()));
    // Eight counters, replaced in turn.
    let counter = key(Space::Quota, &(n % 8).to_be_bytes());
    let turns = (n - 1) / 8;
    writes.push(counter, next(turns, noise(Space::Quota, n, 24)));
    large_rows(n, &mut writes);
    many_rows(n, &mut writes);
    // An erased record.
    if n % 5 == 4 {
        writes.push(random_key(Space::Record, n - 3), Change::Delete { version: 1 });
    }
    writes
}

/// Large rows that come, change their size and go.
fn large_rows(n: u64, writes: &mut Writes) {
    let large = key(Space::LogTile, &(n / 12).to_be_bytes());
    match n % 12 {
        2 => insert(writes, large, noise(Space::LogTile, n, LARGE_BYTES)),
        6 => writes.push(large, next(1, noise(Space::LogTile, n, 2 * LARGE_BYTES))),
        9 => writes.push(large, next(2, noise(Space::LogTile, n, 5))),
        11 if n % 24 == 11 => writes.push(large, Change::Delete { version: 3 }),
        _ => {}
    }
}

/// Many rows that come in one commit and go in another.
fn many_rows(n: u64, writes: &mut Writes) {
    let rows = |group: u64| (0..60).map(move |row| random_key(Space::Seen, group * 100 + row));
    match n % 10 {
        3 => rows(n / 10).for_each(|key| insert(writes, key, n.to_be_bytes().to_vec())),
        8 => rows(n / 10).for_each(|key| writes.push(key, Change::Delete { version: 1 })),
        _ => {}
    }
}

fn head() -> Key {
    Key::new(Space::LogHead, None, b"origin")
}

/// All rows after commit `n`.
///
/// # Panics
/// When the batches do not follow from one another.
pub fn rows_after(n: u64) -> Image {
    let model = MemoryStore::new();
    for n in 1..=n {
        assert_eq!(model.commit(&batch(n)), Ok(Commit::Done), "batch {n}");
    }
    model.image()
}

/// The number of the last commit that is there.
///
/// # Errors
/// What reading meets.
///
/// # Panics
/// When the head is no number.
pub fn last_commit(store: &dyn Store) -> Result<u64, Fault> {
    let row = store.read(&[head()])?.pop().flatten();
    Ok(row.map_or(0, |row| u64::from_be_bytes(row.value.try_into().expect("a number"))))
}

/// Every row of a store.
///
/// # Errors
/// What reading meets.
pub fn all_rows(store: &dyn Store) -> Result<Image, Fault> {
    let mut rows = BTreeMap::new();
    for space in Space::ALL {
        for tenant in [None, Some(tenant())] {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let found = store.scan(space, tenant.as_ref(), after.as_deref(), SCAN_ROWS_MAX)?;
                let Some((last, _)) = found.last() else { break };
                after = Some(last.bytes().to_vec());
                rows.extend(found);
            }
        }
    }
    Ok(rows)
}

/// Compares a store with what commit `n` left, row by row: by scanning, and by asking for each key.
///
/// # Errors
/// The first difference.
pub fn compare(store: &dyn Store, n: u64) -> Result<(), String> {
    let expected = rows_after(n);
    let found = all_rows(store).map_err(|fault| fault.to_string())?;
    let missing = expected.iter().find(|(key, row)| found.get(key) != Some(row));
    if let Some((key, _)) = missing {
        return Err(format!("after commit {n} a row is missing or another: {key:?}"));
    }
    if let Some(key) = found.keys().find(|key| !expected.contains_key(key)) {
        return Err(format!("after commit {n} there is a row too many: {key:?}"));
    }
    let keys: Vec<Key> = expected.keys().cloned().collect();
    let rows = store.read(&keys).map_err(|fault| fault.to_string())?;
    let asked: Vec<Option<Row>> = expected.into_values().map(Some).collect();
    if rows == asked { Ok(()) } else { Err(format!("after commit {n} a row is not found by its key")) }
}
