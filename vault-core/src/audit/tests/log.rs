//! Staging, accepting and restoring, against the tree by its definition.

use proptest::prelude::*;

use super::super::{LogFault, LogWriter, StageError, Stale, check};
use super::rows::{Log, Rows, hashed, naive_root};
use super::{bare_entry, full_entry, origin};
use crate::audit::{LogSource, read_entries};
use crate::limits::{ENTRY_BYTES_MAX, PAGE_ENTRIES_MAX};

/// The writer, the restored writer and the definition agree.
fn agrees(log: &Log) {
    assert_eq!(log.writer.head().size, log.leaves.len() as u64);
    assert_eq!(log.writer.head().root, naive_root(&log.leaves));
    let restored = LogWriter::restore(&log.rows.head, &log.rows).unwrap();
    assert_eq!(restored.head(), log.writer.head());
    assert_eq!(restored.origin(), &origin());
    assert_eq!(restored.open_tiles(), log.writer.open_tiles());
    assert_eq!(restored.head_row(), log.rows.head);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_commits_give_the_tree_of_their_entries(
        commits in prop::collection::vec(prop_oneof![1usize..5, 250usize..260, 1usize..700], 1..9),
    ) {
        let mut log = Log::empty();
        for count in commits {
            log.grow(count);
            agrees(&log);
        }
    }

    #[test]
    fn what_is_staged_and_dropped_leaves_no_trace(before in 0usize..600, dropped in 1usize..600) {
        let mut log = Log::of(if before > 0 { std::slice::from_ref(&before) } else { &[] });
        let lost = |index| hashed(format!("lost {index}").into_bytes());
        let entries: Vec<_> = (0..dropped).map(lost).collect();
        let lost = log.writer.stage(&entries).unwrap();
        agrees(&log);
        log.grow(3);
        agrees(&log);
        prop_assert_eq!(log.writer.accept(lost.next), Err(Stale));
        agrees(&log);
    }
}

/// Two full tiles of level 1, so that level 2 begins; in commits of every awkward size.
#[test]
fn a_log_beyond_two_tiles_of_the_second_level_restores() {
    let mut log = Log::of(&[1, 255, 256, 257, 2_000, 1]);
    log.grow_in_pages(65_536 - 2_770);
    agrees(&log);
    assert!(log.rows.tiles.contains_key(&(1, 0)) && !log.rows.tiles.contains_key(&(2, 0)));
    for count in [1, 254, 2, 1_999, 63_280, 1] {
        log.grow_in_pages(count);
        agrees(&log);
    }
    assert_eq!((log.leaves.len(), log.rows.tiles.len()), (131_073, 512 + 2));
}

#[test]
fn tiles_hold_the_hashes_of_their_level() {
    let log = Log::of(&[600, 424]);
    assert_eq!(log.rows.tiles.keys().copied().collect::<Vec<_>>(), [(0, 0), (0, 1), (0, 2), (0, 3)]);
    for ((_, index), tile) in &log.rows.tiles {
        let first = *index as usize * 256;
        assert_eq!(tile.as_slice(), log.leaves[first..first + 256].as_flattened());
    }
}

#[test]
fn a_page_is_found_by_any_of_its_indexes() {
    let log = Log::of(&[1, 3, 2]);
    let ends: Vec<_> = (0..6).map(|index| log.rows.page_after(index).unwrap().unwrap().0).collect();
    assert_eq!(ends, [1, 4, 4, 4, 6, 6]);
    assert_eq!(log.rows.page_after(6).unwrap(), None);
}

#[test]
fn what_cannot_be_a_page_is_not_staged() {
    let log = Log::empty();
    let stage = |entries: &[(Vec<u8>, [u8; 32])]| log.writer.stage(entries).map(|_| ()).unwrap_err();
    assert_eq!(stage(&[]), StageError::Empty);
    assert_eq!(stage(&[hashed(Vec::new())]), StageError::EntryLength);
    assert_eq!(stage(&[hashed(vec![0; ENTRY_BYTES_MAX + 1])]), StageError::EntryLength);
    assert_eq!(stage(&vec![hashed(vec![0]); PAGE_ENTRIES_MAX + 1]), StageError::TooMany);
    assert!(log.writer.stage(&vec![hashed(vec![0; ENTRY_BYTES_MAX]); PAGE_ENTRIES_MAX]).is_ok());
}

#[test]
fn entries_read_back_as_they_were_logged() {
    let mut log = Log::empty();
    let logged: Vec<_> =
        (0..10).map(|number| if number % 2 == 0 { full_entry(number) } else { bare_entry(number) }).collect();
    for commit in logged.chunks(3) {
        log.commit(commit.iter().map(crate::audit::Entry::to_bytes).collect()).unwrap();
    }
    let head = log.writer.head();
    for from in 0..=10 {
        let read = read_entries(&log.rows, &head, from, 4).unwrap();
        let to = (from + 4).min(10);
        assert_eq!(
            read.iter().map(|logged| logged.index).collect::<Vec<_>>(),
            (from..to).collect::<Vec<_>>()
        );
        for found in read {
            assert_eq!(found.entry, logged[found.index as usize]);
            assert_eq!(found.leaf_hash, log.leaves[found.index as usize]);
        }
    }
    assert_eq!(read_entries(&log.rows, &head, 11, 1), Err(LogFault::OutOfRange));
    assert_eq!(check(&log.rows, &head), Ok(()));
}

#[test]
fn an_empty_log_restores_and_checks() {
    let log = Log::empty();
    agrees(&log);
    assert_eq!(check(&Rows::default(), &log.writer.head()), Ok(()));
}

/// A store across the network is asked for several pages at once.
#[test]
fn short_pages_are_read_several_at_a_time() {
    let mut log = Log::empty();
    for number in 0..200 {
        log.commit(vec![bare_entry(number).to_bytes()]).unwrap();
    }
    let head = log.writer.head();
    log.rows.page_reads.take();
    assert_eq!(read_entries(&log.rows, &head, 0, 200).unwrap().len(), 200);
    assert_eq!(log.rows.page_reads.take(), 5, "the first one, then four times 64 at most");
    assert_eq!(read_entries(&log.rows, &head, 7, 1).unwrap().len(), 1);
    assert_eq!(log.rows.page_reads.take(), 1);
    check(&log.rows, &head).unwrap();
    assert_eq!(log.rows.page_reads.take(), 5);
}
