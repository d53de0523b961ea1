//! Several daemons over one store: each with its log, its anchor and its copy of the keyring.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may stop loudly")]

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use tempfile::TempDir;

mod key_changes;

use super::tests::{POLICY, VISA, detokenize, identity, only, tokenize};
use super::*;
use crate::audit::{Action, Origin};
use crate::clock::Timestamp;
use crate::crypto::passphrase::Params;
use crate::crypto::{Entropy, SeededEntropy};
use crate::data::{CallerText, Environment, TenantId, Token};
use crate::error::{Error, Exhausted, State};
use crate::keys::{Credential, KeyringFolder, Seal};
use crate::limits::{LEASE_SECONDS, QUOTA_SLICES};
use crate::policy::{Identity, Policy};
use crate::store::memory::{Injected, MemoryStore};
use crate::store::{Commit, Fault, Key, Row, Space, Store, Writes};

const GIVEN: Credential<'static> = Credential::Passphrase(b"correct horse battery staple");

/// One vault, and a folder for each of its daemons.
struct Site {
    store: Arc<MemoryStore>,
    folder: TempDir,
    now: Timestamp,
    entropy: SeededEntropy,
}

impl Site {
    /// A vault with one daemon, which is sealed.
    fn new() -> Self {
        let store = Arc::new(MemoryStore::shared());
        let (now, entropy) = (Timestamp::from_seconds(1_800_000_000), SeededEntropy::new(7));
        let mut site = Self { store, folder: TempDir::new().unwrap(), now, entropy };
        let Credential::Passphrase(passphrase) = GIVEN else { panic!("a passphrase") };
        let seal = Seal::Passphrase { passphrase, params: Params::FLOOR };
        let environment = Environment::parse("test").unwrap();
        let vault = site.daemon(1).init(environment, seal, policy(POLICY), now, &mut site.entropy).unwrap();
        site.close(vault);
        site
    }

    fn part(&self, number: u8, part: &str) -> PathBuf {
        self.folder.path().join(format!("{part}-{number}"))
    }

    fn daemon(&self, number: u8) -> SealedVault {
        self.daemon_over(number, self.store.clone())
    }

    fn daemon_over(&self, number: u8, store: Arc<dyn Store>) -> SealedVault {
        let keyring = KeyringFolder::new(self.part(number, "keyring"));
        let origin = Origin::parse(&format!("vault.test/{number}")).unwrap();
        SealedVault::new(store, keyring, self.part(number, "anchor"), origin)
    }

    /// As an operator does: the two copies, and nothing else.
    fn copy_keyring(&self, from: u8, to: u8) {
        let target = self.part(to, "keyring");
        fs::create_dir_all(&target).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&target, open).unwrap();
        for copy in ["keyring-a", "keyring-b"] {
            fs::copy(self.part(from, "keyring").join(copy), target.join(copy)).unwrap();
        }
    }

    fn join(&mut self, number: u8) -> Result<Vault, InitError> {
        self.daemon(number).join(GIVEN, &who(), policy(POLICY), self.now, &mut self.entropy)
    }

    fn unseal(&mut self, number: u8) -> Result<Vault, UnsealError> {
        self.unseal_under(number, POLICY)
    }

    fn unseal_under(&mut self, number: u8, text: &str) -> Result<Vault, UnsealError> {
        self.daemon(number).unseal(GIVEN, &who(), policy(text), self.now, &mut self.entropy)
    }

    fn close(&mut self, vault: Vault) {
        assert!(vault.seal(&Closing::Stop, self.now, &mut self.entropy).recorded);
    }

    /// Two open daemons.
    fn pair() -> (Self, [Vault; 2]) {
        let mut site = Self::new();
        let one = site.unseal(1).unwrap();
        site.copy_keyring(1, 2);
        let other = site.join(2).unwrap();
        (site, [one, other])
    }

    fn call(&mut self, vault: &Vault, who: &str, request: Request) -> Outcome {
        commit(vault, who, request, self.now, &mut self.entropy)
    }

    fn token(&mut self, vault: &Vault, who: &str, pan: &[u8]) -> Result<Token, Error> {
        only(self.call(vault, who, tokenize(pan, None)))
    }
}

