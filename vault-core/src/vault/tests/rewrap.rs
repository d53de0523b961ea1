//! Old records get the new key, whatever happens meanwhile.

use super::erase::unlimited_policy;
use super::rotation::DAY;
use super::*;
use crate::crypto::Envelope;
use crate::data::Class;
use crate::limits::REWRAP_ROWS_MAX;
use crate::vault::Closing;

/// More than two steps.
const RECORDS: u64 = 2 * REWRAP_ROWS_MAX as u64 + 100;

/// A bench whose vault has records of the plain and the indexed tenant under the first keys, then rotated.
fn rotated() -> (Bench, Vec<(Token, Vec<u8>)>) {
    let mut bench = Bench::unlimited();
    let mut stored = Vec::new();
    for number in 0..RECORDS {
        let digits = pan(number);
        let who = if number % 2 == 0 { "checkout" } else { "indexed-checkout" };
        stored.push((bench.tokenize(who, &digits).unwrap(), digits));
    }
    bench.now = bench.now.plus_seconds(90 * DAY);
    bench.vault.rotate_due(bench.now, &mut bench.entropy).unwrap();
    (bench, stored)
}

/// A number with a fitting check digit.
pub(super) fn pan(number: u64) -> Vec<u8> {
    let digits = format!("411111{number:09}");
    let candidates = (0..10).map(|check| format!("{digits}{check}").into_bytes());
    candidates.into_iter().find(|digits| crate::data::Pan::parse(digits).is_ok()).expect("one fits")
}

impl Bench {
    pub(super) fn rewrap(&mut self) -> usize {
        let mut steps = 0;
        while self.vault.rewrap_step(self.now, &mut self.entropy).unwrap().is_some() {
            steps += 1;
        }
        steps
    }

    /// Key versions in record headers and index keys.
    fn versions(&self) -> (Vec<u32>, Vec<u32>) {
        let (mut records, mut index) = (Vec::new(), Vec::new());
        for (key, row) in self.store.image() {
            match key.space() {
                Space::Record => {
                    records.push(Envelope::from_bytes(&row.value).unwrap().header().key_version);
                }
                Space::Index => {
                    index.push(u32::from_be_bytes(key.bytes()[1..5].try_into().unwrap()));
                }
                _ => {}
            }
        }
        (records, index)
    }

    /// The vault dies and opens again; its program kept the keys.
    fn die(self) -> Self {
        let Self { store, vault, mut entropy, now } = self;
        let keyring = vault.seal(&Closing::Stop, now, &mut entropy).keyring;
        let origin = Origin::parse("vault.test/one").unwrap();
        let policy = unlimited_policy();
        let vault = Vault::with_keyring(store.clone(), keyring, origin, policy, now, &mut entropy).unwrap();
        Self { store, vault, entropy, now }
    }

    fn proven(&self) -> bool {
        ["shop", "indexed"].into_iter().all(|tenant| {
            let tenant = TenantId::parse(tenant).unwrap();
            self.vault.rewrap_progress(&tenant, Class::Pan).unwrap().unwrap().is_proven()
        })
    }
}

#[test]
fn every_record_and_index_row_gets_the_new_key() {
    let (mut bench, stored) = rotated();
    assert!(bench.rewrap() > 6);
    let (records, index) = bench.versions();
    assert_eq!((records.len() as u64, index.len() as u64), (RECORDS, RECORDS / 2));
    assert!(records.iter().chain(&index).all(|version| *version == 2));
    assert!(bench.proven());
    for (at, (token, digits)) in stored.iter().enumerate() {
        let who = if at % 2 == 0 { "billing" } else { "other-billing" };
        assert_eq!(bench.detokenize(who, *token, "settlement").unwrap(), *digits);
        if at % 2 == 1 {
            assert_eq!(bench.tokenize("indexed-checkout", digits), Ok(*token), "no second token");
        }
    }
    assert_eq!(bench.vault.rewrap_step(bench.now, &mut bench.entropy), Ok(None), "nothing more is due");
    assert_eq!(bench.vault.check(bench.now, &mut bench.entropy).unwrap().findings, []);
}

#[test]
fn a_rewrap_goes_on_where_it_was_when_the_vault_died_and_calls_see_nothing_of_it() {
    let (mut bench, mut stored) = rotated();
    let mut fresh = RECORDS;
    for step in 0.. {
        if bench.vault.rewrap_step(bench.now, &mut bench.entropy).unwrap().is_none() {
            break;
        }
        bench = bench.die();
        // A value already known, a new one, and one that goes.
        let (token, digits) = stored[1].clone();
        assert_eq!(bench.tokenize("indexed-checkout", &digits), Ok(token), "step {step}");
        let digits = pan(fresh);
        stored.push((bench.tokenize("indexed-checkout", &digits).unwrap(), digits));
        fresh += 2;
        let (token, digits) = stored.swap_remove(2 + 2 * step);
        if stored.len() % 2 == 0 {
            assert!(bench.erase(token).is_ok());
            assert_ne!(bench.tokenize("checkout", &digits), Ok(token));
        }
    }
    assert!(bench.proven());
    let (records, index) = bench.versions();
    assert!(records.iter().chain(&index).all(|version| *version == 2));
    assert_eq!(bench.vault.check(bench.now, &mut bench.entropy).unwrap().findings, []);
}

#[test]
fn a_record_that_cannot_be_rewrapped_is_counted_and_keeps_its_key() {
    let (mut bench, stored) = rotated();
    let damaged = stored[0].0.to_bytes();
    let (key, mut row) = bench.store.image().into_iter().find(|(key, _)| key.bytes() == damaged).unwrap();
    *row.value.last_mut().unwrap() ^= 1;
    bench.store.danger_set(key, Some(row));
    bench.rewrap();
    let shop = TenantId::parse("shop").unwrap();
    let progress = bench.vault.rewrap_progress(&shop, Class::Pan).unwrap().unwrap();
    assert_eq!((progress.left, progress.is_proven()), (1, false));
    assert_eq!(progress.rewrapped, RECORDS / 2 - 1);
}

#[test]
fn a_damaged_row_of_progress_alarms_once_and_the_rewrap_begins_anew() {
    let (mut bench, _) = rotated();
    bench.vault.rewrap_step(bench.now, &mut bench.entropy).unwrap();
    let mut image = bench.store.image().into_iter();
    let (key, mut row) = image.find(|(key, _)| key.bytes().starts_with(b"rewrap")).unwrap();
    row.value[9] ^= 1;
    bench.store.danger_set(key, Some(row));
    assert_eq!(bench.vault.rewrap_step(bench.now, &mut bench.entropy), Err(Error::Corrupt));
    assert!(bench.rewrap() > 6, "nobody else waits for it");
    assert!(bench.proven());
}

#[test]
fn another_rotation_begins_another_rewrap() {
    let (mut bench, _) = rotated();
    bench.vault.rewrap_step(bench.now, &mut bench.entropy).unwrap();
    bench.now = bench.now.plus_seconds(90 * DAY);
    bench.vault.rotate_due(bench.now, &mut bench.entropy).unwrap();
    bench.rewrap();
    let (records, index) = bench.versions();
    assert!(records.iter().chain(&index).all(|version| *version == 3));
    assert!(bench.proven());
}
