//! Bytes that the vault writes and later reads: records, entries, exports, proofs.

use vault_core::audit::{
    Entry, Held, Tree, TreeHead, VerifierKey, leaf_hash, verify_consistency, verify_export, verify_inclusion,
};
use vault_core::clock::Timestamp;
use vault_core::crypto::{
    Context, Entropy as _, Envelope, NONCE_BYTES, Purposes, RecordHeader, RecordState, SeededEntropy,
};
use vault_core::data::{Class, Environment, PurposeId, TenantId};
use vault_core::keys::Keyring;
use vault_daemon::TestVault;

use crate::mutation::{Random, mutated};
use crate::{attempt, rounds, seed};

#[test]
fn an_envelope_opens_only_as_it_was_written() {
    let mut entropy = SeededEntropy::new(seed());
    let now = Timestamp::from_seconds(1_800_000_000);
    let environment = Environment::parse("test").unwrap();
    let mut keyring = Keyring::create(environment.clone(), &mut entropy, now).unwrap();
    let tenant = TenantId::parse("shop").unwrap();
    keyring.ensure_class(&tenant, Class::Pan, &mut entropy, now).unwrap();
    let token = keyring.mint(Class::Pan, &mut entropy).unwrap();
    let vault_id = *keyring.vault_id();
    let place = Context {
        environment: &environment,
        vault_id: &vault_id,
        tenant: &tenant,
        class: Class::Pan,
        token: &token,
    };
    let key = keyring.encrypting(&tenant, Class::Pan, now).unwrap();
    let purposes = vec![PurposeId::parse("settlement").unwrap(), PurposeId::parse("refund").unwrap()];
    let whole: Vec<Vec<u8>> = [(None, None), (Some(now.plus_seconds(60)), Some(3))]
        .into_iter()
        .map(|(expires_at, uses_left)| {
            let header = RecordHeader {
                record_version: 1,
                state: RecordState::Active,
                created_at: now,
                expires_at,
                uses_left,
                purposes: Purposes::new(purposes.clone()).unwrap(),
                key_version: 1,
            };
            let mut nonce = [0; NONCE_BYTES];
            entropy.fill(&mut nonce).unwrap();
            key.encrypt(&place, header, nonce, &[7; 96]).to_bytes()
        })
        .collect();
    let mut random = Random::of("envelopes");
    for _ in 0..rounds(300_000) {
        let bytes = mutated(&mut random, &whole, &[]);
        attempt("Envelope", &bytes, || {
            let Ok(envelope) = Envelope::from_bytes(&bytes) else { return };
            assert_eq!(envelope.to_bytes(), bytes);
            assert_eq!(key.decrypt(&envelope, &place).is_ok(), whole.contains(&bytes));
        });
    }
}

/// An export of a small log, its key, and its entries.
fn export() -> (Vec<u8>, VerifierKey, Vec<Vec<u8>>) {
    let vault = TestVault::start().unwrap();
    let opened = vault.daemon().custody().vault().unwrap();
    let mut bytes = Vec::new();
    let head = opened.export_log(&mut bytes).unwrap();
    let key = String::from_utf8_lossy(&bytes).lines().nth(1).unwrap().to_owned();
    let key = VerifierKey::parse(&key).unwrap();
    let mut entries = Vec::new();
    let report = verify_export(&mut bytes.as_slice(), &key, &Held::default(), &mut |_, entry| {
        entries.push(entry.to_bytes());
    });
    assert_eq!(report.unwrap().head, head);
    assert_eq!(entries.len() as u64, head.size);
    (bytes, key, entries)
}

