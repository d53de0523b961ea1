//! The vectors of `docs/format`: computed here by the code, and found in the documents as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may stop loudly")]

use std::fmt::Write as _;
use std::fs;

use tempfile::TempDir;
use vault_core::audit::{Action, Actor, Checkpoint, Entry, Origin, Receipt, Tree, leaf_hash};
use vault_core::clock::Timestamp;
use vault_core::crypto::passphrase::Params;
use vault_core::crypto::{
    Context, Envelope, Key32, MacKey, Purposes, RecordHeader, RecordKey, RecordState, SeededEntropy,
    SigningKey, sha256,
};
use vault_core::data::{
    CallerText, Card, Class, Environment, Expiry, Pan, PrincipalId, PurposeId, RecipientId, Ssn, TenantId,
    Token, Value, VaultId,
};
use vault_core::keys::{AnchorFile, AnchorState, AnchoredLog, Keyring, KeyringFolder, RootKey, Seal};
use vault_core::store::{Key, Space, rows};
use zeroize::Zeroizing;

const VAULT: VaultId = VaultId::from_bytes([0x22; 16]);
const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The document has this text, wherever its lines are broken.
fn expect_in(document: &str, what: &str, text: &str) {
    let joined: String = document.split_whitespace().collect();
    let wanted: String = text.split_whitespace().collect();
    assert!(joined.contains(&wanted), "{what} is not the documented one: {text}");
}

fn key(byte: u8) -> Key32 {
    Key32::from_bytes(Zeroizing::new([byte; 32]))
}

fn token() -> Token {
    Token::from_parts(Class::Pan, std::array::from_fn(|at| at as u8), [0xde, 0xad, 0xbe, 0xef])
}

fn tenant() -> TenantId {
    TenantId::parse("shop").unwrap()
}

#[test]
fn tokens_are_the_documented_ones() {
    let document = include_str!("../../docs/format/token.md");
    expect_in(document, "the text", &token().to_text());
    expect_in(document, "the bytes", &hex(&token().to_bytes()));
}

#[test]
fn plaintexts_and_envelopes_are_the_documented_ones() {
    let document = include_str!("../../docs/format/values.md");
    let pan = Pan::parse(b"4111111111111111").unwrap();
    let value = Value::Pan(Card { pan, expiry: Some(Expiry::new(12, 2027).unwrap()), cardholder_name: None });
    let padded = value.to_padded();
    expect_in(document, "the card", &hex(&padded));
    expect_in(document, "the SSN", &hex(&Value::Ssn(Ssn::parse(b"078051120").unwrap()).to_padded()));

    let document = include_str!("../../docs/format/envelope.md");
    let environment = Environment::parse("test").unwrap();
    let (tenant, token) = (tenant(), token());
    let context = Context {
        environment: &environment,
        vault_id: &VAULT,
        tenant: &tenant,
        class: Class::Pan,
        token: &token,
    };
    let header = RecordHeader {
        record_version: 1,
        state: RecordState::Active,
        created_at: NOW,
        expires_at: None,
        uses_left: None,
        purposes: Purposes::new(vec![PurposeId::parse("refund").unwrap()]).unwrap(),
        key_version: 1,
    };
    expect_in(document, "the associated data", &hex(&context.associated_data(&header)));
    let envelope = Envelope::encrypt(&RecordKey::new(&key(0x11)), &context, header, [0x33; 24], &padded);
    expect_in(document, "the envelope", &hex(&envelope.to_bytes()));
}

#[test]
fn guarded_rows_are_the_documented_ones() {
    let document = include_str!("../../docs/format/store-rows.md");
    let place = Key::new(Space::Index, Some(&tenant()), &[1, 2, 3]);
    expect_in(document, "the key", &hex(place.encoded()));
    let row = rows::guarded(&MacKey::new(&key(0x11)), &VAULT, &place, token().to_bytes().to_vec());
    expect_in(document, "the row", &hex(&row));
}

#[test]
fn entries_checkpoints_and_receipts_are_the_documented_ones() {
    let document = include_str!("../../docs/format/audit-log.md");
    let actor = Actor::Principal(PrincipalId::parse("billing").unwrap());
    let entry = Entry {
        id: [0x44; 16],
        tenant: Some(tenant()),
        class: Some(Class::Pan),
        token: Some(token()),
        record_version: 1,
        record_state: 1,
        key_version: 1,
        purpose: Some(PurposeId::parse("settlement").unwrap()),
        recipient: Some(RecipientId::parse("acquirer").unwrap()),
        reference: Some(CallerText::parse("order-1").unwrap()),
        policy: [0x55; 8],
        ..Entry::new(NOW, actor, Action::Detokenize)
    };
    let bytes = entry.to_bytes();
    let leaf = leaf_hash(&bytes);
    expect_in(document, "the entry", &hex(&bytes));
    expect_in(document, "the leaf hash", &hex(&leaf));
    let origin = Origin::parse("vault.example/log/1").unwrap();
    let mut tree = Tree::empty();
    tree.append(leaf);
    let checkpoint = Checkpoint::sign(&origin, &tree.head(), &SigningKey::from_seed(&key(0x11)));
    expect_in(document, "the checkpoint", &checkpoint);
    expect_in(document, "the receipt", &Receipt { origin, index: 0, leaf_hash: leaf }.to_string());
}

#[test]
fn keyrings_and_anchors_are_the_documented_ones() {
    let folder = TempDir::new().unwrap();
    let mut entropy = SeededEntropy::new(1);
    let environment = Environment::parse("test").unwrap();
    let mut keyring = Keyring::create(environment, &mut entropy, NOW).unwrap();
    keyring.ensure_class(&tenant(), Class::Pan, &mut entropy, NOW).unwrap();
    let root = RootKey::generate(&mut entropy).unwrap();
    let seal = Seal::Passphrase { passphrase: b"correct horse battery staple", params: Params::FLOOR };
    let keyrings = KeyringFolder::new(folder.path().join("keyring"));
    keyrings.create(&keyring, &root, seal, &mut entropy).unwrap();
    let document = include_str!("../../docs/format/keyring.md");
    let bytes = fs::read(keyrings.path().join("keyring-a")).unwrap();
    expect_in(document, "the keyring's beginning", &hex(bytes.get(..72).unwrap()));
    expect_in(document, "the keyring's checksum", &hex(&sha256(&[&bytes])));

    let document = include_str!("../../docs/format/anchor.md");
    let log = AnchoredLog { origin: "vault.example/log/1".into(), size: 3, root: [0x66; 32] };
    let state = AnchorState { sequence: 1, keyring_generation: 1, logs: vec![log] };
    let anchor = AnchorFile::new(folder.path().join("anchor"), *keyring.vault_id());
    anchor.create(&root, &state).unwrap();
    let bytes = fs::read(anchor.path()).unwrap();
    expect_in(document, "the anchor's beginning", &hex(bytes.get(..87).unwrap()));
    expect_in(document, "the anchor's MAC", &hex(bytes.get(4_064..4_096).unwrap()));
}
