//! No RPC, no field and no reason is left out: the cases against the API's descriptors and against the
//! product's own errors.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use vault_core::error::{CeremonyFault, Error, Exhausted, HsmFault, Invalid, State, Unavailable};
use vault_core::keys::{JournalError, ShareFault};
use vault_core::store::Fault;
use vault_core::vault::UnsealError;
use vault_daemon::rpc::status;

use crate::cases::cases;
use crate::ceremonies;
use crate::check::code_of;
use crate::faults::FAULTS;
use crate::site::Stage;
use crate::unsealing;

/// Reasons that nobody can trigger from outside, and why.
const OUT_OF_REACH: [(&str, &str); 5] = [
    ("SHARES_TOO_FEW", "only commands on the host take several shares at once"),
    ("TOKEN_INACTIVE", "no RPC deactivates a record yet"),
    (
        "KEY_EXPIRED",
        "the vault enables the next key long before, unless its keyring cannot be written for years",
    ),
    ("KEY_UNCONFIRMED", "one daemon waits for no other; tests/postgres has three"),
    ("BUG", "only a defect gives it, such as a random source that fails"),
];

/// What a field of a request can be refused for. A field that is not here has no cases.
const FIELDS: [(&str, &[&str]); 29] = [
    ("value", &["FIELD_MISSING"]),
    ("card", &[]),
    ("ssn", &[]),
    ("pan", &["PAN_LENGTH", "PAN_LUHN", "SENSITIVE_AUTHENTICATION_DATA"]),
    ("expiry", &["EXPIRY_INVALID"]),
    ("month", &[]),
    ("year", &[]),
    ("cardholder_name", &["NAME_INVALID", "SENSITIVE_TEXT", "SENSITIVE_AUTHENTICATION_DATA"]),
    ("number", &["SSN_LENGTH", "SSN_NEVER_ISSUED", "SENSITIVE_AUTHENTICATION_DATA"]),
    ("token", &["TOKEN_MALFORMED", "UNKNOWN_TOKEN"]),
    ("last_four", &["LAST_FOUR_MALFORMED"]),
    ("purposes", &["PURPOSES_INVALID"]),
    ("purpose", &["DENIED"]),
    ("recipient", &["DENIED"]),
    ("reference", TEXT),
    ("reason", &["SENSITIVE_TEXT", "SENSITIVE_AUTHENTICATION_DATA", "TEXT_MALFORMED", "FIELD_MISSING"]),
    ("idempotency_key", &["SENSITIVE_TEXT", "TEXT_MALFORMED", "IDEMPOTENCY_KEY_REUSED"]),
    ("items", &["BATCH_EMPTY", "BATCH_TOO_LARGE"]),
    ("leaf_hash", &["LEAF_HASH_MISMATCH"]),
    ("passphrase", &["PASSPHRASE_LENGTH", "WRONG_PASSPHRASE"]),
    ("hsm", &["OTHER_SEAL", "PASSPHRASE_LENGTH"]),
    ("ceremony", &["NO_CEREMONY"]),
    ("duties", &["DUTIES_NOT_ACCEPTED"]),
    (
        "share",
        &[
            "SHARE_MALFORMED",
            "SHARE_FOREIGN",
            "SHARE_OTHER_SET",
            "SHARE_WRONG",
            "SHARE_REPEATED",
            "GAVE_ALREADY",
        ],
    ),
    ("page_size", &[]),
    ("page_token", &["TEXT_MALFORMED"]),
    (
        "tenant",
        &[
            "SENSITIVE_TEXT",
            "SENSITIVE_AUTHENTICATION_DATA",
            "TEXT_MALFORMED",
            "FIELD_MISSING",
            "NO_SUCH_KEY",
        ],
    ),
    ("class", &["FIELD_MISSING"]),
    ("version", &["FIELD_MISSING", "NO_SUCH_KEY", "KEY_IN_USE"]),
];
const TEXT: &[&str] = &["SENSITIVE_TEXT", "SENSITIVE_AUTHENTICATION_DATA", "TEXT_MALFORMED"];
/// Fields that say where in the log.
const PLACES: [&str; 4] = ["start_index", "index", "from_size", "to_size"];

/// What an RPC can be refused for beyond its fields and the state of the vault.
const BESIDE: [(&str, &str); 2] = [("FindByValue", "WRONG_CLASS"), ("FindByValue", "NO_INDEX")];

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(vault_proto::FILE_DESCRIPTOR_SET).unwrap()
}

