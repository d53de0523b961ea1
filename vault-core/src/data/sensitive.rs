//! What must not stand where it was found: card numbers and SSNs in free text, and sensitive
//! authentication data anywhere (PCI DSS 3.3.1).

use std::ops::Range;

use zeroize::Zeroizing;

use crate::data::brand::{fits_brand, known_brand_range};
use crate::data::luhn::luhn_holds;
use crate::limits::{PAN_DIGITS_MAX, PAN_DIGITS_MIN};

/// Fewest digits that free text is screened for: shorter runs are order numbers far more often than PANs.
const SCREENED_DIGITS_MIN: usize = 13;

/// Digits before a track's field separator: a PAN, or track 3's two-digit format code and a PAN.
const TRACK_DIGITS: std::ops::RangeInclusive<usize> = PAN_DIGITS_MIN..=PAN_DIGITS_MAX + 2;

/// How many digits stand in each group of a number embossed on a card.
const PRINTED: [&[usize]; 3] = [&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];

/// Whether bytes carry magnetic stripe data: a number, then the `^` of track 1 or the `=` of tracks 2 and 3,
/// with or without sentinels (ISO/IEC 7813); or a PAN, then the `D` of EMV's track 2 equivalent and an
/// expiry.
pub fn track_data(input: &[u8]) -> bool {
    input.iter().enumerate().any(|(at, byte)| match byte {
        b'=' | b'^' => TRACK_DIGITS.contains(&spaced_digits_before(input, at)),
        b'D' | b'd' => chip_track_at(input, at),
        _ => false,
    })
}

/// Whether text carries what reads like a card number: 13 to 19 digits in groups joined by single
/// characters other than letters and digits, passing Luhn and beginning in a known brand's range.
///
/// Any consecutive groups count, so that a number between other numbers is found. A piece of a longer
/// unbroken run of digits does not, or one in three long order numbers would be refused.
pub fn pan_like(text: &str) -> bool {
    let groups = Groups::of(text.as_bytes());
    groups.joined().any(|digits| {
        (SCREENED_DIGITS_MIN..=PAN_DIGITS_MAX).contains(&digits.len())
            && known_brand_range(digits)
            && luhn_holds(digits)
    })
}

/// Whether text carries what reads like an SSN: three, two and four digits joined by single hyphens or
/// spaces, with no further digit directly before or after.
pub fn ssn_like(text: &str) -> bool {
    let hyphen = |group: &Group| matches!(group.joint, Some('-' | ' '));
    Groups::of(text.as_bytes()).groups.windows(3).any(|three| match three {
        [area, group, serial] => {
            [area.len(), group.len(), serial.len()] == [3, 2, 4] && hyphen(group) && hyphen(serial)
        }
        _ => false,
    })
}

/// Whether a card number is followed by further digits that can only be an expiry or a card verification
/// code: `4111… 123`, `4111-…-1111/1234`, `4111… 12/27 123`, or a PAN run together with more than it holds.
///
/// One case is open: three digits after a grouped number may complete it to a 19-digit PAN. It is taken as
/// that PAN where the check digit of the whole holds, unless only the number without them is one that its
/// brand issues.
pub(crate) fn digits_after_pan(input: &[u8]) -> bool {
    let groups = Groups::of(input);
    groups.overlong_start() || (1..groups.groups.len()).any(|count| groups.code_after(count))
}

/// Digits directly before a place, single spaces and hyphens between them left out.
fn spaced_digits_before(input: &[u8], at: usize) -> usize {
    let before = input.get(..at).unwrap_or_default().iter().rev();
    before.take_while(|b| matches!(b, b'0'..=b'9' | b' ' | b'-')).filter(|b| b.is_ascii_digit()).count()
}

/// Whether the `D` at a place separates a PAN from `YYMM`. The letter is common, so the number must be one
/// that a network could have issued.
fn chip_track_at(input: &[u8], at: usize) -> bool {
    let (before, after) = input.split_at_checked(at).unwrap_or_default();
    let count = before.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = before.get(before.len() - count..).unwrap_or_default();
    let dated =
        matches!(after, [_, y1, y2, m1, m2, ..] if [y1, y2, m1, m2].iter().all(|b| b.is_ascii_digit()));
    dated
        && (PAN_DIGITS_MIN..=PAN_DIGITS_MAX).contains(&count)
        && known_brand_range(digits)
        && luhn_holds(digits)
}

/// The unbroken groups of digits of an input, and what joins each to the one before.
struct Groups {
    digits: Zeroizing<Vec<u8>>,
    groups: Vec<Group>,
    /// Nothing but digits and single spaces or hyphens between them.
    plain: bool,
}

struct Group {
    range: Range<usize>,
    /// The one character between this group and the one before, if it is exactly one and no letter.
    joint: Option<char>,
}

impl Group {
    const fn len(&self) -> usize {
        self.range.end - self.range.start
    }
}

