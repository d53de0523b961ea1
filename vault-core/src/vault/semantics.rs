//! A batch equals its calls one after another: random calls in random batches, over a store that fails and a
//! vault that dies, against a model that knows maps and counters and nothing of batches.
//!
//! The model is run only on what was committed. It takes new tokens from the log, in order; everything else
//! it says itself: each answer, each entry, which entry each receipt names, and how many rows there are at
//! the end.
//! `VAULT_TESTS_SEED` repeats a run, `VAULT_TESTS_LONG` makes ten times as many.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use super::*;
use crate::audit::{Action, Entry, LeafHash, Origin, Outcome as Recorded, leaf_hash, read_entries};
use crate::clock::Timestamp;
use crate::crypto::{Entropy, Purposes, SeededEntropy, SystemEntropy};
use crate::data::{CallerText, Card, Class, Environment, Pan, PurposeId, Secret, Ssn, Token, Value};
use crate::error::{Error, Exhausted, Invalid, Unavailable};
use crate::keys::Keyring;
use crate::policy::{Identity, Policy};
use crate::store::memory::{Injected, MemoryStore};
use crate::store::{Key, Space, Store as _, rows};

const RUNS: u64 = 1_000;
const BATCHES: u64 = 60;
/// Few values, so that they repeat.
const PANS: [&str; 6] = [
    "4111111111111111",
    "5555555555554444",
    "378282246310005",
    "6011111111111117",
    "3530111333300000",
    "4012888888881881",
];
const KEYS: u64 = 4;
const WHO: [&str; 7] = ["checkout", "billing", "kiosk", "agent", "care", "desk", "nobody"];

const POLICY: &str = r#"
[[tenant]]
id = "shop"
classes = ["pan", "ssn"]
requests_per_minute = 60

[[tenant]]
id = "indexed"
classes = ["pan", "ssn"]
one_token_per_value = true

[[purpose]]
id = "settlement"
version = 1
classes = ["pan", "ssn"]
text_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

[[purpose]]
id = "refund"
version = 1
classes = ["pan"]
text_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

[[recipient]]
id = "acquirer"
purposes = ["settlement", "refund"]

[[principal]]
id = "checkout"
identity = "uri:spiffe://test/checkout"
tenant = "shop"
role = "checkout"
rights = ["tokenize"]
classes = ["pan", "ssn"]
requests_per_minute = 25

[[principal]]
id = "billing"
identity = "uri:spiffe://test/billing"
tenant = "shop"
role = "billing"
rights = ["detokenize", "view", "compare"]
classes = ["pan", "ssn"]
purposes = ["settlement", "refund"]
recipients = ["acquirer"]
requests_per_minute = 40
distinct_tokens_per_day = 12

[[principal]]
id = "kiosk"
identity = "uri:spiffe://test/kiosk"
tenant = "indexed"
role = "checkout"
rights = ["tokenize", "find-by-value"]
classes = ["pan"]
requests_per_minute = 30

[[principal]]
id = "agent"
identity = "uri:spiffe://test/agent"
tenant = "indexed"
role = "billing"
rights = ["detokenize", "view"]
classes = ["pan", "ssn"]
purposes = ["settlement"]
recipients = ["acquirer"]
requests_per_minute = 40
distinct_tokens_per_day = 8

[[principal]]
id = "care"
identity = "uri:spiffe://test/care"
tenant = "shop"
role = "customer-service"
rights = ["erase"]
classes = ["pan", "ssn"]
requests_per_minute = 35

[[principal]]
id = "desk"
identity = "uri:spiffe://test/desk"
tenant = "indexed"
role = "customer-service"
rights = ["erase"]
classes = ["pan", "ssn"]
requests_per_minute = 35
"#;

/// A value, as the model knows it.
type Digits = (Class, String);

/// One item of a tokenize call; `None` is one that did not parse.
type Item = Option<(Digits, bool)>;

