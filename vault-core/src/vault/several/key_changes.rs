//! Keys of several daemons: announced, enabled and destroyed while all of them serve.

use std::collections::HashMap;

use super::*;
use crate::audit::{Actor, Entry};
use crate::crypto::Envelope;
use crate::data::Class;
use crate::keys::{KeyState, KeyVersionInfo};
use crate::vault::KeyOrder;

const DAY: u64 = 24 * 60 * 60;
const UNCONFIRMED: Error = Error::State(State::KeyUnconfirmed);

fn unlimited(text: &str) -> String {
    text.replace("requests_per_minute = 5\n", "")
}

fn order(destroy: Option<u32>) -> KeyOrder {
    let tenant = TenantId::parse("indexed").unwrap();
    KeyOrder { tenant, class: Class::Pan, destroy, reason: CallerText::parse("case-7").unwrap() }
}

/// Where the PAN keys of the tenant with an index stand, by daemon.
fn states(vault: &Vault) -> Vec<KeyState> {
    let versions = vault.keyring().versions(&order(None).tenant, Class::Pan);
    versions.iter().map(|info| info.state).collect()
}

impl Site {
    /// Three open daemons without limits.
    fn three() -> (Self, [Vault; 3]) {
        let mut site = Self::new();
        let text = unlimited(POLICY);
        let one = site.unseal_under(1, &text).unwrap();
        let mut join = |number: u8| {
            site.copy_keyring(1, number);
            site.daemon(number).join(GIVEN, &who(), policy(&text), site.now, &mut site.entropy).unwrap()
        };
        let others = [2, 3].map(&mut join);
        let [two, three] = others;
        (site, [one, two, three])
    }

    fn grant(&mut self, vault: &Vault, order: &KeyOrder) -> Arc<crate::policy::Grant> {
        match self.call(vault, "custodian", Request::Keys(order.clone())).into_result() {
            Ok(Reply::Granted(grant)) => grant,
            _ => panic!("no grant"),
        }
    }

    fn rotate(&mut self, vault: &Vault) -> Result<KeyVersionInfo, Error> {
        let (order, now) = (order(None), self.now);
        let grant = self.grant(vault, &order);
        vault.rotate(&grant, &order, now, &mut self.entropy)
    }

    fn destroy(&mut self, vault: &Vault, version: u32) -> Result<DestroyedKey, Error> {
        let (order, now) = (order(Some(version)), self.now);
        let grant = self.grant(vault, &order);
        vault.destroy(&grant, &order, now, &mut self.entropy)
    }

    fn follow(&mut self, vault: &Vault) {
        vault.follow_keyring(self.now, &mut self.entropy).unwrap();
    }

    fn go_on(&mut self, vault: &Vault) -> Result<usize, Error> {
        vault.rotate_due(self.now, &mut self.entropy)
    }

    /// Brings a rotation that was ordered to its end on all daemons.
    fn settle(&mut self, vaults: &[Vault]) {
        for _ in 0..3 {
            vaults.iter().for_each(|vault| self.follow(vault));
            assert!(self.go_on(&vaults[0]).is_ok());
        }
        vaults.iter().for_each(|vault| self.follow(vault));
    }

    fn rewrap(&mut self, vault: &Vault) -> RewrapProgress {
        let mut last = None;
        while let Some(progress) = vault.rewrap_step(self.now, &mut self.entropy).unwrap() {
            last = Some(progress);
        }
        last.expect("there was something to rewrap")
    }

    fn indexed(&mut self, vault: &Vault, pan: &[u8]) -> Token {
        self.token(vault, "indexed-checkout", pan).unwrap()
    }

    fn reads(&mut self, vault: &Vault, token: Token) -> bool {
        let answer = self.call(vault, "other-billing", detokenize(token, "settlement")).into_result();
        let Ok(Reply::Detokenized(values)) = answer else { panic!("refused as a whole") };
        values.iter().all(Result::is_ok)
    }

