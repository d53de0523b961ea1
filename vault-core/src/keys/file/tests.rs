//! What every state of the two copies opens to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::clock::Timestamp;
use crate::crypto::SeededEntropy;
use crate::crypto::passphrase::{Params, SALT_BYTES};
use crate::data::{Class, PrincipalId, TenantId};
use crate::keys::Deal;

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const PASSPHRASE: &[u8] = b"correct horse battery staple";

fn key(byte: u8) -> Key32 {
    Key32::from_bytes(Zeroizing::new([byte; 32]))
}

fn root() -> RootKey {
    RootKey::from_key(key(200))
}

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

/// The vault of a seed, with so many key versions; its generation grows with them.
fn keyring(seed: u64, versions: u32) -> Keyring {
    let mut entropy = SeededEntropy::new(seed);
    let mut keyring = Keyring::create(Environment::parse("test").unwrap(), &mut entropy, NOW).unwrap();
    keyring.ensure_class(&acme(), Class::Pan, &mut entropy, NOW).unwrap();
    for version in 2..=versions {
        keyring.introduce(&acme(), Class::Pan, &mut entropy, NOW).unwrap();
        keyring.enable(&acme(), Class::Pan, version, NOW).unwrap();
    }
    keyring
}

/// The file of a keyring, sealed under a key that is given instead of hashed.
fn file_under(seal: u8, keyring: &Keyring) -> Vec<u8> {
    let mut entropy = SeededEntropy::new(keyring.generation());
    let at_cost = (Params::FLOOR, [seal; SALT_BYTES]);
    let sealed = SealedRoot::under(&root(), &name_of(keyring), &key(seal), at_cost, &mut entropy).unwrap();
    encode(keyring, &root(), &sealed, &mut entropy).unwrap()
}

fn file(keyring: &Keyring) -> Vec<u8> {
    file_under(1, keyring)
}

/// What a keyring holds, comparable.
fn content(keyring: &Keyring) -> (u64, Vec<u8>) {
    (keyring.generation(), body::encode(keyring).to_vec())
}

/// A folder with these copies, each there or not.
fn folder_of(copies: [Option<&[u8]>; 2]) -> (TempDir, KeyringFolder) {
    let parent = tempfile::tempdir().unwrap();
    let folder = KeyringFolder::new(parent.path().join("keyring"));
    disk::create_folder(folder.path()).unwrap();
    for (place, bytes) in copies.into_iter().enumerate() {
        put(&folder, place, bytes);
    }
    (parent, folder)
}

/// Without the syncs of the real thing, also those a file system adds when a file is rewritten: these tests
/// write thousands.
fn put(folder: &KeyringFolder, place: usize, bytes: Option<&[u8]>) {
    let path = folder.copy(place);
    drop(fs::remove_file(&path));
    if let Some(bytes) = bytes {
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
}

fn copies(folder: &KeyringFolder) -> [Option<Vec<u8>>; 2] {
    [0, 1].map(|place| fs::read(folder.copy(place)).ok())
}

fn twice(bytes: &[u8]) -> [Option<Vec<u8>>; 2] {
    [Some(bytes.to_vec()), Some(bytes.to_vec())]
}

fn open_under(folder: &KeyringFolder, seal: u8) -> Result<(u64, Vec<u8>), OpenError> {
    folder.open_by(|_, _| Ok(key(seal))).map(|(_, keyring)| content(&keyring))
}

fn open(folder: &KeyringFolder) -> Result<(u64, Vec<u8>), OpenError> {
    open_under(folder, 1)
}

fn save(folder: &KeyringFolder, keyring: &Keyring) -> Result<(), SaveError> {
    folder.save(&root(), keyring, &mut SeededEntropy::new(50))
}

/// The same bytes with a checksum that fits: what a forger writes, and no accident.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - CHECKSUM_BYTES;
    let checksum = sha256(&[&bytes[..end]]);
    bytes[end..].copy_from_slice(&checksum);
    bytes
}

