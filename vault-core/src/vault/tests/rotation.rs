//! Keys change while records stay.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::crypto::Envelope;
use crate::crypto::passphrase::Params;
use crate::data::Class;
use crate::keys::{Credential, KeyState, KeyringFolder, Seal};
use crate::vault::Closing;

pub(super) const DAY: u64 = 24 * 60 * 60;
const PASSPHRASE: &[u8] = b"correct horse battery staple";

impl Bench {
    /// Lets a cryptoperiod pass and has the keys rotated.
    fn rotate(&mut self) {
        self.now = self.now.plus_seconds(90 * DAY);
        self.rotate_now();
    }

    fn rotate_now(&mut self) {
        assert_eq!(self.vault.rotate_due(self.now, &mut self.entropy), Ok(5), "each class of each tenant");
    }

    fn states(&self, tenant: &str) -> Vec<(u32, KeyState)> {
        let tenant = TenantId::parse(tenant).unwrap();
        let versions = self.vault.keys().keyring.versions(&tenant, Class::Pan);
        versions.iter().map(|info| (info.version, info.state)).collect()
    }

    /// The key version in the stored header of a record.
    fn key_version(&self, token: Token) -> u32 {
        let rows = self.store.image();
        let (_, row) = rows.iter().find(|(key, _)| key.bytes() == token.to_bytes()).expect("a record");
        Envelope::from_bytes(&row.value).unwrap().header().key_version
    }
}

#[test]
fn every_key_has_a_successor_before_it_is_needed() {
    let mut bench = Bench::new();
    assert_eq!(bench.states("shop"), [(1, KeyState::Enabled), (2, KeyState::Introduced)]);
    bench.rotate();
    let expected = [(1, KeyState::DecryptOnly), (2, KeyState::Enabled), (3, KeyState::Introduced)];
    assert_eq!(bench.states("shop"), expected);
    assert_eq!(bench.vault.rotate_due(bench.now, &mut bench.entropy), Ok(0), "not due again");
}

#[test]
fn after_a_rotation_old_records_open_and_new_ones_have_the_new_key() {
    let mut bench = Bench::new();
    let old = bench.tokenize("checkout", VISA).unwrap();
    let kept = bench.tokenize("indexed-checkout", VISA).unwrap();
    bench.rotate();
    let new = bench.tokenize("checkout", VISA).unwrap();
    assert_eq!((bench.key_version(old), bench.key_version(new)), (1, 2));
    for token in [old, new] {
        assert_eq!(bench.detokenize("billing", token, "settlement").unwrap(), VISA);
    }
    assert_eq!(bench.tokenize("indexed-checkout", VISA), Ok(kept), "found under the old version");
}

#[test]
fn what_was_prepared_before_a_rotation_is_stored_under_the_new_key() {
    let mut bench = Bench::new();
    let kept = bench.tokenize("indexed-checkout", VISA).unwrap();
    bench.now = bench.now.plus_seconds(90 * DAY);
    let find = Request::FindByValue { value: card(VISA), reference: None };
    let calls = [
        bench.prepare("checkout", tokenize(VISA, Some("key-1"))),
        bench.prepare("indexed-checkout", tokenize(b"5555555555554444", None)),
        bench.prepare("indexed-checkout", find),
    ];
    bench.rotate_now();
    let outcomes = bench.vault.commit(&calls, &mut bench.entropy);
    let mut replies = outcomes.into_iter().map(|outcome| outcome.into_result().unwrap());
    let mut token = || match replies.next() {
        Some(Reply::Tokenized(mut tokens)) => tokens.pop().unwrap().unwrap(),
        Some(Reply::Found(found)) => found.unwrap(),
        _ => panic!("another reply"),
    };
    let (first, second, found) = (token(), token(), token());
    assert_eq!((bench.key_version(first), bench.key_version(second), found), (2, 2, kept));
    let entered = bench.entries();
    let of_second = entered.iter().find(|entry| entry.token == Some(second)).unwrap();
    assert_eq!(of_second.key_version, 2);
    // The rows that lead to it are under the new keys too.
    assert_eq!(only(bench.call("checkout", tokenize(VISA, Some("key-1")))), Ok(first), "replayed");
    assert_eq!(bench.tokenize("indexed-checkout", b"5555555555554444"), Ok(second));
    let index = bench.store.image().into_keys().filter(|key| key.space() == Space::Index);
    let versions: Vec<u8> = index.map(|key| key.bytes()[4]).collect();
    assert_eq!(versions, [1, 2], "one row each: the value known before, the value stored after");
}

