//! Proofs: against their definition, against an independent implementation, and against lies.

use tlog_tiles::{
    Error as TheirError, Hash as TheirHash, Tile, TileHashReader, TileReader, check_record, check_tree,
    prove_record, prove_tree,
};

use super::super::{
    Extension, Hash, LogFault, LogSource, Receipt, TreeHead, consistency_proof, extends, inclusion_proof,
    verify_consistency, verify_inclusion,
};
use super::origin;
use super::rows::{Log, naive_path, naive_subproof};

/// Our tiles, full and open, as the independent implementation reads them.
struct OurTiles<'a>(&'a dyn LogSource);

impl TileReader for OurTiles<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, TheirError> {
        let read = |tile: &Tile| {
            let bytes = self.0.tile(tile.level(), tile.level_index()).unwrap().unwrap();
            bytes[..tile.width() as usize * 32].to_vec()
        };
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

fn theirs(path: &[Hash]) -> Vec<TheirHash> {
    path.iter().map(|hash| TheirHash(*hash)).collect()
}

fn check_inclusion(log: &Log, source: &dyn LogSource, head: &TreeHead, index: u64) {
    let proof = inclusion_proof(source, head, index).unwrap();
    let leaf = log.leaves[index as usize];
    assert_eq!((proof.index, proof.leaf_hash), (index, leaf));
    assert!(verify_inclusion(head, index, &leaf, &proof.path));
    check_record(&theirs(&proof.path), head.size, TheirHash(head.root), index, TheirHash(leaf)).unwrap();
}

fn check_consistency(source: &dyn LogSource, old: &TreeHead, new: &TreeHead) {
    let proof = consistency_proof(source, old.size, new).unwrap();
    assert_eq!(proof.from, *old);
    assert!(verify_consistency(old, new, &proof.path));
    if old.size > 0 {
        let (path, root) = (theirs(&proof.path), TheirHash(new.root));
        check_tree(&path, new.size, root, old.size, TheirHash(old.root)).unwrap();
    }
}

/// Every index of every size up to 70, where all shapes of the smallest trees occur, and of every size
/// around the first two ends of a tile; other sizes up to 600 with every seventh index.
#[test]
fn every_entry_of_every_small_log_has_its_proof() {
    let log = Log::of(&[1, 99, 300, 200]);
    let open = log.writer.open_tiles();
    let source = open.over(&log.rows);
    for size in 1..=600usize {
        let head = log.head_at(size);
        let step = if size <= 70 || [255, 256, 257, 511, 512, 513].contains(&size) { 1 } else { 7 };
        for index in (size % step..size).step_by(step) {
            check_inclusion(&log, &source, &head, index as u64);
        }
    }
}

#[test]
fn every_size_has_its_proof_from_older_sizes() {
    let log = Log::of(&[1, 99, 300, 200]);
    let open = log.writer.open_tiles();
    let source = open.over(&log.rows);
    let heads: Vec<_> = (0..=600).map(|size| log.head_at(size)).collect();
    for size in 0..=600usize {
        let step = if size <= 70 || [255, 256, 257, 511, 512, 513].contains(&size) { 1 } else { 7 };
        for old in (0..=size).rev().step_by(step) {
            check_consistency(&source, &heads[old], &heads[size]);
        }
    }
}

#[test]
fn paths_are_those_of_the_definition() {
    let log = Log::of(&[300]);
    for size in [1usize, 2, 3, 7, 8, 64, 65, 200, 255, 256, 257, 300] {
        let (head, leaves) = (log.head_at(size), &log.leaves[..size]);
        for index in (0..size).step_by(3) {
            let proof = inclusion_proof(&log.rows, &head, index as u64).unwrap();
            assert_eq!(proof.path, naive_path(index, leaves), "{index} of {size}");
        }
        for old in (1..=size).step_by(3) {
            let proof = consistency_proof(&log.rows, old as u64, &head).unwrap();
            assert_eq!(proof.path, naive_subproof(old, leaves, true), "{old} of {size}");
        }
    }
}

/// Across the end of the first tile of level 1, with and without the open tiles, and with independent
/// proofs from our tiles.
#[test]
fn proofs_cross_the_tiles_of_the_second_level() {
    let mut log = Log::of(&[4_096; 16]);
    log.grow(700);
    let open = log.writer.open_tiles();
    let full = open.over(&log.rows);
    for size in [65_535usize, 65_536, 65_537, 65_792, 66_000, 66_236] {
        let head = log.head_at(size);
        for index in [0, 1, 255, 256, 40_000, 65_279, 65_280, size - 1] {
            check_inclusion(&log, &full, &head, index as u64);
            check_inclusion(&log, &log.rows, &head, index as u64);
        }
        for old in [0, 1, 255, 256, 257, 33_000, 65_280, 65_535, size] {
            check_consistency(&full, &log.head_at(old), &head);
            check_consistency(&log.rows, &log.head_at(old), &head);
        }
    }
    let (head, tiles) = (log.writer.head(), OurTiles(&full));
    let reader = TileHashReader::new(head.size, TheirHash(head.root), &tiles);
    for index in [0, 255, 256, 65_535, 65_536, 66_235] {
        let ours = inclusion_proof(&full, &head, index).unwrap().path;
        assert_eq!(prove_record(head.size, index, &reader).unwrap(), theirs(&ours));
        let ours = consistency_proof(&full, index + 1, &head).unwrap().path;
        assert_eq!(prove_tree(head.size, index + 1, &reader).unwrap(), theirs(&ours));
    }
}

/// A proof reads a tile per level of tiles and side, whatever the log's size: never all of it.
#[test]
fn a_proof_reads_few_rows() {
    let mut log = Log::of(&[4_096; 17]);
    log.grow(300);
    let open = log.writer.open_tiles();
    for index in [0, 300, 65_535, 65_536, 69_900] {
        log.rows.tile_reads.take();
        log.rows.page_reads.take();
        inclusion_proof(&open.over(&log.rows), &log.writer.head(), index).unwrap();
        consistency_proof(&open.over(&log.rows), index + 1, &log.writer.head()).unwrap();
        let reads = log.rows.tile_reads.get();
        assert!(reads <= 10, "{reads} tiles read");
        assert_eq!(log.rows.page_reads.get(), 0);
    }
}

#[test]
fn nothing_but_the_true_proof_verifies() {
    let log = Log::of(&[11]);
    for size in 1..=11usize {
        let head = log.head_at(size);
        for index in 0..size as u64 {
            let proof = inclusion_proof(&log.rows, &head, index).unwrap();
            let leaf = proof.leaf_hash;
            let verifies = |index, leaf, path: &[Hash]| verify_inclusion(&head, index, leaf, path);
            for other in (0..20).filter(|other| *other != index) {
                assert!(!verifies(other, &leaf, &proof.path), "{index} as {other} of {size}");
            }
            let resized = |size| TreeHead { size, ..head };
            assert!(!verify_inclusion(&resized(head.size * 2 + 1), index, &leaf, &proof.path));
            for lie in lies(&proof.path) {
                assert!(!verifies(index, &leaf, &lie));
            }
            assert!(!verifies(index, &[0; 32], &proof.path));
        }
    }
}

#[test]
fn nothing_but_the_true_history_is_consistent() {
    let log = Log::of(&[11]);
    for size in 0..=11usize {
        let new = log.head_at(size);
        for old in (0..=size).map(|old| log.head_at(old)) {
            let proof = consistency_proof(&log.rows, old.size, &new).unwrap();
            for lie in lies(&proof.path) {
                assert!(!verify_consistency(&old, &new, &lie));
            }
            let (forged_old, forged_new) =
                (TreeHead { root: [9; 32], ..old }, TreeHead { root: [9; 32], ..new });
            assert!(!verify_consistency(&forged_old, &new, &proof.path));
            assert!(old.size == 0 || !verify_consistency(&old, &forged_new, &proof.path));
            assert!(old.size == new.size || !verify_consistency(&new, &old, &proof.path));
        }
    }
}

/// Every path that is nearly this one: a hash changed, left out, added or moved.
fn lies(path: &[Hash]) -> Vec<Vec<Hash>> {
    let mut lies = vec![[path, &[[5; 32]]].concat(), [&[[5; 32]], path].concat()];
    for place in 0..path.len() {
        let mut changed = path.to_vec();
        changed[place][31] ^= 1;
        let mut shorter = path.to_vec();
        shorter.remove(place);
        let mut moved = path.to_vec();
        moved.swap(0, place);
        lies.extend([changed, shorter, moved]);
    }
    lies.retain(|lie| lie != path);
    lies
}

#[test]
fn what_lies_outside_the_log_has_no_proof() {
    let log = Log::of(&[5]);
    let head = log.writer.head();
    assert_eq!(inclusion_proof(&log.rows, &head, 5), Err(LogFault::OutOfRange));
    assert_eq!(inclusion_proof(&log.rows, &head, u64::MAX), Err(LogFault::OutOfRange));
    assert_eq!(consistency_proof(&log.rows, 6, &head), Err(LogFault::OutOfRange));
    assert_eq!(inclusion_proof(&log.rows, &log.head_at(0), 0), Err(LogFault::OutOfRange));
}

#[test]
fn a_log_extends_its_own_past_and_nothing_else() {
    let (log, other) = (Log::of(&[700]), {
        let mut other = Log::of(&[255]);
        other.commit(vec![b"another".to_vec()]).unwrap();
        other.grow(444);
        other
    });
    let head = log.writer.head();
    for size in [0, 1, 255, 256, 512, 699, 700] {
        assert_eq!(extends(&log.rows, &log.head_at(size), &head), Ok(Extension::Extends));
        let expected = if size <= 255 { Extension::Extends } else { Extension::Diverges };
        assert_eq!(extends(&log.rows, &other.head_at(size), &head), Ok(expected), "{size}");
        let longer = extends(&log.rows, &head, &log.head_at(size));
        assert_eq!(longer, Ok(if size < 700 { Extension::Shorter } else { Extension::Extends }));
    }
}

#[test]
fn a_receipt_verifies_by_its_proof_and_reads_back() {
    let log = Log::of(&[9]);
    let receipt = Receipt { origin: origin(), index: 4, leaf_hash: log.leaves[4] };
    let proof = inclusion_proof(&log.rows, &log.writer.head(), 4).unwrap();
    assert!(receipt.verify(&log.writer.head(), &proof.path));
    assert!(!Receipt { index: 5, ..receipt.clone() }.verify(&log.writer.head(), &proof.path));
    let text = receipt.to_string();
    assert_eq!(Receipt::parse(&text), Ok(receipt));
    for place in 0..text.len() {
        let mut cut = text.clone();
        cut.remove(place);
        assert_ne!(Receipt::parse(&cut).map(|receipt| receipt.to_string()), Ok(text.clone()));
    }
    for wrong in ["", "a", "a 1", "a 01 ", "a  1 AA=="] {
        assert!(Receipt::parse(wrong).is_err());
    }
}