#[derive(Clone)]
enum Ask {
    /// Items with whether they are restricted to refunds; an idempotency key; whether it is the batch call.
    Tokenize(Vec<Item>, Option<u64>, bool),
    /// Tokens, `None` where one did not parse, and the purpose.
    Detokenize(Vec<Option<Token>>, &'static str),
    View(Token),
    Compare(Token, String),
    Find(Digits),
    Erase(Token),
}

#[derive(Clone)]
struct Call {
    who: &'static str,
    at: Timestamp,
    ask: Ask,
}

/// What a call answers.
#[derive(Debug, PartialEq)]
enum Said {
    Tokens(Vec<Result<Token, Error>>),
    Values(Vec<Result<String, Error>>),
    LastFour(String),
    Same(bool),
    Found(Option<Token>),
    Erased,
    Refused(Error),
}

/// What of an entry the model says.
#[derive(Debug, PartialEq)]
struct Written {
    action: Action,
    outcome: Recorded,
    token: Option<Token>,
    count: u32,
}

#[derive(Clone)]
struct Record {
    tenant: &'static str,
    digits: Digits,
    for_refunds: bool,
}

/// What an idempotency key stands for, until when.
struct Remembered {
    ends: u64,
    body: Vec<Item>,
    results: Vec<Result<Token, Error>>,
}

/// One after another, in maps.
#[derive(Default)]
struct Model {
    records: HashMap<Token, Record>,
    index: HashMap<Digits, Token>,
    remembered: HashMap<(&'static str, bool, u64), Remembered>,
    /// Window, used, refused.
    minutes: HashMap<&'static str, (u64, u32, u32)>,
    days: HashMap<&'static str, (u64, u32)>,
    seen: HashSet<(&'static str, u64, Token)>,
    /// Tokens that were minted and never stored, and those with the tag of this vault.
    ours: HashSet<Token>,
    fresh: VecDeque<Token>,
    written: Vec<Written>,
}

impl Model {
    fn write(&mut self, action: Action, outcome: Recorded, token: Option<Token>, count: u32) {
        self.written.push(Written { action, outcome, token, count });
    }

    fn named(&self, token: Token) -> Option<Token> {
        (self.records.contains_key(&token) || self.ours.contains(&token)).then_some(token)
    }

    /// The call's answer; how many of the entries written are not its own.
    fn call(&mut self, call: &Call) -> (Said, usize) {
        let action = match call.ask {
            Ask::Tokenize(..) => Action::Tokenize,
            Ask::Detokenize(..) => Action::Detokenize,
            Ask::View(_) => Action::View,
            Ask::Compare(..) => Action::Compare,
            Ask::Find(_) => Action::FindByValue,
            Ask::Erase(_) => Action::Erase,
        };
        let before = self.written.len();
        let refused = self.charge(call);
        let foreign = self.written.len() - before;
        let said = match refused {
            None => self.work(call, action),
            Some(first) => {
                let stranger = call.who == "nobody";
                let left = 60 - (call.at.seconds() % 60) as u32;
                let quota = Error::Exhausted(Exhausted::Quota { retry_after_seconds: left });
                if first {
                    let token = match call.ask {
                        Ask::View(token) | Ask::Compare(token, _) | Ask::Erase(token) => self.named(token),
                        Ask::Detokenize(ref tokens, _) if tokens.len() == 1 => {
                            tokens[0].and_then(|token| self.named(token))
                        }
                        _ => None,
                    };
                    let outcome = if stranger { Recorded::Denied } else { Recorded::Quota };
                    self.write(action, outcome, token, 1);
                }
                Said::Refused(if stranger { Error::Denied } else { quota })
            }
        };
        (said, foreign)
    }

    /// `None` when paid; else whether it is the first refusal of the minute.
    fn charge(&mut self, call: &Call) -> Option<bool> {
        let scopes: &[(&'static str, u32)] = match call.who {
            "checkout" => &[("checkout", 25), ("the shop", 60)],
            "billing" => &[("billing", 40), ("the shop", 60)],
            "kiosk" => &[("kiosk", 30)],
            "agent" => &[("agent", 40)],
            "care" => &[("care", 35), ("the shop", 60)],
            "desk" => &[("desk", 35)],
            _ => &[("strangers", 60)],
        };
        let items = match &call.ask {
            Ask::Tokenize(items, ..) => items.len() as u32,
            Ask::Detokenize(tokens, _) => tokens.len() as u32,
            _ => 1,
        };
        let minute = call.at.seconds() / 60;
        for (scope, _) in scopes {
            let (window, _, refused) = self.minutes.get(scope).copied().unwrap_or_default();
            if window != minute {
                if refused > 1 && *scope != "the shop" {
                    self.write(Action::QuotaSummary, Recorded::Done, None, refused - 1);
                }
                self.minutes.insert(scope, (minute, 0, 0));
            }
        }
        let fits = scopes.iter().all(|(scope, limit)| self.minutes[scope].1 + items <= *limit);
        let first = self.minutes[scopes[0].0].2 == 0;
        for (scope, _) in scopes {
            let counter = self.minutes.get_mut(scope).unwrap();
            if fits { counter.1 += items } else { counter.2 += 1 }
        }
        (!fits).then_some(first)
    }

    fn work(&mut self, call: &Call, action: Action) -> Said {
        match &call.ask {
            Ask::Tokenize(items, key, batch) => self.tokenize(call, items, *key, *batch),
            Ask::Detokenize(tokens, purpose) => self.detokenize(call, tokens, purpose),
            Ask::View(token) | Ask::Compare(token, _) => {
                let may = match action {
                    Action::View => ["billing", "agent"].contains(&call.who),
                    _ => call.who == "billing",
                };
                let found = self.records.get(token).filter(|record| record.tenant == tenant(call.who));
                let (outcome, said) = match (may, found, &call.ask) {
                    (false, ..) => (Recorded::Denied, Said::Refused(Error::Denied)),
                    (true, None, _) => (Recorded::UnknownToken, Said::Refused(Error::UnknownToken)),
                    (true, Some(record), Ask::Compare(_, four)) => {
                        (Recorded::Done, Said::Same(record.digits.1.ends_with(four.as_str())))
                    }
                    (true, Some(record), _) => (Recorded::Done, Said::LastFour(last_four(&record.digits))),
                };
                self.write(action, outcome, self.named(*token), 1);
                said
            }
            Ask::Erase(token) => self.erase(call, *token),
            Ask::Find(digits) if call.who == "kiosk" && digits.0 == Class::Pan => {
                let found = self.index.get(digits).copied();
                self.write(action, Recorded::Done, found, 1);
                Said::Found(found)
            }
            Ask::Find(_) => {
                self.write(action, Recorded::Denied, None, 1);
                Said::Refused(Error::Denied)
            }
        }
    }

    fn erase(&mut self, call: &Call, token: Token) -> Said {
        let named = self.named(token);
        let there = self.records.get(&token).is_some_and(|record| record.tenant == tenant(call.who));
        let (outcome, said) = match (["care", "desk"].contains(&call.who), there) {
            (false, _) => (Recorded::Denied, Said::Refused(Error::Denied)),
            (true, false) => (Recorded::UnknownToken, Said::Refused(Error::UnknownToken)),
            (true, true) => (Recorded::Done, Said::Erased),
        };
        if outcome == Recorded::Done {
            self.records.remove(&token);
            self.ours.insert(token);
            self.index.retain(|_, indexed| *indexed != token);
            self.remembered.retain(|_, remembered| !remembered.results.contains(&Ok(token)));
        }
        self.write(Action::Erase, outcome, named, 1);
        said
    }

    fn tokenize(&mut self, call: &Call, items: &[Item], key: Option<u64>, batch: bool) -> Said {
        let may = |item: &Item| {
            item.as_ref().is_none_or(|((class, _), for_refunds)| {
                let class_of = call.who == "checkout" || call.who == "kiosk" && *class == Class::Pan;
                class_of && !(*for_refunds && *class == Class::Ssn)
            })
        };
        let single = matches!(items, [Some(_)]) && !may(&items[0]);
        if single || !["checkout", "kiosk"].contains(&call.who) {
            self.write(Action::Tokenize, Recorded::Denied, None, 1);
            return Said::Refused(Error::Denied);
        }
        let place = key.map(|key| (call.who, batch, key));
        if let Some(Remembered { ends, body, results }) =
            place.as_ref().and_then(|place| self.remembered.get(place))
            && call.at.seconds() < *ends
        {
            if body != items {
                self.write(Action::Tokenize, Recorded::IdempotencyKeyReused, None, 1);
                return Said::Refused(Error::IdempotencyKeyReused);
            }
            let results = results.clone();
            let token = if let [Ok(token)] = results.as_slice() { Some(*token) } else { None };
            self.write(Action::Tokenize, Recorded::Replayed, token, items.len() as u32);
            return Said::Tokens(results);
        }
        let results: Vec<_> = items.iter().map(|item| self.item(call, item.as_ref(), may(item))).collect();
        if let Some(place) = place.filter(|_| results.iter().any(Result::is_ok)) {
            let ends = call.at.seconds() + 24 * 60 * 60;
            let (body, results) = (items.to_vec(), results.clone());
            self.remembered.insert(place, Remembered { ends, body, results });
        }
        Said::Tokens(results)
    }

    fn item(&mut self, call: &Call, item: Option<&(Digits, bool)>, may: bool) -> Result<Token, Error> {
        let (outcome, token) = match item {
            None => (Recorded::Invalid(Invalid::PanLuhn), Err(Error::Invalid(Invalid::PanLuhn))),
            Some(_) if !may => (Recorded::Denied, Err(Error::Denied)),
            Some((digits, for_refunds)) => {
                let existing = self.index.get(digits).filter(|_| call.who == "kiosk").copied();
                match existing {
                    Some(token) => (Recorded::Existing, Ok(token)),
                    None => (Recorded::Done, Ok(self.store(call, digits, *for_refunds))),
                }
            }
        };
        self.write(Action::Tokenize, outcome, token.as_ref().ok().copied(), 1);
        token
    }

    fn store(&mut self, call: &Call, digits: &Digits, for_refunds: bool) -> Token {
        let token = self.fresh.pop_front().expect("the log names no further new token");
        let record = Record { tenant: tenant(call.who), digits: digits.clone(), for_refunds };
        assert!(self.records.insert(token, record).is_none(), "a token was minted twice");
        if call.who == "kiosk" {
            self.index.insert(digits.clone(), token);
        }
        token
    }

    fn detokenize(&mut self, call: &Call, tokens: &[Option<Token>], purpose: &str) -> Said {
        let may = |class: Class| match (call.who, purpose) {
            ("billing" | "agent", "settlement") => true,
            ("billing", "refund") => class == Class::Pan,
            _ => false,
        };
        let asked: Vec<Class> = tokens.iter().flatten().map(Token::class).collect();
        let any = if asked.is_empty() { &Class::ALL[..] } else { &asked[..] };
        if !any.iter().any(|class| may(*class)) {
            let token = if let [Some(token)] = tokens { self.named(*token) } else { None };
            self.write(Action::Detokenize, Recorded::Denied, token, 1);
            return Said::Refused(Error::Denied);
        }
        let release = |token: &Option<Token>| {
            let Some(token) = *token else {
                let invalid = Invalid::TokenMalformed;
                self.write(Action::Detokenize, Recorded::Invalid(invalid), None, 1);
                return Err(Error::Invalid(invalid));
            };
            let released = if may(token.class()) {
                self.charge_distinct(call, token).and_then(|()| self.value(call, token, purpose))
            } else {
                Err((Recorded::Denied, Error::Denied))
            };
            let outcome = released.as_ref().map_or_else(|(outcome, _)| *outcome, |_| Recorded::Done);
            self.write(Action::Detokenize, outcome, self.named(token), 1);
            released.map_err(|(_, error)| error)
        };
        Said::Values(tokens.iter().map(release).collect())
    }

    fn charge_distinct(&mut self, call: &Call, token: Token) -> Result<(), (Recorded, Error)> {
        let (scope, limit) = if call.who == "billing" { ("billing", 12) } else { ("agent", 8) };
        let day = call.at.seconds() / 86_400;
        let (window, used) = self.days.get(scope).copied().unwrap_or_default();
        let used = if window == day { used } else { 0 };
        if self.seen.contains(&(scope, day, token)) {
            return Ok(());
        }
        if used >= limit {
            let left = 86_400 - (call.at.seconds() % 86_400) as u32;
            return Err((Recorded::Quota, Error::Exhausted(Exhausted::Quota { retry_after_seconds: left })));
        }
        self.days.insert(scope, (day, used + 1));
        self.seen.insert((scope, day, token));
        Ok(())
    }

    fn value(&self, call: &Call, token: Token, purpose: &str) -> Result<String, (Recorded, Error)> {
        self.records
            .get(&token)
            .filter(|record| {
                record.tenant == tenant(call.who) && (!record.for_refunds || purpose == "refund")
            })
            .map(|record| record.digits.1.clone())
            .ok_or((Recorded::UnknownToken, Error::UnknownToken))
    }
}

fn tenant(who: &str) -> &'static str {
    match who {
        "checkout" | "billing" | "care" => "shop",
        "kiosk" | "agent" | "desk" => "indexed",
        _ => "none",
    }
}

fn last_four((_, digits): &Digits) -> String {
    digits[digits.len() - 4..].to_owned()
}

/// Numbers from a seed.
struct Dice(SeededEntropy);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes).unwrap();
        u64::from_be_bytes(bytes) % end
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn digits(&mut self) -> Digits {
        let number = self.below(PANS.len() as u64);
        if self.one_in(3) {
            return (Class::Ssn, format!("12345{:04}", 1_000 + number));
        }
        (Class::Pan, PANS[number as usize].to_owned())
    }
}

/// A vault under test, its store, and the model beside it.
struct Bench {
    store: Arc<MemoryStore>,
    vault: Vault,
    dice: Dice,
    entropy: SeededEntropy,
    now: Timestamp,
    model: Model,
    read: u64,
    /// Tokens that can be asked for, good and bad.
    tokens: Vec<Token>,
}

/// The same keys each time: the same randomness makes them.
fn open(store: &Arc<MemoryStore>, now: Timestamp) -> Vault {
    let mut entropy = SeededEntropy::new(7);
    let keyring = Keyring::create(Environment::parse("test").unwrap(), &mut entropy, now).unwrap();
    let policy = Arc::new(Policy::parse(POLICY).unwrap());
    let origin = Origin::parse("vault.test/semantics").unwrap();
    let store = Arc::clone(store);
    Vault::with_keyring(store, keyring, origin, policy, now, &mut entropy).unwrap()
}

impl Bench {
    fn new(seed: u64) -> Self {
        let store = Arc::new(MemoryStore::new());
        let now = Timestamp::from_seconds(1_800_000_000);
        let vault = open(&store, now);
        let mut bench = Self {
            store,
            vault,
            dice: Dice(SeededEntropy::new(seed)),
            entropy: SeededEntropy::new(seed ^ 0x5555),
            now,
            model: Model::default(),
            read: 0,
            tokens: Vec::new(),
        };
        bench.read_on();
        for class in Class::ALL {
            let never_stored = bench.vault.keys().keyring.mint(class, &mut bench.entropy).unwrap();
            bench.model.ours.insert(never_stored);
            bench.tokens.extend([never_stored, Token::from_parts(class, *never_stored.bits(), [0; 4])]);
        }
        bench
    }