impl Site {
    fn releases(&mut self, vault: &Vault, token: Token) -> bool {
        let answer = self.call(vault, "billing", detokenize(token, "settlement")).into_result();
        let Ok(Reply::Detokenized(values)) = answer else { panic!("refused as a whole") };
        values.iter().all(Result::is_ok)
    }
}

fn commit(vault: &Vault, who: &str, request: Request, now: Timestamp, entropy: &mut dyn Entropy) -> Outcome {
    let call = vault.prepare(&identity(who), request, now, entropy);
    vault.commit(&[call], entropy).pop().unwrap()
}

fn policy(text: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(text).unwrap())
}

fn who() -> Identity {
    Identity::parse("uri:vaultd:test").unwrap()
}

fn is_quota(result: &Result<Token, Error>) -> bool {
    matches!(result, Err(Error::Exhausted(Exhausted::Quota { .. })))
}

/// As many PANs as wanted, each valid.
fn pans(count: u32) -> Vec<Vec<u8>> {
    let pan = |number| {
        let digits = format!("400000{number:09}");
        let check = (0..10)
            .map(|check| format!("{digits}{check}"))
            .find(|pan| crate::data::Pan::parse(pan.as_bytes()).is_ok());
        check.unwrap().into_bytes()
    };
    (0..count).map(pan).collect()
}

/// A store on which something happens right before the next commit, or right after idempotency rows were
/// scanned: another daemon was faster.
struct Overtaken {
    store: Arc<MemoryStore>,
    by: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    after_scan: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Overtaken {
    fn over(store: &Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { store: Arc::clone(store), by: Mutex::default(), after_scan: Mutex::default() })
    }
}

impl Store for Overtaken {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, Fault> {
        self.store.read(keys)
    }

    fn scan(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, Fault> {
        let rows = self.store.scan(space, tenant, after, limit)?;
        if space == Space::Idempotency && !rows.is_empty() {
            let by = self.after_scan.lock().unwrap().take();
            by.into_iter().for_each(|by| by());
        }
        Ok(rows)
    }

    fn commit(&self, writes: &Writes) -> Result<Commit, Fault> {
        let by = self.by.lock().unwrap().take();
        by.into_iter().for_each(|by| by());
        self.store.commit(writes)
    }

    fn reopen(&self) -> Result<(), Fault> {
        self.store.reopen()
    }

    fn free_space_low(&self) -> bool {
        self.store.free_space_low()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn disk_bytes(&self) -> Result<u64, Fault> {
        self.store.disk_bytes()
    }
}

/// Runs one thing on both daemons at once, each with its own randomness.
fn at_once<T: Send>(vaults: &[Vault; 2], run: impl Fn(&Vault, &mut SeededEntropy) -> T + Sync) -> [T; 2] {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let threads = [0, 1].map(|at: u8| {
            let (start, run, vault) = (&start, &run, &vaults[usize::from(at)]);
            scope.spawn(move || {
                start.wait();
                run(vault, &mut SeededEntropy::new(100 + u64::from(at)))
            })
        });
        threads.map(|thread| thread.join().unwrap())
    })
}

#[test]
fn a_second_daemon_joins_and_each_serves_what_the_other_wrote() {
    let (mut site, [one, other]) = Site::pair();
    let (first, second) =
        (site.token(&one, "checkout", VISA).unwrap(), site.token(&other, "checkout", VISA).unwrap());
    for (vault, token) in [(&other, first), (&one, second)] {
        assert!(site.releases(vault, token));
    }
    let actions: Vec<Action> = scene::entries(&other).iter().map(|entry| entry.action).collect();
    assert_eq!(actions[..2], [Action::LogRegistered, Action::Unseal]);
    one.look_around().unwrap();
    let seen = one.neighbours();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].origin.as_str(), seen[0].log_size), ("vault.test/2", other.tree_head().size));
    assert_eq!(seen[0].policy, one.policy().short_hash());
    assert!(matches!(site.join(2), Err(InitError::Exists)));
}