#[test]
fn no_key_encrypts_beyond_its_period() {
    let mut bench = Bench::new();
    let old = bench.tokenize("checkout", VISA).unwrap();
    bench.now = bench.now.plus_seconds(730 * DAY);
    assert_eq!(bench.tokenize("checkout", VISA), Err(Error::State(State::KeyExpired)));
    assert_eq!(bench.last().outcome, Recorded::KeyExpired);
    assert_eq!(bench.detokenize("billing", old, "settlement").unwrap(), VISA);
    bench.rotate();
    assert!(bench.tokenize("checkout", VISA).is_ok());
}

#[test]
fn key_changes_are_entered_with_the_generation_of_the_keyring() {
    let mut bench = Bench::new();
    let before = bench.entries().len();
    bench.rotate();
    let entered = bench.entries().split_off(before);
    let told: Vec<_> = entered
        .iter()
        .filter(|entry| entry.tenant.as_ref().is_some_and(|tenant| tenant.as_str() == "shop"))
        .map(|entry| (entry.action, entry.class.unwrap(), entry.key_version))
        .collect();
    let expected = [Class::Pan, Class::Ssn]
        .map(|class| [(Action::KeyEnabled, class, 2), (Action::KeyIntroduced, class, 3)]);
    assert_eq!(told, expected.concat());
    let generation = format!("keyring-generation:{}", bench.vault.keyring_generation());
    assert!(entered.iter().all(|entry| entry.note.as_ref().unwrap().as_str() == generation));
}

/// A vault whose keyring is on disk.
struct OnDisk {
    folder: TempDir,
    store: Arc<MemoryStore>,
    entropy: SeededEntropy,
    now: Timestamp,
}

impl OnDisk {
    fn new() -> (Self, Vault) {
        let mut one = Self {
            folder: tempfile::tempdir().unwrap(),
            store: Arc::new(MemoryStore::new()),
            entropy: SeededEntropy::new(3),
            now: Timestamp::from_seconds(1_800_000_000),
        };
        let seal = Seal::Passphrase { passphrase: PASSPHRASE, params: Params::FLOOR };
        let environment = Environment::parse("test").unwrap();
        let vault = one.sealed().init(environment, seal, policy(), one.now, &mut one.entropy).unwrap();
        (one, vault)
    }

    fn sealed(&self) -> SealedVault {
        let keyring = KeyringFolder::new(self.keyring());
        let origin = Origin::parse("vault.test/one").unwrap();
        SealedVault::new(self.store.clone(), keyring, self.folder.path().join("anchor"), origin)
    }

    fn keyring(&self) -> std::path::PathBuf {
        self.folder.path().join("keyring")
    }

    fn copies(&self) -> [Vec<u8>; 2] {
        ["keyring-a", "keyring-b"].map(|name| fs::read(self.keyring().join(name)).unwrap())
    }

    fn put_copies(&self, copies: [&[u8]; 2]) {
        for (name, bytes) in ["keyring-a", "keyring-b"].into_iter().zip(copies) {
            fs::write(self.keyring().join(name), bytes).unwrap();
        }
    }

    fn unseal(&mut self) -> Vault {
        let who = identity("custodian");
        self.sealed()
            .unseal(Credential::Passphrase(PASSPHRASE), &who, policy(), self.now, &mut self.entropy)
            .unwrap()
    }

