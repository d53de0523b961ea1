//! What must not stand where it was found: card numbers and SSNs in free text, and sensitive
//! authentication data anywhere (PCI DSS 3.3.1).

use crate::data::brand::known_brand_range;
use crate::data::luhn::luhn_holds;
use crate::limits::PAN_DIGITS_MAX;

/// Fewest digits that free text is screened for: shorter runs are order numbers far more often than PANs.
const SCREENED_DIGITS_MIN: usize = 13;

/// Digits before a track's field separator: a PAN, or track 3's two-digit format code and a PAN.
const TRACK_DIGITS: std::ops::RangeInclusive<usize> = 12..=PAN_DIGITS_MAX + 2;

/// Whether bytes carry magnetic stripe data: `%B…^`, `;…=`, or a PAN followed by `=`, `^` or `D` and the
/// four digits of an expiry, with or without their sentinels (ISO/IEC 7813; EMV's track 2 equivalent).
pub fn track_data(input: &[u8]) -> bool {
    let begins = |from: usize| input.get(from..).is_some_and(track_begins);
    (0..input.len()).any(begins)
}

/// Whether text carries what reads like a card number: 13 to 19 digits in groups joined by single
/// characters other than letters and digits, passing Luhn and beginning in a known brand's range.
///
/// Any consecutive groups count, so that a number between other numbers is found; part of a longer
/// unbroken run of digits does not, or one long order number in three would be refused.
pub fn pan_like(text: &str) -> bool {
    let groups = Groups::of(text);
    groups.starts().any(|first| {
        let mut digits = Vec::with_capacity(PAN_DIGITS_MAX);
        let found = groups.joined_from(first).any(|group| {
            digits.extend_from_slice(group.as_bytes());
            (SCREENED_DIGITS_MIN..=PAN_DIGITS_MAX).contains(&digits.len())
                && known_brand_range(&digits)
                && luhn_holds(&digits)
        });
        zeroize::Zeroize::zeroize(&mut digits);
        found
    })
}

/// Whether text carries what reads like an SSN: three, two and four digits joined by single hyphens or
/// spaces, with no further digit directly before or after.
pub fn ssn_like(text: &str) -> bool {
    let groups = Groups::of(text);
    groups.starts().any(|first| {
        let three: Vec<usize> = groups.hyphenated_from(first).take(3).map(str::len).collect();
        three == [3, 2, 4]
    })
}

/// Whether a track begins at the first of these bytes.
fn track_begins(input: &[u8]) -> bool {
    let (sentinel, rest) = match input {
        [b'%', b'B' | b'b', rest @ ..] | [b';', rest @ ..] => (true, rest),
        _ => (false, input),
    };
    // Spaces stand between the digits of some track 1 layouts.
    let spaced = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b' ').count();
    let (number, after) = rest.split_at(spaced);
    if !number.first().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let digits = number.iter().filter(|byte| byte.is_ascii_digit()).count();
    let separated = matches!(after, [b'=' | b'^', ..]);
    let dated = matches!(after, [b'=' | b'^' | b'D' | b'd', year @ ..] if begins_with_four_digits(year));
    let named = matches!(after, [b'^', name, ..] if name.is_ascii_alphabetic());
    TRACK_DIGITS.contains(&digits) && (dated || named || sentinel && separated)
}

fn begins_with_four_digits(bytes: &[u8]) -> bool {
    bytes.first_chunk::<4>().is_some_and(|four| four.iter().all(u8::is_ascii_digit))
}

/// The unbroken groups of digits of a text and what stands between them.
struct Groups<'a> {
    groups: Vec<Group<'a>>,
}

struct Group<'a> {
    digits: &'a str,
    /// The one character between this group and the one before, if it is exactly one and no letter.
    joined_by: Option<char>,
}

impl<'a> Groups<'a> {
    fn of(text: &'a str) -> Self {
        let mut groups = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let (between, digits) = rest.split_at(start);
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            let (digits, after) = digits.split_at(end);
            groups.push(Group { digits, joined_by: joint(between) });
            rest = after;
        }
        Self { groups }
    }

    fn starts(&self) -> std::ops::Range<usize> {
        0..self.groups.len()
    }

    /// The group at `first` and those that follow it, each one separator after the one before.
    fn joined_from(&self, first: usize) -> impl Iterator<Item = &'a str> {
        self.followed_while(first, |_| true)
    }

    fn hyphenated_from(&self, first: usize) -> impl Iterator<Item = &'a str> {
        self.followed_while(first, |joint| matches!(joint, '-' | ' '))
    }

    fn followed_while(&self, first: usize, allowed: fn(char) -> bool) -> impl Iterator<Item = &'a str> {
        let (head, tail) = self.groups.get(first..).and_then(<[_]>::split_first).unzip();
        let follows = move |group: &&Group<'_>| group.joined_by.is_some_and(allowed);
        let tail = tail.unwrap_or_default().iter().take_while(follows);
        head.into_iter().chain(tail).map(|group| group.digits)
    }
}

/// The single separator a text between two groups consists of.
fn joint(between: &str) -> Option<char> {
    let mut characters = between.chars();
    let only = characters.next().filter(|c| !c.is_alphanumeric())?;
    characters.next().is_none().then_some(only)
}
