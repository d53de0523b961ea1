//! A vault on a store that was damaged: a token gives its own value or an error, never another.
//!
//! No engine notices every flipped bit. What is asked of the vault above each of them:
//!
//! - `detokenize` gives the value that went in, or an error;
//! - a token that is suddenly unknown is not the end of it: either the check of store against log finds what
//!   is missing, or the whole log is shorter than it was, which the anchor refuses (this vault has none).

use std::sync::Arc;

use vault_core::audit::Origin;
use vault_core::clock::Timestamp;
use vault_core::crypto::{Purposes, SeededEntropy};
use vault_core::data::{CallerText, Card, CardholderName, Environment, Pan, Token, Value};
use vault_core::keys::Keyring;
use vault_core::policy::{Identity, Policy};
use vault_core::store::Store;
use vault_core::vault::{NewValue, Reply, Request, Vault};

/// More than one full tile of the log.
const TOKENS: usize = 300;

const POLICY: &str = r#"
[[tenant]]
id = "shop"
classes = ["pan"]

[[purpose]]
id = "settlement"
version = 1
classes = ["pan"]
text_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

[[recipient]]
id = "acquirer"
purposes = ["settlement"]

[[principal]]
id = "checkout"
identity = "uri:spiffe://test/checkout"
tenant = "shop"
role = "checkout"
rights = ["tokenize"]
classes = ["pan"]

[[principal]]
id = "billing"
identity = "uri:spiffe://test/billing"
tenant = "shop"
role = "billing"
rights = ["detokenize"]
classes = ["pan"]
purposes = ["settlement"]
recipients = ["acquirer"]
"#;

const PANS: [&str; 5] =
    ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "3530111333300000"];

/// When all of it happens.
pub const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// Who may do what in these vaults.
///
/// # Panics
/// Never: the text is a policy.
pub fn policy() -> Arc<Policy> {
    Arc::new(Policy::parse(POLICY).unwrap())
}

/// A vault over a store that no other shares. Its keys are the same each time: both the keyring's and those
/// of the tenant, which the vault draws when it first opens.
///
/// # Panics
/// Never: its parts are well formed.
pub fn vault(store: Arc<dyn Store>) -> Option<Vault> {
    let keyring =
        Keyring::create(Environment::parse("test").unwrap(), &mut SeededEntropy::new(7), NOW).unwrap();
    let origin = Origin::parse("vault.test/one").unwrap();
    Vault::with_keyring(store, keyring, origin, policy(), NOW, &mut SeededEntropy::new(8)).ok()
}

fn call(vault: &Vault, who: &str, request: Request, entropy: &mut SeededEntropy) -> Option<Reply> {
    let identity = Identity::uri(&format!("spiffe://test/{who}")).unwrap();
    let prepared = vault.prepare(&identity, request, NOW, entropy);
    vault.commit(&[prepared], entropy).pop().unwrap().into_result().ok()
}

/// No two values are the same: the holder is numbered.
fn value(number: usize) -> Value {
    let pan = Pan::parse(PANS[number % PANS.len()].as_bytes()).unwrap();
    let name = CardholderName::parse(format!("HOLDER {number}").as_bytes()).unwrap();
    Value::Pan(Card { pan, expiry: None, cardholder_name: Some(name) })
}

/// Digits and name in one text.
fn shown(value: &Value) -> String {
    let Value::Pan(card) = value else { return "not a card".into() };
    let name = card.cardholder_name.as_ref().map_or(&b""[..], CardholderName::expose_bytes);
    format!("{} {}", String::from_utf8_lossy(card.pan.expose_digits()), String::from_utf8_lossy(name))
}

/// Fills a vault with tokens and gives back each with the value it stands for, one pair a line.
///
/// # Panics
/// When the vault does not take them.
pub fn fill(vault: &Vault) -> String {
    let mut entropy = SeededEntropy::new(9);
    let tokenize = |number| {
        let item = NewValue { value: value(number), purposes: Purposes::unrestricted(), reference: None };
        let request = Request::Tokenize { items: vec![Ok(item)], idempotency_key: None, batch: false };
        match call(vault, "checkout", request, &mut entropy) {
            Some(Reply::Tokenized(mut tokens)) => {
                format!("{} {}\n", tokens.pop().unwrap().unwrap().to_text(), shown(&value(number)))
            }
            _ => panic!("no token"),
        }
    };
    (0..TOKENS).map(tokenize).collect()
}

/// Asks a vault whose store may be damaged, if it opened, for every token; says in a word what came of it.
/// With 0 for the size of the log before the damage it tells that size.
///
/// # Panics
/// When the vault gives another value, or values are gone without anybody noticing.
pub fn ask(vault: Option<Vault>, tokens: &str, log_size: u64) -> String {
    let tokens: Vec<(&str, &str)> = tokens.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let mut entropy = SeededEntropy::new(10);
    let Some(vault) = vault else { return "no vault".into() };
    let size = vault.tree_head().size;
    let items = tokens.iter().map(|(token, _)| Token::parse(token)).collect();
    let request = Request::Detokenize {
        items,
        purpose: "settlement".into(),
        recipient: "acquirer".into(),
        reference: Some(CallerText::parse("order-1").unwrap()),
    };
    let Some(Reply::Detokenized(released)) = call(&vault, "billing", request, &mut entropy) else {
        return "refuses".into();
    };
    let mut refused = 0;
    for ((_, expected), released) in tokens.iter().zip(&released) {
        match released {
            Ok(released) => assert_eq!(shown(&released.value), *expected, "another value"),
            Err(_) => refused += 1,
        }
    }
    assert_eq!(released.len(), tokens.len());
    if log_size == 0 {
        return size.to_string();
    }
    let found = vault.check(NOW, &mut entropy).map_or(true, |report| !report.findings.is_empty());
    match (refused, found) {
        _ if size < log_size => "rolled back, for the anchor to refuse".into(),
        (0, false) => "all right".into(),
        (0, true) => "all values, check finds damage".into(),
        (_, true) => "values refused, check finds damage".into(),
        (refused, false) => panic!("{refused} values are gone and the check finds nothing"),
    }
}