    /// The calls' entries since the last time.
    fn read_on(&mut self) -> Vec<Logged> {
        let head = self.vault.tree_head();
        let mut entries = Vec::new();
        while self.read < head.size {
            for logged in read_entries(&self.vault.log(), &head, self.read, 500).unwrap() {
                self.read += 1;
                let leaf = leaf_hash(&logged.entry.to_bytes());
                entries.push(Logged { index: logged.index, leaf, entry: logged.entry });
            }
        }
        // What an opening entered is none of the calls'.
        let opening = [Action::LogOpened, Action::PolicyLoaded, Action::KeyIntroduced, Action::KeyEnabled];
        entries.retain(|one| !opening.contains(&one.entry.action));
        entries
    }

    fn token(&mut self) -> Token {
        // Newer ones more often: old ones fill the day's quota.
        let newest = self.tokens.len().saturating_sub(12);
        if self.dice.one_in(3) {
            self.dice.pick(&self.tokens)
        } else {
            self.dice.pick(&self.tokens[newest..])
        }
    }

    fn ask(&mut self) -> Ask {
        match self.dice.below(9) {
            0..=2 => {
                let batch = self.dice.one_in(3);
                let count = if batch { 1 + self.dice.below(6) } else { 1 };
                let item = |dice: &mut Dice| {
                    let bad = batch && dice.one_in(5);
                    (!bad).then(|| (dice.digits(), dice.one_in(4)))
                };
                let items = (0..count).map(|_| item(&mut self.dice)).collect();
                let key = self.dice.one_in(2).then(|| self.dice.below(KEYS));
                Ask::Tokenize(items, key, batch)
            }
            3 | 4 => {
                let count = if self.dice.one_in(3) { 1 + self.dice.below(6) } else { 1 };
                let token = |bench: &mut Self| {
                    let bad = count > 1 && bench.dice.one_in(6);
                    if bad { None } else { Some(bench.token()) }
                };
                let tokens = (0..count).map(|_| token(self)).collect();
                Ask::Detokenize(tokens, self.dice.pick(&["settlement", "settlement", "refund", "marketing"]))
            }
            5 => Ask::View(self.token()),
            6 => {
                let digits = self.dice.digits();
                Ask::Compare(self.token(), last_four(&digits))
            }
            7 => Ask::Erase(self.token()),
            _ => Ask::Find(self.dice.digits()),
        }
    }

