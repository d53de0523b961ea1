//! What every engine must do, as checks that any engine can be run through.
//!
//! Not part of the vault: the tests of this crate run it on the three engines here, the daemon's tests on
//! engines that live there. Each check opens a store of its own in an empty place.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "checks stop loudly"
)]

use super::{Change, Commit, Fault, Key, Row, Space, Store, Writes};
use crate::data::TenantId;
use crate::limits::{COMMIT_ROWS_MAX, ROW_KEY_BYTES_MAX, ROW_VALUE_BYTES_MAX, SCAN_ROWS_MAX};

/// A place where one store can be opened, closed (by dropping it) and opened again.
pub trait Place {
    /// Opens the store of this place; what was committed before is there.
    fn open(&self) -> Box<dyn Store>;
}

/// Runs every check, each in a fresh place.
///
/// # Panics
/// At the first promise that the engine does not keep, naming it.
pub fn suite(fresh: &dyn Fn() -> Box<dyn Place>) {
    for check in CHECKS {
        check(&*fresh());
    }
}

const CHECKS: [fn(&dyn Place); 16] = [
    reads_what_was_written,
    counts_versions,
    keeps_each_precondition,
    trusts_a_mark_only_while_it_stands,
    writes_nothing_on_conflict,
    refuses_misuse_and_writes_nothing,
    takes_an_empty_commit,
    deletes_for_good,
    keeps_spaces_and_tenants_apart,
    scans_in_key_order_and_resumes,
    scans_at_most_the_limit,
    keeps_values_of_every_size,
    keeps_everything_when_reopened,
    reopens_a_healthy_handle,
    shows_no_half_commit,
    orders_competing_commits,
];

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn key(space: Space, bytes: &[u8]) -> Key {
    Key::new(space, Some(&tenant("acme")), bytes)
}

fn one(key: &Key, change: Change) -> Writes {
    [(key.clone(), change)].into_iter().collect()
}

fn insert(store: &dyn Store, key: &Key, value: &[u8]) {
    assert_eq!(store.commit(&one(key, Change::Insert(value.to_vec()))), Ok(Commit::Done), "insert");
}

fn row(store: &dyn Store, key: &Key) -> Option<Row> {
    store.read(std::slice::from_ref(key)).unwrap().pop().unwrap()
}

fn expect(store: &dyn Store, key: &Key, version: u64, value: &[u8]) {
    assert_eq!(row(store, key), Some(Row { version, value: value.to_vec() }), "{key:?}");
}

fn reads_what_was_written(place: &dyn Place) {
    let store = place.open();
    let keys: Vec<Key> = Space::ALL.into_iter().map(|space| key(space, b"k")).collect();
    let writes = keys.iter().map(|key| (key.clone(), Change::Insert(key.encoded().to_vec()))).collect();
    assert_eq!(store.read(&keys).unwrap(), vec![None; keys.len()], "nothing before");
    assert_eq!(store.commit(&writes), Ok(Commit::Done));
    let rows = store.read(&keys).unwrap();
    for (key, row) in keys.iter().zip(rows) {
        assert_eq!(row.unwrap().value, key.encoded(), "the order of the keys asked for");
    }
    assert_eq!(store.read(&[]).unwrap(), vec![]);
    assert!(!store.kind().is_empty() && !store.free_space_low());
    assert!(store.disk_bytes().unwrap() > 0);
}

fn counts_versions(place: &dyn Place) {
    let store = place.open();
    let key = key(Space::Quota, b"window");
    insert(&*store, &key, b"1");
    for version in 1..=5 {
        let value = vec![u8::try_from(version).unwrap(); 3];
        let writes = one(&key, Change::Replace { version, value: value.clone() });
        assert_eq!(store.commit(&writes), Ok(Commit::Done));
        expect(&*store, &key, version + 1, &value);
    }
    assert_eq!(store.commit(&one(&key, Change::Delete { version: 6 })), Ok(Commit::Done));
    insert(&*store, &key, b"again");
    expect(&*store, &key, 1, b"again");
}

