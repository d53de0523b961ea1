//! Custodians have keys rotated and destroyed, and see them all.

use super::erase::unlimited_policy;
use super::rewrap::pan;
use super::rotation::DAY;
use super::*;
use crate::audit::{Actor, Receipt, VerifierKey, leaf_hash};
use crate::crypto::Envelope;
use crate::data::Class;
use crate::error::State;
use crate::keys::KeyState;
use crate::policy::Grant;
use crate::store::Row;
use crate::vault::{DestroyedKey, KeyOrder};

const IN_USE: Error = Error::State(State::KeyInUse);
const UNKNOWN: Error = Error::State(State::NoSuchKey);

fn order(tenant: &str, class: Class, destroy: Option<u32>) -> KeyOrder {
    let tenant = TenantId::parse(tenant).unwrap();
    KeyOrder { tenant, class, destroy, reason: CallerText::parse("case-7").unwrap() }
}

impl Bench {
    fn granted(&mut self, who: &str, request: Request) -> Result<Arc<Grant>, Error> {
        match self.call(who, request).into_result()? {
            Reply::Granted(grant) => Ok(grant),
            _ => panic!("another reply"),
        }
    }

    fn rotate_by(&mut self, who: &str, tenant: &str, class: Class) -> Result<u32, Error> {
        let order = order(tenant, class, None);
        let grant = self.granted(who, Request::Keys(order.clone()))?;
        self.vault.rotate(&grant, &order, self.now, &mut self.entropy).map(|info| info.version)
    }

    fn destroy_by(&mut self, who: &str, tenant: &str, version: u32) -> Result<DestroyedKey, Error> {
        let order = order(tenant, Class::Pan, Some(version));
        let grant = self.granted(who, Request::Keys(order.clone()))?;
        self.vault.destroy(&grant, &order, self.now, &mut self.entropy)
    }

    fn refused(&mut self, version: u32) -> Option<Error> {
        self.destroy_by("custodian", "indexed", version).err()
    }

    fn listed(&mut self, who: &str) -> Vec<(String, u32, KeyState)> {
        let grant = self.granted(who, Request::Status).unwrap();
        let listed = self.vault.key_listing(&grant, 0, 100).unwrap().into_iter();
        let pans = listed.filter(|key| key.class == Class::Pan);
        pans.map(|key| (key.tenant.to_string(), key.info.version, key.info.state)).collect()
    }
}

#[test]
fn a_custodian_has_keys_rotated_and_the_log_says_who_and_why() {
    let mut bench = Bench::new();
    let before = bench.entries().len();
    assert_eq!(bench.rotate_by("custodian", "shop", Class::Pan), Ok(2));
    let told: Vec<_> = bench
        .entries()
        .split_off(before)
        .into_iter()
        .map(|entry| {
            assert_eq!((entry.tenant.unwrap().as_str(), entry.class), ("shop", Some(Class::Pan)));
            (entry.action, entry.outcome, entry.key_version)
        })
        .collect();
    let expected = [
        (Action::RotateKeys, Recorded::Granted, 0),
        (Action::KeyEnabled, Recorded::Done, 2),
        (Action::KeyIntroduced, Recorded::Done, 3),
    ];
    assert_eq!(told, expected);
    let ordered = bench.entries().swap_remove(before);
    assert_eq!(ordered.note.unwrap().as_str(), "case-7");
    assert!(matches!(ordered.actor, Actor::Principal(id) if id.as_str() == "custodian"));
    let token = bench.tokenize("checkout", VISA).unwrap();
    assert_eq!(bench.detokenize("billing", token, "settlement").unwrap(), VISA);
    assert_eq!(bench.last().key_version, 2);
}

