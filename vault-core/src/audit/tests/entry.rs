//! The entry's encoding: one entry, one encoding, and nothing else is accepted.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::{Action, Actor, Entry, LogFault, Outcome, leaf_hash};
use super::{bare_entry, full_entry};
use crate::clock::Timestamp;
use crate::data::{CallerText, Class, PrincipalId, PurposeId, RecipientId, TenantId, Token};
use crate::error::{CeremonyFault, Error, Exhausted, HsmFault, Invalid, State, Unavailable};

const NAME: &str = "[a-z0-9][a-z0-9-]{0,31}";
const TEXT: &str = "[A-Za-z._:/-]{1,64}";

fn classes() -> impl Strategy<Value = Class> {
    prop::sample::select(Class::ALL.to_vec())
}

fn actors() -> impl Strategy<Value = Actor> {
    prop_oneof![
        NAME.prop_map(|name| Actor::Principal(PrincipalId::parse(&name).unwrap())),
        any::<[u8; 32]>().prop_map(|identity_hash| Actor::Unknown { identity_hash }),
        Just(Actor::Vault),
    ]
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop::sample::select(all_outcomes())
}

/// Every outcome that has a code.
fn all_outcomes() -> Vec<Outcome> {
    (0..=u16::MAX).filter_map(|code| Outcome::from_code(code.to_be_bytes())).collect()
}

prop_compose! {
    fn who()(actor in actors(), tenant in prop::option::of(NAME), at in any::<u64>(), id in any::<[u8; 16]>())
        -> (Actor, Option<TenantId>, Timestamp, [u8; 16]) {
        (actor, tenant.map(|name| TenantId::parse(&name).unwrap()), Timestamp::from_micros(at), id)
    }
}

prop_compose! {
    fn record()(
        class in prop::option::of(classes()),
        token in prop::option::of((classes(), any::<[u8; 16]>(), any::<[u8; 4]>())),
        versions in any::<(u32, u8, u32, u32)>(),
        policy in any::<[u8; 8]>(),
    ) -> Entry {
        let (record_version, record_state, key_version, count) = versions;
        let token = token.map(|(class, bits, tag)| Token::from_parts(class, bits, tag));
        Entry { class, token, record_version, record_state, key_version, count, policy, ..bare_entry(0) }
    }
}