fn keeps_each_precondition(place: &dyn Place) {
    let store = place.open();
    let (there, absent) = (key(Space::Meta, b"there"), key(Space::Meta, b"absent"));
    insert(&*store, &there, b"1");
    let conflicts = [
        one(&there, Change::Insert(b"2".to_vec())),
        one(&there, Change::Replace { version: 0, value: b"2".to_vec() }),
        one(&there, Change::Replace { version: 2, value: b"2".to_vec() }),
        one(&there, Change::Delete { version: 0 }),
        one(&there, Change::Delete { version: 2 }),
        one(&absent, Change::Replace { version: 0, value: b"2".to_vec() }),
        one(&absent, Change::Replace { version: 1, value: b"2".to_vec() }),
        one(&absent, Change::Delete { version: 0 }),
        one(&absent, Change::Delete { version: 1 }),
    ];
    for writes in &conflicts {
        assert_eq!(store.commit(writes), Ok(Commit::Conflict), "{writes:?}");
    }
    expect(&*store, &there, 1, b"1");
    assert_eq!(row(&*store, &absent), None);
}

/// What a mark vouches for holds as long as nothing else is committed; what was not read is looked up always.
fn trusts_a_mark_only_while_it_stands(place: &dyn Place) {
    let store = place.open();
    let (read, unread) = (key(Space::Seen, b"read"), key(Space::Record, b"unread"));
    let inserted = |key: &Key| (key.clone(), Change::Insert(b"2".to_vec()));
    let mark = store.mark();
    assert_eq!(row(&*store, &read), None);
    insert(&*store, &read, b"1");
    let stale = Writes::of_read(mark, vec![inserted(&read)]);
    assert_eq!(store.commit(&stale), Ok(Commit::Conflict), "committed by another since");
    insert(&*store, &unread, b"1");
    let mark = store.mark();
    let replaced = (read.clone(), Change::Replace { version: 1, value: b"3".to_vec() });
    let mut writes = Writes::of_read(mark, vec![replaced.clone()]);
    writes.push(unread.clone(), Change::Insert(b"2".to_vec()));
    assert_eq!(store.commit(&writes), Ok(Commit::Conflict), "the mark does not speak for an unread row");
    expect(&*store, &read, 1, b"1");
    assert_eq!(store.commit(&Writes::of_read(mark, vec![replaced.clone()])), Ok(Commit::Done));
    expect(&*store, &read, 2, b"3");
    let again = Writes::of_read(mark, vec![replaced]);
    assert_eq!(store.commit(&again), Ok(Commit::Conflict), "its own commit ends a mark, too");
    expect(&*store, &read, 2, b"3");
}

fn writes_nothing_on_conflict(place: &dyn Place) {
    let store = place.open();
    let (kept, gone, new) =
        (key(Space::Record, b"kept"), key(Space::Index, b"gone"), key(Space::LogPage, b"new"));
    insert(&*store, &kept, b"1");
    insert(&*store, &gone, b"1");
    let good = [
        (new.clone(), Change::Insert(b"2".to_vec())),
        (gone.clone(), Change::Delete { version: 1 }),
        (kept.clone(), Change::Replace { version: 1, value: b"2".to_vec() }),
    ];
    let bad = (key(Space::Meta, b"absent"), Change::Delete { version: 1 });
    // The failing precondition first, in the middle and last.
    for at in 0..=good.len() {
        let mut changes = good.to_vec();
        changes.insert(at, bad.clone());
        assert_eq!(store.commit(&changes.into_iter().collect()), Ok(Commit::Conflict));
        expect(&*store, &kept, 1, b"1");
        expect(&*store, &gone, 1, b"1");
        assert_eq!(row(&*store, &new), None);
    }
    assert_eq!(store.commit(&good.into_iter().collect()), Ok(Commit::Done), "the handle is still good");
}

fn refuses_misuse_and_writes_nothing(place: &dyn Place) {
    let store = place.open();
    let (first, second) = (key(Space::Seen, b"1"), key(Space::Seen, b"2"));
    let new = || Change::Insert(b"v".to_vec());
    let twice = [(first.clone(), new()), (second.clone(), new()), (first.clone(), new())];
    let long_key = one(&key(Space::Seen, &[0; ROW_KEY_BYTES_MAX]), new());
    let long_value = one(&first, Change::Insert(vec![0; ROW_VALUE_BYTES_MAX + 1]));
    let many = (0..=COMMIT_ROWS_MAX).map(|i| (key(Space::Seen, &i.to_be_bytes()), new())).collect();
    for writes in [twice.into_iter().collect(), long_key, long_value, many] {
        assert!(matches!(store.commit(&writes), Err(Fault::Misuse(_))));
    }
    assert_eq!(store.scan(Space::Seen, Some(&tenant("acme")), None, 9).unwrap(), vec![]);
    insert(&*store, &first, b"v");
}