    fn erase(&mut self, vault: &Vault, token: Token) {
        let request = Request::Erase { token, reference: CallerText::parse("case-1").ok() };
        assert!(matches!(self.call(vault, "indexed-care", request).into_result(), Ok(Reply::Erased)));
    }

    /// Key versions of all records and index rows of the tenant with an index.
    fn versions(&self) -> (Vec<u32>, Vec<u32>) {
        let tenant = order(None).tenant;
        let rows = self.store.image().into_iter().filter(|(key, _)| key.tenant() == tenant.as_str());
        let (mut records, mut index) = (Vec::new(), Vec::new());
        for (key, row) in rows {
            match key.space() {
                Space::Record => {
                    records.push(Envelope::from_bytes(&row.value).unwrap().header().key_version);
                }
                Space::Index => index.push(u32::from_be_bytes(key.bytes()[1..5].try_into().unwrap())),
                _ => {}
            }
        }
        (records, index)
    }

    /// Registers further logs, which are empty.
    fn registered(&mut self, vault: &Vault, origins: &[Origin]) {
        let (mut lane, keys) = (vault.lane(), vault.keys());
        let entry = Entry::new(self.now, Actor::Vault, Action::LogRegistered);
        let registered = vault.own_step(&mut lane, &keys, &[], &mut self.entropy, |planning| {
            for origin in origins {
                let row = registry::registered(origin, &keys.keyring);
                planning.put_row(registry::log_row(origin), &row);
                let head = crate::audit::LogWriter::create(origin.clone()).head_row();
                planning.overlay.put(open::head_key(origin), head);
            }
            Ok(vec![entry.clone()])
        });
        registered.unwrap();
    }

    /// The keyrings that wait for daemons.
    fn carried(&self) -> Vec<Key> {
        self.store.image().into_keys().filter(|key| key.bytes().starts_with(b"keys/")).collect()
    }
}

#[test]
fn a_version_encrypts_once_all_daemons_have_confirmed_that_they_know() {
    let (mut site, vaults) = Site::three();
    let [one, two, three] = &vaults;
    let values = pans(8);
    let before: Vec<_> = values[..2].iter().map(|pan| site.indexed(two, pan)).collect();
    let ordered = site.rotate(one).unwrap();
    assert_eq!((ordered.version, ordered.state), (2, KeyState::Announced));
    assert_eq!(site.rotate(one).unwrap(), ordered, "it is under way");
    // One knows, the others do not: whoever is asked first, the value has one token.
    let first = site.indexed(one, &values[2]);
    assert_eq!(site.indexed(two, &values[2]), first);
    let second = site.indexed(three, &values[3]);
    assert_eq!(site.indexed(one, &values[3]), second);
    site.follow(two);
    assert_eq!(site.go_on(two), Err(UNCONFIRMED), "the third one has not confirmed");
    site.follow(three);
    assert_eq!(site.go_on(two), Ok(1));
    let encrypts = [KeyState::DecryptOnly, KeyState::Enabled, KeyState::Introduced];
    assert_eq!(states(two), encrypts);
    let announced = [KeyState::Enabled, KeyState::Announced];
    assert_eq!((states(one), states(three)), (announced.to_vec(), announced.to_vec()));
    // Some encrypt under the new version, others under the old one: again one token.
    let third = site.indexed(two, &values[4]);
    assert_eq!(site.indexed(three, &values[4]), third);
    let fourth = site.indexed(three, &values[5]);
    assert_eq!(site.indexed(two, &values[5]), fourth);
    assert_eq!(two.rewrap_step(site.now, &mut site.entropy), Ok(None), "others write under the old version");
    site.follow(one);
    site.follow(three);
    assert_eq!(site.carried(), [], "all have what was carried");
    let progress = site.rewrap(three);
    assert!(progress.is_proven(), "{progress:?}");
    let (records, index) = site.versions();
    assert!(records.iter().chain(&index).all(|version| *version == 2), "{records:?} {index:?}");
    assert_eq!((records.len(), index.len()), (6, 6));
    for (pan, token) in values[..2].iter().zip(before) {
        assert_eq!(site.indexed(one, pan), token);
        assert!(site.reads(two, token));
    }
    assert_eq!(one.check(site.now, &mut site.entropy).unwrap().findings, []);
}