#[test]
fn check_proves_every_log_and_finds_each_record_in_its_own() {
    let (mut site, [one, other]) = Site::pair();
    for vault in [&one, &other] {
        (0..3).for_each(|_| assert!(site.token(vault, "checkout", VISA).is_ok()));
    }
    let report = one.check(site.now, &mut site.entropy).unwrap();
    assert_eq!((report.findings.len(), report.records), (0, 6));
    let logs: Vec<_> = report.logs.iter().map(|log| (log.origin.as_str(), log.size)).collect();
    assert_eq!(logs, [("vault.test/1", one.tree_head().size - 1), ("vault.test/2", other.tree_head().size)]);

    let page = site.store.image().into_keys().rfind(|key| {
        key.space() == Space::LogPage && key.bytes().starts_with(&open::log_prefix(other.origin()))
    });
    site.store.danger_set(page.unwrap(), None);
    assert_eq!(
        one.check(site.now, &mut site.entropy),
        Err(Error::Corrupt),
        "another daemon's log is damaged"
    );
}

#[test]
fn only_a_shared_store_with_a_vault_and_its_keyring_is_joined() {
    let mut site = Site::new();
    site.copy_keyring(1, 2);
    let shared = std::mem::replace(&mut site.store, Arc::new(MemoryStore::shared()));
    assert!(matches!(site.join(2), Err(InitError::NothingToJoin)), "an empty store");
    site.store = Arc::new(MemoryStore::from_image(shared.image()));
    assert!(matches!(site.join(2), Err(InitError::NothingToJoin)), "a store of one daemon");
    site.store = shared;
    assert!(matches!(site.unseal(2), Err(UnsealError::Anchor(_))), "it has no anchor yet");

    let another = Site::new();
    for copy in ["keyring-a", "keyring-b"] {
        fs::copy(another.part(1, "keyring").join(copy), site.part(2, "keyring").join(copy)).unwrap();
    }
    // Made with the same randomness, its keys are the same; with other keys nothing authenticates.
    let mut other_vault = Site { entropy: SeededEntropy::new(8), ..Site::new() };
    other_vault.store = Arc::new(MemoryStore::shared());
    fs::remove_dir_all(other_vault.part(1, "keyring")).unwrap();
    fs::remove_file(other_vault.part(1, "anchor")).unwrap();
    let Credential::Passphrase(passphrase) = GIVEN else { panic!("a passphrase") };
    let seal = Seal::Passphrase { passphrase, params: Params::FLOOR };
    let environment = Environment::parse("test").unwrap();
    let daemon = other_vault.daemon(1);
    drop(daemon.init(environment, seal, policy(POLICY), site.now, &mut other_vault.entropy).unwrap());
    for copy in ["keyring-a", "keyring-b"] {
        fs::copy(other_vault.part(1, "keyring").join(copy), site.part(2, "keyring").join(copy)).unwrap();
    }
    assert!(matches!(site.join(2), Err(InitError::Unseal(UnsealError::Registry))), "another vault");

    site.copy_keyring(1, 2);
    site.join(2).unwrap();
    site.copy_keyring(1, 3);
    site.join(3).unwrap();
}

#[test]
fn one_value_has_one_token_whichever_daemons_are_asked_at_once() {
    let (site, vaults) = Site::pair();
    let (values, now) = (pans(300), site.now);
    // The limit is another test's.
    let text = POLICY.replace("requests_per_minute = 5\n", "");
    for vault in &vaults {
        vault.load_policy(policy(&text), now, &mut SeededEntropy::new(3)).unwrap();
    }
    let tokens = at_once(&vaults, |vault, entropy| {
        let of = |pan: &Vec<u8>| {
            only(commit(vault, "indexed-checkout", tokenize(pan, None), now, entropy)).unwrap()
        };
        values.iter().map(of).collect::<Vec<_>>()
    });
    assert_eq!(tokens[0], tokens[1]);
    let records = site.store.image().into_keys().filter(|key| key.space() == Space::Record).count();
    assert_eq!(records, values.len(), "nothing was written for the one who came second");
}

#[test]
fn one_idempotency_key_has_one_outcome_whichever_daemons_are_asked_at_once() {
    let (site, vaults) = Site::pair();
    let now = site.now;
    let tokens = at_once(&vaults, |vault, entropy| {
        let of = |number: u32| {
            let key = format!("order-{number}");
            only(commit(vault, "checkout", tokenize(VISA, Some(&key)), now, entropy)).unwrap()
        };
        (0..300).map(of).collect::<Vec<_>>()
    });
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(tokens[0].iter().collect::<HashSet<_>>().len(), 300);
    let other = tokenize(b"5555555555554444", Some("order-7"));
    let refused = only(commit(&vaults[1], "checkout", other, now, &mut SeededEntropy::new(9)));
    assert_eq!(refused, Err(Error::IdempotencyKeyReused));
}