    /// Random calls as one batch over a store that may fail.
    fn batch(&mut self) {
        let later = if self.dice.one_in(25) { 90_000 } else { self.dice.below(15) };
        self.now = self.now.plus_seconds(later);
        let count = 1 + self.dice.below(10);
        let calls: Vec<Call> =
            (0..count).map(|_| Call { who: self.dice.pick(&WHO), at: self.now, ask: self.ask() }).collect();
        let prepared: Vec<Prepared> = calls.iter().map(|call| self.prepare(call)).collect();
        let (orders, end) = self.orders();
        self.store.inject(orders);
        let outcomes = self.vault.commit(&prepared, &mut self.entropy);
        let was_applied = matches!(end, Injected::Pass | Injected::UnknownApplied);
        if end != Injected::Pass {
            assert_eq!(self.vault.health(), Health::Suspended);
        }
        self.come_back(end != Injected::Pass);
        let entries = self.read_on();
        let said: Vec<_> = if was_applied { self.expect(&calls, &entries) } else { Vec::new() };
        if !was_applied {
            assert_eq!(entries.len(), 0, "nothing was committed, yet the log grew");
        }
        for (at, outcome) in outcomes.into_iter().enumerate() {
            match end {
                Injected::Pass => expect_answer(outcome, &said[at], &entries),
                Injected::Unavailable => {
                    assert_eq!(outcome.result().err(), Some(&Error::Unavailable(Unavailable::Store)));
                }
                // Without an entry there is nothing by which the vault could tell later.
                _ if was_applied && entries.is_empty() => assert!(outcome.result().is_err()),
                _ => assert!(matches!(outcome.result(), Err(Error::Unavailable(_)))),
            }
        }
        if self.dice.one_in(5) {
            self.come_back(true);
            assert_eq!(self.read_on().len(), 0, "a crash changed the log");
        }
    }

