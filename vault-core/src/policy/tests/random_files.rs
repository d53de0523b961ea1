//! Random files: none makes the reader panic, and none that is accepted breaks what must always hold.

use proptest::prelude::*;

use super::{EVERY_ROLE, EXAMPLE};
use crate::policy::{Policy, Right, Rights, Role, Scope};

/// Words that reach every branch of the reader, and some that must not.
const WORDS: [&str; 42] = [
    "[vault]",
    "[[tenant]]",
    "[[purpose]]",
    "[[recipient]]",
    "[[principal]]",
    "id",
    "identity",
    "ca",
    "tenant",
    "role",
    "rights",
    "classes",
    "purposes",
    "recipients",
    "version",
    "text_sha256",
    "truncation",
    "one_token_per_value",
    "requests_per_minute",
    "distinct_tokens_per_day",
    "=",
    "[",
    "]",
    ",",
    "\n",
    "\"shop\"",
    "\"*\"",
    "\"pan\"",
    "\"ssn\"",
    "\"checkout\"",
    "\"billing\"",
    "\"custodian\"",
    "\"detokenize\"",
    "\"unseal\"",
    "\"settlement\"",
    "\"acquirer\"",
    "\"dns:a.example\"",
    "\"\u{0}é\"",
    "'''",
    "-1",
    "99999999999999999999",
    "true",
];

/// One of [`WORDS`].
fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&WORDS[..])
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        holds(&text);
    }

    #[test]
    fn no_sequence_of_policy_words_makes_the_reader_panic(words in prop::collection::vec(word(), 0..60)) {
        holds(&words.join(" "));
    }

    #[test]
    fn no_edit_of_a_good_file_makes_the_reader_panic_or_gives_too_much(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, word()), 1..4),
        example in any::<bool>(),
    ) {
        let mut text = if example { EXAMPLE } else { EVERY_ROLE }.to_owned();
        for (place, length, word) in edits {
            let start = place.index(text.len());
            let end = (start + length).min(text.len());
            text.replace_range(text.floor_char_boundary(start)..text.ceil_char_boundary(end), word);
        }
        holds(&text);
    }

    /// Every principal is put together from random choices, most of which contradict each other.
    #[test]
    fn no_random_principal_gets_what_its_role_forbids(
        role in prop::sample::select(&["checkout", "billing", "auditor", "custodian"][..]),
        tenant in prop::sample::select(&["shop", "bank", "*"][..]),
        rights in prop::sample::subsequence(&Right::ALL[..], 1..5),
        classes in prop::sample::subsequence(&["pan", "ssn"][..], 0..=2),
        purposes in prop::sample::subsequence(&["settlement", "tax-report", "dispute"][..], 0..=3),
        recipients in prop::sample::subsequence(&["acquirer", "tax-office"][..], 0..=2),
    ) {
        let rights: Vec<&str> = rights.into_iter().map(Right::as_str).collect();
        let list = |key: &str, list: &[&str]| {
            if list.is_empty() { String::new() } else { format!("{key} = {list:?}\n") }
        };
        let tables = EVERY_ROLE.split("[[principal]]").next().unwrap();
        holds(&format!(
            "{tables}[[principal]]\nid = 'a'\nidentity = 'dns:a.example'\ntenant = '{tenant}'\n\
             role = '{role}'\n{}{}{}{}",
            list("rights", &rights),
            list("classes", &classes),
            list("purposes", &purposes),
            list("recipients", &recipients),
        ));
    }
}

#[test]
fn deep_nesting_is_refused_and_does_not_exhaust_the_stack() {
    for open in ["[", "a = [", "a = {a=", "a.", "[a."] {
        holds(&open.repeat(200_000));
        holds(&format!("a = {}", open.repeat(200_000)));
    }
}

fn holds(text: &str) {
    let Ok(policy) = Policy::parse(text) else { return };
    for principal in policy.principals() {
        let rights = principal.rights();
        assert!(principal.role() != Role::Vault);
        assert!(rights.iter().all(|right| principal.role().permits().contains(right)), "{principal:?}");
        assert!(rights.iter().next().is_some(), "{principal:?}");
        if *principal.tenant() == Scope::All || matches!(principal.role(), Role::Auditor | Role::Custodian) {
            assert!(!rights.meets(Rights::OF_VALUES), "{principal:?}");
            assert!(principal.classes().is_empty() && principal.recipients().is_empty(), "{principal:?}");
        }
        if let Some(rules) = principal.tenant_rules() {
            assert!(principal.classes().iter().all(|class| rules.classes().contains(class)), "{principal:?}");
        }
        let found = principal.identity().and_then(|identity| policy.principal(identity)).unwrap();
        assert_eq!(found.id(), principal.id());
    }
}