#[test]
fn no_outcome_is_remembered_for_a_token_that_another_daemon_erases_meanwhile() {
    let mut site = Site::new();
    let one = site.unseal(1).unwrap();
    site.copy_keyring(1, 2);
    let store = Overtaken::over(&site.store);
    let (policy, now) = (policy(POLICY), site.now);
    let other = site.daemon_over(2, store.clone());
    let other = other.join(GIVEN, &who(), policy, now, &mut site.entropy).unwrap();
    let token = site.token(&one, "indexed-checkout", VISA).unwrap();
    let erase = move || {
        let request = Request::Erase { token, reference: CallerText::parse("case-1").ok() };
        let erased = commit(&one, "indexed-care", request, now, &mut SeededEntropy::new(11)).into_result();
        assert!(matches!(erased, Ok(Reply::Erased)));
    };
    *store.by.lock().unwrap() = Some(Box::new(erase));
    let again = || tokenize(VISA, Some("key-1"));
    let found = only(site.call(&other, "indexed-checkout", again())).unwrap();
    assert_ne!(found, token, "the value was stored anew");
    assert_eq!(only(site.call(&other, "indexed-checkout", again())), Ok(found));
}

#[test]
fn a_sweep_takes_no_row_that_another_daemon_has_begun_anew() {
    let mut site = Site::new();
    let one = site.unseal(1).unwrap();
    site.copy_keyring(1, 2);
    let store = Overtaken::over(&site.store);
    let other = site.daemon_over(2, store.clone());
    let other = other.join(GIVEN, &who(), policy(POLICY), site.now, &mut site.entropy).unwrap();
    for vault in [&one, &other] {
        vault.load_policy(super::tests::unlimited_policy(), site.now, &mut site.entropy).unwrap();
    }
    let ask = || tokenize(VISA, Some("key-1"));
    let first = only(site.call(&one, "checkout", ask())).unwrap();
    site.now = site.now.plus_seconds(25 * 60 * 60);
    let now = site.now;
    let (told, heard) = std::sync::mpsc::channel();
    let one = Arc::new(one);
    let faster = Arc::clone(&one);
    let begin_anew = move || {
        let outcome = commit(&faster, "checkout", ask(), now, &mut SeededEntropy::new(11));
        told.send(only(outcome).unwrap()).unwrap();
    };
    *store.after_scan.lock().unwrap() = Some(Box::new(begin_anew));
    let swept: usize = (0..12).map(|_| other.sweep(now, &mut site.entropy).unwrap()).sum();
    assert!(swept > 0, "the trace of the first outcome at least");
    let second = heard.try_recv().expect("it came before the sweep");
    assert_ne!(second, first);
    assert_eq!(only(site.call(&one, "checkout", tokenize(VISA, Some("key-1")))), Ok(second));
}

#[test]
fn a_limit_is_never_passed_and_reached_but_for_a_slice_of_each_daemon() {
    const LIMIT: u32 = 640;
    let (site, vaults) = Site::pair();
    let text = POLICY.replace("requests_per_minute = 5\n", &format!("requests_per_minute = {LIMIT}\n"));
    for vault in &vaults {
        vault.load_policy(policy(&text), site.now, &mut SeededEntropy::new(3)).unwrap();
    }
    for minute in 0..3 {
        let now = site.now.plus_seconds(60 * minute);
        let served = at_once(&vaults, |vault, entropy| {
            let ask = |_: &u32| {
                !is_quota(&only(commit(vault, "indexed-checkout", tokenize(VISA, None), now, entropy)))
            };
            (0..LIMIT).filter(ask).count()
        });
        let served = u32::try_from(served.iter().sum::<usize>()).unwrap();
        assert!((LIMIT - 2 * LIMIT / QUOTA_SLICES..=LIMIT).contains(&served), "{served} of {LIMIT}");
    }
}

