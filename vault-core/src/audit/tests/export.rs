//! Exports: whole, or refused.

use super::super::{
    Checkpoint, Entry, ExportError, Held, Origin, Receipt, Report, TreeHead, VerifierKey, verify_export,
    write_export,
};
use super::rows::Log;
use super::{bare_entry, full_entry, origin, signing_key, verifier};

fn log(count: u8) -> Log {
    let mut log = Log::empty();
    for number in 0..count {
        let entry = if number % 2 == 0 { full_entry(number) } else { bare_entry(number) };
        log.commit(vec![Entry::to_bytes(&entry)]).unwrap();
    }
    log
}

fn checkpoint(head: &TreeHead) -> String {
    Checkpoint::sign(&origin(), head, &signing_key(7))
}

fn exported(log: &Log) -> Vec<u8> {
    let mut out = Vec::new();
    write_export(&log.rows, &verifier(), &checkpoint(&log.writer.head()), &mut out).unwrap();
    out
}

fn verify(export: &[u8], held: &Held) -> Result<Report, ExportError> {
    verify_export(&mut &export[..], &verifier(), held, &mut |_, _| ())
}

fn refused(export: &[u8]) -> bool {
    verify(export, &Held::default()).is_err()
}

#[test]
fn a_whole_log_verifies_and_gives_its_entries() {
    let log = log(5);
    let export = exported(&log);
    let mut seen = Vec::new();
    let report = verify_export(&mut &export[..], &verifier(), &Held::default(), &mut |index, entry| {
        seen.push((index, entry.clone()));
    });
    let times = Some((full_entry(0).at, full_entry(4).at));
    assert_eq!(report.unwrap(), Report { head: log.writer.head(), released: 5, times });
    let expected = [full_entry(0), bare_entry(1), full_entry(2), bare_entry(3), full_entry(4)];
    assert_eq!(seen, (0..).zip(expected).collect::<Vec<_>>());
}

/// There is no byte that is not checked.
#[test]
fn every_flipped_bit_is_noticed() {
    let export = exported(&log(3));
    for place in 0..export.len() {
        for bit in 0..8 {
            let mut flipped = export.clone();
            flipped[place] ^= 1 << bit;
            assert!(refused(&flipped), "bit {bit} of byte {place}");
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_noticed() {
    let export = exported(&log(3));
    for cut in 0..export.len() {
        assert!(matches!(verify(&export[..cut], &Held::default()), Err(ExportError::Truncated)), "{cut}");
    }
    for place in 0..export.len() {
        let mut without = export.clone();
        without.remove(place);
        assert!(refused(&without) || without == export);
        let mut doubled = export.clone();
        doubled.insert(place, export[place]);
        assert!(refused(&doubled));
    }
    let longer = [&export[..], &[0]].concat();
    assert!(matches!(verify(&longer, &Held::default()), Err(ExportError::TooLong)));
}

#[test]
fn exchanged_repeated_and_foreign_entries_are_noticed() {
    let log = log(4);
    let export = exported(&log);
    let entries: Vec<Vec<u8>> = [full_entry(0), bare_entry(1), full_entry(2), bare_entry(3)]
        .iter()
        .map(|entry| {
            let bytes = entry.to_bytes();
            [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
        })
        .collect();
    let heading = &export[..export.len() - entries.concat().len()];
    let with = |order: [usize; 4]| [heading, &order.map(|place| &entries[place][..]).concat()].concat();
    assert!(!refused(&with([0, 1, 2, 3])));
    for order in [[1, 0, 2, 3], [0, 1, 3, 2], [2, 1, 0, 3], [0, 0, 2, 3], [3, 2, 1, 0]] {
        assert!(matches!(verify(&with(order), &Held::default()), Err(ExportError::RootMismatch)));
    }
}

#[test]
fn another_key_or_log_is_refused() {
    let export = exported(&log(2));
    let as_seen_by = |key| verify_export(&mut &export[..], &key, &Held::default(), &mut |_, _| ());
    let other_key = VerifierKey::new(origin(), signing_key(8).verifying_key());
    assert!(matches!(as_seen_by(other_key), Err(ExportError::OtherKey)));
    let other_log = VerifierKey::new(Origin::parse("vault.example/log/2").unwrap(), *verifier().key());
    assert!(matches!(as_seen_by(other_log), Err(ExportError::OtherKey)));
}

#[test]
fn receipts_are_found_or_named() {
    let log = log(4);
    let export = exported(&log);
    let receipt = |index: u64| Receipt { origin: origin(), index, leaf_hash: log.leaves[index as usize] };
    let holding = |receipts: Vec<Receipt>| verify(&export, &Held { receipts, ..Held::default() });
    assert!(holding(vec![receipt(3), receipt(0), receipt(3), receipt(2)]).is_ok());
    let foreign = Receipt { origin: Origin::parse("vault.example/log/2").unwrap(), ..receipt(1) };
    let wrong = Receipt { leaf_hash: log.leaves[0], ..receipt(1) };
    let beyond = Receipt { index: 4, ..receipt(1) };
    for (lie, at) in [(foreign, 1), (wrong, 1), (beyond, 4)] {
        let found = holding(vec![receipt(0), lie, receipt(3)]);
        assert!(matches!(found, Err(ExportError::ReceiptNotInLog { index }) if index == at));
    }
}

/// A log cut back to an older checkpoint is a true log; only who holds a newer head sees it.
#[test]
fn an_older_log_is_refused_by_whoever_saw_a_newer_one() {
    let log = log(4);
    let (older, newer) = (log.head_at(2), log.writer.head());
    let mut cut_back = Vec::new();
    write_export(&log.rows, &verifier(), &checkpoint(&older), &mut cut_back).unwrap();
    assert_eq!(verify(&cut_back, &Held::default()).unwrap().head, older);
    let holding = |heads| Held { heads, ..Held::default() };
    let seen = verify(&cut_back, &holding(vec![newer]));
    assert!(matches!(seen, Err(ExportError::HeadNotExtended { size: 4 })));
    assert!(verify(&exported(&log), &holding(vec![newer, older, log.head_at(0)])).is_ok());
    for size in 0..4 {
        let never = TreeHead { size, root: [1; 32] };
        let seen = verify(&exported(&log), &holding(vec![older, never]));
        assert!(matches!(seen, Err(ExportError::HeadNotExtended { size: found }) if found == size));
    }
}

#[test]
fn what_is_not_the_log_of_the_checkpoint_is_not_exported() {
    let log = log(3);
    let write = |checkpoint: &str| write_export(&log.rows, &verifier(), checkpoint, &mut Vec::new());
    let forged = TreeHead { root: [1; 32], ..log.writer.head() };
    assert!(matches!(write(&checkpoint(&forged)), Err(ExportError::RootMismatch)));
    let longer = TreeHead { size: 9, ..log.writer.head() };
    assert!(matches!(write(&checkpoint(&longer)), Err(ExportError::Log(_))));
    let unsigned = Checkpoint::sign(&origin(), &log.writer.head(), &signing_key(8));
    assert!(matches!(write(&unsigned), Err(ExportError::Checkpoint(_))));
    let witnessed = format!("{}— witness.example/w AAAAAAA=\n", checkpoint(&log.writer.head()));
    assert!(matches!(write(&witnessed), Err(ExportError::Malformed)));
}

#[test]
fn an_empty_log_exports_and_verifies() {
    let log = Log::empty();
    let report = verify(&exported(&log), &Held::default()).unwrap();
    assert_eq!(report, Report { head: log.writer.head(), released: 0, times: None });
}
