//! Every decision against a table written by hand.

use std::collections::BTreeSet;
use std::ptr;
use std::sync::Arc;

use super::{EVERY_ROLE, every_role, named, principal};
use crate::data::{CallerText, Class};
use crate::policy::{Ask, Because, Denied, Grant, Policy, Principal, Right, Role, Scope};

/// Everything that [`EVERY_ROLE`] allows. A line stands for each combination of its alternatives; `-` is "not
/// given". What no line says is refused.
///
/// who        | rights                               | class   | purpose            | recipient    |
/// reference
const ALLOWED: &str = "
   checkout   | tokenize find-by-value               | pan     | - settlement       | -            | - given
   checkout   | tokenize find-by-value               | ssn     | -                  | -            | - given
   checkout   | prove                                | - pan   | - settlement       | -            | - given
   checkout   | prove                                | ssn     | -                  | -            | - given

   billing    | detokenize                           | pan     | settlement dispute | acquirer     | given
   billing    | detokenize                           | ssn     | dispute            | acquirer     | given
   billing    | detokenize                           | ssn     | tax-report         | tax-office   | given
   billing    | view view-bin compare find-by-value  | pan ssn | -                  | -            | - given
   billing    | view view-bin compare find-by-value  | pan     | settlement dispute | - acquirer   | - given
   billing    | view view-bin compare find-by-value  | ssn     | dispute            | - acquirer   | - given
   billing    | view view-bin compare find-by-value  | ssn     | tax-report         | - tax-office | - given
   billing    | prove                                | - pan ssn | -                | -            | - given
   billing    | prove                                | - pan   | settlement dispute | - acquirer   | - given
   billing    | prove                                | - ssn   | tax-report         | - tax-office | - given
   billing    | prove                                | ssn     | dispute            | - acquirer   | - given

   cards-only | detokenize                           | pan     | dispute            | acquirer     | given
   cards-only | view                                 | pan     | -                  | -            | - given
   cards-only | view                                 | pan     | dispute            | - acquirer   | - given

   care       | view compare                         | pan ssn | -                  | -            | - given
   care       | erase                                | pan ssn | -                  | -            | given
   care       | prove                                | - pan ssn | -                | -            | - given

   auditor    | audit-read prove status              | -       | -                  | -            | - given
   custodian  | status unseal seal                   | -       | -                  | -            | - given
   vault      | sweep check rewrap                   | - pan ssn | -                | -            | - given
";

const WHO: [&str; 8] =
    ["checkout", "billing", "cards-only", "care", "auditor", "custodian", "vault", "stranger"];
const RIGHTS: [&str; 15] = [
    "tokenize",
    "detokenize",
    "view",
    "view-bin",
    "compare",
    "find-by-value",
    "prove",
    "audit-read",
    "status",
    "unseal",
    "seal",
    "sweep",
    "check",
    "erase",
    "rewrap",
];
const CLASSES: [&str; 3] = ["-", "pan", "ssn"];
/// Listed, known to the policy but listed by nobody, unknown, and not even a name.
const PURPOSES: [&str; 7] =
    ["-", "settlement", "tax-report", "dispute", "research", "unheard-of", "Dispute *"];
const RECIPIENTS: [&str; 6] = ["-", "acquirer", "tax-office", "institute", "unheard-of", ""];
const REFERENCES: [&str; 2] = ["-", "given"];