#[test]
fn distinct_tokens_of_a_day_are_never_more_than_the_limit() {
    let (mut site, [one, other]) = Site::pair();
    let tokens: Vec<Token> = (0..6).map(|_| site.token(&one, "checkout", VISA).unwrap()).collect();
    let mut released = HashSet::new();
    for token in &tokens {
        for vault in [&one, &other, &one] {
            if site.releases(vault, *token) {
                released.insert(*token);
            }
        }
    }
    // A token that both are asked for counts at both: refused early, never over.
    assert!((1..=3).contains(&released.len()), "{}", released.len());
}

#[test]
fn one_daemon_sweeps_at_a_time() {
    let (mut site, [one, other]) = Site::pair();
    let key = |round: u32| format!("round-{round}");
    let (begun, mut swept) = (site.now, [0, 0]);
    for round in 0..2 {
        site.now = begun.plus_seconds(u64::from(round) * 2 * LEASE_SECONDS);
        drop(site.call(&one, "checkout", tokenize(VISA, Some(&key(round)))));
    }
    let sweep = |vault: &Vault, site: &mut Site| {
        (0..6).map(|_| vault.sweep(site.now, &mut site.entropy).unwrap()).sum::<usize>()
    };
    site.now = begun.plus_seconds(25 * 60 * 60);
    swept[0] += sweep(&one, &mut site);
    assert!(swept[0] >= 2);
    drop(site.call(&one, "checkout", tokenize(VISA, Some("later"))));
    let later = site.now;
    site.now = later.plus_seconds(LEASE_SECONDS - 1);
    // There is something to sweep for whoever does not look at the lease.
    site.store.danger_set(lease_free_row(), Some(Row { version: 1, value: vec![0] }));
    assert_eq!(sweep(&other, &mut site), 0, "the lease is the first one's");
    site.now = later.plus_seconds(26 * 60 * 60);
    swept[1] += sweep(&other, &mut site);
    assert!(swept[1] >= 1);
    assert_eq!(sweep(&one, &mut site), 0, "and now the other's");
}

/// A row of tokens seen on a day long past.
fn lease_free_row() -> Key {
    Key::new(Space::Seen, None, &[0; 24])
}

#[test]
fn keys_that_one_daemon_makes_the_others_take_over() {
    let (mut site, [one, other]) = Site::pair();
    let newcomer = with_newcomers(1);
    one.load_policy(policy(&newcomer), site.now, &mut site.entropy).unwrap();
    other.load_policy(policy(&newcomer), site.now, &mut site.entropy).unwrap();
    assert_eq!(other.keys().keyring.digest(), one.keys().keyring.digest());
    site.close(other);
    // More keys come while it is sealed: it opens with its own copy, which it brings up to date.
    let more = with_newcomers(2);
    one.load_policy(policy(&more), site.now, &mut site.entropy).unwrap();
    let other = site.unseal_under(2, &more).unwrap();
    assert_eq!(other.keys().keyring.digest(), one.keys().keyring.digest());
    site.close(other);
    site.close(one);
    let (_, on_disk) = KeyringFolder::new(site.part(2, "keyring")).open(GIVEN).unwrap();
    let (_, of_one) = KeyringFolder::new(site.part(1, "keyring")).open(GIVEN).unwrap();
    assert_eq!(on_disk.digest(), of_one.digest());
}

#[test]
fn of_two_daemons_that_make_keys_at_once_both_have_all_keys() {
    let (site, vaults) = Site::pair();
    let now = site.now;
    let loaded = at_once(&vaults, |vault, entropy| {
        let count = if vault.origin().as_str().ends_with('1') { 1 } else { 3 };
        vault.load_policy(policy(&with_newcomers(count)), now, entropy)
    });
    assert!(loaded.iter().all(Result::is_ok), "{loaded:?}");
    for vault in &vaults {
        vault.follow_keyring(now, &mut SeededEntropy::new(4)).unwrap();
    }
    assert_eq!(vaults[0].keys().keyring.digest(), vaults[1].keys().keyring.digest());
}

/// A policy with so many tenants that have no keys yet.
fn with_newcomers(count: u8) -> String {
    let tenant = |n| format!("\n[[tenant]]\nid = \"newcomer-{n}\"\nclasses = [\"pan\"]\n");
    (0..count).fold(POLICY.to_owned(), |text, n| text + &tenant(n))
}

