//! One bit flipped in what an engine has on disk: a token gives its own value or an error, never another.
//!
//! No engine notices every flipped bit. What is asked of the vault above it:
//!
//! - what `damage` asks of every engine;
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
use std::fs;
use std::io::Write as _;
use std::panic::{self, Location};
use std::path::{Path, PathBuf};
use std::time::Instant;

use vault_recorder::{Dice, Image, Place};
use vault_simulation::child::{self, Order, complaint};
use vault_simulation::damage::{ask, fill, vault};
use vault_simulation::engine::Engine;
use vault_simulation::scratch;

const CHILD: &str = "the_child_process";
/// Set to anything, the tests take ten times as many flips.
const LONG: &str = "VAULT_TESTS_LONG";
/// Set to a number, the tests begin with that seed instead of theirs.
const SEED: &str = "VAULT_TESTS_SEED";

const FLIPS: usize = 1_500;
/// Tokens and the values they stand for, one pair a line.
const TOKENS_FILE: &str = "tokens";
/// What a child says last.
const TOLD_FILE: &str = "told";
const OPENING: &str = "opening";
/// Where a child's last panic was, caught or not.
const PANICS_FILE: &str = "panicked";

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
    let Ok(store) = engine.open(&folder.join("store")) else { return "does not open".into() };
    fs::write(folder.join(TOLD_FILE), "open").unwrap();
    ask(vault(store.into()), &tokens, log_size)
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
    let tokens = fill(&vault(engine.open(folder.path()).unwrap().into()).unwrap());
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