/// Every RPC of every service, with the name of its request.
fn requests() -> BTreeMap<String, String> {
    let descriptors = descriptors();
    let services = descriptors.file.iter().flat_map(|file| &file.service);
    let methods = services.flat_map(|service| &service.method);
    methods.map(|method| (method.name().to_owned(), method.input_type().to_owned())).collect()
}

pub(crate) fn rpcs() -> BTreeSet<String> {
    requests().into_keys().collect()
}

/// Every field of a request, those of the messages in it included.
fn fields(message: &str) -> BTreeSet<String> {
    let descriptors = descriptors();
    let all: BTreeMap<String, &DescriptorProto> = descriptors
        .file
        .iter()
        .flat_map(|file| file.message_type.iter().map(|m| (format!(".{}.{}", file.package(), m.name()), m)))
        .collect();
    let mut found = BTreeSet::new();
    let mut open = vec![message.to_owned()];
    while let Some(name) = open.pop() {
        for field in &all[&name].field {
            found.insert(field.name().to_owned());
            if field.r#type() == Type::Message {
                open.push(field.type_name().to_owned());
            }
        }
    }
    found
}

fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeSet<(String, String)> {
    pairs.into_iter().map(|(rpc, reason)| (rpc.to_owned(), reason.to_owned())).collect()
}

/// Every RPC and reason that some case triggers.
fn triggered() -> BTreeSet<(String, String)> {
    let mut triggered = pairs(unsealing::REASONS);
    triggered.extend(pairs(ceremonies::REASONS));
    let cases = cases(&Stage::default());
    triggered.extend(pairs(cases.iter().map(|case| (case.ask.rpc(), case.reason))));
    for fault in &FAULTS {
        triggered.extend(fault.rpcs().into_iter().map(|rpc| (rpc, fault.reason.to_owned())));
    }
    triggered
}

#[test]
fn every_rpc_has_a_case_for_everything_its_fields_can_be_refused_for() {
    let triggered = triggered();
    let mut missing = Vec::new();
    for (rpc, request) in requests() {
        for field in fields(&request) {
            let listed = FIELDS.iter().find(|(name, _)| *name == field).map(|(_, reasons)| *reasons);
            let place = PLACES.contains(&field.as_str()).then_some(["RANGE_INVALID"].as_slice());
            let Some(reasons) = listed.or(place) else {
                missing.push(format!("{rpc}: no line says what {field} can be refused for"));
                continue;
            };
            let has_case = |reason: &str| triggered.contains(&(rpc.clone(), reason.to_owned()));
            let untriggered = reasons.iter().filter(|reason| !has_case(reason));
            missing.extend(untriggered.map(|reason| format!("{rpc}: no case for {field}, {reason}")));
        }
        if !triggered.contains(&(rpc.clone(), "DENIED".to_owned())) {
            missing.push(format!("{rpc}: no case for DENIED"));
        }
    }
    let beside = pairs(BESIDE).into_iter().filter(|pair| !triggered.contains(pair));
    missing.extend(beside.map(|(rpc, reason)| format!("{rpc}: no case for {reason}")));
    assert!(missing.is_empty(), "\n  {}", missing.join("\n  "));
}

#[test]
fn every_rpc_meets_every_fault_or_is_spared_by_name() {
    for fault in &FAULTS {
        assert!(fault.rpcs().len() >= rpcs().len() - 5, "{}", fault.reason);
    }
}

#[test]
fn every_reason_of_the_product_is_triggered_or_out_of_reach() {
    let triggered: BTreeSet<String> = triggered().into_iter().map(|(_, reason)| reason).collect();
    // Nobody has an HSM here; tests/hsm has.
    let hsm = HsmFault::ALL.map(HsmFault::reason);
    let out_of_reach: BTreeSet<String> =
        OUT_OF_REACH.iter().map(|(reason, _)| *reason).chain(hsm).map(str::to_owned).collect();
    let product: BTreeSet<String> = product().into_keys().collect();
    assert_eq!(triggered.intersection(&out_of_reach).next(), None, "it is within reach after all");
    let covered: BTreeSet<String> = triggered.union(&out_of_reach).cloned().collect();
    assert_eq!(covered, product);
}

#[test]
fn every_reason_has_the_code_that_the_cases_expect() {
    for (reason, code) in product() {
        if reason != "BUG" {
            assert_eq!(code, code_of(&reason), "{reason}");
        }
    }
}