fn flipped(bytes: &[u8], byte: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[byte] ^= 1 << (byte % 8);
    flipped
}

/// The one test that pays for the hash: three times.
#[test]
fn a_passphrase_seals_and_opens() {
    let parent = tempfile::tempdir().unwrap();
    let folder = KeyringFolder::new(parent.path().join("keyring"));
    let (mut keyring, mut entropy) = (keyring(1, 1), SeededEntropy::new(9));
    let seal = Seal::Passphrase { passphrase: PASSPHRASE, params: Params::FLOOR };
    folder.create(&keyring, &root(), seal, &mut entropy).unwrap();

    let expected = SealDescription {
        kind: SealKind::Passphrase(Params::FLOOR),
        environment: keyring.environment().clone(),
        vault_id: *keyring.vault_id(),
        generation: 2,
        copies_agree: true,
    };
    assert_eq!(folder.describe(), Ok(expected));
    assert_eq!(folder.create(&keyring, &root(), seal, &mut entropy), Err(SaveError::Exists));

    let before = copies(&folder);
    let wrong = folder.open(Credential::Passphrase(b"correct horse battery stable")).err();
    assert_eq!(wrong, Some(OpenError::WrongPassphrase));
    assert_eq!(copies(&folder), before);

    keyring.ensure_class(&acme(), Class::Ssn, &mut entropy, NOW).unwrap();
    folder.save(&root(), &keyring, &mut entropy).unwrap();
    let (opened_root, opened) = folder.open(Credential::Passphrase(PASSPHRASE)).unwrap();
    assert_eq!(opened_root.key().expose(), root().key().expose());
    assert_eq!(content(&opened), content(&keyring));
    let token = keyring.mint(Class::Pan, &mut entropy).unwrap();
    assert!(opened.verify_tag(&token));
}

#[test]
fn a_seal_that_does_not_suit_writes_nothing() {
    let (_parent, folder) = folder_of([None, None]);
    let lowered = Params { memory_kib: 1024, ..Params::FLOOR };
    let unsuitable: [(&[u8], _, _); 2] = [
        (PASSPHRASE, lowered, PassphraseError::BelowFloor),
        (b"too short", Params::FLOOR, PassphraseError::Length),
    ];
    for (passphrase, params, error) in unsuitable {
        let seal = Seal::Passphrase { passphrase, params };
        let refused = folder.create(&keyring(1, 1), &root(), seal, &mut SeededEntropy::new(1));
        assert_eq!(refused, Err(SaveError::Passphrase(error)));
    }
    assert_eq!(copies(&folder), [None, None]);
}

#[test]
fn lengths_that_no_seal_has_are_no_passphrase() {
    let good = file(&keyring(1, 1));
    let (_parent, folder) = folder_of([Some(&good), Some(&good)]);
    assert_eq!(folder.open(Credential::Passphrase(b"short")).err(), Some(OpenError::WrongPassphrase));
}

#[test]
fn parameters_outside_the_bounds_are_refused_before_the_passphrase_is_hashed() {
    // Forged into both copies, with checksums that fit: 1 MiB of memory, then 4 TiB.
    let good = file(&keyring(1, 1));
    let memory_at = 8 + 2 + 1 + "test".len() + 16 + 8 + 1;
    assert_eq!(good[memory_at..memory_at + 4], Params::FLOOR.memory_kib.to_be_bytes());
    for (memory_kib, error) in [(1024, OpenError::BelowFloor), (u32::MAX, OpenError::Damaged)] {
        let mut forged = good.clone();
        forged[memory_at..memory_at + 4].copy_from_slice(&u32::to_be_bytes(memory_kib));
        let forged = with_checksum(forged);
        let (_parent, folder) = folder_of([Some(&forged), Some(&forged)]);
        assert_eq!(folder.open(Credential::Passphrase(PASSPHRASE)).err(), Some(error));
    }
}