#[test]
fn only_custodians_change_keys_and_only_those_they_may() {
    let mut bench = Bench::new();
    for who in ["checkout", "billing", "auditor", "nobody"] {
        assert_eq!(bench.rotate_by(who, "shop", Class::Pan), Err(Error::Denied), "{who}");
        assert_eq!(bench.destroy_by(who, "shop", 1).err(), Some(Error::Denied), "{who}");
    }
    assert_eq!(bench.rotate_by("shop-custodian", "indexed", Class::Pan), Err(Error::Denied));
    let entry = bench.last();
    assert_eq!((entry.outcome, entry.tenant.unwrap().as_str()), (Recorded::Denied, "shop"));
    assert_eq!(bench.rotate_by("shop-custodian", "shop", Class::Ssn), Ok(2));
    assert_eq!(bench.rotate_by("custodian", "nobody", Class::Pan), Err(UNKNOWN));
    assert_eq!(bench.rotate_by("custodian", "cards", Class::Ssn), Err(UNKNOWN), "a class it does not keep");

    // A permission for one thing is none for another.
    let (rotate, destroy) = (order("shop", Class::Pan, None), order("shop", Class::Pan, Some(1)));
    let foreign = order("indexed", Class::Pan, None);
    let grant = bench.granted("shop-custodian", Request::Keys(rotate.clone())).unwrap();
    let Bench { vault, entropy, now, .. } = &mut bench;
    assert_eq!(vault.destroy(&grant, &destroy, *now, entropy).err(), Some(Error::Denied));
    assert_eq!(vault.rotate(&grant, &foreign, *now, entropy).err(), Some(Error::Denied));
    assert!(vault.key_listing(&grant, 0, 1).is_err());
    assert!(vault.rotate(&grant, &rotate, *now, entropy).is_ok());
}

#[test]
fn the_listing_has_every_version_of_the_tenants_one_may_see() {
    let mut bench = Bench::new();
    bench.rotate_by("custodian", "shop", Class::Pan).unwrap();
    let own = [(1, KeyState::DecryptOnly), (2, KeyState::Enabled), (3, KeyState::Introduced)];
    let own = own.map(|(version, state)| ("shop".to_owned(), version, state));
    assert_eq!(bench.listed("shop-custodian"), own);
    assert_eq!(bench.listed("auditor").len(), 2 + 2 + 3);
    let grant = bench.granted("auditor", Request::Status).unwrap();
    let all = bench.vault.key_listing(&grant, 0, 100).unwrap();
    let paged = [(0, 4), (4, 4), (8, 100)];
    let paged = paged.map(|(from, limit)| bench.vault.key_listing(&grant, from, limit).unwrap());
    assert_eq!(paged.concat(), all);
    bench.rewrap();
    let all = bench.vault.key_listing(&grant, 0, 100).unwrap();
    let proven = all.iter().filter(|key| key.rewrap.as_ref().is_some_and(RewrapProgress::is_proven));
    let proven: Vec<_> = proven.map(|key| (key.tenant.as_str(), key.class, key.info.version)).collect();
    assert_eq!(proven, [("shop", Class::Pan, 2)]);
}

#[test]
fn a_version_is_destroyed_only_when_nothing_needs_it() {
    let mut bench = Bench::unlimited();
    let token = bench.tokenize("indexed-checkout", VISA).unwrap();
    assert_eq!(bench.refused(1), Some(IN_USE), "it encrypts");
    assert_eq!(bench.refused(2), Some(IN_USE), "it will encrypt");
    assert_eq!(bench.refused(3), Some(UNKNOWN));
    bench.rotate_by("custodian", "indexed", Class::Pan).unwrap();
    bench.now = bench.now.plus_seconds(DAY);
    assert_eq!(bench.refused(1), Some(IN_USE), "a record stands under it");
    bench.vault.rewrap_step(bench.now, &mut bench.entropy).unwrap();
    assert_eq!(bench.refused(1), Some(IN_USE), "nothing is proven");
    bench.rewrap();
    assert_eq!(
        bench.refused(1),
        Some(IN_USE),
        "it may have encrypted until a moment before the rewrap began"
    );
    bench.now = bench.now.plus_seconds(DAY);
    assert!(bench.refused(1).is_none());
    assert_eq!(bench.refused(1), Some(UNKNOWN), "it is gone");
    assert_eq!(bench.detokenize("other-billing", token, "settlement").unwrap(), VISA);
    assert_eq!(bench.tokenize("indexed-checkout", VISA), Ok(token));
    assert_eq!(bench.vault.check(bench.now, &mut bench.entropy).unwrap().findings, []);

    bench.rotate_by("custodian", "indexed", Class::Pan).unwrap();
    bench.rewrap();
    bench.now = bench.now.plus_seconds(DAY - 1);
    assert_eq!(bench.refused(2), Some(IN_USE), "an idempotency row may stand under it");
    bench.now = bench.now.plus_seconds(1);
    assert!(bench.refused(2).is_none());
}