#[test]
fn two_daemons_that_tokenize_one_value_at_once_give_one_token_at_every_stage_of_a_rotation() {
    let (mut site, [one, two]) = Site::pair();
    let text = unlimited(POLICY);
    for vault in [&one, &two] {
        vault.load_policy(policy(&text), site.now, &mut site.entropy).unwrap();
    }
    site.rotate(&one).unwrap();
    let vaults = [one, two];
    let values = pans(60);
    for (stage, values) in values.chunks(20).enumerate() {
        let now = site.now;
        let tokens = at_once(&vaults, |vault, entropy| {
            // No stage draws what another one drew.
            (0..stage * 10_000).for_each(|_| entropy.fill(&mut [0; 32]).unwrap());
            let of = |pan: &Vec<u8>| {
                only(commit(vault, "indexed-checkout", tokenize(pan, None), now, entropy)).unwrap()
            };
            values.iter().map(of).collect::<Vec<_>>()
        });
        assert_eq!(tokens[0], tokens[1], "stage {stage}");
        // Announced to one; announced to both and enabled by one; enabled by both.
        site.follow(&vaults[1]);
        if stage == 0 {
            assert_eq!(site.go_on(&vaults[1]), Ok(1));
        } else {
            site.follow(&vaults[0]);
        }
    }
    let records = site.store.image().into_keys().filter(|key| key.space() == Space::Record).count();
    assert_eq!(records, values.len());
}

#[test]
fn whoever_is_overtaken_finds_the_others_token_whichever_version_each_encrypts_under() {
    let mut site = Site::new();
    let text = unlimited(POLICY);
    let one = Arc::new(site.unseal_under(1, &text).unwrap());
    site.copy_keyring(1, 2);
    let store = Overtaken::over(&site.store);
    let other = site.daemon_over(2, store.clone());
    let other = other.join(GIVEN, &who(), policy(&text), site.now, &mut site.entropy).unwrap();
    site.rotate(&one).unwrap();
    for (stage, pan) in (20..).zip(pans(2)) {
        let (faster, value, now) = (Arc::clone(&one), pan.clone(), site.now);
        let tokenizes = move || {
            let request = tokenize(&value, None);
            drop(commit(&faster, "indexed-checkout", request, now, &mut SeededEntropy::new(stage)));
        };
        *store.by.lock().unwrap() = Some(Box::new(tokenizes));
        let found = site.indexed(&other, &pan);
        assert_eq!(site.indexed(&one, &pan), found, "stage {stage}");
        // First only one knows; then one encrypts under the new version, and the other knows.
        site.follow(&other);
        assert!(site.go_on(&one).is_ok());
    }
    let records = site.store.image().into_keys().filter(|key| key.space() == Space::Record).count();
    assert_eq!(records, 2);
}

#[test]
fn what_a_daemon_erases_that_does_not_know_of_a_rotation_is_erased_under_the_new_version_too() {
    let (mut site, vaults) = Site::three();
    let [one, two, _] = &vaults;
    site.rotate(one).unwrap();
    let token = site.indexed(one, VISA);
    assert_eq!(site.versions().1, [1, 2], "found by whoever encrypts under either");
    site.erase(two, token);
    assert_eq!(site.versions(), (Vec::new(), Vec::new()));
    let again = site.indexed(one, VISA);
    assert!(again != token && site.reads(two, again));
}