#[test]
fn an_entry_is_written_the_same_again_and_an_export_verifies_only_as_it_was_written() {
    let (whole, key, entries) = export();
    let mut random = Random::of("exports");
    for _ in 0..rounds(300_000) {
        let bytes = mutated(&mut random, &entries, &[]);
        attempt("Entry", &bytes, || {
            if let Ok(entry) = Entry::from_bytes(&bytes) {
                assert_eq!(entry.to_bytes(), bytes);
            }
        });
    }
    let heading = whole.windows(2).position(|two| two == b"\n\n").unwrap();
    let line_ends = whole.iter().enumerate().filter(|(at, byte)| **byte == b'\n' && *at > heading + 1);
    let heading = line_ends.map(|(at, _)| at).next().unwrap() + 1;
    for _ in 0..rounds(50_000) {
        // Most of an export are entries; what stands before them is a grammar of its own.
        let bytes = if random.below(2) == 0 {
            let head = mutated(&mut random, &[whole[..heading].to_vec()], &[b"\n", b"\xe2\x80\x94 ", b"0"]);
            [&head, &whole[heading..]].concat()
        } else {
            mutated(&mut random, std::slice::from_ref(&whole), &[])
        };
        attempt("an export", &bytes, || {
            let report = verify_export(&mut bytes.as_slice(), &key, &Held::default(), &mut |_, _| {});
            assert_eq!(report.is_ok(), bytes == whole);
        });
    }
}

#[test]
fn a_key_and_a_checkpoint_are_believed_only_as_they_were_written() {
    let (whole, key, _) = export();
    let text = String::from_utf8_lossy(&whole).into_owned();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let checkpoint = lines[2..7].concat();
    let head = key.verify(&checkpoint).unwrap();
    let corpus = [checkpoint.into_bytes(), lines[1].trim_end().as_bytes().to_vec()];
    let words: [&[u8]; 5] = [b"\n", b"\n\n", b"\xe2\x80\x94 ", b"+", b"0"];
    let mut random = Random::of("checkpoints");
    for _ in 0..rounds(200_000) {
        let bytes = mutated(&mut random, &corpus, &words);
        let text = String::from_utf8_lossy(&bytes);
        attempt("a checkpoint", &bytes, || {
            if let Ok(found) = key.verify(&text) {
                assert_eq!(found, head, "signed is signed");
            }
            if let Ok(key) = VerifierKey::parse(&text) {
                assert_eq!(key.to_string(), text);
            }
        });
    }
}

#[test]
fn a_proof_holds_only_as_it_was_given() {
    let (_, _, entries) = export();
    let [first, second] = [&entries[0], &entries[1]].map(|entry| leaf_hash(entry));
    let head = |leaves: &[[u8; 32]]| {
        let mut tree = Tree::empty();
        leaves.iter().for_each(|leaf| tree.append(*leaf));
        tree.head()
    };
    let (one, two) = (head(&[first]), head(&[first, second]));
    // Size and index, or both sizes; then root, leaf or older root, and path.
    let proof =
        |small: u64| [&two.size.to_be_bytes()[..], &small.to_be_bytes(), &two.root, &first, &second].concat();
    let (inclusion, consistency) = (proof(0), proof(one.size));
    assert!(included(&inclusion) && extended(&consistency));
    let mut random = Random::of("proofs");
    for _ in 0..rounds(400_000) {
        let whole = [inclusion.clone(), consistency.clone()];
        let bytes = mutated(&mut random, &whole, &[&[0; 32], &[255; 8], &first]);
        attempt("a proof", &bytes, || {
            let (included, extended) = (included(&bytes), extended(&bytes));
            // With other numbers, hashes may prove something else; with these they prove this or nothing.
            if bytes.starts_with(&inclusion[..16]) {
                assert_eq!(included, bytes == inclusion);
            }
            if bytes.starts_with(&consistency[..16]) {
                assert_eq!(extended, bytes == consistency);
            }
        });
    }
}

fn included(proof: &[u8]) -> bool {
    Proof::read(proof)
        .is_some_and(|proof| verify_inclusion(&proof.head, proof.number, &proof.hash, &proof.path))
}

fn extended(proof: &[u8]) -> bool {
    Proof::read(proof).is_some_and(|proof| {
        let from = TreeHead { size: proof.number, root: proof.hash };
        verify_consistency(&from, &proof.head, &proof.path)
    })
}

/// A proof as one run of bytes.
struct Proof {
    head: TreeHead,
    /// The index of the leaf, or the size of the older log.
    number: u64,
    /// The leaf, or the root of the older log.
    hash: [u8; 32],
    path: Vec<[u8; 32]>,
}

impl Proof {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (root, rest) = rest.split_first_chunk()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let (path, []) = rest.as_chunks() else { return None };
        let head = TreeHead { size: u64::from_be_bytes(*size), root: *root };
        Some(Self { head, number: u64::from_be_bytes(*number), hash: *hash, path: path.to_vec() })
    }
}