    fn tokenize(&mut self, vault: &Vault) -> Token {
        let call = vault.prepare(&identity("checkout"), tokenize(VISA, None), self.now, &mut self.entropy);
        only(vault.commit(&[call], &mut self.entropy).pop().unwrap()).unwrap()
    }

    fn opens(&mut self, vault: &Vault, token: Token) {
        let ask = detokenize(token, "settlement");
        let call = vault.prepare(&identity("billing"), ask, self.now, &mut self.entropy);
        let outcome = vault.commit(&[call], &mut self.entropy).pop().unwrap();
        let Ok(Reply::Detokenized(released)) = outcome.into_result() else { panic!("refused") };
        assert_eq!(released[0].as_ref().ok().unwrap().value.expose_digits(), VISA);
    }
}

fn policy() -> Arc<Policy> {
    Arc::new(Policy::parse(POLICY).unwrap())
}

fn encrypting(vault: &Vault, now: Timestamp) -> u32 {
    let shop = TenantId::parse("shop").unwrap();
    vault.keys().keyring.encrypting(&shop, Class::Pan, now).unwrap().version()
}

#[test]
fn no_key_encrypts_before_both_copies_are_written() {
    let (mut disk, vault) = OnDisk::new();
    disk.now = disk.now.plus_seconds(90 * DAY);
    let expose = |mode| {
        fs::set_permissions(disk.folder.path().join("keyring"), Permissions::from_mode(mode)).unwrap();
    };
    expose(0o755);
    let refused = vault.rotate_due(disk.now, &mut SeededEntropy::new(1));
    assert_eq!(refused, Err(Error::Unavailable(Unavailable::Store)));
    assert_eq!((encrypting(&vault, disk.now), vault.health()), (1, Health::Serving));
    expose(0o700);

    // The second copy cannot be written: a folder stands where it would be prepared.
    let blocked = disk.keyring().join("keyring-a.new");
    fs::create_dir(&blocked).unwrap();
    fs::write(blocked.join("in-the-way"), "").unwrap();
    let refused = vault.rotate_due(disk.now, &mut SeededEntropy::new(2));
    assert_eq!(refused, Err(Error::Unavailable(Unavailable::Store)));
    assert_eq!(encrypting(&vault, disk.now), 1);
    let [a, b] = disk.copies();
    assert!(a != b, "one copy is written");
    fs::remove_dir_all(&blocked).unwrap();
    // What one copy may hold is finished, not contradicted.
    assert_eq!(vault.rotate_due(disk.now, &mut SeededEntropy::new(3)), Ok(5));
    assert_eq!(encrypting(&vault, disk.now), 2);
    let token = disk.tokenize(&vault);
    vault.seal(&Closing::Stop, disk.now, &mut disk.entropy);
    assert!(disk.copies() == [b.clone(), b]);
    let vault = disk.unseal();
    disk.opens(&vault, token);
}

/// Has keys of shop rotated by a custodian.
fn order(disk: &mut OnDisk, vault: &Vault) -> Result<u32, Error> {
    let order = KeyOrder {
        tenant: TenantId::parse("shop").unwrap(),
        class: Class::Pan,
        destroy: None,
        reason: CallerText::parse("case-7").unwrap(),
    };
    let ask = Request::Keys(order.clone());
    let call = vault.prepare(&identity("custodian"), ask, disk.now, &mut disk.entropy);
    let outcome = vault.commit(&[call], &mut disk.entropy).pop().unwrap();
    let Ok(Reply::Granted(grant)) = outcome.into_result() else { panic!("refused") };
    vault.rotate(&grant, &order, disk.now, &mut disk.entropy).map(|info| info.version)
}

/// Versions that were entered as enabled by a rotation.
fn enabled(vault: &Vault) -> Vec<u32> {
    let head = vault.tree_head();
    let entries = read_entries(&vault.log(), &head, 0, 500).unwrap().into_iter().map(|logged| logged.entry);
    let enabled = entries.filter(|entry| entry.action == Action::KeyEnabled).map(|entry| entry.key_version);
    enabled.filter(|version| *version > 1).collect()
}