#[test]
fn a_daemon_that_is_away_delays_a_rotation_and_nothing_else() {
    let (mut site, [one, two, three]) = Site::three();
    let token = site.indexed(&three, VISA);
    site.close(three);
    site.now = site.now.plus_seconds(91 * DAY);
    assert_eq!(site.go_on(&one), Ok(0), "all due keys are announced");
    site.follow(&two);
    let generation = one.keyring_generation();
    for _ in 0..3 {
        assert_eq!(site.go_on(&one), Err(UNCONFIRMED));
        assert_eq!(site.rotate(&two).map(|info| info.state), Ok(KeyState::Announced));
    }
    assert_eq!(one.keyring_generation(), generation, "no key is drawn in vain");
    one.look_around().unwrap();
    let away: Vec<_> = one.neighbours().into_iter().filter(|other| !other.has_keyring).collect();
    assert_eq!(away.iter().map(|other| other.origin.as_str()).collect::<Vec<_>>(), ["vault.test/3"]);
    assert!(site.reads(&one, token) && site.reads(&two, token));
    // It comes back with the file it had, and with the keys of now.
    let three = site.unseal_under(3, &unlimited(POLICY)).unwrap();
    assert_eq!(states(&three), [KeyState::Enabled, KeyState::Announced]);
    assert!(site.go_on(&two).unwrap() > 0);
    for vault in [&one, &three] {
        site.follow(vault);
        assert!(site.reads(vault, token));
    }
    assert_eq!(site.carried(), []);
}

#[test]
fn a_daemon_that_was_away_for_a_whole_rotation_follows_step_by_step_before_it_serves() {
    let (mut site, [one, two, three]) = Site::three();
    site.close(three);
    // Keys are drawn without it.
    for count in 1..4 {
        one.load_policy(policy(&unlimited(&with_newcomers(count))), site.now, &mut site.entropy).unwrap();
        site.follow(&two);
    }
    assert_eq!(site.carried().len(), 3);
    assert_eq!(site.rotate(&one), Err(UNCONFIRMED), "it may lack the version that would be announced");
    let three = site.unseal_under(3, &unlimited(&with_newcomers(3))).unwrap();
    assert_eq!(three.keyring().digest(), one.keyring().digest());
    assert_eq!(site.carried(), []);
    assert!(site.rotate(&one).is_ok());
}

#[test]
fn so_many_changes_wait_for_a_daemon_and_no_more() {
    let (mut site, [one, two]) = Site::pair();
    site.close(two);
    let load = |site: &mut Site, count: u8| {
        one.load_policy(policy(&with_newcomers(count)), site.now, &mut site.entropy)
    };
    let most = u8::try_from(crate::limits::KEY_CHANGES_WAITING_MAX).unwrap();
    (1..=most).for_each(|count| load(&mut site, count).unwrap());
    assert!(load(&mut site, most + 1).is_err());
    assert_eq!(site.carried().len(), usize::from(most));
    let two = site.unseal_under(2, &with_newcomers(most)).unwrap();
    assert_eq!(two.keyring().digest(), one.keyring().digest());
    load(&mut site, most + 1).unwrap();
}