    /// Conflicts first, then how the commit ends.
    fn orders(&mut self) -> (Vec<Injected>, Injected) {
        let conflicts = if self.dice.one_in(4) { self.dice.below(8) as usize } else { 0 };
        let end = match self.dice.below(12) {
            0 => Injected::Unavailable,
            1 => Injected::UnknownApplied,
            2 => Injected::UnknownNotApplied,
            _ => Injected::Pass,
        };
        let mut orders = vec![Injected::Conflict; conflicts];
        orders.push(end);
        (orders, end)
    }

    /// The same vault finds out what happened, or a new one after a crash.
    fn come_back(&mut self, needed: bool) {
        if !needed {
            return;
        }
        if self.dice.one_in(2) {
            assert_eq!(self.vault.resume(), Health::Serving);
            return;
        }
        self.store.crash();
        self.store.reopen().unwrap();
        self.vault = open(&self.store, self.now);
    }

    fn prepare(&mut self, call: &Call) -> Prepared {
        let request = match &call.ask {
            Ask::Tokenize(items, key, batch) => Request::Tokenize {
                items: items.iter().map(item).collect(),
                idempotency_key: key.map(|key| text(&format!("key-{key}"))),
                batch: *batch,
            },
            Ask::Detokenize(tokens, purpose) => Request::Detokenize {
                items: tokens.iter().map(|token| token.ok_or(Invalid::TokenMalformed)).collect(),
                purpose: (*purpose).to_owned(),
                recipient: "acquirer".to_owned(),
                reference: Some(text("order-1")),
            },
            Ask::View(token) => Request::View { token: *token, reference: None },
            Ask::Compare(token, four) => {
                let last_four = Secret::new(Box::new(four.as_bytes().try_into().unwrap()));
                Request::Compare { token: *token, last_four, reference: None }
            }
            Ask::Find(digits) => Request::FindByValue { value: value(digits), reference: None },
            Ask::Erase(token) => Request::Erase { token: *token, reference: Some(text("case-1")) },
        };
        let who = Identity::uri(&format!("spiffe://test/{}", call.who)).unwrap();
        self.vault.prepare(&who, request, call.at, &mut self.entropy)
    }