impl Groups {
    fn of(input: &[u8]) -> Self {
        let mut digits = Zeroizing::new(Vec::with_capacity(input.len()));
        let mut groups: Vec<Group> = Vec::new();
        let mut plain = true;
        let mut rest = input;
        while let Some(start) = rest.iter().position(u8::is_ascii_digit) {
            let (between, found) = rest.split_at(start);
            let end = found.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(found.len());
            let (group, after) = found.split_at(end);
            plain &= if groups.is_empty() { between.is_empty() } else { matches!(between, b" " | b"-") };
            groups.push(Group { range: digits.len()..digits.len() + end, joint: joint(between) });
            digits.extend_from_slice(group);
            rest = after;
        }
        Self { digits, groups, plain: plain && rest.is_empty() }
    }

    fn digits(&self, range: Range<usize>) -> &[u8] {
        self.digits.get(range).unwrap_or_default()
    }

    /// The digits of every row of groups in which each is joined to the one before, up to a PAN's length.
    fn joined(&self) -> impl Iterator<Item = &[u8]> {
        self.groups.iter().enumerate().flat_map(move |(first, group)| {
            let start = group.range.start;
            let rest = self.groups.iter().skip(first + 1).take_while(|next| next.joint.is_some());
            let ends = std::iter::once(group).chain(rest).map(|last| last.range.end);
            ends.take_while(move |end| end - start <= PAN_DIGITS_MAX).map(move |end| self.digits(start..end))
        })
    }

    /// Whether the first group is longer than any PAN and begins with one.
    fn overlong_start(&self) -> bool {
        let first = self.groups.first().map_or(0..0, |group| group.range.clone());
        let lengths = PAN_DIGITS_MIN..=PAN_DIGITS_MAX;
        first.len() > PAN_DIGITS_MAX && lengths.into_iter().any(|length| issued(self.digits(0..length)))
    }

    /// Whether the first `count` groups are a PAN and one of those after it is as long as a code or an
    /// expiry.
    fn code_after(&self, count: usize) -> bool {
        let (number, after) = self.groups.split_at_checked(count).unwrap_or_default();
        let end = number.last().map_or(0, |group| group.range.end);
        let pan = self.digits(0..end);
        let joined = number.iter().skip(1).all(|group| matches!(group.joint, Some(' ' | '-')));
        let coded = after.iter().any(|group| matches!(group.len(), 3 | 4));
        let lengths = PAN_DIGITS_MIN..=PAN_DIGITS_MAX;
        if !joined || !coded || !lengths.contains(&pan.len()) || !luhn_holds(pan) {
            return false;
        }
        let unbroken = count == 1;
        if !self.whole_is_pan() {
            return unbroken || fits_brand(pan);
        }
        let printed = PRINTED.iter().any(|widths| number.iter().map(Group::len).eq(widths.iter().copied()));
        after.len() == 1 && fits_brand(pan) && (unbroken || printed && !fits_brand(&self.digits))
    }

    fn whole_is_pan(&self) -> bool {
        self.plain
            && (PAN_DIGITS_MIN..=PAN_DIGITS_MAX).contains(&self.digits.len())
            && luhn_holds(&self.digits)
    }
}

/// Whether a network issues numbers of this beginning and length, and the check digit holds.
fn issued(digits: &[u8]) -> bool {
    fits_brand(digits) && luhn_holds(digits)
}

/// The single separator that a text between two groups consists of.
fn joint(between: &[u8]) -> Option<char> {
    let mut characters = str::from_utf8(between).ok()?.chars();
    let only = characters.next().filter(|c| !c.is_alphanumeric())?;
    characters.next().is_none().then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_joined_by_two_characters_or_letters_are_apart() {
        assert!(pan_like("4111 1111 1111 1111") && pan_like("4111\u{a0}1111\u{a0}1111\u{a0}1111"));
        assert!(!pan_like("4111  1111  1111  1111") && !pan_like("4111a1111a1111a1111"));
        assert!(ssn_like("123 45 6789") && !ssn_like("123--45-6789") && !ssn_like("123.45.6789"));
    }

    #[test]
    fn a_number_between_numbers_is_found() {
        assert!(pan_like("7-4111-1111-1111-1111-7") && pan_like("20241122/4111111111111111/20241122"));
    }

    #[test]
    fn a_piece_of_a_longer_number_is_not_a_card_number() {
        assert!(!pan_like("41111111111111110000") && !pan_like("004111111111111111000000"));
    }

    #[test]
    fn plain_words_with_the_letter_d_are_no_track() {
        for text in ["order 123456789012D2024", "4111111111111111D25", "David 2024", "4111111111111112D2512"]
        {
            assert!(!track_data(text.as_bytes()), "{text}");
        }
        assert!(track_data(b"4111111111111111D25121010000012300000F"));
    }
}