#[test]
fn a_destroyed_key_is_gone_from_every_daemon_and_comes_back_from_nowhere() {
    let (mut site, vaults) = Site::three();
    let [one, two, three] = &vaults;
    let (kept, erased) = (site.indexed(one, VISA), site.indexed(two, b"5555555555554444"));
    site.erase(one, erased);
    site.rotate(two).unwrap();
    // The store of every moment, and the keyring files of the third daemon.
    let mut stores = vec![site.store.image()];
    let old_files =
        ["keyring-a", "keyring-b"].map(|copy| fs::read(site.part(3, "keyring").join(copy)).unwrap());
    site.settle(&vaults);
    stores.push(site.store.image());
    assert!(site.rewrap(three).is_proven());
    assert_eq!(site.destroy(one, 1).err(), Some(Error::State(State::KeyInUse)), "a day is not over");
    site.now = site.now.plus_seconds(DAY);
    let destroyed = site.destroy(one, 1).unwrap();
    let entry = Entry::from_bytes(&destroyed.entry).unwrap();
    assert_eq!((entry.action, entry.key_version), (Action::KeyDestroyed, 1));
    stores.push(site.store.image());
    assert_eq!(states(one)[0], KeyState::Destroyed);
    assert_eq!(states(three)[0], KeyState::DecryptOnly, "it has not looked yet");
    site.follow(two);
    site.follow(three);
    for vault in &vaults {
        assert_eq!(states(vault)[0], KeyState::Destroyed);
        assert!(site.reads(vault, kept));
    }
    assert_eq!(site.carried(), []);
    // What any old store carries opens with no keyring of today.
    let carried = stores.iter().flatten().filter(|(key, _)| key.bytes().starts_with(b"keys/"));
    let carried: Vec<_> = carried.map(|(key, row)| (key.clone(), row.value.clone())).collect();
    assert!(carried.len() >= 2, "{}", carried.len());
    for (key, row) in &carried {
        let (base, body) = (key.bytes()[5..].try_into().unwrap(), &row[..row.len() - 32]);
        assert!(one.keyring().transferred_from(&base, body).is_none());
    }
    // A daemon whose files are put back to those of before follows no more, and brings nothing back.
    let [one, _, three] = vaults;
    site.close(three);
    for (copy, bytes) in ["keyring-a", "keyring-b"].iter().zip(&old_files) {
        fs::write(site.part(3, "keyring").join(copy), bytes).unwrap();
    }
    let refused = site.unseal_under(3, &unlimited(POLICY)).err();
    assert!(matches!(refused, Some(UnsealError::OldKeyring { .. })), "{refused:?}");
    fs::remove_file(site.part(3, "anchor")).unwrap();
    let origin = Origin::parse("vault.test/4").unwrap();
    let folder = KeyringFolder::new(site.part(3, "keyring"));
    let anew = SealedVault::new(site.store.clone(), folder, site.part(3, "anchor"), origin);
    let refused = anew.join(GIVEN, &who(), policy(POLICY), site.now, &mut site.entropy).err();
    assert!(matches!(refused, Some(InitError::Unseal(UnsealError::OtherKeyring { .. }))), "{refused:?}");
    site.follow(&one);
    assert_eq!(states(&one)[0], KeyState::Destroyed);
}

#[test]
fn a_change_whose_outcome_is_unknown_is_taken_over_or_was_never_made() {
    for order in [Injected::UnknownApplied, Injected::UnknownNotApplied] {
        let (mut site, [one, two]) = Site::pair();
        let before = one.keyring_generation();
        site.store.inject([Injected::Pass, order]);
        assert!(site.rotate(&one).is_err());
        assert_eq!(one.keyring_generation(), before, "nothing is in force that may not be in the store");
        assert_eq!(one.resume(), Health::Serving);
        site.follow(&one);
        let made = order == Injected::UnknownApplied;
        assert_eq!(one.keyring_generation() > before, made);
        site.follow(&two);
        assert_eq!(two.keyring().digest(), one.keyring().digest());
        assert_eq!(site.rotate(&one).unwrap().version, 2);
    }
}

#[test]
fn a_daemon_whose_keyring_cannot_be_written_stays_behind_until_it_can() {
    let (mut site, [one, two]) = Site::pair();
    site.rotate(&one).unwrap();
    // The second copy fails: the first one is on disk already.
    let blocked = site.part(2, "keyring").join("keyring-a.new");
    fs::create_dir(&blocked).unwrap();
    let followed = two.follow_keyring(site.now, &mut site.entropy);
    assert!(matches!(followed, Err(Error::Unavailable(_))), "{followed:?}");
    assert_eq!(states(&two), [KeyState::Enabled, KeyState::Introduced], "not in force");
    assert_eq!(site.go_on(&one), Err(UNCONFIRMED));
    // Killed there, it opens with either copy; or it goes on when it can.
    fs::remove_dir(&blocked).unwrap();
    site.follow(&two);
    assert_eq!(site.go_on(&one), Ok(1));
    site.store.reopen().unwrap();
    drop(two);
    let two = site.unseal(2).unwrap();
    assert_eq!(two.keyring().digest(), one.keyring().digest());
}