    /// What the model says of the calls, held against the log; with each answer the entries that are its own.
    fn expect(&mut self, calls: &[Call], entries: &[Logged]) -> Vec<(Said, Range<usize>)> {
        let minted = entries.iter().filter(|logged| {
            (logged.entry.action, logged.entry.outcome) == (Action::Tokenize, Recorded::Done)
        });
        self.model.fresh = minted.map(|logged| logged.entry.token.expect("a token")).collect();
        self.tokens.extend(&self.model.fresh);
        self.model.written.clear();
        let mut said = Vec::new();
        for call in calls {
            let before = self.model.written.len();
            let (answer, foreign) = self.model.call(call);
            said.push((answer, before + foreign..self.model.written.len()));
        }
        assert!(self.model.fresh.is_empty(), "the log names tokens that no call made");
        let logged: Vec<Written> = entries.iter().map(Written::of).collect();
        assert_eq!(logged, self.model.written);
        said
    }

    /// Tokens in all rows of the space of seen ones, under each scope: each stands there once.
    fn counted_tokens(&self) -> usize {
        let image = self.store.image();
        let mut counted = 0;
        for (_, row) in image.iter().filter(|(key, _)| key.space() == Space::Seen) {
            let mut rest = &row.value[..row.value.len() - rows::GUARD_BYTES];
            while let Some((length, after)) = rest.split_first() {
                let (count, after) = after[usize::from(*length)..].split_first_chunk().unwrap();
                let count = u32::from_be_bytes(*count) as usize;
                counted += count;
                rest = &after[count * Token::BYTES..];
            }
        }
        counted
    }

