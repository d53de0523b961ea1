//! The files beside the store, changed by whoever can write where they lie.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vault_core::clock::Timestamp;
use vault_core::crypto::sha256;
use vault_core::data::CallerText;
use vault_core::keys::{
    AnchorFile, CeremonyStep, Credential, KeyringFolder, OpenError, RootKey, SealDescription, UnsealAttempt,
    UnsealJournal, UnsealOutcome,
};
use vault_daemon::TestVault;

use crate::mutation::{Random, mutated};
use crate::{attempt, rounds};

const COPIES: [&str; 2] = ["keyring-a", "keyring-b"];
const CHECKSUM_BYTES: usize = 32;

/// Keyring, anchor and passphrase of a vault, copied into a folder of their own.
struct Copied {
    folder: TempDir,
    keyring: Vec<u8>,
    anchor: Vec<u8>,
    passphrase: Vec<u8>,
}

impl Copied {
    fn new() -> Self {
        let vault = TestVault::start().unwrap();
        let read = |name: &str| fs::read(vault.folder().join(name)).unwrap();
        let (keyring, anchor) = (read("keyring/keyring-a"), read("anchor/anchor"));
        let passphrase = read("passphrase").trim_ascii().to_vec();
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self { folder, keyring, anchor, passphrase }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_keyrings(&self, copies: [&[u8]; 2]) {
        for (name, bytes) in COPIES.iter().zip(copies) {
            write(&self.path(name), bytes);
        }
    }

    fn keyring_folder(&self) -> KeyringFolder {
        KeyringFolder::new(self.folder.path())
    }

    fn root(&self) -> RootKey {
        self.write_keyrings([&self.keyring; 2]);
        self.keyring_folder().open(Credential::Passphrase(&self.passphrase)).unwrap().0
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// With a checksum that holds, as somebody would write it who means it.
fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let content = &bytes[..bytes.len().saturating_sub(CHECKSUM_BYTES)];
    [content, &sha256(&[content])].concat()
}

#[test]
fn a_changed_keyring_is_read_or_refused_and_a_damaged_copy_does_not_count() {
    let copied = Copied::new();
    copied.write_keyrings([&copied.keyring; 2]);
    let folder = copied.keyring_folder();
    let truth = folder.describe().unwrap();
    let mut random = Random::of("keyring");
    for _ in 0..rounds(2_000) {
        let bytes = mutated(&mut random, std::slice::from_ref(&copied.keyring), &[]);
        if bytes == copied.keyring {
            continue;
        }
        attempt("the keyring", &bytes, || {
            copied.write_keyrings([&bytes; 2]);
            assert_eq!(folder.describe(), Err(OpenError::Damaged));
            copied.write_keyrings([&copied.keyring, &bytes]);
            assert_eq!(folder.describe(), Ok(SealDescription { copies_agree: false, ..truth.clone() }));
            // Nothing in it is believed before it is opened, so that it may say anything.
            copied.write_keyrings([&with_checksum(&bytes); 2]);
            let _ = folder.describe();
        });
    }
}

#[test]
fn a_keyring_opens_only_as_it_was_written_and_a_good_copy_mends_a_bad_one() {
    let copied = Copied::new();
    let mut random = Random::of("keyring body");
    // Few: each costs a whole passphrase hash. The last 200 bytes are encrypted keys and the checksum.
    let (clear, body) = copied.keyring.split_at(copied.keyring.len() - 200);
    for _ in 0..rounds(12) {
        let body = mutated(&mut random, &[body.to_vec()], &[]);
        let bytes = with_checksum(&[clear, &body].concat());
        if bytes == copied.keyring {
            continue;
        }
        attempt("the keyring", &bytes, || {
            copied.write_keyrings([&bytes; 2]);
            assert!(copied.keyring_folder().open(Credential::Passphrase(&copied.passphrase)).is_err());
            copied.write_keyrings([&bytes, &copied.keyring]);
            copied.keyring_folder().open(Credential::Passphrase(&copied.passphrase)).unwrap();
            assert_eq!(fs::read(copied.path(COPIES[0])).unwrap(), copied.keyring);
        });
    }
}

#[test]
fn an_anchor_says_what_was_written_or_nothing() {
    let copied = Copied::new();
    let root = copied.root();
    let vault_id = copied.keyring_folder().describe().unwrap().vault_id;
    let path = copied.path("anchor");
    let file = AnchorFile::new(&path, vault_id);
    let slots = copied.anchor.len() / 2;
    let written = [0, slots].map(|at| {
        write(&path, &copied.anchor[at..at + slots].repeat(2));
        file.read(&root).unwrap()
    });
    let mut random = Random::of("anchor");
    for _ in 0..rounds(4_000) {
        let bytes = mutated(&mut random, std::slice::from_ref(&copied.anchor), &[]);
        write(&path, &bytes);
        attempt("the anchor", &bytes, || {
            if let Ok(state) = file.read(&root) {
                assert!(written.contains(&state));
            }
        });
    }
}

#[test]
fn a_journal_of_unseal_attempts_is_read_whatever_it_holds() {
    let copied = Copied::new();
    let path = copied.path("journal");
    let journal = UnsealJournal::new(&path);
    let whole = attempts(&journal);
    let mut random = Random::of("journal");
    for _ in 0..rounds(4_000) {
        let bytes = mutated(&mut random, std::slice::from_ref(&whole), &[]);
        write(&path, &bytes);
        attempt("the journal", &bytes, || {
            // What is torn or damaged is counted, and none of it keeps anybody from unsealing.
            let pending = journal.pending().unwrap();
            assert!(bytes != whole || pending.attempts.len() == 3 && pending.damaged == 0);
        });
    }
}

/// The bytes of a journal with three attempts.
fn attempts(journal: &UnsealJournal) -> Vec<u8> {
    for minute in 0..3 {
        let at = Timestamp::from_seconds(1_800_000_000 + 60 * minute);
        let attempt = UnsealAttempt {
            at,
            identity: "uri:spiffe://vaultd-dev/custodian".to_owned(),
            ca: "dev".to_owned(),
            outcome: UnsealOutcome::WrongPassphrase,
            step: CeremonyStep::default(),
            reason: CallerText::parse("exercise-1").ok(),
            count: 2,
        };
        journal.append(&[attempt], 0).unwrap();
    }
    fs::read(journal.path()).unwrap()
}