#[test]
fn the_row_of_the_keyring_put_back_is_noticed_by_daemons_that_serve() {
    let (mut site, [one, two]) = Site::pair();
    let row = site.store.image().into_keys().find(|key| key.bytes() == b"keyring").unwrap();
    let older = site.store.image().remove(&row);
    site.rotate(&one).unwrap();
    site.follow(&one);
    site.follow(&two);
    site.store.danger_set(row.clone(), older);
    for vault in [&one, &two] {
        let followed = vault.follow_keyring(site.now, &mut site.entropy);
        assert_eq!((followed, vault.health()), (Err(Error::Corrupt), Health::MustSeal));
    }
    let mut site = Site::new();
    let alone = site.unseal(1).unwrap();
    let older = site.store.image().remove(&row);
    site.rotate(&alone).unwrap();
    site.follow(&alone);
    site.store.danger_set(row.clone(), older);
    assert_eq!(alone.follow_keyring(site.now, &mut site.entropy), Err(Error::Corrupt), "alone, too");
    let (mut site, [one, _two]) = Site::pair();
    site.store.danger_set(row, None);
    assert_eq!(one.follow_keyring(site.now, &mut site.entropy), Err(Error::Corrupt));
}

#[test]
fn a_register_damaged_while_the_store_was_away_seals() {
    let (mut site, [one, two]) = Site::pair();
    site.store.inject([Injected::Unavailable]);
    assert!(site.token(&one, "checkout", VISA).is_err());
    assert_eq!(one.health(), Health::Suspended);
    let row = registry::log_row(two.origin());
    let mut damaged = site.store.image().remove(&row).unwrap();
    damaged.value[9] ^= 1;
    site.store.danger_set(row, Some(damaged));
    assert_eq!(one.resume(), Health::MustSeal);
}

#[test]
fn of_two_that_join_at_once_for_the_last_place_one_is_told() {
    let mut site = Site::new();
    let one = site.unseal(1).unwrap();
    let others = (2..32).map(|number| Origin::parse(&format!("vault.test/{number}")).unwrap());
    site.registered(&one, &others.collect::<Vec<_>>());
    let (policy, now) = (policy(POLICY), site.now);
    [32, 33].iter().for_each(|number| site.copy_keyring(1, *number));
    let faster = site.daemon(32);
    let store = Overtaken::over(&site.store);
    let slower = site.daemon_over(33, store.clone());
    let loaded = Arc::clone(&policy);
    let join = move || drop(faster.join(GIVEN, &who(), loaded, now, &mut SeededEntropy::new(5)).unwrap());
    *store.by.lock().unwrap() = Some(Box::new(join));
    let refused = slower.join(GIVEN, &who(), Arc::clone(&policy), now, &mut site.entropy).err();
    assert!(matches!(refused, Some(InitError::Unseal(UnsealError::TooManyLogs))), "{refused:?}");
    one.look_around().unwrap();
    assert_eq!((one.neighbours().len(), one.health()), (31, Health::Serving));
    site.copy_keyring(1, 34);
    assert!(matches!(site.join(34), Err(InitError::Unseal(UnsealError::TooManyLogs))));
}

