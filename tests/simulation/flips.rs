//! One bit flipped in what an engine has on disk: a token gives its own value or an error, never another.
//!
//! No engine notices every flipped bit. What is asked of the vault above it:
//!
//! - `detokenize` gives the value that went in, or an error;
//! - a token that is suddenly unknown is not the end of it: either the check of store against log finds what
//!   is missing, or the whole log is shorter than it was, which the anchor refuses (this vault has none);
//! - nothing hangs, and once the store is open nothing panics or dies. While it opens, fjall 3.1 may end the
//!   process: it panics on some damaged version files, then again on the lock that this leaves behind, and
//!   asks for as much memory as others claim to need.
//!
//! A panic of an engine that the store catches counts by itself: the tests unwind, but `vaultd` is built to
//! abort, so there it ends the process instead of becoming a refusal. Neither gives an answer.
//!
//! The vault's own files are flipped where their integrity is decided, every byte of each, beside their
//! codecs: keyring, anchor, policy, export of the log, envelope.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests may stop loudly"
)]

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::panic::{self, Location};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use vault_core::audit::Origin;
use vault_core::clock::Timestamp;
use vault_core::crypto::{Purposes, SeededEntropy};
use vault_core::data::{CallerText, Card, CardholderName, Environment, Pan, Token, Value};
use vault_core::keys::Keyring;
use vault_core::policy::{Identity, Policy};
use vault_core::store::Store;
use vault_core::vault::{NewValue, Reply, Request, Vault};
use vault_recorder::{Dice, Image, Place};
use vault_simulation::child::{self, Order, complaint};
use vault_simulation::engine::Engine;
use vault_simulation::scratch;

const CHILD: &str = "the_child_process";
/// Set to anything, the tests take ten times as many flips.
const LONG: &str = "VAULT_TESTS_LONG";
/// Set to a number, the tests begin with that seed instead of theirs.
const SEED: &str = "VAULT_TESTS_SEED";

const FLIPS: usize = 1_500;
/// More than one full tile of the log.
const TOKENS: usize = 300;
/// Tokens and the values they stand for, one pair a line.
const TOKENS_FILE: &str = "tokens";
/// What a child says last.
const TOLD_FILE: &str = "told";
const OPENING: &str = "opening";
/// Where a child's last panic was, caught or not.
const PANICS_FILE: &str = "panicked";

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

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A vault over this store. Its keys are the same each time: both the keyring's and those of the tenant,
/// which the vault draws when it first opens.
fn vault(store: Arc<dyn Store>) -> Option<Vault> {
    let keyring =
        Keyring::create(Environment::parse("test").unwrap(), &mut SeededEntropy::new(7), NOW).unwrap();
    let origin = Origin::parse("vault.test/one").unwrap();
    let policy = Arc::new(Policy::parse(POLICY).unwrap());
    Vault::with_keyring(store, keyring, origin, policy, NOW, &mut SeededEntropy::new(8)).ok()
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

/// Fills a store with tokens and gives back each with its value.
fn fill(engine: Engine, folder: &Path) -> BTreeMap<String, String> {
    let mut entropy = SeededEntropy::new(9);
    let vault = vault(engine.open(folder).unwrap().into()).unwrap();
    let tokenize = |number| {
        let item = NewValue { value: value(number), purposes: Purposes::unrestricted(), reference: None };
        let request = Request::Tokenize { items: vec![Ok(item)], idempotency_key: None, batch: false };
        match call(&vault, "checkout", request, &mut entropy) {
            Some(Reply::Tokenized(mut tokens)) => {
                (tokens.pop().unwrap().unwrap().to_text(), shown(&value(number)))
            }
            _ => panic!("no token"),
        }
    };
    (0..TOKENS).map(tokenize).collect()
}

#[test]
#[ignore = "the other tests start it as a process of its own"]
fn the_child_process() {
    let Some(order) = Order::given() else { return };
    fs::write(order.folder.join(TOLD_FILE), OPENING).unwrap();
    note_panics(order.folder.join(PANICS_FILE));
    let told = open(Engine::named(order.word(0)), &order.folder, order.number(1));
    fs::write(order.folder.join(TOLD_FILE), told).unwrap();
}

/// Writes down that there was a panic, caught or not, and says it as always.
fn note_panics(path: PathBuf) {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let file = info.location().map_or("", Location::file);
        let _ = fs::write(&path, file);
        say(info);
    }));
}