#[test]
fn every_pair_of_copies_that_a_crash_or_damage_can_leave() {
    // Whatever stands in either place: the newest good keyring opens, and afterwards stands in both.
    let (old, new) = (keyring(1, 1), keyring(1, 2));
    let (old_file, new_file) = (file(&old), file(&new));
    let garbled: Vec<u8> = new_file.iter().map(|byte| byte ^ 0x5a).collect();
    let torn = [&new_file[..256], &old_file[256..]].concat();
    let states: [(&str, Option<&[u8]>); 8] = [
        ("missing", None),
        ("empty", Some(b"")),
        ("truncated", Some(&new_file[..new_file.len() / 2])),
        ("without its last byte", Some(&new_file[..new_file.len() - 1])),
        ("torn", Some(&torn)),
        ("garbled", Some(&garbled)),
        ("old", Some(&old_file)),
        ("new", Some(&new_file)),
    ];
    for ((a, a_bytes), (b, b_bytes)) in states.iter().flat_map(|a| states.iter().map(move |b| (a, b))) {
        let (_parent, folder) = folder_of([*a_bytes, *b_bytes]);
        let good = [("new", &new, &new_file), ("old", &old, &old_file)];
        match good.iter().find(|(name, ..)| a == name || b == name) {
            Some((_, keyring, bytes)) => {
                assert_eq!(open(&folder), Ok(content(keyring)), "{a} and {b}");
                assert_eq!(copies(&folder), twice(bytes), "{a} and {b}");
            }
            None if (*a, *b) == ("missing", "missing") => assert_eq!(open(&folder), Err(OpenError::Missing)),
            None => assert_eq!(open(&folder), Err(OpenError::Damaged), "{a} and {b}"),
        }
    }
}

#[test]
fn a_save_that_is_cut_anywhere_leaves_the_old_or_the_new_keyring() {
    // What a crash leaves while saving: an unfinished file of any length, beside two old copies or one old
    // and one new.
    let (old, new, next) = (keyring(1, 1), keyring(1, 2), keyring(1, 3));
    let (old_file, new_file) = (file(&old), file(&new));
    let stages =
        [([&old_file, &old_file], &old), ([&new_file, &old_file], &new), ([&old_file, &new_file], &new)];
    for length in (0..=new_file.len()).step_by(61) {
        for (copies, expected) in stages {
            let (_parent, folder) = folder_of(copies.map(|bytes| Some(bytes.as_slice())));
            for place in [0, 1] {
                fs::write(disk::unfinished(&folder.copy(place)), &new_file[..length]).unwrap();
            }
            assert_eq!(open(&folder), Ok(content(expected)));
            assert_eq!(save(&folder, &next), Ok(()));
            assert_eq!(open(&folder), Ok(content(&next)));
        }
    }
}

#[test]
fn the_newest_good_copy_is_never_the_first_to_be_replaced() {
    // A save that can write one place only (the other is blocked by a folder of its name) must leave the
    // newest keyring untouched while it is the only one.
    let (old_file, new_file) = (file(&keyring(1, 1)), file(&keyring(1, 2)));
    for newest_at in [0, 1] {
        let (_parent, folder) = folder_of([Some(&old_file), Some(&old_file)]);
        put(&folder, newest_at, Some(&new_file));
        fs::create_dir(disk::unfinished(&folder.copy(1 - newest_at))).unwrap();
        assert!(matches!(save(&folder, &keyring(1, 3)), Err(SaveError::Io(_))));
        assert_eq!(copies(&folder)[newest_at].as_ref(), Some(&new_file));
    }
}

#[test]
fn every_flipped_byte_of_one_copy_is_repaired_from_the_other() {
    let keyring = keyring(1, 1);
    let good = file(&keyring);
    let (_parent, folder) = folder_of([Some(&good), Some(&good)]);
    for byte in 0..good.len() {
        put(&folder, byte % 2, Some(&flipped(&good, byte)));
        assert!(!folder.describe().unwrap().copies_agree, "byte {byte}");
        assert_eq!(open(&folder), Ok(content(&keyring)), "byte {byte}");
        assert_eq!(copies(&folder), twice(&good), "byte {byte}");
    }
}

