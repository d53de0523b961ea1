//! What callers asked of a vault and were told, judged by what a vault promises and by nothing of how it
//! works: neither daemons nor commits nor servers occur here.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

use vault_proto::v1::Receipt;

/// A call, and how it ended for its caller.
pub(crate) struct Event {
    /// The minutes of the clock in which it began and ended.
    pub(crate) minutes: (u64, u64),
    pub(crate) ask: Ask,
    pub(crate) end: End,
}

/// What was asked. Values are digits.
#[derive(Clone)]
pub(crate) enum Ask {
    /// A token for a value, where a value has one.
    OfValue(String),
    /// A token for a value under an idempotency key, where a value may have many.
    UnderKey { key: String, value: String },
    /// The same without a key, by a principal that may ask so often a minute.
    Limited(String),
    /// The value of a token that somebody had been given before.
    Reveal(String),
}

/// What the caller knows.
pub(crate) enum End {
    Token(String, Receipt),
    Value(String),
    /// The vault's reason.
    Refused(String),
    /// No answer came.
    Unanswered,
}

/// Reasons that call for patience: whoever repeats the call is served in the end.
const PATIENCE: [&str; 4] = ["STORE", "OUTCOME_UNKNOWN", "BUSY", "DEADLINE_EXCEEDED"];

/// Every promise that was broken.
pub(crate) fn broken(history: &[Event], limit: u64) -> Vec<String> {
    let mut broken = Vec::new();
    let tokenized = history.iter().filter_map(Event::tokenized);
    let stands_for: HashMap<&str, &str> = tokenized.clone().map(|(value, token, _)| (token, value)).collect();
    let of_values = tokenized.clone().map(|(value, token, _)| (token, value));
    broken.extend(repeated("a token stands for two values", of_values));
    let of_token = history.iter().filter_map(|event| match (&event.ask, &event.end) {
        (Ask::OfValue(value), End::Token(token, _)) => Some((value, token)),
        _ => None,
    });
    broken.extend(repeated("a value has two tokens", of_token));
    let of_key = history.iter().filter_map(|event| match (&event.ask, &event.end) {
        (Ask::UnderKey { key, .. }, End::Token(token, _)) => Some((key, token)),
        _ => None,
    });
    broken.extend(repeated("a key has two outcomes", of_key));
    let receipts = tokenized.map(|(_, _, receipt)| (&receipt.origin, receipt.index));
    broken.extend(twice("two calls have one receipt", receipts));
    let limited = history.iter().filter(|event| matches!(event.ask, Ask::Limited(_)));
    let fresh = limited.clone().filter_map(Event::tokenized).map(|(_, token, _)| token);
    broken.extend(twice("a token was given twice as new", fresh));
    broken.extend(overrun(limited, limit));
    broken.extend(history.iter().filter_map(|event| event.wrong_by_itself(&stands_for)));
    broken
}

impl Event {
    /// Value, token and receipt, where it gave a token.
    fn tokenized(&self) -> Option<(&str, &str, &Receipt)> {
        let End::Token(token, receipt) = &self.end else { return None };
        match &self.ask {
            Ask::OfValue(value) | Ask::UnderKey { value, .. } | Ask::Limited(value) => {
                Some((value, token, receipt))
            }
            Ask::Reveal(_) => None,
        }
    }

    fn wrong_by_itself(&self, stands_for: &HashMap<&str, &str>) -> Option<String> {
        match (&self.ask, &self.end) {
            (Ask::Reveal(token), End::Value(value)) => {
                let wrong = stands_for.get(token.as_str()) != Some(&value.as_str());
                wrong.then(|| format!("{token} gave another value than it was given for"))
            }
            (Ask::Reveal(token), End::Refused(reason)) if reason == "UNKNOWN_TOKEN" => {
                Some(format!("{token} is lost"))
            }
            (Ask::Limited(_), End::Refused(reason)) if reason == "QUOTA" => None,
            (_, End::Refused(reason)) => {
                let wrong = !PATIENCE.contains(&reason.as_str());
                wrong.then(|| format!("a good call was refused: {reason}"))
            }
            (Ask::Reveal(_), End::Token(..)) => Some("a token for a token".to_owned()),
            (Ask::Reveal(_) | _, End::Unanswered | End::Token(..)) => None,
            (_, End::Value(_)) => Some("a value for a value".to_owned()),
        }
    }
}

