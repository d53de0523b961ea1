//! Damaged rows: never a panic, never a wrong answer.

use super::super::{Entry, LogFault, LogWriter, TreeHead, check, inclusion_proof, read_entries};
use super::rows::{Log, Rows};
use super::{bare_entry, full_entry};

fn entries(count: u8) -> Vec<Vec<u8>> {
    let entry = |number| if number % 3 == 0 { bare_entry(number) } else { full_entry(number) };
    (0..count).map(|number| Entry::to_bytes(&entry(number))).collect()
}

/// A log of real entries with two full tiles and an open one, in commits of several sizes.
fn log() -> Log {
    let mut log = Log::empty();
    for count in [1, 3, 200, 56, 250, 60] {
        log.commit(entries(count)).unwrap();
    }
    log
}

#[test]
fn every_flip_in_a_head_is_noticed() {
    let log = log();
    for place in 0..log.rows.head.len() {
        for bit in 0..8 {
            let mut head = log.rows.head.clone();
            head[place] ^= 1 << bit;
            // The name stands in the head only: the caller compares it with the name it asked for.
            match LogWriter::restore(&head, &log.rows) {
                Ok(restored) => assert_ne!(restored.origin(), log.writer.origin(), "byte {place}"),
                Err(fault) => assert!(matches!(fault, LogFault::Corrupt(_))),
            }
        }
    }
    for cut in 0..log.rows.head.len() {
        assert!(LogWriter::restore(&log.rows.head[..cut], &log.rows).is_err());
    }
    assert!(LogWriter::restore(&[&log.rows.head[..], &[0]].concat(), &log.rows).is_err());
}

/// Flips every byte of every row; the full check must find each, the restore those it reads.
#[test]
fn every_flip_in_a_row_is_noticed() {
    let log = {
        let mut log = Log::empty();
        log.commit(entries(5)).unwrap();
        log.commit(entries(2)).unwrap();
        log
    };
    let head = log.writer.head();
    for (end, page) in &log.rows.pages {
        for place in 0..page.len() {
            let mut rows = log.rows.clone();
            rows.pages.get_mut(end).unwrap()[place] ^= 0x10;
            assert!(matches!(check(&rows, &head), Err(LogFault::Corrupt(_))), "byte {place} of page {end}");
            assert!(matches!(LogWriter::restore(&rows.head, &rows), Err(LogFault::Corrupt(_))));
        }
    }
}

#[test]
fn flips_in_tiles_and_pages_of_a_longer_log_are_noticed() {
    let log = log();
    let head = log.writer.head();
    assert_eq!(check(&log.rows, &head), Ok(()));
    for tile in log.rows.tiles.keys() {
        for place in (0..8_192).step_by(97) {
            let mut rows = log.rows.clone();
            rows.tiles.get_mut(tile).unwrap()[place] ^= 1;
            assert!(check(&rows, &head).is_err(), "byte {place} of tile {tile:?}");
            // Full tiles of level 0 make up the open tile of level 1, so a restore reads them all here.
            assert!(LogWriter::restore(&rows.head, &rows).is_err());
        }
    }
    for (end, page) in &log.rows.pages {
        for place in (0..page.len()).step_by(101) {
            let mut rows = log.rows.clone();
            rows.pages.get_mut(end).unwrap()[place] ^= 0x80;
            assert!(check(&rows, &head).is_err(), "byte {place} of page {end}");
        }
    }
}

#[test]
fn missing_short_and_exchanged_rows_are_noticed() {
    let log = log();
    let head = log.writer.head();
    let noticed = |what: &str, damage: &dyn Fn(&mut Rows)| {
        let mut rows = log.rows.clone();
        damage(&mut rows);
        assert!(matches!(check(&rows, &head), Err(LogFault::Corrupt(_))), "{what}");
    };
    for tile in log.rows.tiles.keys() {
        noticed("tile missing", &|rows| drop(rows.tiles.remove(tile)));
        noticed("tile short", &|rows| rows.tiles.get_mut(tile).unwrap().truncate(8_160));
        noticed("tile odd", &|rows| rows.tiles.get_mut(tile).unwrap().truncate(8_191));
        noticed("tile long", &|rows| rows.tiles.get_mut(tile).unwrap().extend([0; 32]));
    }
    noticed("tiles exchanged", &|rows| {
        let first = rows.tiles.remove(&(0, 0)).unwrap();
        let second = rows.tiles.insert((0, 1), first).unwrap();
        rows.tiles.insert((0, 0), second);
    });
    for end in log.rows.pages.keys() {
        noticed("page missing", &|rows| drop(rows.pages.remove(end)));
        noticed("page short", &|rows| {
            rows.pages.get_mut(end).unwrap().pop();
        });
        noticed("page long", &|rows| rows.pages.get_mut(end).unwrap().push(0));
        noticed("page empty", &|rows| rows.pages.get_mut(end).unwrap().clear());
        noticed("page moved", &|rows| {
            let page = rows.pages.remove(end).unwrap();
            rows.pages.insert(end + 1, page);
        });
    }
}

#[test]
fn a_restore_needs_every_row_of_its_open_tiles() {
    let log = log();
    let refused = |damage: &dyn Fn(&mut Rows)| {
        let mut rows = log.rows.clone();
        damage(&mut rows);
        assert!(matches!(LogWriter::restore(&rows.head, &rows), Err(LogFault::Corrupt(_))));
    };
    refused(&|rows| drop(rows.tiles.remove(&(0, 1))));
    refused(&|rows| drop(rows.pages.pop_last()));
    refused(&|rows| {
        rows.pages.last_entry().unwrap().get_mut().pop();
    });
}

/// A head put back to an older one leaves the newer pages behind.
#[test]
fn a_head_rolled_back_alone_is_noticed() {
    let mut log = log();
    let old = log.rows.head.clone();
    log.commit(entries(1)).unwrap();
    assert_eq!(
        LogWriter::restore(&old, &log.rows).map(|_| ()),
        Err(LogFault::Corrupt("the audit log has entries beyond its head"))
    );
}

#[test]
fn a_proof_from_damaged_rows_is_not_given() {
    let log = log();
    let head = log.writer.head();
    for tile in log.rows.tiles.keys() {
        let mut rows = log.rows.clone();
        rows.tiles.get_mut(tile).unwrap()[40] ^= 1;
        let first = tile.1 * 256;
        for index in first..first + 256 {
            assert!(matches!(inclusion_proof(&rows, &head, index), Err(LogFault::Corrupt(_))), "{index}");
        }
    }
    let forged = TreeHead { root: [7; 32], ..head };
    assert!(matches!(inclusion_proof(&log.rows, &forged, 3), Err(LogFault::Corrupt(_))));
    assert!(matches!(check(&log.rows, &forged), Err(LogFault::Corrupt(_))));
}

#[test]
fn a_listing_over_a_gap_is_refused() {
    let mut log = log();
    log.rows.pages.remove(&4);
    let head = log.writer.head();
    assert!(read_entries(&log.rows, &head, 0, 1).is_ok());
    for from in [0, 1, 3] {
        let read = read_entries(&log.rows, &head, from, 2);
        assert_eq!(read, Err(LogFault::Corrupt("a page of the audit log is missing")), "{from}");
    }
}