/// Opens a store that may be damaged and asks for every token; says in a word what came of it.
fn open(engine: Engine, folder: &Path, log_size: u64) -> String {
    let tokens = fs::read_to_string(folder.join(TOKENS_FILE)).unwrap();
    let tokens: Vec<(&str, &str)> = tokens.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let mut entropy = SeededEntropy::new(10);
    let Ok(store) = engine.open(&folder.join("store")) else { return "does not open".into() };
    fs::write(folder.join(TOLD_FILE), "open").unwrap();
    let Some(vault) = vault(store.into()) else { return "no vault".into() };
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

/// A child's word on a store; what it complained of if it died.
fn told(engine: Engine, image: &Image, tokens: &str, log_size: u64) -> Result<String, String> {
    let folder = scratch::folder();
    fs::create_dir(folder.path().join("store")).unwrap();
    image.store(&folder.path().join("store")).unwrap();
    fs::write(folder.path().join(TOKENS_FILE), tokens).unwrap();
    let output = child::run(CHILD, &format!("{} {log_size}", engine.name()), folder.path());
    let told = fs::read_to_string(folder.path().join(TOLD_FILE)).unwrap_or_default();
    match output.status.code() {
        Some(0) if folder.path().join(PANICS_FILE).exists() => Ok(format!("{told}, after a caught panic")),
        Some(0) => Ok(told),
        // Killed by its own `abort`, with no answer given.
        None if told == OPENING => Ok("ends the process while opening".into()),
        _ => Err(complaint(&output)),
    }
}

/// Flips one bit in a page that holds anything: half the time any page, half the time one of any file, so
/// that small files have their share.
fn flip(image: &mut Image, dice: &mut Dice) -> String {
    let mut files: Vec<(_, Vec<u64>)> = image
        .0
        .iter()
        .filter_map(|(path, place)| match place {
            Place::File(content) => Some((path.clone(), content.pages().map(|(at, _)| at).collect())),
            Place::Folder => None,
        })
        .collect();
    files.retain(|(_, pages): &(_, Vec<u64>)| !pages.is_empty());
    let (path, page) = if dice.below(2) == 0 {
        let (path, pages) = &files[dice.below(files.len())];
        (path.clone(), pages[dice.below(pages.len())])
    } else {
        let all: Vec<_> =
            files.iter().flat_map(|(path, pages)| pages.iter().map(move |page| (path, *page))).collect();
        let (path, page) = all[dice.below(all.len())];
        (path.clone(), page)
    };
    let Some(Place::File(content)) = image.0.get_mut(&path) else { unreachable!() };
    let length = usize::try_from((content.size() - page).min(4_096)).unwrap();
    let (at, bit) = (page + dice.below(length) as u64, dice.below(8));
    content.flip(at, u8::try_from(bit).unwrap());
    format!("{} byte {at} bit {bit}", path.display())
}

fn survives(engine: Engine, seed: u64) {
    let seed = env::var(SEED).map_or(seed, |text| text.parse().expect("a number"));
    let flips = if env::var_os(LONG).is_some() { 10 * FLIPS } else { FLIPS };
    let begun = Instant::now();
    let folder = scratch::folder();
    let mut tokens = String::new();
    for (token, value) in fill(engine, folder.path()) {
        writeln!(tokens, "{token} {value}").unwrap();
    }
    let whole = Image::load(folder.path()).unwrap();
    let log_size = told(engine, &whole, &tokens, 0).unwrap();
    let log_size = log_size.parse().unwrap_or_else(|_| panic!("without a flip the store {log_size}"));
    assert_eq!(told(engine, &whole, &tokens, log_size), Ok("all right".into()), "without a flip");
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut dice = Dice::new(seed);
    for number in 0..flips {
        let mut image = whole.clone();
        let place = flip(&mut image, &mut dice);
        match told(engine, &image, &tokens, log_size) {
            Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
            Err(complaint) => failures.push(format!("flip {number}, {place}: {complaint}")),
        }
    }
    let mut report = std::io::stderr();
    let name = engine.name();
    writeln!(report, "{name}: {flips} flips, {outcomes:?}, {:?}; seed {seed}", begun.elapsed()).unwrap();
    assert!(failures.is_empty(), "seed {seed}, {} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_flipped_bit_under_fjall_never_gives_another_value() {
    survives(Engine::Fjall, 1);
}

#[test]
fn a_flipped_bit_under_sled_never_gives_another_value() {
    survives(Engine::Sled, 2);
}