#[test]
fn a_byte_flipped_in_both_copies_is_detected() {
    let good = file(&keyring(1, 1));
    let (_parent, folder) = folder_of([None, None]);
    for byte in 0..good.len() {
        let bad = flipped(&good, byte);
        put(&folder, 0, Some(&bad));
        put(&folder, 1, Some(&bad));
        assert_eq!(open(&folder), Err(OpenError::Damaged), "byte {byte}");
        assert_eq!(folder.describe(), Err(OpenError::Damaged), "byte {byte}");
        assert_eq!(save(&folder, &keyring(1, 2)), Err(SaveError::Damaged), "byte {byte}");
        assert_eq!(copies(&folder), twice(&bad), "nothing is overwritten");
    }
}

#[test]
fn every_byte_forged_with_a_fitting_checksum_opens_to_nothing_else() {
    let keyring = keyring(1, 1);
    let good = file(&keyring);
    let (_parent, folder) = folder_of([None, None]);
    for byte in 0..good.len() - CHECKSUM_BYTES {
        let forged = with_checksum(flipped(&good, byte));
        put(&folder, 0, Some(&forged));
        put(&folder, 1, Some(&forged));
        assert!(open(&folder).is_err(), "byte {byte} in both");
        assert_eq!(copies(&folder), twice(&forged), "nothing is repaired from a forgery");

        put(&folder, 1, Some(&good));
        match open(&folder) {
            Ok(opened) => {
                assert_eq!((opened, copies(&folder)), (content(&keyring), twice(&good)), "byte {byte}");
            }
            Err(_) => assert_eq!(copies(&folder), [Some(forged), Some(good.clone())], "byte {byte} in one"),
        }
    }
}

#[test]
fn an_older_copy_under_an_older_passphrase_does_not_come_back() {
    let (newer, older) = (file_under(1, &keyring(1, 2)), file_under(2, &keyring(1, 1)));
    let (_parent, folder) = folder_of([Some(&newer), Some(&older)]);
    assert_eq!(open_under(&folder, 2), Err(OpenError::WrongPassphrase));
    assert_eq!(copies(&folder), [Some(newer.clone()), Some(older)], "nothing is repaired");
    assert_eq!(open_under(&folder, 1), Ok(content(&keyring(1, 2))));
    assert_eq!(copies(&folder), twice(&newer));
}

#[test]
fn copies_of_different_vaults_are_refused() {
    let (_parent, folder) = folder_of([Some(&file(&keyring(1, 1))), Some(&file(&keyring(2, 1)))]);
    assert_eq!(open(&folder), Err(OpenError::OtherVault));
    assert_eq!(folder.describe(), Err(OpenError::OtherVault));
}

#[test]
fn saving_only_goes_forward() {
    let second = file(&keyring(1, 2));
    let (_parent, folder) = folder_of([Some(&second), Some(&second)]);
    assert_eq!(save(&folder, &keyring(1, 1)), Err(SaveError::Stale), "older");
    assert_eq!(save(&folder, &keyring(2, 3)), Err(SaveError::OtherVault));
    let stranger = RootKey::from_key(key(201));
    let by_stranger = folder.save(&stranger, &keyring(1, 3), &mut SeededEntropy::new(1));
    assert_eq!(by_stranger, Err(SaveError::Damaged), "another root key");

    let mut forked = keyring(1, 1);
    forked.introduce(&acme(), Class::Pan, &mut SeededEntropy::new(77), NOW).unwrap();
    forked.enable(&acme(), Class::Pan, 2, NOW).unwrap();
    assert_eq!(forked.generation(), keyring(1, 2).generation());
    assert_eq!(save(&folder, &forked), Err(SaveError::Stale), "other keys of the same generation");
    assert_eq!(copies(&folder), twice(&second), "nothing was written so far");

    put(&folder, 1, None);
    assert_eq!(save(&folder, &keyring(1, 2)), Ok(()), "unchanged: only repaired");
    assert_eq!(copies(&folder), twice(&second));
    assert_eq!(save(&folder, &keyring(1, 3)), Ok(()));
    assert!(folder.describe().unwrap().copies_agree);
    assert_eq!(open(&folder), Ok(content(&keyring(1, 3))));
}

