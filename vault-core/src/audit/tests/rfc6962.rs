//! The test tree that Certificate Transparency implementations share: eight leaves, their roots and proofs.

use super::super::{
    Hash, Tree, TreeHead, consistency_proof, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion,
};
use super::rows::Log;

const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

/// The roots over the first 0 to 8 leaves.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// (index, size, path)
const INCLUSION: [(u64, usize, &[&str]); 4] = [
    (
        0,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        &[
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

/// (older size, size, path)
const CONSISTENCY: [(usize, usize, &[&str]); 3] = [
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn hash(text: &str) -> Hash {
    unhex(text).try_into().unwrap()
}

fn head(size: usize) -> TreeHead {
    TreeHead { size: size as u64, root: hash(ROOTS[size]) }
}

/// The empty leaf is no entry of ours, so the stored log begins one leaf later; these are pure.
#[test]
fn roots_are_those_of_the_shared_test_tree() {
    let mut tree = Tree::empty();
    assert_eq!(tree.head(), head(0));
    for (leaf, size) in LEAVES.iter().zip(1..) {
        tree.append(leaf_hash(&unhex(leaf)));
        assert_eq!(tree.head(), head(size));
    }
}

#[test]
fn the_shared_inclusion_proofs_verify() {
    for (index, size, path) in INCLUSION {
        let path: Vec<_> = path.iter().map(|node| hash(node)).collect();
        let leaf = leaf_hash(&unhex(LEAVES[index as usize]));
        assert!(verify_inclusion(&head(size), index, &leaf, &path), "{index} in {size}");
    }
}

#[test]
fn the_shared_consistency_proofs_verify() {
    for (old, new, path) in CONSISTENCY {
        let path: Vec<_> = path.iter().map(|node| hash(node)).collect();
        assert!(verify_consistency(&head(old), &head(new), &path), "{old} to {new}");
    }
}

/// The prover gives exactly the shared paths, from a log whose open tile holds the shared leaves.
#[test]
fn our_proofs_are_the_shared_ones() {
    let mut log = Log::empty();
    let entries: Vec<_> = LEAVES.iter().map(|leaf| (b"x".to_vec(), leaf_hash(&unhex(leaf)))).collect();
    let staged = log.writer.stage(&entries).unwrap();
    log.writer.accept(staged.next).unwrap();
    let open = log.writer.open_tiles();
    let source = open.over(&log.rows);
    for (index, size, path) in INCLUSION {
        let proof = inclusion_proof(&source, &head(size), index).unwrap();
        assert_eq!(proof.path, path.iter().map(|node| hash(node)).collect::<Vec<_>>());
    }
    for (old, new, path) in CONSISTENCY {
        let proof = consistency_proof(&source, old as u64, &head(new)).unwrap();
        assert_eq!(proof.from, head(old));
        assert_eq!(proof.path, path.iter().map(|node| hash(node)).collect::<Vec<_>>());
    }
}