/// Who, right, class, purpose, recipient, reference.
type Combination = [&'static str; 6];

fn allowed_by_hand() -> BTreeSet<Combination> {
    let mut allowed = BTreeSet::new();
    for line in ALLOWED.lines().filter(|line| !line.trim().is_empty()) {
        let alternatives: Vec<Vec<&'static str>> =
            line.split('|').map(|cell| cell.split_whitespace().collect()).collect();
        product(&alternatives, |combination| {
            assert!(allowed.insert(combination), "twice in the table: {combination:?}");
        });
    }
    allowed
}

fn product(alternatives: &[Vec<&'static str>], mut each: impl FnMut(Combination)) {
    assert_eq!(alternatives.len(), 6);
    for who in &alternatives[0] {
        for right in &alternatives[1] {
            for class in &alternatives[2] {
                for purpose in &alternatives[3] {
                    for recipient in &alternatives[4] {
                        for reference in &alternatives[5] {
                            each([who, right, class, purpose, recipient, reference]);
                        }
                    }
                }
            }
        }
    }
}

fn every_combination(each: impl FnMut(Combination)) {
    let all: [&[&'static str]; 6] = [&WHO, &RIGHTS, &CLASSES, &PURPOSES, &RECIPIENTS, &REFERENCES];
    product(&all.map(<[_]>::to_vec), each);
}

fn ask<'a>([_, right, class, purpose, recipient, reference]: [&'a str; 6]) -> Ask<'a> {
    Ask {
        right: Right::parse(right).unwrap(),
        class: Class::ALL.into_iter().find(|known| known.as_str() == class),
        purpose: (purpose != "-").then_some(purpose),
        recipient: (recipient != "-").then_some(recipient),
        reference: (reference != "-").then(|| CallerText::parse("order-7").unwrap()),
    }
}

fn who(policy: &Policy, name: &str) -> Option<Arc<Principal>> {
    match name {
        "stranger" => None,
        "vault" => Some(Arc::clone(policy.vault_itself())),
        name => Some(named(policy, name)),
    }
}

#[test]
fn every_combination_is_decided_as_the_table_says() {
    let policy = every_role();
    let mut allowed = allowed_by_hand();
    let (mut granted, mut denied) = (0, 0);
    every_combination(|combination| {
        let caller = who(&policy, combination[0]);
        let outcome = policy.decide(caller.as_ref(), ask(combination));
        if allowed.remove(&combination) {
            granted += 1;
            says_what_was_asked(&outcome.unwrap_or_else(|_| panic!("refused: {combination:?}")), combination);
        } else {
            denied += 1;
            let refusal = outcome.err().unwrap_or_else(|| panic!("granted: {combination:?}"));
            names_only_what_policy_knows(&refusal, combination);
        }
    });
    assert_eq!(allowed, BTreeSet::new(), "lines of the table that were never asked");
    assert_eq!((granted, granted + denied), (193, 8 * 15 * 3 * 7 * 6 * 2));
}

fn says_what_was_asked(grant: &Grant, [who, right, class, purpose, recipient, reference]: Combination) {
    let shown = |text: Option<&'static str>| text.unwrap_or("-");
    assert_eq!(grant.principal().id().as_str(), who);
    assert_eq!(grant.right().as_str(), right);
    assert_eq!(shown(grant.class().map(Class::as_str)), class);
    assert_eq!(grant.purpose().map_or("-", |id| id.as_str()), purpose);
    assert_eq!(grant.recipient().map_or("-", |id| id.as_str()), recipient);
    assert_eq!(grant.reference().map_or("-", |_| "given"), reference);
    let tenant = match who {
        "custodian" | "vault" => None,
        "cards-only" => Some("bank"),
        _ => Some("shop"),
    };
    assert_eq!(grant.tenant().map(|id| id.as_str()), tenant);
    assert_eq!(grant.tenant_rules().map(|rules| rules.id().as_str()), tenant);
    assert_eq!(*grant.policy_hash(), every_role().hash());
}

fn names_only_what_policy_knows(refusal: &Denied, [who, right, _, purpose, recipient, _]: Combination) {
    let known_purposes = ["settlement", "tax-report", "dispute", "research"];
    let known_recipients = ["acquirer", "tax-office", "institute"];
    assert_eq!(refusal.principal().map_or("stranger", |id| id.as_str()), who);
    assert_eq!(refusal.right().as_str(), right);
    let expected = known_purposes.contains(&purpose).then_some(purpose);
    assert_eq!(refusal.purpose().map(|id| id.as_str()), expected);
    let expected = known_recipients.contains(&recipient).then_some(recipient);
    assert_eq!(refusal.recipient().map(|id| id.as_str()), expected);
    assert_eq!(refusal.to_string(), "the policy does not allow this request");
}

#[test]
fn a_refusal_names_the_first_rule_that_was_broken() {
    let policy = every_role();
    let because = |combination: Combination| {
        policy.decide(who(&policy, combination[0]).as_ref(), ask(combination)).unwrap_err().because()
    };
    let cases: [(Combination, Because); 12] = [
        (["stranger", "tokenize", "pan", "-", "-", "-"], Because::Stranger),
        (["checkout", "detokenize", "pan", "settlement", "acquirer", "given"], Because::Right),
        (["cards-only", "compare", "pan", "-", "-", "-"], Because::Right),
        (["checkout", "tokenize", "-", "-", "-", "-"], Because::Class),
        (["cards-only", "view", "ssn", "-", "-", "-"], Because::Class),
        (["custodian", "status", "pan", "-", "-", "-"], Because::Class),
        (["billing", "detokenize", "pan", "-", "acquirer", "given"], Because::Purpose),
        (["billing", "detokenize", "ssn", "settlement", "acquirer", "given"], Because::Purpose),
        (["billing", "view", "pan", "-", "acquirer", "-"], Because::Purpose),
        (["billing", "detokenize", "pan", "settlement", "-", "given"], Because::Recipient),
        (["billing", "detokenize", "pan", "settlement", "tax-office", "given"], Because::Recipient),
        (["billing", "detokenize", "pan", "settlement", "acquirer", "-"], Because::Reference),
    ];
    for (combination, expected) in cases {
        assert_eq!(because(combination), expected, "{combination:?}");
    }
}

/// A role permits, but only the list gives: with one right listed, no other is granted.
#[test]
fn each_right_alone_gives_only_itself() {
    let by_hand = [
        ("checkout", "tokenize find-by-value prove"),
        ("billing", "detokenize view view-bin compare find-by-value prove"),
        ("auditor", "audit-read prove status"),
        ("custodian", "status unseal seal"),
    ];
    for (role, permitted) in by_hand {
        for right in RIGHTS {
            let parsed = Policy::parse(&one_right(role, right));
            if permitted.split(' ').any(|word| word == right) {
                gives_only(&parsed.unwrap(), right);
            } else {
                assert_eq!(parsed.unwrap_err().path(), "principal[0].rights[0]", "{role} {right}");
            }
        }
    }
}

fn one_right(role: &str, right: &str) -> String {
    let of_values =
        ["tokenize", "detokenize", "view", "view-bin", "compare", "find-by-value", "erase"].contains(&right);
    let classes = if of_values { "classes = ['pan']\npurposes = ['settlement']" } else { "" };
    let recipients = if right == "detokenize" { "recipients = ['acquirer']" } else { "" };
    let tables_without_principals = EVERY_ROLE.split("[[principal]]").next().unwrap();
    format!(
        "{tables_without_principals}
        [[principal]]
        id = 'one'
        identity = 'dns:one.example'
        tenant = 'shop'
        role = '{role}'
        rights = ['{right}']
        {classes}
        {recipients}"
    )
}

fn gives_only(policy: &Policy, listed: &str) {
    let caller = principal(policy, "dns:one.example");
    for right in Right::ALL {
        let granted = [None, Some(Class::Pan), Some(Class::Ssn)].into_iter().any(|class| {
            let names: [Option<&str>; 2] = if right == Right::Detokenize {
                [Some("settlement"), Some("acquirer")]
            } else {
                [None, None]
            };
            let reference = CallerText::parse("order-7").ok();
            let ask = Ask { right, class, purpose: names[0], recipient: names[1], reference };
            policy.decide(Some(&caller), ask).is_ok()
        });
        assert_eq!(granted, right.as_str() == listed, "{} with only {listed} listed", right.as_str());
    }
}

#[test]
fn the_vault_itself_can_return_no_value_and_no_certificate_leads_to_it() {
    let policy = every_role();
    let vault = policy.vault_itself();
    let rights: Vec<&str> = vault.rights().iter().map(Right::as_str).collect();
    assert_eq!(rights, ["sweep", "check", "rewrap"]);
    assert_eq!((vault.role(), vault.identity(), vault.tenant()), (Role::Vault, None, &Scope::All));
    assert!(policy.principals().iter().all(|principal| principal.role() != Role::Vault));
}

#[test]
fn a_grant_shares_the_names_of_the_policy_instead_of_copying_them() {
    let policy = every_role();
    let billing = named(&policy, "billing");
    let asked = ["billing", "detokenize", "pan", "settlement", "acquirer", "given"];
    let grant = policy.decide(Some(&billing), ask(asked)).unwrap();
    assert!(Arc::ptr_eq(grant.principal(), &billing));
    let shared = billing.purposes().find(|id| id.as_str() == "settlement").unwrap();
    assert!(ptr::eq(grant.purpose().unwrap().as_str(), shared.as_str()));
    assert!(ptr::eq(grant.recipient().unwrap().as_str(), billing.recipients()[0].as_str()));
}

#[test]
fn a_reload_takes_rights_away_from_principals_resolved_before_it() {
    let before = every_role();
    let billing = named(&before, "billing");
    let asked = ["billing", "compare", "pan", "-", "-", "-"];
    assert!(before.decide(Some(&billing), ask(asked)).is_ok());

    let without_compare = Policy::parse(&EVERY_ROLE.replace("\"compare\", ", "")).unwrap();
    let refusal = without_compare.decide(Some(&billing), ask(asked)).unwrap_err();
    assert_eq!(refusal.because(), Because::Right);
    let asked = ["billing", "view", "pan", "-", "-", "-"];
    let grant = without_compare.decide(Some(&billing), ask(asked)).unwrap();
    assert_eq!(*grant.policy_hash(), without_compare.hash());
    assert!(!grant.principal().rights().contains(Right::Compare));

    let without_billing = Policy::parse(&EVERY_ROLE.replace("billing.shop.example", "other.shop.example"));
    let refusal = without_billing.unwrap().decide(Some(&billing), ask(asked)).unwrap_err();
    assert_eq!((refusal.because(), refusal.principal()), (Because::Stranger, None));

    let vault = Arc::clone(before.vault_itself());
    assert!(without_compare.decide(Some(&vault), Ask::to(Right::Sweep)).is_ok());
}