#[test]
fn a_keyring_newer_than_a_restored_store_counts_when_it_is_stated() {
    let (mut site, [one, two]) = Site::pair();
    let backup = site.store.image();
    site.rotate(&one).unwrap();
    site.follow(&two);
    let generation = one.keyring_generation();
    [one, two].into_iter().for_each(|vault| site.close(vault));
    for key in site.store.image().into_keys() {
        let before = backup.get(&key).cloned();
        site.store.danger_set(key, before);
    }
    let mut opened = Vec::new();
    for number in [1, 2] {
        let sealed = site.daemon(number);
        let mut accept = |gap: Option<&AnchorGap>, keyring_generation: Option<u64>| {
            let others = gap.map(|gap| gap.others.iter().map(|other| (other.origin.clone(), other.log_size)));
            let others = others.into_iter().flatten().collect();
            let log_size = gap.map_or(0, |gap| gap.log_size);
            let reason = CallerText::parse("restore-1").unwrap();
            let accepted = Accepted { log_size, keyring_generation, others, reason, who: who() };
            sealed.accept_anchor(GIVEN, &accepted, policy(POLICY), site.now, &mut site.entropy)
        };
        let Err(AcceptError::Unstated(gap)) = accept(None, None) else { panic!("accepted unstated") };
        if number == 1 {
            let refused = accept(Some(&gap), None).err();
            let Some(AcceptError::Unseal(UnsealError::OtherKeyring { .. })) = refused else {
                panic!("{refused:?}");
            };
        }
        opened.push(accept(Some(&gap), Some(generation)).unwrap().0);
    }
    let [one, two] = opened.try_into().ok().unwrap();
    assert_eq!(one.keyring().digest(), two.keyring().digest());
    assert_eq!(states(&one), [KeyState::Enabled, KeyState::Announced]);
    site.follow(&one);
    assert!(site.go_on(&two).is_ok());
}

#[test]
fn a_reseal_of_a_daemon_that_is_alone_shuts_out_whoever_has_an_old_copy() {
    let (mut site, [one, two]) = Site::pair();
    let gone = two.origin().clone();
    let reseal = |site: &mut Site| {
        let sealed = site.daemon(1);
        let begun = sealed.begin_reseal(GIVEN, &who(), site.now).unwrap();
        let Credential::Passphrase(passphrase) = GIVEN else { panic!("a passphrase") };
        let seal = Seal::Passphrase { passphrase, params: Params::FLOOR };
        sealed.reseal(begun, GIVEN, seal, site.now, &mut site.entropy).unwrap();
    };
    let shared = one.keyring();
    site.close(one);
    reseal(&mut site);
    let one = site.unseal(1).unwrap();
    assert_eq!(one.keyring().digest(), shared.digest(), "the other one follows it");
    site.rotate(&one).unwrap();
    site.follow(&two);
    one.retire(&gone, site.now, &mut site.entropy).unwrap();
    let old = one.keyring();
    site.close(one);
    reseal(&mut site);
    let one = site.unseal(1).unwrap();
    assert!(one.keyring().digest() != old.digest());
    site.settle(std::slice::from_ref(&one));
    assert_eq!(states(&one)[1], KeyState::Enabled);
    let made = registry::Registry::of(site.store.as_ref(), &old).newest(&gone, false);
    assert!(matches!(made, Err(UnsealError::OtherKeyring { .. })));
    site.copy_keyring(1, 3);
    let three = site.join(3).unwrap();
    site.rotate(&one).unwrap();
    site.follow(&three);
    assert_eq!(site.go_on(&one), Ok(1));
}

#[test]
fn with_a_change_that_waits_in_the_store_a_keyring_is_neither_resealed_nor_moved() {
    let mut site = Site::new();
    let one = site.unseal(1).unwrap();
    let before = one.keyring_generation();
    // Killed between the commit and the files.
    site.store.inject([Injected::Pass, Injected::UnknownApplied]);
    assert!(site.rotate(&one).is_err());
    drop(one);
    site.store.reopen().unwrap();
    let sealed = site.daemon(1);
    let begun = sealed.begin_reseal(GIVEN, &who(), site.now).unwrap();
    let Credential::Passphrase(passphrase) = GIVEN else { panic!("a passphrase") };
    let seal = Seal::Passphrase { passphrase, params: Params::FLOOR };
    let refused = sealed.reseal(begun, GIVEN, seal, site.now, &mut site.entropy).unwrap_err();
    assert!(matches!(&refused, ResealError::Unchanged(UnsealError::Keyring(_))), "{refused:?}");
    let refused = sealed.move_to(GIVEN, &who(), &MemoryStore::shared(), site.now, &mut |_| {}).unwrap_err();
    assert!(matches!(&refused, MoveError::Unseal(UnsealError::Keyring(_))), "{refused:?}");
    let one = site.unseal(1).unwrap();
    assert!(one.keyring_generation() > before, "serving takes it over");
}