#[test]
fn an_order_that_failed_on_its_way_to_the_disk_is_finished_once() {
    for by_the_keeper in [false, true] {
        let (mut disk, vault) = OnDisk::new();
        let blocked = disk.keyring().join("keyring-a.new");
        fs::create_dir(&blocked).unwrap();
        fs::write(blocked.join("in-the-way"), "").unwrap();
        let away = Error::Unavailable(Unavailable::Store);
        assert_eq!(order(&mut disk, &vault), Err(away.clone()));
        assert_eq!(vault.rotate_due(disk.now, &mut disk.entropy), Err(away), "it is still in the way");
        assert_eq!((encrypting(&vault, disk.now), enabled(&vault)), (1, vec![]));
        fs::remove_dir_all(&blocked).unwrap();
        let mut versions = vec![2];
        if by_the_keeper {
            assert_eq!(
                vault.rotate_due(disk.now, &mut disk.entropy),
                Ok(1),
                "though nothing was due by its time"
            );
        } else {
            assert_eq!(order(&mut disk, &vault), Ok(2), "what was ordered, and not the version after it");
        }
        assert_eq!((encrypting(&vault, disk.now), enabled(&vault)), (2, versions.clone()));
        assert_eq!(order(&mut disk, &vault), Ok(3), "another order is another rotation");
        versions.push(3);
        assert_eq!(enabled(&vault), versions);
        let [a, b] = disk.copies();
        assert!(a == b);
    }
}

#[test]
fn a_tenant_that_keeps_too_many_old_keys_keeps_nobody_elses_from_rotating() {
    let mut bench = Bench::unlimited();
    for _ in 2..crate::limits::KEY_VERSIONS_MAX {
        let shop = TenantId::parse("shop").unwrap();
        let changed = bench.vault.change_keyring(
            bench.now,
            &mut bench.entropy,
            |_| false,
            |next, entropy| super::super::key_change::rotate(next, &shop, Class::Pan, entropy, bench.now),
        );
        assert!(changed.is_ok());
    }
    bench.now = bench.now.plus_seconds(90 * DAY);
    let due = bench.vault.rotate_due(bench.now, &mut bench.entropy);
    assert_eq!(due, Err(Error::State(State::KeyInUse)));
    let of = |tenant: &str| bench.states(tenant).into_iter().find(|(_, state)| state.encrypts()).unwrap().0;
    assert_eq!(of("indexed"), 2);
    assert_eq!(of("shop") as usize, crate::limits::KEY_VERSIONS_MAX - 1);
    assert_eq!(bench.vault.health(), Health::Serving);
}

#[test]
fn a_rotation_that_is_cut_anywhere_leaves_a_vault_that_opens_everything() {
    let (mut disk, vault) = OnDisk::new();
    let before = disk.tokenize(&vault);
    let old = disk.copies();
    disk.now = disk.now.plus_seconds(90 * DAY);
    vault.rotate_due(disk.now, &mut disk.entropy).unwrap();
    let new = disk.copies();
    // The anchor and the log know of the rotation only once both copies are there.
    drop(vault);
    let torn = &new[1][..new[1].len() / 2];
    let cuts: [[&[u8]; 2]; 5] =
        [[&old[0], torn], [&old[0], &new[1]], [torn, &new[1]], [&new[0], torn], [&new[0], &new[1]]];
    let whole = anchor(disk.folder.path());
    for copies in cuts {
        disk.put_copies(copies);
        // Another day's quota of tokens.
        disk.now = disk.now.plus_seconds(DAY);
        fs::write(disk.folder.path().join("anchor"), &whole).unwrap();
        let vault = disk.unseal();
        disk.opens(&vault, before);
        let token = disk.tokenize(&vault);
        disk.opens(&vault, token);
        let [a, b] = disk.copies();
        assert!(a == b, "the opening repairs the other copy");
        drop(vault);
    }
}

fn anchor(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("anchor")).unwrap()
}