#[test]
fn of_two_daemons_the_one_that_makes_more_keys_takes_none_of_the_other_away() {
    let mut site = Site::new();
    let one = Arc::new(site.unseal(1).unwrap());
    site.copy_keyring(1, 2);
    let store = Overtaken::over(&site.store);
    let other = site.daemon_over(2, store.clone());
    let other = other.join(GIVEN, &who(), policy(POLICY), site.now, &mut site.entropy).unwrap();
    let (faster, now) = (Arc::clone(&one), site.now);
    let load =
        move || faster.load_policy(policy(&with_newcomers(1)), now, &mut SeededEntropy::new(12)).unwrap();
    *store.by.lock().unwrap() = Some(Box::new(load));
    other.load_policy(policy(&with_newcomers(3)), now, &mut site.entropy).unwrap();
    // It took over what the faster one had made, and added what was missing.
    one.follow_keyring(now, &mut site.entropy).unwrap();
    assert_eq!(other.keys().keyring.digest(), one.keys().keyring.digest());
    let made = one.keys().keyring.inventory();
    let tenants: HashSet<_> = made.iter().map(|(tenant, ..)| tenant.as_str().to_owned()).collect();
    assert_eq!(tenants.iter().filter(|tenant| tenant.starts_with("newcomer")).count(), 3);
}

#[test]
fn keys_whose_commit_failed_are_nowhere() {
    let (mut site, [one, other]) = Site::pair();
    site.store.inject([Injected::Unavailable]);
    assert!(other.load_policy(policy(&with_newcomers(3)), site.now, &mut site.entropy).is_err());
    drop(other);
    site.store.reopen().unwrap();
    one.load_policy(policy(&with_newcomers(1)), site.now, &mut site.entropy).unwrap();
    let other = site.unseal(2).unwrap();
    assert_eq!(other.keys().keyring.digest(), one.keys().keyring.digest());
}

#[test]
fn a_daemon_alone_opens_with_keys_whose_commit_failed() {
    let mut site = Site::new();
    let one = site.unseal(1).unwrap();
    site.store.inject([Injected::Unavailable]);
    assert!(one.load_policy(policy(&with_newcomers(2)), site.now, &mut site.entropy).is_err());
    let made = one.keyring_generation();
    drop(one);
    site.store.reopen().unwrap();
    let one = site.unseal_under(1, &with_newcomers(2)).unwrap();
    assert!(one.keyring_generation() >= made);
}

#[test]
fn a_log_of_another_daemon_that_went_back_seals_and_is_given_up_only_when_stated() {
    let (mut site, [one, other]) = Site::pair();
    let older = site.store.image();
    site.token(&other, "checkout", VISA).unwrap();
    one.look_around().unwrap();
    one.keep().unwrap();
    let known = other.tree_head().size;
    // Only the other one's log goes back.
    let prefix = open::log_prefix(other.origin());
    for (key, _) in site.store.image().into_iter().filter(|(key, _)| key.bytes().starts_with(&prefix)) {
        let before = older.get(&key).cloned();
        site.store.danger_set(key, before);
    }
    assert_eq!((one.look_around(), one.health()), (Err(Error::Corrupt), Health::MustSeal));
    drop(one.seal(&Closing::Doubt, site.now, &mut site.entropy));
    let refused = site.unseal(1).err().unwrap();
    let UnsealError::OtherLog { origin, anchor_size, log_size } = refused else { panic!("{refused}") };
    assert_eq!((origin.as_str(), anchor_size), ("vault.test/2", known));

    let sealed = site.daemon(1);
    let mut accept = |others: Vec<(String, u64)>, size: u64| {
        let reason = CallerText::parse("restore-1").unwrap();
        let accepted = Accepted { log_size: size, keyring_generation: None, others, reason, who: who() };
        sealed.accept_anchor(GIVEN, &accepted, policy(POLICY), site.now, &mut site.entropy)
    };
    let Err(AcceptError::Unstated(gap)) = accept(Vec::new(), 0) else { panic!("accepted unstated") };
    assert_eq!(gap.others, [OtherLogGap { origin: origin.clone(), log_size, anchored_size: known }]);
    assert!(matches!(accept(Vec::new(), gap.log_size), Err(AcceptError::Unstated(_))));
    let (one, _) = accept(vec![(origin, log_size)], gap.log_size).unwrap();
    let given_up = scene::entries(&one).into_iter().filter(|entry| entry.action == Action::AnchorAccepted);
    assert_eq!(given_up.map(|entry| u64::from(entry.count)).collect::<Vec<_>>(), [0, known - log_size]);
    one.look_around().unwrap();
}

