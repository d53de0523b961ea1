//! Texts: values, tokens, names, policy, configuration, receipts and certificates of clients.

use std::fs;
use std::path::Path;

use vault_core::audit::{Origin, Receipt};
use vault_core::data::{CallerText, CardholderName, Pan, Ssn, Token, parse_last_four, sensitive};
use vault_core::policy::{Identity, Policy};
use vault_daemon::config::Config;
use vault_proto::Connector;

use crate::mutation::{Random, mutated};
use crate::{attempt, rounds};

fn corpus(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn file(path: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

#[test]
fn what_is_taken_for_a_token_is_written_the_same_again() {
    let tokens = [
        "tok_pan_fjbplbpepbnnnnnfhclmnoamkmofhlaecoioidpi",
        "tok_ssn_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let (whole, words) = (corpus(&tokens), [&b"tok_pan_"[..], b"tok_ssn_", b"p", "é".as_bytes()]);
    let (mut random, mut taken) = (Random::of("tokens"), 0);
    for _ in 0..rounds(1_000_000) {
        let bytes = mutated(&mut random, &whole, &words);
        taken += attempt("Token", &bytes, || {
            if let Ok(token) = Token::from_bytes(&bytes) {
                assert_eq!(token.to_bytes().as_slice(), bytes);
            }
            let token = Token::parse(&String::from_utf8_lossy(&bytes));
            assert!(token.is_err() || token.is_ok_and(|token| token.to_text().as_bytes() == bytes));
            u32::from(token.is_ok() && !whole.contains(&bytes))
        });
    }
    assert!(taken > 0, "nothing was changed into another token");
}

#[test]
fn what_is_taken_for_a_value_is_one() {
    let values = [
        "4111111111111111",
        "4111 1111 1111 1111",
        "3782-822463-10005",
        "078-05-1120",
        "078051120",
        "Test Card",
        "order-1",
        "%B4111111111111111^TEST/CARD^30121010000000000000?",
        ";4111111111111111=30121010000000000000?",
    ];
    let words: [&[u8]; 6] = [b"4111111111111111", b" ", b"-", b"=", b"^", b"5105105105105100"];
    let (whole, mut random) = (corpus(&values), Random::of("values"));
    for _ in 0..rounds(500_000) {
        let bytes = mutated(&mut random, &whole, &words);
        attempt("a value", &bytes, || value(&bytes));
    }
}

fn value(bytes: &[u8]) {
    let all_digits = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
    if let Ok(pan) = Pan::parse(bytes) {
        let digits = pan.expose_digits();
        assert!((12..=19).contains(&digits.len()) && all_digits(digits) && luhn_holds(digits));
        let given: Vec<u8> = bytes.iter().copied().filter(u8::is_ascii_digit).collect();
        assert_eq!(digits, given);
    }
    if let Ok(ssn) = Ssn::parse(bytes) {
        assert!(ssn.expose_digits().len() == 9 && all_digits(ssn.expose_digits()));
    }
    if let Ok(name) = CardholderName::parse(bytes) {
        assert_eq!(name.expose_bytes(), bytes);
    }
    if let Ok(digits) = parse_last_four(bytes) {
        assert_eq!(digits, bytes);
    }
    let text = String::from_utf8_lossy(bytes);
    let (pan_like, ssn_like) = (sensitive::pan_like(&text), sensitive::ssn_like(&text));
    let _ = sensitive::track_data(bytes);
    if let Ok(text) = CallerText::parse(&text) {
        assert!(text.as_str().as_bytes() == bytes && !pan_like && !ssn_like);
    }
}

fn luhn_holds(digits: &[u8]) -> bool {
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let places = digits.iter().rev().map(|digit| u32::from(digit - b'0')).enumerate();
    places.map(|(place, digit)| if place % 2 == 0 { digit } else { doubled(digit) }).sum::<u32>() % 10 == 0
}

#[test]
fn names_and_receipts_are_written_the_same_again() {
    let texts = [
        "vault.example.com/prod-1",
        "uri:spiffe://example.com/checkout",
        "dns:checkout.example.com",
        "vault.example.com/prod-1 27 PJmAku6sBcmOiFtzLger05DMvsgTT8QKmo3XLG9MaOE=",
    ];
    let words: [&[u8]; 5] = [b"/", b":", b"..", b" ", b"18446744073709551616"];
    let (whole, mut random) = (corpus(&texts), Random::of("names"));
    for _ in 0..rounds(300_000) {
        let bytes = mutated(&mut random, &whole, &words);
        let text = String::from_utf8_lossy(&bytes);
        attempt("a name", &bytes, || {
            let _ = Identity::parse(&text);
            if let Ok(origin) = Origin::parse(&text) {
                assert_eq!(origin.as_str().as_bytes(), bytes);
            }
            if let Ok(receipt) = Receipt::parse(&text) {
                assert_eq!(receipt.to_string().as_bytes(), bytes);
            }
        });
    }
}

/// Words of both files that lead into every branch, and some that must not.
const WORDS: [&[u8]; 16] = [
    b"[[tenant]]\n",
    b"[[principal]]\n",
    b"[vault]\n",
    b"[listen]\n",
    b"id = \"vault\"\n",
    b"\"*\"",
    b"\"\"",
    b"'''",
    b"rights = []\n",
    b"= 18446744073709551615\n",
    b"= -1\n",
    b"= 1e999\n",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"a.a.a.a.a.a.a.a.a.a.a.a = {",
    b"\\u0000",
    "\u{202e}é".as_bytes(),
];

#[test]
fn a_policy_is_taken_or_refused() {
    let whole = [file("docs/examples/policy.toml"), file("vault-daemon/src/dev/policy.toml")];
    for text in &whole {
        Policy::parse(str::from_utf8(text).unwrap()).unwrap();
    }
    let (mut random, rounds, mut taken) = (Random::of("policy"), rounds(60_000), 0);
    for _ in 0..rounds {
        let bytes = mutated(&mut random, &whole, &WORDS);
        taken += attempt("Policy", &bytes, || match Policy::parse(&String::from_utf8_lossy(&bytes)) {
            Ok(_) => 1,
            Err(error) => {
                assert!(error.to_string().len() < 1_024, "a refusal goes to the log");
                0
            }
        });
    }
    assert!(taken > 0 && taken < rounds, "{taken} of {rounds} were taken");
}

#[test]
fn a_configuration_is_taken_or_refused() {
    let whole = [file("deploy/vaultd.toml")];
    Config::parse(str::from_utf8(&whole[0]).unwrap()).unwrap();
    let (mut random, rounds, mut taken) = (Random::of("configuration"), rounds(80_000), 0);
    for _ in 0..rounds {
        let bytes = mutated(&mut random, &whole, &WORDS);
        taken += attempt("Config", &bytes, || match Config::parse(&String::from_utf8_lossy(&bytes)) {
            Ok(config) => u32::from(config.plan().len() > 5),
            Err(error) => {
                assert!(error.to_string().len() < 1_024, "a refusal goes to the log");
                0
            }
        });
    }
    assert!(taken > 0 && taken < rounds, "{taken} of {rounds} were taken");
}

#[test]
fn a_client_s_certificate_and_key_are_taken_or_refused() {
    let vault = vault_daemon::TestVault::start().unwrap();
    let read = |name: &str| fs::read(vault.folder().join("certs").join(name)).unwrap();
    let whole = [read("ca.pem"), read("checkout.pem"), read("checkout.key")];
    Connector::new("localhost:1", &whole[0], &whole[1], &whole[2]).unwrap();
    let words: [&[u8]; 3] = [b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"-----"];
    let mut random = Random::of("pem");
    for _ in 0..rounds(30_000) {
        let mut parts = whole.clone();
        let changed = random.below(3);
        parts[changed] = mutated(&mut random, &whole, &words);
        attempt("Connector", &parts[changed], || {
            let _ = Connector::new("localhost:1", &parts[0], &parts[1], &parts[2]);
        });
    }
}
