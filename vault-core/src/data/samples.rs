//! Values for tests: the networks' published test numbers, and numbers made to pass the check digit.

use std::fmt::Write;

use crate::data::{Card, CardholderName, Expiry, Pan, Ssn, Value};

/// Test numbers that the payment networks and processors publish, with their brand.
pub(crate) const PUBLISHED: [(&str, &str); 13] = [
    ("4111111111111111", "visa"),
    ("4012888888881881", "visa"),
    ("4222222222222", "visa"),
    ("5555555555554444", "mastercard"),
    ("5105105105105100", "mastercard"),
    ("2223003122003222", "mastercard"),
    ("378282246310005", "amex"),
    ("371449635398431", "amex"),
    ("6011111111111117", "discover"),
    ("30569309025904", "diners"),
    ("3530111333300000", "jcb"),
    ("6200000000000005", "unionpay"),
    ("6304000000000000", "maestro"),
];

/// Digits and the check digit that belongs after them.
pub(crate) fn with_check_digit(payload: &str) -> String {
    let valid = |check: &u8| super::luhn::luhn_holds(format!("{payload}{check}").as_bytes());
    format!("{payload}{}", (0..=9).find(valid).expect("one of ten check digits fits"))
}

/// Digits in groups of these widths, joined by one separator.
pub(crate) fn grouped(digits: &str, widths: &[usize], separator: &str) -> String {
    let mut rest = digits;
    let mut text = String::new();
    for width in widths {
        let (group, after) = rest.split_at(*width);
        let joint = if text.is_empty() { "" } else { separator };
        write!(text, "{joint}{group}").expect("a string takes all that is written");
        rest = after;
    }
    text
}

pub(crate) fn card(digits: &str, expiry: Option<(u32, u32)>, name: Option<&str>) -> Value {
    Value::Pan(Card {
        pan: Pan::parse(digits.as_bytes()).unwrap(),
        expiry: expiry.map(|(month, year)| Expiry::new(month, year).unwrap()),
        cardholder_name: name.map(|name| CardholderName::parse(name.as_bytes()).unwrap()),
    })
}

pub(crate) fn ssn(digits: &str) -> Value {
    Value::Ssn(Ssn::parse(digits.as_bytes()).unwrap())
}