    /// Nothing is left over, nothing is missing.
    fn expect_rows(&mut self) {
        let mut rows: HashMap<Space, usize> = HashMap::new();
        // Traces lead to rows; what they say is checked by what erasing leaves.
        let is_trace = |key: &Key| key.space() == Space::Idempotency && key.bytes().first() == Some(&0);
        for key in self.store.image().keys().filter(|key| !is_trace(key)) {
            *rows.entry(key.space()).or_default() += 1;
        }
        let count = |space| rows.get(&space).copied().unwrap_or_default();
        assert_eq!(count(Space::Record), self.model.records.len());
        assert_eq!(count(Space::Index), self.model.index.len());
        assert_eq!(self.counted_tokens(), self.model.seen.len());
        assert_eq!(count(Space::Idempotency), self.model.remembered.len());
        let report = self.vault.check(self.now, &mut self.entropy).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!(report.records, self.model.records.len() as u64);
    }
}

/// An entry with its place.
struct Logged {
    index: u64,
    leaf: LeafHash,
    entry: Entry,
}

impl Written {
    fn of(logged: &Logged) -> Self {
        let Entry { action, outcome, token, count, .. } = logged.entry;
        Self { action, outcome, token, count }
    }
}

fn text(text: &str) -> CallerText {
    CallerText::parse(text).unwrap()
}

fn value((class, digits): &Digits) -> Value {
    match class {
        Class::Pan => {
            let pan = Pan::parse(digits.as_bytes()).unwrap();
            Value::Pan(Card { pan, expiry: None, cardholder_name: None })
        }
        Class::Ssn => Value::Ssn(Ssn::parse(digits.as_bytes()).unwrap()),
    }
}

fn item(item: &Item) -> Result<NewValue, Invalid> {
    let (digits, for_refunds) = item.as_ref().ok_or(Invalid::PanLuhn)?;
    let purposes = if *for_refunds { vec![PurposeId::parse("refund").unwrap()] } else { Vec::new() };
    Ok(NewValue { value: value(digits), purposes: Purposes::new(purposes).unwrap(), reference: None })
}

/// The answer is what the model says, and its receipts name its own entries, in order.
fn expect_answer(outcome: Outcome, (said, own): &(Said, Range<usize>), entries: &[Logged]) {
    let named: Vec<_> = outcome.receipts().iter().map(|receipt| (receipt.index, receipt.leaf_hash)).collect();
    let own: Vec<_> = entries[own.clone()].iter().map(|logged| (logged.index, logged.leaf)).collect();
    assert_eq!(named, own, "receipts");
    let answer = match outcome.into_result() {
        Err(error) => Said::Refused(error),
        Ok(Reply::Tokenized(tokens)) => Said::Tokens(tokens),
        Ok(Reply::Detokenized(released)) => Said::Values(
            released
                .into_iter()
                .map(|one| one.map(|one| String::from_utf8(one.value.expose_digits().to_vec()).unwrap()))
                .collect(),
        ),
        Ok(Reply::Viewed(view)) => {
            let masked = view.masked.to_string();
            assert!(masked.bytes().filter(u8::is_ascii_digit).count() <= 4, "no more than the last four");
            Said::LastFour(masked[masked.len() - 4..].to_owned())
        }
        Ok(Reply::Compared(same)) => Said::Same(same),
        Ok(Reply::Found(token)) => Said::Found(token),
        Ok(Reply::Erased) => Said::Erased,
        Ok(Reply::Granted(_)) => panic!("nobody asked for a grant"),
    };
    assert_eq!(answer, *said);
}

/// Tells the seed when a run fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "VAULT_TESTS_SEED={}", self.0);
        }
    }
}

#[test]
fn a_batch_equals_its_calls_one_after_another_whatever_fails() {
    let given = std::env::var("VAULT_TESTS_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let runs = if std::env::var_os("VAULT_TESTS_LONG").is_some() { 10 * RUNS } else { RUNS };
    let mut first = [0; 8];
    SystemEntropy::new().fill(&mut first).unwrap();
    let first = u64::from_be_bytes(first);
    let seeds = given.map_or_else(|| (0..runs).map(|run| first.wrapping_add(run)).collect(), |one| vec![one]);
    for seed in seeds {
        let _told = Seed(seed);
        let mut bench = Bench::new(seed);
        (0..BATCHES).for_each(|_| bench.batch());
        bench.expect_rows();
    }
}