#[test]
fn an_unreadable_record_keeps_its_key_alive() {
    let mut bench = Bench::unlimited();
    let token = bench.tokenize("indexed-checkout", VISA).unwrap().to_bytes();
    let (key, mut row) = bench.store.image().into_iter().find(|(key, _)| key.bytes() == token).unwrap();
    *row.value.last_mut().unwrap() ^= 1;
    bench.store.danger_set(key, Some(row));
    bench.rotate_by("custodian", "indexed", Class::Pan).unwrap();
    bench.rewrap();
    bench.now = bench.now.plus_seconds(DAY);
    assert_eq!(bench.refused(1), Some(IN_USE));
}

/// Rows of the tenant `indexed` of a space, as a backup of the store keeps them.
fn backup(bench: &Bench, space: Space) -> Vec<(Key, Row)> {
    let image = bench.store.image().into_iter();
    image.filter(|(key, _)| key.space() == space && key.tenant() == "indexed").collect()
}

#[test]
fn with_the_keys_of_today_an_old_backup_opens_nothing_that_was_erased() {
    let mut bench = Bench::unlimited();
    let digits: Vec<_> = (0..40).map(pan).collect();
    let tokens: Vec<_> =
        digits.iter().map(|digits| bench.tokenize("indexed-checkout", digits).unwrap()).collect();
    let (records, index) = (backup(&bench, Space::Record), backup(&bench, Space::Index));
    assert_eq!((records.len(), index.len()), (40, 40));
    tokens.iter().step_by(2).for_each(|token| bench.erase(*token).unwrap());
    bench.rotate_by("custodian", "indexed", Class::Pan).unwrap();
    bench.rewrap();
    bench.now = bench.now.plus_seconds(DAY);
    bench.destroy_by("custodian", "indexed", 1).unwrap();

    let tenant = TenantId::parse("indexed").unwrap();
    let keys = bench.vault.keys();
    for (key, row) in &records {
        let token = Token::from_bytes(key.bytes()).unwrap();
        let envelope = Envelope::from_bytes(&row.value).unwrap();
        assert!(keys.decrypted(&tenant, &token, &envelope).is_err(), "a record of the backup opens");
    }
    for digits in &digits {
        let today = keys.index_keys(&tenant, &card(digits));
        assert!(
            index.iter().all(|(row, _)| !today.contains(row)),
            "an index row of the backup is recognised"
        );
    }
    drop(keys);
    for (at, token) in tokens.iter().enumerate() {
        let opened = bench.detokenize("other-billing", *token, "settlement");
        let expected = if at % 2 == 0 { Err(Error::UnknownToken) } else { Ok(digits[at].clone()) };
        assert_eq!(opened, expected);
    }
}

#[test]
fn the_certificate_of_a_destruction_is_verified_with_the_public_key_alone() {
    let mut bench = Bench::unlimited();
    bench.tokenize("indexed-checkout", VISA).unwrap();
    bench.rotate_by("custodian", "indexed", Class::Pan).unwrap();
    bench.rewrap();
    bench.now = bench.now.plus_seconds(DAY);
    let DestroyedKey { receipt, entry, inclusion } =
        bench.destroy_by("custodian", "indexed", 1).ok().unwrap();
    let key = VerifierKey::new(bench.vault.origin().clone(), bench.vault.verifying_key());
    let head = key.verify(&inclusion.checkpoint).unwrap();
    let receipt = Receipt { leaf_hash: leaf_hash(&entry), ..receipt };
    assert!(receipt.verify(&head, &inclusion.hashes));
    let entry = Entry::from_bytes(&entry).unwrap();
    assert_eq!((entry.action, entry.key_version, entry.at), (Action::KeyDestroyed, 1, bench.now));
    assert_eq!(entry.tenant.unwrap().as_str(), "indexed");
}

#[test]
fn as_many_old_versions_are_kept_as_a_keyring_holds() {
    let mut bench = Bench::new();
    bench.vault.load_policy(unlimited_policy(), bench.now, &mut bench.entropy).unwrap();
    let most = u32::try_from(crate::limits::KEY_VERSIONS_MAX).unwrap();
    for version in 2..most {
        assert_eq!(bench.rotate_by("custodian", "shop", Class::Pan), Ok(version));
    }
    let before = bench.vault.keyring_generation();
    assert_eq!(bench.rotate_by("custodian", "shop", Class::Pan), Err(IN_USE));
    assert_eq!(bench.vault.keyring_generation(), before);
    bench.rewrap();
    bench.now = bench.now.plus_seconds(DAY);
    bench.destroy_by("custodian", "shop", 1).unwrap();
    assert_eq!(bench.rotate_by("custodian", "shop", Class::Pan), Ok(most));
}