prop_compose! {
    fn entries()(
        (actor, tenant, at, id) in who(),
        record in record(),
        names in (prop::option::of(NAME), prop::option::of(NAME)),
        texts in (prop::option::of(TEXT), prop::option::of(TEXT)),
        action in prop::sample::select(Action::ALL),
        outcome in outcomes(),
    ) -> Entry {
        let text = |text: Option<String>| text.map(|text| CallerText::parse(&text).unwrap());
        Entry {
            actor,
            tenant,
            at,
            id,
            action,
            outcome,
            purpose: names.0.map(|name| PurposeId::parse(&name).unwrap()),
            recipient: names.1.map(|name| RecipientId::parse(&name).unwrap()),
            reference: text(texts.0),
            note: text(texts.1),
            ..record
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(entry in entries()) {
        let bytes = entry.to_bytes();
        prop_assert_eq!(bytes.len(), bytes.capacity(), "one exact allocation");
        prop_assert!(bytes.len() <= 334);
        prop_assert_eq!(Entry::from_bytes(&bytes), Ok(entry));
    }

    #[test]
    fn what_is_accepted_is_canonical(
        entry in entries(),
        place in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut bytes = entry.to_bytes();
        let place = place.index(bytes.len());
        bytes[place] = to;
        if let Ok(read) = Entry::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }
}

/// No bit of an entry is without meaning: a changed one is refused or says something else.
#[test]
fn every_flipped_bit_is_refused_or_says_something_else() {
    for entry in [full_entry(1), bare_entry(2)] {
        let bytes = entry.to_bytes();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[place] ^= 1 << bit;
                assert_ne!(leaf_hash(&flipped), leaf_hash(&bytes));
                if let Ok(read) = Entry::from_bytes(&flipped) {
                    assert_ne!(read, entry, "bit {bit} of byte {place}");
                    assert_eq!(read.to_bytes(), flipped);
                }
            }
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_refused() {
    let malformed = Err(LogFault::Corrupt("an audit entry is malformed"));
    for entry in [full_entry(1), bare_entry(2)] {
        let bytes = entry.to_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(Entry::from_bytes(&bytes[..cut]), malformed);
        }
        assert_eq!(Entry::from_bytes(&[&bytes[..], &[0]].concat()), malformed);
    }
}

#[test]
fn texts_that_could_not_be_written_are_refused() {
    let refused = |from: &str, to: &str| {
        let bytes = full_entry(1).to_bytes();
        let place = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        let mut changed = bytes.clone();
        changed[place..place + to.len()].copy_from_slice(to.as_bytes());
        assert_ne!(changed, bytes);
        assert!(Entry::from_bytes(&changed).is_err(), "{to}");
    };
    refused("acme", "ACME");
    refused("billing-1", "-illing-1");
    refused("refund", "ref nd");
    refused("bank", "ba\0k");
    refused("case/77-b", "case/77+b");
    refused("by:hand", "by:hän");
}

#[test]
fn a_principal_cannot_be_nameless() {
    let mut bytes = full_entry(1).to_bytes();
    let name = 52 + 20;
    assert_eq!(bytes[name], 9);
    bytes.drain(name + 1..name + 10);
    bytes[name] = 0;
    assert!(Entry::from_bytes(&bytes).is_err());
}

#[test]
fn codes_of_actions_never_change() {
    let actions: Vec<_> =
        (0..=u8::MAX).filter_map(|code| Some((code, Action::from_code(code)?.as_str()))).collect();
    assert_eq!(
        actions,
        [
            (1, "tokenize"),
            (2, "detokenize"),
            (3, "view"),
            (4, "view-bin"),
            (5, "compare"),
            (6, "find-by-value"),
            (7, "prove"),
            (8, "audit-read"),
            (9, "status"),
            (10, "unseal"),
            (11, "seal"),
            (12, "sweep"),
            (13, "check"),
            (14, "erase"),
            (15, "rewrap"),
            (16, "rotate-keys"),
            (17, "destroy-keys"),
            (32, "init"),
            (33, "unseal-refused"),
            (34, "policy-loaded"),
            (35, "anchor-accepted"),
            (36, "quota-summary"),
            (37, "log-opened"),
            (38, "store-moved"),
            (39, "stop"),
            (40, "self-seal"),
            (41, "key-introduced"),
            (42, "key-enabled"),
            (43, "key-destroyed"),
            (44, "log-registered"),
            (45, "log-retired"),
            (46, "key-announced"),
            (47, "keyring-taken"),
            (48, "ceremony-begun"),
            (49, "share-given"),
            (50, "ceremony-cancelled"),
            (51, "ceremony-expired"),
            (52, "reseal-begun"),
            (53, "resealed"),
        ]
    );
}

#[test]
fn codes_of_outcomes_never_change() {
    let outcomes: Vec<_> = all_outcomes()
        .into_iter()
        .filter(|outcome| !matches!(outcome, Outcome::Invalid(_) | Outcome::Ceremony(_) | Outcome::Hsm(_)))
        .map(|outcome| (outcome.code()[0], outcome.reason()))
        .collect();
    assert_eq!(
        outcomes,
        [
            (1, "DONE"),
            (2, "REPLAYED"),
            (3, "EXISTING"),
            (4, "GRANTED"),
            (16, "DENIED"),
            (17, "UNKNOWN_TOKEN"),
            (18, "QUOTA"),
            (20, "IDEMPOTENCY_KEY_REUSED"),
            (21, "NO_INDEX"),
            (22, "TOKEN_INACTIVE"),
            (23, "CORRUPT"),
            (24, "BUG"),
            (25, "KEY_EXPIRED"),
            (32, "WRONG_PASSPHRASE"),
            (33, "KEYRING_UNUSABLE"),
            (34, "UNSETTLED"),
        ]
    );
    assert_eq!(Outcome::Invalid(Invalid::PanLuhn).code(), [19, 2]);
    assert_eq!(Outcome::Invalid(Invalid::PassphraseLength).code(), [19, 19]);
    let ceremonies: Vec<_> = CeremonyFault::ALL.map(|fault| Outcome::Ceremony(fault).code()).to_vec();
    assert_eq!(ceremonies, (1..=12).map(|fault| [48, fault]).collect::<Vec<_>>());
    let hsm: Vec<_> = HsmFault::ALL.map(|fault| Outcome::Hsm(fault).code()).to_vec();
    assert_eq!(hsm, (1..=13).map(|fault| [49, fault]).collect::<Vec<_>>());
}

#[test]
fn every_code_leads_back() {
    for action in Action::ALL {
        assert_eq!(Action::from_code(action.code()), Some(*action));
    }
    for outcome in all_outcomes() {
        assert_eq!(Outcome::from_code(outcome.code()), Some(outcome));
    }
    let reasons: BTreeSet<_> = all_outcomes().into_iter().map(Outcome::reason).collect();
    assert_eq!(reasons.len(), all_outcomes().len(), "two outcomes have one reason");
}

/// The log says what the caller was told.
#[test]
fn refusals_keep_their_reason() {
    let logged = [
        Error::Invalid(Invalid::PanLuhn),
        Error::UnknownToken,
        Error::Denied,
        Error::Exhausted(Exhausted::Quota { retry_after_seconds: 9 }),
        Error::IdempotencyKeyReused,
        Error::State(State::NoIndex),
        Error::State(State::TokenInactive),
        Error::Ceremony(CeremonyFault::ShareWrong),
        Error::State(State::KeyExpired),
        Error::Corrupt,
        Error::Bug,
    ];
    for error in logged {
        let outcome = Outcome::of_refusal(&error).unwrap();
        assert_eq!(outcome.reason(), error.reason());
        assert!(!outcome.released());
    }
    let unlogged = [
        Error::Exhausted(Exhausted::Busy),
        Error::State(State::Sealed),
        Error::Unavailable(Unavailable::Store),
        Error::Unavailable(Unavailable::OutcomeUnknown),
        Error::DeadlineExceeded,
    ];
    assert!(unlogged.iter().all(|error| Outcome::of_refusal(error).is_none()));
}