#[test]
fn a_folder_or_copy_open_to_others_is_refused() {
    let good = file(&keyring(1, 1));
    let (_parent, folder) = folder_of([Some(&good), Some(&good)]);
    let private = [(folder.path().to_owned(), 0o700), (folder.copy(0), 0o600), (folder.copy(1), 0o600)];
    for (path, mode) in private {
        for opened in [0o040, 0o020, 0o004, 0o001] {
            fs::set_permissions(&path, Permissions::from_mode(mode | opened)).unwrap();
            assert_eq!(open(&folder), Err(OpenError::Exposed));
            assert_eq!(save(&folder, &keyring(1, 2)), Err(SaveError::Exposed));
        }
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    assert!(open(&folder).is_ok());
}

#[test]
fn missing_and_oversize_files() {
    let huge = vec![0; KEYRING_BYTES_MAX + 1];
    let (_parent, folder) = folder_of([Some(&huge), None]);
    assert_eq!(open(&folder), Err(OpenError::Damaged));
    let (_parent, folder) = folder_of([None, None]);
    assert_eq!(open(&folder), Err(OpenError::Missing));
    assert_eq!(save(&folder, &keyring(1, 1)), Err(SaveError::Missing));
    let nowhere = KeyringFolder::new("/nonexistent/keyring");
    assert_eq!(
        (open(&nowhere), nowhere.describe().err()),
        (Err(OpenError::Missing), Some(OpenError::Missing))
    );
}

#[test]
fn no_key_stands_in_the_file() {
    let keyring = keyring(1, 2);
    let (bytes, plain) = (file(&keyring), body::encode(&keyring));
    let vault = keyring.material();
    let mut keys = vec![&vault.token_tag, &vault.row_mac, &vault.signing_seed, &vault.transfer];
    let versions: Vec<_> = keyring.stored().flat_map(|(_, _, versions)| versions).collect();
    for material in versions.iter().filter_map(|version| version.material()) {
        keys.extend([&material.data, &material.blind_index, &material.idempotency]);
    }
    assert_eq!(keys.len(), 10);
    let stands_in =
        |bytes: &[u8], key: &Key32| bytes.windows(8).any(|window| key.expose().starts_with(window));
    for key in keys {
        assert!(stands_in(&plain, key), "the plaintext has it, so the search works");
        assert!(!stands_in(&bytes, key));
    }
    assert!(!stands_in(&bytes, root().key()));
}

#[test]
fn the_file_is_the_documented_one() {
    let keyring = keyring(3, 1);
    let seal = Seal::Passphrase { passphrase: PASSPHRASE, params: Params::FLOOR };
    let mut entropy = SeededEntropy::new(4);
    let sealed = SealedRoot::make(&root(), &name_of(&keyring), seal, &mut entropy).unwrap();
    let bytes = encode(&keyring, &root(), &sealed, &mut entropy).unwrap();
    crate::data::documents::shows("keyring.md", &body::encode(&keyring));
    crate::data::documents::shows("keyring.md", &bytes);
}

/// A deal, and how it seals.
fn deal(seed: u64) -> (Deal, Vec<PrincipalId>) {
    let environment = Environment::parse("test").unwrap();
    let deal = Deal::draw(&environment, 2, 2, &mut SeededEntropy::new(seed)).unwrap();
    (deal, ["ann", "bob"].map(|name| PrincipalId::parse(name).unwrap()).to_vec())
}

fn all_shares(deal: &Deal) -> Vec<Share> {
    deal.shares().iter().map(|share| Share::parse(share.to_text().as_bytes()).unwrap()).collect()
}

#[test]
fn a_keyring_is_sealed_anew_under_another_root() {
    let good = file(&keyring(1, 2));
    let (_parent, folder) = folder_of([Some(&good), Some(&good)]);
    let (first, custodians) = deal(1);
    let seal = Seal::Shares { deal: &first, custodians: &custodians };
    let root_of = |byte| RootKey::from_key(key(byte));
    folder.reseal(&root(), keyring(1, 2), &root_of(201), seal, &mut SeededEntropy::new(2)).unwrap();

    let (new_root, opened) = folder.open(Credential::Shares(&all_shares(&first))).unwrap();
    assert_eq!(new_root.key().expose(), &[201; 32]);
    assert_eq!(
        (opened.generation(), content(&opened).1),
        (keyring(1, 2).generation() + 1, content(&keyring(1, 2)).1)
    );
    assert!(folder.describe().unwrap().copies_agree);
    assert_eq!(folder.open_by(|_, _| Ok(key(1))).err(), Some(OpenError::Damaged), "the old seal key");
    assert_eq!(save(&folder, &keyring(1, 4)), Err(SaveError::Damaged), "the old root key");

    // Shares for shares: the old ones are told to be of another set.
    let (second, custodians) = deal(2);
    let seal = Seal::Shares { deal: &second, custodians: &custodians };
    folder.reseal(&new_root, opened, &root_of(202), seal, &mut SeededEntropy::new(3)).unwrap();
    let old = folder.open(Credential::Shares(&all_shares(&first))).err();
    assert_eq!(old, Some(OpenError::Share(ShareFault::OtherSet(1))));
    assert!(folder.open(Credential::Shares(&all_shares(&second))).is_ok());
}

#[test]
fn a_reseal_that_is_cut_anywhere_leaves_the_old_seal_or_the_new() {
    let old_file = file(&keyring(1, 2));
    let (deal, custodians) = deal(1);
    let seal = Seal::Shares { deal: &deal, custodians: &custodians };
    let new_root = || RootKey::from_key(key(201));
    for blocked in [0, 1] {
        let (_parent, folder) = folder_of([Some(&old_file), Some(&old_file)]);
        // The place that cannot be written stands for the cut: before the first copy, or between the two.
        fs::create_dir(disk::unfinished(&folder.copy(blocked))).unwrap();
        let cut = folder.reseal(&root(), keyring(1, 2), &new_root(), seal, &mut SeededEntropy::new(2));
        assert!(matches!(cut, Err(SaveError::Io(_))));
        fs::remove_dir(disk::unfinished(&folder.copy(blocked))).unwrap();
        let is_new = copies(&folder)[1 - blocked].as_ref() != Some(&old_file);
        assert_eq!(is_new, blocked == 0, "the copy at 1 is written first");
        if is_new {
            assert!(folder.open(Credential::Shares(&all_shares(&deal))).is_ok());
            assert!(folder.describe().unwrap().copies_agree, "the old copy is replaced");
        } else {
            assert_eq!(open(&folder), Ok(content(&keyring(1, 2))));
        }
    }
}

#[test]
fn a_reseal_that_does_not_suit_writes_nothing() {
    let good = file(&keyring(1, 2));
    let (_parent, folder) = folder_of([Some(&good), Some(&good)]);
    let (deal, custodians) = deal(1);
    let seal = Seal::Shares { deal: &deal, custodians: &custodians };
    let none = Seal::Shares { deal: &deal, custodians: &[] };
    let reseal = |from: &RootKey, keyring, seal| {
        folder.reseal(from, keyring, &RootKey::from_key(key(201)), seal, &mut SeededEntropy::new(2))
    };
    assert_eq!(reseal(&root(), keyring(1, 1), seal), Err(SaveError::Stale), "changed since it was opened");
    assert_eq!(reseal(&RootKey::from_key(key(7)), keyring(1, 2), seal), Err(SaveError::Damaged));
    assert_eq!(reseal(&root(), keyring(1, 2), none), Err(SaveError::Custodians));
    assert_eq!(copies(&folder), twice(&good));
}