/// What is not always followed by the same.
fn repeated<K: Debug + Eq + Hash, V: Debug + Eq>(
    what: &str,
    pairs: impl Iterator<Item = (K, V)>,
) -> Vec<String> {
    let mut first = HashMap::new();
    let mut wrong = Vec::new();
    for (key, value) in pairs {
        let known = first.entry(key);
        match known {
            std::collections::hash_map::Entry::Occupied(known) if *known.get() != value => {
                wrong.push(format!("{what}: {:?}: {:?} and {value:?}", known.key(), known.get()));
            }
            known => drop(known.or_insert(value)),
        }
    }
    wrong
}

/// What occurs more than once.
fn twice<K: Debug + Eq + Hash>(what: &str, keys: impl Iterator<Item = K>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut wrong = Vec::new();
    for key in keys {
        let told = format!("{what}: {key:?}");
        if !seen.insert(key) {
            wrong.push(told);
        }
    }
    wrong
}

/// Minutes in which more calls were served than are allowed: of those that surely fall into one.
fn overrun<'a>(limited: impl Iterator<Item = &'a Event>, limit: u64) -> Vec<String> {
    let mut minutes: HashMap<u64, u64> = HashMap::new();
    let served = limited.filter(|event| event.tokenized().is_some());
    for minute in served.filter(|event| event.minutes.0 == event.minutes.1).map(|event| event.minutes.0) {
        *minutes.entry(minute).or_default() += 1;
    }
    let over = minutes.into_iter().filter(|(_, served)| *served > limit);
    over.map(|(minute, served)| format!("{served} calls of a limit of {limit} in minute {minute}")).collect()
}

fn event(ask: Ask, end: End) -> Event {
    Event { minutes: (7, 7), ask, end }
}

fn token(name: &str, index: u64) -> End {
    let receipt = Receipt { origin: "tests.invalid/log".to_owned(), index, leaf_hash: Vec::new() };
    End::Token(name.to_owned(), receipt)
}

fn under_key(key: &str, value: &str) -> Ask {
    Ask::UnderKey { key: key.to_owned(), value: value.to_owned() }
}

/// A history in which nothing is wrong, under a limit of two.
fn good() -> Vec<Event> {
    let (of_value, limited) = (|| Ask::OfValue("1".to_owned()), || Ask::Limited("1".to_owned()));
    vec![
        event(of_value(), token("a", 0)),
        event(of_value(), token("a", 1)),
        event(of_value(), End::Refused("OUTCOME_UNKNOWN".to_owned())),
        event(under_key("k", "2"), token("b", 2)),
        event(under_key("k", "2"), End::Unanswered),
        event(limited(), token("c", 3)),
        event(limited(), token("d", 4)),
        event(limited(), End::Refused("QUOTA".to_owned())),
        Event { minutes: (7, 8), ..event(limited(), token("e", 5)) },
        event(Ask::Reveal("a".to_owned()), End::Value("1".to_owned())),
        event(Ask::Reveal("b".to_owned()), End::Value("2".to_owned())),
    ]
}

#[test]
fn every_broken_promise_is_seen() {
    assert_eq!(broken(&good(), 2), [] as [String; 0]);
    let reveal = || Ask::Reveal("a".to_owned());
    let refused = |reason: &str| End::Refused(reason.to_owned());
    let spoilt = [
        (event(Ask::OfValue("1".to_owned()), token("f", 6)), "a value has two tokens"),
        (event(under_key("k", "2"), token("f", 6)), "a key has two outcomes"),
        (event(under_key("l", "3"), token("b", 6)), "a token stands for two values"),
        (event(Ask::OfValue("4".to_owned()), token("f", 5)), "two calls have one receipt"),
        (Event { minutes: (8, 9), ..event(Ask::Limited("1".to_owned()), token("e", 6)) }, "twice as new"),
        (event(Ask::Limited("1".to_owned()), token("f", 6)), "3 calls of a limit of 2 in minute 7"),
        (event(reveal(), End::Value("2".to_owned())), "another value"),
        (event(reveal(), refused("UNKNOWN_TOKEN")), "a is lost"),
        (event(reveal(), refused("SEALED")), "refused: SEALED"),
        (event(reveal(), refused("QUOTA")), "refused: QUOTA"),
        (event(Ask::OfValue("1".to_owned()), refused("CORRUPT")), "refused: CORRUPT"),
    ];
    for (event, told) in spoilt {
        let mut history = good();
        history.push(event);
        let broken = broken(&history, 2);
        assert!(broken.iter().any(|promise| promise.contains(told)), "{told}: {broken:?}");
    }
}