fn takes_an_empty_commit(place: &dyn Place) {
    let store = place.open();
    assert_eq!(store.commit(&Writes::new()), Ok(Commit::Done));
}

fn deletes_for_good(place: &dyn Place) {
    let keys: Vec<Key> = (0..50_u8).map(|i| key(Space::Idempotency, &[i])).collect();
    {
        let store = place.open();
        let all = keys.iter().map(|key| (key.clone(), Change::Insert(vec![7; 100]))).collect();
        assert_eq!(store.commit(&all), Ok(Commit::Done));
        let even = keys.iter().step_by(2).map(|key| (key.clone(), Change::Delete { version: 1 })).collect();
        assert_eq!(store.commit(&even), Ok(Commit::Done));
    }
    let store = place.open();
    for (i, row) in store.read(&keys).unwrap().into_iter().enumerate() {
        assert_eq!(row.is_some(), i % 2 == 1, "row {i}");
    }
    let left = store.scan(Space::Idempotency, Some(&tenant("acme")), None, 100).unwrap();
    assert_eq!(left.len(), 25);
}

fn keeps_spaces_and_tenants_apart(place: &dyn Place) {
    let store = place.open();
    let tenants = [None, Some(tenant("a")), Some(tenant("aa")), Some(tenant("b")), Some(tenant("ab"))];
    let mut writes = Writes::new();
    for space in Space::ALL {
        for (i, tenant) in tenants.iter().enumerate() {
            // Bytes that would run together with a tenant's name if keys were not length-prefixed.
            for bytes in [&b""[..], b"a", b"aa", b"b", &[0xff; 4], &[0; 4]] {
                let value = [&[space.code(), u8::try_from(i).unwrap()], bytes].concat();
                writes.push(Key::new(space, tenant.as_ref(), bytes), Change::Insert(value));
            }
        }
    }
    assert_eq!(store.commit(&writes), Ok(Commit::Done));
    for space in Space::ALL {
        for (i, tenant) in tenants.iter().enumerate() {
            let rows = store.scan(space, tenant.as_ref(), None, 100).unwrap();
            assert_eq!(rows.len(), 6, "{space:?} {tenant:?}");
            for (key, row) in rows {
                assert_eq!(row.value[..2], [space.code(), u8::try_from(i).unwrap()]);
                assert_eq!(&row.value[2..], key.bytes());
                assert_eq!(key, Key::new(space, tenant.as_ref(), key.bytes()));
            }
        }
    }
}

fn scans_in_key_order_and_resumes(place: &dyn Place) {
    let store = place.open();
    let count: u32 = 300;
    // Inserted in another order than that of the keys, over several commits.
    let shuffled: Vec<u32> = (0..count).map(|i| (i * 7919) % count).collect();
    for chunk in shuffled.chunks(70) {
        let writes = chunk
            .iter()
            .map(|i| (key(Space::LogPage, &i.to_be_bytes()), Change::Insert(i.to_le_bytes().to_vec())))
            .collect();
        assert_eq!(store.commit(&writes), Ok(Commit::Done));
    }
    let mut seen = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let rows = store.scan(Space::LogPage, Some(&tenant("acme")), after.as_deref(), 37).unwrap();
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.bytes().to_vec());
        seen.extend(rows.iter().map(|(_, row)| u32::from_le_bytes(row.value[..].try_into().unwrap())));
    }
    assert_eq!(seen, (0..count).collect::<Vec<_>>());
    // From a place between two keys, and from beyond the last.
    let between = [&100_u32.to_be_bytes()[..], &[0]].concat();
    let rows = store.scan(Space::LogPage, Some(&tenant("acme")), Some(&between), 1).unwrap();
    assert_eq!(rows[0].0.bytes(), 101_u32.to_be_bytes());
    let beyond = store.scan(Space::LogPage, Some(&tenant("acme")), Some(&[0xff; 8]), 1).unwrap();
    assert_eq!(beyond, vec![]);
}

