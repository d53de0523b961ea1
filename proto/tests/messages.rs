//! What the `.proto` files promise in their comments holds for the Rust messages, and the bounds fit
//! together.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorProto};
use vault_proto::debug::{NAME_ONLY, PRINTABLE};
use vault_proto::v1::{self, batch_detokenize_result, batch_tokenize_result, value::Kind};
use vault_proto::wipe::WIPED;
use zeroize::Zeroize;

const FILES: [&str; 6] = [
    "vault/v1/audit.proto",
    "vault/v1/batches.proto",
    "vault/v1/custody.proto",
    "vault/v1/keys.proto",
    "vault/v1/tokenization.proto",
    "vault/v1/types.proto",
];

const BATCH_ITEMS: usize = 1_000;
const BATCH_MESSAGE_BYTES: usize = 1024 * 1024;

struct Field {
    message: String,
    name: String,
    comment: String,
    /// The name of the message it holds, if it holds one.
    holds: Option<String>,
}

impl Field {
    fn sensitive(&self) -> bool {
        self.comment.contains("SENSITIVE")
    }
}

#[test]
fn every_request_field_says_whether_it_is_required() {
    for field in fields().iter().filter(|field| field.message.ends_with("Request")) {
        let said = ["Required", "Optional"].iter().filter(|word| field.comment.contains(*word)).count();
        assert_eq!(said, 1, "{}.{} must say Required or Optional", field.message, field.name);
    }
}

#[test]
fn every_field_has_a_comment() {
    for field in fields() {
        assert!(field.comment.trim().len() > 10, "{}.{} has no comment", field.message, field.name);
    }
}

#[test]
fn whatever_holds_a_sensitive_message_is_marked_sensitive() {
    let sensitive = sensitive_messages();
    // The expiry is sensitive beside its PAN; a message field says so itself.
    for field in fields().iter().filter(|field| field.name != "expiry") {
        if field.holds.as_ref().is_some_and(|held| sensitive.contains(held)) {
            let marked =
                field.sensitive() || field.message.ends_with("Item") || field.message.ends_with("Result");
            assert!(marked, "{}.{} holds a SENSITIVE message", field.message, field.name);
        }
    }
}

#[test]
fn no_sensitive_message_and_no_request_prints_its_fields() {
    let sensitive = sensitive_messages();
    assert!(sensitive.contains("Card") && sensitive.contains("UnsealRequest"), "the comments were not read");
    for name in PRINTABLE {
        assert!(!sensitive.contains(*name), "{name} passes plaintext and must not be printable");
        assert!(!name.ends_with("Request"), "{name} may hold a value in any field, by mistake");
    }
}

#[test]
fn every_message_is_either_printable_or_prints_its_name() {
    let known: BTreeSet<&str> = PRINTABLE.iter().chain(NAME_ONLY).copied().collect();
    let all: BTreeSet<String> = messages().into_iter().map(|message| message.name().to_owned()).collect();
    let listed: BTreeSet<String> =
        known.iter().filter(|name| !name.contains('.')).map(|&name| name.to_owned()).collect();
    assert_eq!(all, listed);
}

#[test]
fn debug_prints_no_plaintext() {
    let request = v1::TokenizeRequest {
        value: Some(card(b"4111111111111111")),
        purposes: vec!["4111111111111111".into()],
        reference: "4111111111111111".into(),
        idempotency_key: "4111111111111111".into(),
    };
    assert_eq!(format!("{request:?}"), "TokenizeRequest");
    assert_eq!(format!("{:?}", request.value), "Some(Value)");
    assert_eq!(format!("{:?}", request.value.as_ref().unwrap().kind), "Some(Value.kind)");
    let unseal = v1::UnsealRequest { passphrase: b"correct horse battery staple".to_vec(), hsm: false };
    assert_eq!(format!("{:?}", tonic::Request::new(unseal).get_ref()), "UnsealRequest");
}

#[test]
fn every_sensitive_scalar_is_wiped_on_drop() {
    let scalars: BTreeSet<String> = fields()
        .iter()
        .filter(|field| field.sensitive() && field.holds.is_none() && field.message != "Expiry")
        .map(|field| format!("{}.{}", field.message, field.name))
        .collect();
    let wiped: BTreeSet<String> =
        WIPED.iter().filter(|name| **name != "Card.expiry").map(|&name| name.to_owned()).collect();
    assert_eq!(scalars, wiped);
}

#[test]
fn wiping_leaves_nothing() {
    let Some(Kind::Card(mut card)) = card(b"4111111111111111").kind else { panic!("not a card") };
    let expiry = card.expiry.as_mut().unwrap();
    expiry.zeroize();
    assert_eq!((expiry.month, expiry.year), (0, 0));
    card.zeroize();
    assert!(card.pan.is_empty() && card.expiry.is_none() && card.cardholder_name.is_none());
    let mut ssn = v1::Ssn { number: b"123456789".to_vec() };
    ssn.zeroize();
    assert!(ssn.number.is_empty());
}