#[test]
fn a_daemon_that_is_no_longer_registered_is_missed() {
    let (mut site, [one, other]) = Site::pair();
    one.look_around().unwrap();
    one.keep().unwrap();
    site.store.danger_set(registry::log_row(other.origin()), None);
    assert_eq!(one.look_around(), Err(Error::Corrupt));
    drop(one.seal(&Closing::Doubt, site.now, &mut site.entropy));
    assert!(matches!(site.unseal(1), Err(UnsealError::OtherLog { log_size: 0, .. })));
}

#[test]
fn a_retired_daemon_opens_no_more_and_the_one_that_is_left_rotates() {
    let (mut site, [one, other]) = Site::pair();
    let gone = other.origin().clone();
    let record = site.token(&other, "checkout", VISA).unwrap();
    let later = site.now.plus_seconds(91 * 24 * 60 * 60);
    assert_eq!(one.rotate_due(later, &mut site.entropy), Ok(0), "announced");
    let waits = one.rotate_due(later, &mut site.entropy);
    assert_eq!(waits, Err(Error::State(State::KeyUnconfirmed)), "the other one would encrypt on");
    assert_eq!(one.retire(one.origin(), site.now, &mut site.entropy), Err(Error::Denied));
    one.retire(&gone, site.now, &mut site.entropy).unwrap();
    assert_eq!(scene::entries(&one).last().unwrap().action, Action::LogRetired);
    // One that serves on all the same, cut off from whoever looked.
    assert_eq!((other.look_around(), other.health()), (Err(Error::Corrupt), Health::MustSeal));
    drop(other.seal(&Closing::Doubt, site.now, &mut site.entropy));
    assert!(matches!(site.unseal(2), Err(UnsealError::Retired)));
    one.look_around().unwrap();
    assert_eq!(one.neighbours(), []);
    assert!(one.rotate_due(later, &mut site.entropy).unwrap() > 0);
    site.now = later;
    assert!(site.releases(&one, record));
    let report = one.check(later, &mut site.entropy).unwrap();
    assert_eq!((report.findings.len(), report.logs.len()), (0, 2), "its log is proven on");
    site.copy_keyring(1, 3);
    let third = site.join(3).unwrap();
    assert!(site.token(&third, "checkout", VISA).is_ok());
    // Which keyring is an old one by now the store knows, though no policy was loaded since.
    fs::remove_file(site.part(2, "anchor")).unwrap();
    let origin = Origin::parse("vault.test/4").unwrap();
    let keyring = KeyringFolder::new(site.part(2, "keyring"));
    let late = SealedVault::new(site.store.clone(), keyring, site.part(2, "anchor"), origin);
    let refused = late.join(GIVEN, &who(), policy(POLICY), site.now, &mut site.entropy).err();
    assert!(matches!(refused, Some(InitError::Unseal(UnsealError::OtherKeyring { .. }))), "{refused:?}");
}

#[test]
fn without_the_row_of_the_keyring_nobody_opens_whose_log_is_registered() {
    let mut site = Site::new();
    let row = site.store.image().into_keys().find(|key| key.bytes() == b"keyring").unwrap();
    let kept = site.store.image().remove(&row);
    site.store.danger_set(row.clone(), None);
    assert!(matches!(site.unseal(1), Err(UnsealError::Registry)));
    site.store.danger_set(row, kept);
    assert!(site.unseal(1).is_ok());
}

#[test]
fn a_store_that_is_not_shared_has_no_rows_of_daemons() {
    let bench = super::tests::Bench::new();
    let meta =
        bench.store.image().into_keys().filter(|key| key.space() == Space::Meta && key.tenant().is_empty());
    assert_eq!(meta.count(), 0);
    bench.vault.look_around().unwrap();
    assert!(!bench.store.is_shared());
}