fn scans_at_most_the_limit(place: &dyn Place) {
    let store = place.open();
    let count = SCAN_ROWS_MAX + 10;
    let writes = (0..count).map(|i| (key(Space::Seen, &i.to_be_bytes()), Change::Insert(vec![]))).collect();
    assert_eq!(store.commit(&writes), Ok(Commit::Done));
    let scan = |limit| store.scan(Space::Seen, Some(&tenant("acme")), None, limit).unwrap().len();
    assert_eq!((scan(0), scan(1), scan(usize::MAX)), (0, 1, SCAN_ROWS_MAX));
    // Large values end a scan early, but never before the first row.
    let large = vec![1; ROW_VALUE_BYTES_MAX];
    for i in 0..4_u8 {
        insert(&*store, &key(Space::LogPage, &[i]), &large);
    }
    let mut found = 0;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let rows = store.scan(Space::LogPage, Some(&tenant("acme")), after.as_deref(), 4).unwrap();
        let Some((last, _)) = rows.last() else { break };
        assert!(rows.len() < 4, "64 MiB in one answer");
        after = Some(last.bytes().to_vec());
        found += rows.len();
    }
    assert_eq!(found, 4);
}

fn keeps_values_of_every_size(place: &dyn Place) {
    let sizes = [0, 1, 7, 8, 511, 512, 4095, 4096, 65_535, 65_536, 1 << 20, ROW_VALUE_BYTES_MAX];
    let value = |size: usize| (0..size).map(|i| (i % 251) as u8).collect::<Vec<_>>();
    let sized = |size: usize| key(Space::LogTile, &size.to_be_bytes());
    {
        let store = place.open();
        for size in sizes {
            insert(&*store, &sized(size), &value(size));
        }
        let longest = key(Space::LogTile, &vec![9; ROW_KEY_BYTES_MAX - sized(0).encoded().len() + 8]);
        assert_eq!(longest.encoded().len(), ROW_KEY_BYTES_MAX);
        insert(&*store, &longest, b"v");
        expect(&*store, &longest, 1, b"v");
    }
    let store = place.open();
    for size in sizes {
        expect(&*store, &sized(size), 1, &value(size));
    }
}

fn keeps_everything_when_reopened(place: &dyn Place) {
    for round in 0..4_u64 {
        let store = place.open();
        for earlier in 0..round {
            expect(&*store, &key(Space::Record, &earlier.to_be_bytes()), 1, b"record");
        }
        let head = key(Space::LogHead, b"origin");
        let change = match round {
            0 => Change::Insert(b"0".to_vec()),
            version => Change::Replace { version, value: round.to_string().into_bytes() },
        };
        let record = (key(Space::Record, &round.to_be_bytes()), Change::Insert(b"record".to_vec()));
        let writes = [record, (head.clone(), change)].into_iter().collect();
        assert_eq!(store.commit(&writes), Ok(Commit::Done));
        expect(&*store, &head, round + 1, round.to_string().as_bytes());
    }
}

fn reopens_a_healthy_handle(place: &dyn Place) {
    let store = place.open();
    let key = key(Space::Record, b"k");
    insert(&*store, &key, b"v");
    assert_eq!(store.reopen(), Ok(()));
    expect(&*store, &key, 1, b"v");
}

/// A writer moves two rows in step while a reader looks: one snapshot, never half a commit.
fn shows_no_half_commit(place: &dyn Place) {
    let store = place.open();
    let keys = [key(Space::Record, b"left"), key(Space::Meta, b"right")];
    let write = |version: u64| {
        let value = version.to_be_bytes().to_vec();
        let change = match version {
            0 => Change::Insert(value),
            version => Change::Replace { version, value },
        };
        let writes = keys.iter().map(|key| (key.clone(), change.clone())).collect();
        assert_eq!(store.commit(&writes), Ok(Commit::Done));
    };
    write(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (1..100).for_each(&write));
        while !writer.is_finished() {
            let rows = store.read(&keys).unwrap();
            assert_eq!(rows[0], rows[1], "half a commit was seen");
        }
        writer.join().unwrap();
    });
}

/// Four threads increment one counter by compare and swap: no increment is lost.
fn orders_competing_commits(place: &dyn Place) {
    let store = place.open();
    let key = key(Space::Quota, b"counter");
    insert(&*store, &key, &0_u64.to_be_bytes());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut done = 0;
                while done < 25 {
                    let Row { version, value } = row(&*store, &key).unwrap();
                    let count = u64::from_be_bytes(value[..].try_into().unwrap());
                    let value = (count + 1).to_be_bytes().to_vec();
                    let commit = store.commit(&one(&key, Change::Replace { version, value })).unwrap();
                    done += u32::from(commit == Commit::Done);
                }
            });
        }
    });
    expect(&*store, &key, 101, &100_u64.to_be_bytes());
}