#[test]
fn a_full_batch_fits_its_message_in_every_direction() {
    let tokenize = v1::BatchTokenizeRequest {
        items: vec![
            v1::BatchTokenizeItem {
                value: Some(card(&[b'4'; 64])),
                purposes: vec!["p".repeat(32); 16],
                reference: "r".repeat(64),
            };
            BATCH_ITEMS
        ],
        idempotency_key: "k".repeat(64),
    };
    let tokens = v1::BatchTokenizeResponse {
        results: vec![
            v1::BatchTokenizeResult {
                verdict: Some(batch_tokenize_result::Verdict::Refusal(refusal())),
                receipt: Some(receipt()),
            };
            BATCH_ITEMS
        ],
    };
    let detokenize = v1::BatchDetokenizeRequest {
        items: vec![v1::BatchDetokenizeItem { token: "t".repeat(48) }; BATCH_ITEMS],
        purpose: "p".repeat(32),
        recipient: "r".repeat(32),
        reference: "r".repeat(64),
    };
    let values = v1::BatchDetokenizeResponse {
        results: vec![
            v1::BatchDetokenizeResult {
                verdict: Some(batch_detokenize_result::Verdict::Record(v1::DetokenizedRecord {
                    value: Some(card(&[b'4'; 19])),
                    record_version: u32::MAX,
                    create_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 999_999_999 }),
                })),
                receipt: Some(receipt()),
            };
            BATCH_ITEMS
        ],
    };
    let sizes =
        [tokenize.encoded_len(), tokens.encoded_len(), detokenize.encoded_len(), values.encoded_len()];
    assert!(sizes.iter().all(|&bytes| bytes <= BATCH_MESSAGE_BYTES), "{sizes:?}");
}

#[test]
fn unknown_fields_are_dropped_and_unknown_values_keep_nothing() {
    // Field 99, text: a card number where no field is.
    let canary = b"4111111111111111";
    let mut bytes = v1::GetTokenRequest { token: "t".into(), reference: String::new() }.encode_to_vec();
    bytes.extend([0x9a, 0x06, 16]);
    bytes.extend(canary);
    let decoded = v1::GetTokenRequest::decode(&*bytes).unwrap();
    assert!(!decoded.encode_to_vec().windows(canary.len()).any(|window| window == canary));
}

fn card(pan: &[u8]) -> v1::Value {
    let card = v1::Card {
        pan: pan.to_vec(),
        expiry: Some(v1::Expiry { month: 12, year: 2099 }),
        cardholder_name: Some(vec![b'N'; 64]),
    };
    v1::Value { kind: Some(Kind::Card(card)) }
}

fn receipt() -> v1::Receipt {
    v1::Receipt { origin: "o".repeat(128), index: u64::MAX, leaf_hash: vec![0xff; 32] }
}

fn refusal() -> v1::Refusal {
    v1::Refusal { code: 16, reason: "R".repeat(64), message: "m".repeat(256) }
}

/// Messages that hold a SENSITIVE field, themselves or in a message below.
fn sensitive_messages() -> BTreeSet<String> {
    let fields = fields();
    let mut sensitive: BTreeSet<String> =
        fields.iter().filter(|field| field.sensitive()).map(|field| field.message.clone()).collect();
    loop {
        let before = sensitive.len();
        for field in &fields {
            if field.holds.as_ref().is_some_and(|held| sensitive.contains(held)) {
                sensitive.insert(field.message.clone());
            }
        }
        if sensitive.len() == before {
            return sensitive;
        }
    }
}

fn fields() -> Vec<Field> {
    files().iter().flat_map(fields_of).collect()
}

fn fields_of(file: &FileDescriptorProto) -> Vec<Field> {
    let info = file.source_code_info.as_ref().expect("source positions");
    let comments: BTreeMap<&[i32], &str> =
        info.location.iter().map(|location| (&*location.path, location.leading_comments())).collect();
    let mut fields = Vec::new();
    for (at, message) in (0..).zip(&file.message_type) {
        for (field_at, field) in (0..).zip(&message.field) {
            fields.push(Field {
                message: message.name().to_owned(),
                name: field.name().to_owned(),
                comment: comments.get(&[4, at, 2, field_at][..]).copied().unwrap_or_default().to_owned(),
                holds: (field.r#type() == Type::Message)
                    .then(|| field.type_name().rsplit('.').next().unwrap().to_owned()),
            });
        }
    }
    fields
}

fn messages() -> Vec<DescriptorProto> {
    files().into_iter().flat_map(|file| file.message_type).collect()
}

fn files() -> Vec<FileDescriptorProto> {
    let all = protox::compile(FILES, [env!("CARGO_MANIFEST_DIR")]).unwrap();
    all.file.into_iter().filter(|file| file.package() == "vault.v1").collect()
}
