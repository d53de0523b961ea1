//! Which files are refused, under which path.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::{EVERY_ROLE, EXAMPLE, every_role, named};
use crate::crypto::sha256;
use crate::data::Truncation;
use crate::data::{Class, TenantId};
use crate::limits::POLICY_BYTES_MAX;
use crate::policy::{Classes, Policy, Problem, Quota, Role, Scope};

#[test]
fn the_example_of_the_documentation_loads() {
    let policy = Policy::parse(EXAMPLE).unwrap();
    assert_eq!(policy.hash(), sha256(&[EXAMPLE.as_bytes()]));
    assert_eq!(policy.quota(), quota(Some(600_000), Some(2_000_000)));
    let shop = policy.tenant(&TenantId::parse("shop").unwrap()).unwrap();
    assert_eq!(policy.tenants().count(), 1);
    assert_eq!((shop.classes(), shop.one_token_per_value()), (Classes::ALL, false));
    assert_eq!(
        (shop.truncation(), shop.quota()),
        (Truncation::LastFour, quota(Some(300_000), Some(1_000_000)))
    );

    let billing = named(&policy, "billing");
    assert_eq!((billing.role(), billing.tenant()), (Role::Billing, &Scope::One(shop.id().clone())));
    assert_eq!(billing.classes().iter().collect::<Vec<_>>(), [Class::Pan]);
    assert_eq!(billing.quota(), quota(Some(6_000), Some(20_000)));
    assert_eq!(billing.requests_per_minute(), Some(6_000));
    assert_eq!(billing.distinct_tokens_per_day(), Some(20_000));
    let roles: Vec<Role> = policy.principals().iter().map(|principal| principal.role()).collect();
    let expected =
        [Role::Checkout, Role::Billing, Role::Billing, Role::CustomerService, Role::Auditor, Role::Custodian];
    assert_eq!(roles, expected);
}

#[test]
fn what_may_be_left_out_has_the_stricter_meaning() {
    let policy = every_role();
    let shop = policy.tenant(&TenantId::parse("shop").unwrap()).unwrap();
    assert_eq!((shop.one_token_per_value(), shop.truncation()), (false, Truncation::LastFour));
    assert_eq!(policy.quota(), Quota::default());
    assert_eq!(named(&policy, "auditor").classes(), Classes::NONE);
    let dispute = policy.purpose("dispute").unwrap();
    assert_eq!((dispute.version(), dispute.text_sha256()[31]), (3, 0xaa));
}

fn quota(requests_per_minute: Option<u32>, distinct_tokens_per_day: Option<u32>) -> Quota {
    Quota { requests_per_minute, distinct_tokens_per_day }
}