/// Lists examples of an error's kinds. A new kind does not compile until it stands here.
macro_rules! examples {
    ($name:ident, $error:ty, $($kind:pat => $example:expr,)*) => {
        fn $name() -> Vec<$error> {
            let examples = vec![$($example,)*];
            for example in &examples {
                match example {
                    $($kind => {})*
                }
            }
            examples
        }
    };
}

examples! { core_errors, Error,
    Error::Invalid(_) => Error::Invalid(Invalid::PanLength),
    Error::UnknownToken => Error::UnknownToken,
    Error::Denied => Error::Denied,
    Error::Exhausted(Exhausted::Quota { .. }) =>
        Error::Exhausted(Exhausted::Quota { retry_after_seconds: 1 }),
    Error::Exhausted(Exhausted::Busy) => Error::Exhausted(Exhausted::Busy),
    Error::IdempotencyKeyReused => Error::IdempotencyKeyReused,
    Error::State(State::Sealed) => Error::State(State::Sealed),
    Error::State(State::NoIndex) => Error::State(State::NoIndex),
    Error::State(State::TokenInactive) => Error::State(State::TokenInactive),
    Error::Ceremony(_) => Error::Ceremony(CeremonyFault::NotOpen),
    Error::State(State::KeyExpired) => Error::State(State::KeyExpired),
    Error::State(State::NoSuchKey) => Error::State(State::NoSuchKey),
    Error::State(State::KeyInUse) => Error::State(State::KeyInUse),
    Error::State(State::KeyUnconfirmed) => Error::State(State::KeyUnconfirmed),
    Error::Unavailable(Unavailable::Store) => Error::Unavailable(Unavailable::Store),
    Error::Unavailable(Unavailable::OutcomeUnknown) => Error::Unavailable(Unavailable::OutcomeUnknown),
    Error::Corrupt => Error::Corrupt,
    Error::DeadlineExceeded => Error::DeadlineExceeded,
    Error::Bug => Error::Bug,
}

examples! { unseal_errors, UnsealError,
    UnsealError::WrongPassphrase => UnsealError::WrongPassphrase,
    UnsealError::Share(_) => UnsealError::Share(ShareFault::NotTheOne(1)),
    UnsealError::Hsm(_) => UnsealError::Hsm(HsmFault::Away),
    UnsealError::OtherSeal => UnsealError::OtherSeal,
    UnsealError::Keyring(_) => UnsealError::Keyring(String::new()),
    UnsealError::Anchor(_) => UnsealError::Anchor(String::new()),
    UnsealError::Journal(_) => UnsealError::Journal(JournalError::Io(ErrorKind::Other)),
    UnsealError::RolledBack { .. } => UnsealError::RolledBack { anchor_size: 2, log_size: 1 },
    UnsealError::OldKeyring { .. } => UnsealError::OldKeyring { found: 1, anchored: 2 },
    UnsealError::OtherOrigin => UnsealError::OtherOrigin,
    UnsealError::OtherLog { .. } =>
        UnsealError::OtherLog { origin: String::new(), anchor_size: 2, log_size: 1 },
    UnsealError::Retired => UnsealError::Retired,
    UnsealError::Registry => UnsealError::Registry,
    UnsealError::OtherKeyring { .. } => UnsealError::OtherKeyring { found: 1, known: 2 },
    UnsealError::Log => UnsealError::Log,
    UnsealError::TenantChoice => UnsealError::TenantChoice,
    UnsealError::TooManyLogs => UnsealError::TooManyLogs,
    UnsealError::Store(_) => UnsealError::Store(Fault::Unavailable("away".into())),
    UnsealError::Commit(_) => UnsealError::Commit(Error::Unavailable(Unavailable::Store)),
}

/// Every reason that the product can give, with its code.
fn product() -> BTreeMap<String, tonic::Code> {
    let mut errors = core_errors();
    errors.extend(Invalid::ALL.map(Error::Invalid));
    errors.extend(CeremonyFault::ALL.map(Error::Ceremony));
    let core = errors.iter().map(status::status);
    let mut unseal = unseal_errors();
    unseal.extend(HsmFault::ALL.map(UnsealError::Hsm));
    let statuses = core.chain(unseal.iter().map(status::stays_sealed));
    statuses.map(|status| (vault_proto::reason(&status).unwrap(), status.code())).collect()
}