#[test]
fn a_vault_of_several_daemons_is_not_moved() {
    let (mut site, [one, two]) = Site::pair();
    let gone = two.origin().clone();
    let moved =
        |site: &Site, to: &MemoryStore| site.daemon(1).move_to(GIVEN, &who(), to, site.now, &mut |_| {});
    assert!(matches!(moved(&site, &MemoryStore::shared()), Err(MoveError::SeveralLogs)));
    site.close(two);
    one.retire(&gone, site.now, &mut site.entropy).unwrap();
    site.close(one);
    assert!(matches!(moved(&site, &MemoryStore::new()), Err(MoveError::SeveralLogs)), "its log stays");
    moved(&site, &MemoryStore::shared()).unwrap();
}

/// Three daemons that tokenize, erase, look, rotate, rewrap and are killed in any order.
#[test]
fn whatever_comes_between_no_value_has_two_tokens_and_none_is_lost() {
    let seeds = if std::env::var_os("VAULT_TESTS_LONG").is_some() { 200 } else { 4 };
    (0..seeds).for_each(wander);
}

fn wander(seed: u64) {
    let (mut site, vaults) = Site::three();
    let mut vaults = vaults.map(Some);
    let mut chance = SeededEntropy::new(1_000 + seed);
    let mut below = |count: u8| {
        let mut byte = [0];
        chance.fill(&mut byte).unwrap();
        usize::from(byte[0] % count)
    };
    let values = pans(12);
    let mut tokens: HashMap<usize, Token> = HashMap::new();
    let mut rotations = 0;
    for _ in 0..400 {
        let at = below(3);
        let Some(vault) = vaults[at].take() else {
            let number = u8::try_from(at + 1).unwrap();
            vaults[at] = Some(site.unseal_under(number, &unlimited(POLICY)).unwrap());
            continue;
        };
        match below(16) {
            0..=6 => {
                let value = below(12);
                let token = site.indexed(&vault, &values[value]);
                assert_eq!(*tokens.entry(value).or_insert(token), token, "seed {seed}");
            }
            7 => {
                let value = below(12);
                if let Some(token) = tokens.remove(&value) {
                    site.erase(&vault, token);
                }
            }
            8 | 9 => site.follow(&vault),
            10 => rotations += usize::from(site.rotate(&vault).is_ok()),
            11 => drop(site.go_on(&vault)),
            12 | 13 => drop(vault.rewrap_step(site.now, &mut site.entropy)),
            14 => site.now = site.now.plus_seconds(LEASE_SECONDS + 1),
            _ if below(8) > 0 => site.follow(&vault),
            _ => {
                // Killed: nothing is written.
                drop(vault);
                continue;
            }
        }
        vaults[at] = Some(vault);
    }
    assert!(rotations > 0, "seed {seed}");
    let vaults = [1, 2, 3].map(|number: u8| {
        let open = vaults[usize::from(number - 1)].take();
        open.unwrap_or_else(|| site.unseal_under(number, &unlimited(POLICY)).unwrap())
    });
    site.settle(&vaults);
    site.now = site.now.plus_seconds(LEASE_SECONDS + 1);
    while vaults[0].rewrap_step(site.now, &mut site.entropy).unwrap().is_some() {}
    let encrypting = states(&vaults[0]).iter().position(|state| state.encrypts()).unwrap();
    let (records, index) = site.versions();
    let encrypting = u32::try_from(encrypting + 1).unwrap();
    assert!(records.iter().chain(&index).all(|version| *version == encrypting), "seed {seed}");
    assert_eq!((records.len(), index.len()), (tokens.len(), tokens.len()), "seed {seed}");
    for (value, token) in tokens {
        for vault in &vaults {
            assert_eq!(site.indexed(vault, &values[value]), token);
            assert!(site.reads(vault, token));
        }
    }
    assert_eq!(vaults[1].check(site.now, &mut site.entropy).unwrap().findings, [], "seed {seed}");
}