/// One edit of [`EVERY_ROLE`]: what is replaced (its first occurrence), by what, and the refusal.
type Case = (&'static str, &'static str, &'static str, Problem);

fn assert_refused(cases: &[Case]) {
    for (old, new, path, problem) in cases {
        assert!(EVERY_ROLE.contains(old), "not in the base policy: {old}");
        let refused = match Policy::parse(&EVERY_ROLE.replacen(old, new, 1)) {
            Ok(_) => panic!("accepted: {old} -> {new}"),
            Err(refused) => refused,
        };
        assert_eq!((refused.path(), refused.problem()), (*path, *problem), "{old} -> {new}");
        assert_eq!(refused.to_string(), format!("{path}: {problem}"));
    }
}

#[test]
fn unknown_keys_are_refused_under_their_path() {
    let unknown = Problem::UnknownKey;
    assert_refused(&[
        ("[[tenant]]", "enabled = true\n[[tenant]]", "enabled", unknown),
        ("[[tenant]]", "[[administrator]]\nid = 'a'\n[[tenant]]", "administrator", unknown),
        ("[[tenant]]", "[vault]\nrequests_per_second = 1\n[[tenant]]", "vault.requests_per_second", unknown),
        ("id = \"shop\"", "id = \"shop\"\nindex = true", "tenant[0].index", unknown),
        ("id = \"tax-report\"", "id = \"tax-report\"\ntext = 'x'", "purpose[1].text", unknown),
        ("id = \"acquirer\"", "id = \"acquirer\"\nclasses = ['pan']", "recipient[0].classes", unknown),
        ("id = \"billing\"", "id = \"billing\"\npurpose = 'settlement'", "principal[1].purpose", unknown),
        ("id = \"billing\"", "id = \"billing\"\nID = 'settlement'", "principal[1].ID", unknown),
    ]);
}

#[test]
fn wrong_types_and_broken_toml_are_refused() {
    let wrong = Problem::WrongType;
    assert_refused(&[
        ("[[tenant]]", "vault = 7\n[[tenant]]", "vault", wrong),
        ("id = \"shop\"", "id = 7", "tenant[0].id", wrong),
        ("id = \"shop\"", "id = 'shop'\none_token_per_value = 'yes'", "tenant[0].one_token_per_value", wrong),
        ("version = 2", "version = -2", "purpose[1].version", wrong),
        ("version = 2", "version = 4_294_967_296", "purpose[1].version", wrong),
        ("version = 2", "version = 2.0", "purpose[1].version", wrong),
        ("rights = [\"tokenize\"", "rights = [1", "principal[0].rights[0]", wrong),
        ("purposes = [\"tax-report\"]", "purposes = 'tax-report'", "recipient[1].purposes", wrong),
        ("id = \"shop\"", "id = \"shop", "policy", Problem::NotToml { line: 3 }),
        ("id = \"shop\"", "id = \"shop\"\nid = \"shop\"", "policy", Problem::NotToml { line: 4 }),
        ("[[tenant]]", "[tenant]", "policy", Problem::NotToml { line: 6 }),
    ]);
}

#[test]
fn missing_and_empty_keys_are_refused() {
    let (missing, empty) = (Problem::Missing, Problem::Empty);
    assert_refused(&[
        ("id = \"shop\"\n", "", "tenant[0].id", missing),
        ("classes = [\"pan\", \"ssn\"]\n", "", "tenant[0].classes", missing),
        ("classes = [\"pan\", \"ssn\"]\n", "classes = []\n", "tenant[0].classes", empty),
        ("id = \"tax-report\"\n", "", "purpose[1].id", missing),
        ("version = 2\n", "", "purpose[1].version", missing),
        ("version = 2\n", "version = 0\n", "purpose[1].version", empty),
        ("classes = [\"ssn\"]\n", "", "purpose[1].classes", missing),
        ("id = \"acquirer\"\n", "", "recipient[0].id", missing),
        ("purposes = [\"tax-report\"]\n", "", "recipient[1].purposes", missing),
        ("purposes = [\"tax-report\"]\n", "purposes = []\n", "recipient[1].purposes", empty),
        ("id = \"checkout\"\n", "", "principal[0].id", missing),
        ("identity = \"uri:spiffe://shop/checkout\"\n", "", "principal[0].identity", missing),
        ("tenant = \"shop\"\n", "", "principal[0].tenant", missing),
        ("role = \"checkout\"\n", "", "principal[0].role", missing),
        ("rights = [\"status\", \"unseal\", \"seal\"]", "", "principal[5].rights", missing),
        ("rights = [\"status\", \"unseal\", \"seal\"]", "rights = []", "principal[5].rights", empty),
        ("classes = [\"pan\", \"ssn\"]\npurposes = [\"settlement\"]\n", "", "principal[0].classes", missing),
        ("purposes = [\"dispute\"]\n", "", "principal[2].purposes", missing),
        ("purposes = [\"dispute\"]\n", "purposes = []\n", "principal[2].purposes", empty),
        ("recipients = [\"acquirer\"]\n", "", "principal[2].recipients", missing),
        ("recipients = [\"acquirer\"]\n", "recipients = []\n", "principal[2].recipients", empty),
    ]);
    let only_tenants = EVERY_ROLE.split("[[principal]]").next().unwrap();
    assert_eq!(Policy::parse(only_tenants).unwrap_err().to_string(), "principal: is missing");
    assert_eq!(Policy::parse("").unwrap_err().to_string(), "tenant: is missing");
    let digest = EVERY_ROLE.replacen("text_sha256", "# text_sha256", 1);
    assert_eq!(Policy::parse(&digest).unwrap_err().to_string(), "purpose[0].text_sha256: is missing");
}

#[test]
fn limits_of_zero_are_refused_everywhere() {
    let keys = ["requests_per_minute", "distinct_tokens_per_day"];
    for key in keys {
        for (old, table) in [("id = \"shop\"", "tenant[0]"), ("id = \"billing\"", "principal[1]")] {
            let text = EVERY_ROLE.replacen(old, &format!("{old}\n{key} = 0"), 1);
            let refused = Policy::parse(&text).unwrap_err();
            assert_eq!((refused.path(), refused.problem()), (&*format!("{table}.{key}"), Problem::Empty));
        }
        let refused = Policy::parse(&format!("[vault]\n{key} = 0\n{EVERY_ROLE}")).unwrap_err();
        assert_eq!((refused.path(), refused.problem()), (&*format!("vault.{key}"), Problem::Empty));
    }
}

#[test]
fn words_outside_the_vocabulary_are_refused() {
    let classes = Problem::NotOneOf("pan, ssn");
    let truncations = Problem::NotOneOf("last-four, bin-last-four");
    let roles = Problem::NotOneOf("checkout, billing, customer-service, auditor, custodian");
    let name = Problem::Name(crate::data::NameError);
    let identity = Problem::Identity(crate::policy::IdentityError);
    assert_refused(&[
        ("id = \"shop\"", "id = \"Shop\"", "tenant[0].id", name),
        ("id = \"shop\"", "id = \"*\"", "tenant[0].id", name),
        ("id = \"shop\"", "id = \"\"", "tenant[0].id", name),
        ("id = \"shop\"", "id = \"a23456789012345678901234567890123\"", "tenant[0].id", name),
        ("id = \"tax-report\"", "id = \"tax report\"", "purpose[1].id", name),
        ("id = \"acquirer\"", "id = \"-acquirer\"", "recipient[0].id", name),
        ("id = \"billing\"", "id = \"billing.1\"", "principal[1].id", name),
        ("id = \"billing\"", "id = \"vault\"", "principal[1].id", Problem::ReservedName),
        ("[\"pan\", \"ssn\"]", "[\"pan\", \"card\"]", "tenant[0].classes[1]", classes),
        ("[\"ssn\"]", "[\"SSN\"]", "purpose[1].classes[0]", classes),
        ("id = \"shop\"", "id = \"shop\"\ntruncation = \"none\"", "tenant[0].truncation", truncations),
        ("role = \"checkout\"", "role = \"administrator\"", "principal[0].role", roles),
        ("role = \"checkout\"", "role = \"vault\"", "principal[0].role", roles),
        ("00000001\"", "0000000\"", "purpose[0].text_sha256", Problem::NotASha256),
        ("00000001\"", "000000012\"", "purpose[0].text_sha256", Problem::NotASha256),
        ("00000001\"", "+0000001\"", "purpose[0].text_sha256", Problem::NotASha256),
        ("00000001\"", "00000éx\"", "purpose[0].text_sha256", Problem::NotASha256),
        ("\"uri:spiffe://shop/checkout\"", "\"checkout\"", "principal[0].identity", identity),
        ("\"dns:billing.shop.example\"", "\"dns:*.shop.example\"", "principal[1].identity", identity),
        ("tenant = \"bank\"", "tenant = \"bank\"\nca = \"Bank CA\"", "principal[2].ca", name),
        ("tenant = \"bank\"", "tenant = \"bank\"\nca = \"\"", "principal[2].ca", name),
    ]);
    let rights = EVERY_ROLE.replacen("\"tokenize\"", "\"reveal\"", 1);
    let refused = Policy::parse(&rights).unwrap_err();
    assert_eq!(refused.path(), "principal[0].rights[0]");
    assert!(refused.to_string().contains("is not one of tokenize, detokenize, view"), "{refused}");
}

#[test]
fn doubles_are_refused() {
    let (taken, twice) = (Problem::NameTaken, Problem::ListedTwice);
    let identity = Problem::IdentityTaken;
    assert_refused(&[
        ("id = \"bank\"", "id = \"shop\"", "tenant[1].id", taken),
        ("id = \"tax-report\"", "id = \"settlement\"", "purpose[1].id", taken),
        ("id = \"tax-office\"", "id = \"acquirer\"", "recipient[1].id", taken),
        ("id = \"auditor\"", "id = \"checkout\"", "principal[4].id", taken),
        ("[\"pan\", \"ssn\"]", "[\"pan\", \"pan\"]", "tenant[0].classes[1]", twice),
        ("[\"status\", \"unseal\"", "[\"status\", \"status\"", "principal[5].rights[1]", twice),
        (
            "[\"tax-office\", \"acquirer\"]",
            "[\"acquirer\", \"acquirer\"]",
            "principal[1].recipients[1]",
            twice,
        ),
        ("spiffe://shop/custodian", "spiffe://shop/auditor", "principal[5].identity", identity),
        ("dns:cards.bank.example", "dns:BILLING.shop.example", "principal[2].identity", identity),
    ]);
}

#[test]
fn one_name_under_the_same_or_any_ca_is_refused() {
    let shared = EVERY_ROLE.replace("dns:cards.bank.example", "dns:billing.shop.example");
    let with = |billing: &str, cards: &str| {
        let text = shared
            .replacen("role = \"billing\"", &format!("role = \"billing\" # first\n{billing}"), 1)
            .replacen("role = \"billing\"\n", &format!("role = \"billing\"\n{cards}\n"), 1);
        Policy::parse(&text).map(|_| ()).map_err(|refused| (refused.path().to_owned(), refused.problem()))
    };
    let refused = Err(("principal[2].identity".to_owned(), Problem::IdentityTaken));
    assert_eq!(with("", ""), refused);
    assert_eq!(with("ca = 'a'", ""), refused);
    assert_eq!(with("", "ca = 'a'"), refused);
    assert_eq!(with("ca = 'a'", "ca = 'a'"), refused);
    assert_eq!(with("ca = 'a'", "ca = 'b'"), Ok(()));
}

#[test]
fn names_that_nothing_declares_are_refused() {
    assert_refused(&[
        ("tenant = \"bank\"", "tenant = \"mall\"", "principal[2].tenant", Problem::UnknownTenant),
        ("tenant = \"bank\"", "tenant = \"\"", "principal[2].tenant", Problem::UnknownTenant),
        (
            "purposes = [\"tax-report\"]",
            "purposes = [\"tax\"]",
            "recipient[1].purposes[0]",
            Problem::UnknownPurpose,
        ),
        (
            "purposes = [\"dispute\"]",
            "purposes = [\"*\"]",
            "principal[2].purposes[0]",
            Problem::UnknownPurpose,
        ),
        (
            "recipients = [\"acquirer\"]",
            "recipients = [\"a\"]",
            "principal[2].recipients[0]",
            Problem::UnknownRecipient,
        ),
    ]);
}

#[test]
fn contradictions_are_refused() {
    assert_refused(&[
        // Only those who never touch a value act for all tenants.
        (
            "tenant = \"shop\"\nrole = \"checkout\"",
            "tenant = \"*\"\nrole = \"checkout\"",
            "principal[0].tenant",
            Problem::NotForAllTenants,
        ),
        (
            "tenant = \"shop\"\nrole = \"billing\"",
            "tenant = \"*\"\nrole = \"billing\"",
            "principal[1].tenant",
            Problem::NotForAllTenants,
        ),
        // Rights within the role, classes within the tenant's.
        ("\"seal\"]", "\"detokenize\"]", "principal[5].rights[2]", Problem::OutsideRole),
        ("\"seal\"]", "\"view\"]", "principal[5].rights[2]", Problem::OutsideRole),
        ("\"audit-read\", ", "\"compare\", ", "principal[4].rights[0]", Problem::OutsideRole),
        ("\"tokenize\", ", "\"detokenize\", ", "principal[0].rights[0]", Problem::OutsideRole),
        ("\"detokenize\", ", "\"sweep\", ", "principal[1].rights[0]", Problem::OutsideRole),
        (
            "tenant = \"shop\"\nrole = \"billing\"",
            "tenant = \"bank\"\nrole = \"billing\"",
            "principal[1].classes[1]",
            Problem::OutsideTenant,
        ),
        // Purposes, recipients and classes allow each other.
        (
            "purposes = [\"dispute\"]",
            "purposes = [\"tax-report\", \"dispute\"]",
            "principal[2].purposes[0]",
            Problem::PurposeWithoutClass,
        ),
        (
            "recipients = [\"tax-office\", \"acquirer\"]",
            "recipients = [\"acquirer\"]",
            "principal[1].purposes[0]",
            Problem::PurposeWithoutRecipient,
        ),
        (
            "recipients = [\"acquirer\"]",
            "recipients = [\"acquirer\", \"tax-office\"]",
            "principal[2].recipients[1]",
            Problem::RecipientWithoutPurpose,
        ),
    ]);
}

#[test]
fn keys_that_could_have_no_effect_are_refused() {
    let without = Problem::WithoutEffect;
    assert_refused(&[
        ("role = \"auditor\"", "role = \"auditor\"\nclasses = ['pan']", "principal[4].classes", without),
        (
            "role = \"auditor\"",
            "role = \"auditor\"\npurposes = ['dispute']",
            "principal[4].purposes",
            without,
        ),
        (
            "role = \"custodian\"",
            "role = \"custodian\"\nrecipients = ['acquirer']",
            "principal[5].recipients",
            without,
        ),
        (
            "role = \"custodian\"",
            "role = \"custodian\"\ndistinct_tokens_per_day = 1",
            "principal[5].distinct_tokens_per_day",
            without,
        ),
        (
            "role = \"checkout\"",
            "role = \"checkout\"\nrecipients = ['acquirer']",
            "principal[0].recipients",
            without,
        ),
    ]);
}

#[test]
fn every_table_and_list_is_bounded() {
    let too_many = |max| Problem::TooMany { max };
    let many = |table: fn(usize) -> String, count| (0..count).map(table).collect::<String>();
    let tenants = many(|n| format!("[[tenant]]\nid = 't{n}'\nclasses = ['pan']\n"), 257);
    let purposes = many(
        |n| format!("[[purpose]]\nid = 'p{n}'\nversion = 1\nclasses = ['pan']\ntext_sha256 = '{:064}'\n", 0),
        1_001,
    );
    let recipients = many(|n| format!("[[recipient]]\nid = 'r{n}'\npurposes = ['dispute']\n"), 1_001);
    let principals = many(|n| format!("[[principal]]\nid = 'x{n}'\n"), 10_001);
    for (tables, path, max) in [
        (&tenants, "tenant", 256),
        (&purposes, "purpose", 1_000),
        (&recipients, "recipient", 1_000),
        (&principals, "principal", 10_000),
    ] {
        let refused = Policy::parse(&format!("{EVERY_ROLE}\n{tables}")).unwrap_err();
        assert_eq!((refused.path(), refused.problem()), (path, too_many(max)));
    }
    let list = format!("rights = [{}]", "'status', ".repeat(18));
    let refused =
        Policy::parse(&EVERY_ROLE.replacen("rights = [\"status\", \"unseal\", \"seal\"]", &list, 1));
    assert_eq!(refused.unwrap_err().problem(), too_many(17));
    let list = format!("purposes = [{}]", "'dispute', ".repeat(65));
    let refused = Policy::parse(&EVERY_ROLE.replacen("purposes = [\"dispute\"]", &list, 1)).unwrap_err();
    assert_eq!((refused.path(), refused.problem()), ("principal[2].purposes", too_many(64)));
    let list = format!("recipients = [{}]", "'acquirer', ".repeat(65));
    let refused = Policy::parse(&EVERY_ROLE.replacen("recipients = [\"acquirer\"]", &list, 1)).unwrap_err();
    assert_eq!((refused.path(), refused.problem()), ("principal[2].recipients", too_many(64)));
    let padded = format!("{EVERY_ROLE}#{}", " ".repeat(POLICY_BYTES_MAX));
    assert_eq!(Policy::parse(&padded).unwrap_err().to_string(), "policy: is larger than 8388608 bytes");
}

/// A private key named as the policy by mistake, or a card number in the wrong place, is not found in a log.
#[test]
fn refusals_repeat_no_value() {
    let canary = "4111111111111111";
    let mut refusals = 0;
    for (start, _) in EVERY_ROLE.match_indices('"').step_by(2) {
        let end = start + 1 + EVERY_ROLE[start + 1..].find('"').unwrap();
        for value in [format!("'{canary}'"), format!("['{canary}']"), canary.to_owned(), format!("'{canary}")]
        {
            let text = format!("{}{value}{}", &EVERY_ROLE[..start], &EVERY_ROLE[end + 1..]);
            if let Err(refused) = Policy::parse(&text) {
                refusals += 1;
                assert!(!format!("{refused} {refused:?}").contains(canary), "{refused}");
            }
        }
    }
    assert!(refusals > 200, "{refusals}");
}

#[test]
fn an_unknown_key_cannot_break_a_log_line_or_flood_it() {
    let refused = Policy::parse("\"a\\nb\\u001b[31m\u{e9}\" = 1").unwrap_err();
    assert_eq!(refused.to_string(), "a\\u{a}b\\u{1b}[31m\\u{e9}: is not a key of a policy");
    let refused = Policy::parse(&format!("{} = 1", "k".repeat(100_000))).unwrap_err();
    assert!(refused.to_string().len() < 400, "{}", refused.to_string().len());
}

/// The hash stands for the bytes, so a changed file is either refused or known as another policy.
#[test]
fn every_flipped_byte_is_refused_or_changes_the_hash() {
    // A neighbouring letter, the other case, and no UTF-8 any more.
    let flips = [1 << 0, 1 << 5, 1 << 7];
    let original = Policy::parse(EXAMPLE).unwrap().hash();
    let mut bytes = EXAMPLE.as_bytes().to_vec();
    let (mut refused, mut other) = (0, 0);
    for place in 0..bytes.len() {
        for flip in flips {
            bytes[place] ^= flip;
            match str::from_utf8(&bytes).ok().and_then(|text| Policy::parse(text).ok()) {
                None => refused += 1,
                Some(policy) => {
                    assert_ne!(policy.hash(), original, "byte {place} flipped by {flip:#x}");
                    other += 1;
                }
            }
            bytes[place] ^= flip;
        }
    }
    assert!(refused > bytes.len() && other > 0, "{refused} refused, {other} other policies");
}

// === the file on disk ===

fn write(path: &Path, bytes: &[u8], mode: u32) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn only_a_file_that_its_owner_alone_can_write_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let link = folder.path().join("link.toml");
    symlink(&path, &link).unwrap();
    for mode in [0o400, 0o600, 0o640, 0o644, 0o444] {
        write(&path, EXAMPLE.as_bytes(), mode);
        assert_eq!(Policy::load(&path).unwrap().hash(), sha256(&[EXAMPLE.as_bytes()]), "{mode:o}");
        assert!(Policy::load(&link).is_ok(), "{mode:o}");
        fs::remove_file(&path).unwrap();
    }
    for mode in [0o620, 0o602, 0o622, 0o660, 0o664, 0o646, 0o666, 0o777] {
        write(&path, EXAMPLE.as_bytes(), mode);
        for name in [&path, &link] {
            let refused = Policy::load(name).unwrap_err();
            assert_eq!(refused.problem(), Problem::WritableByOthers, "{mode:o}");
            assert_eq!(refused.path(), name.to_str().unwrap());
        }
    }
}

#[test]
fn what_is_no_readable_text_file_within_the_limit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let problem = |path: &Path| Policy::load(path).unwrap_err().problem();
    assert_eq!(problem(&path), Problem::Unreadable);
    assert_eq!(problem(folder.path()), Problem::NotAFile);
    assert_eq!(problem(Path::new("/dev/null")), Problem::NotAFile);
    write(&path, b"id = \"\xff\"", 0o600);
    assert_eq!(problem(&path), Problem::NotText);
    let file = fs::File::create(&path).unwrap();
    file.set_len(POLICY_BYTES_MAX as u64 + 1).unwrap();
    assert_eq!(problem(&path), Problem::TooLarge);
    file.set_len(POLICY_BYTES_MAX as u64).unwrap();
    assert!(matches!(problem(&path), Problem::NotToml { .. }));
}
