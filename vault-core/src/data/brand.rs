//! Payment networks, told from the first digits of a PAN.
//!
//! A small table of the ranges the networks publish (ISO/IEC 7812 issuer identification numbers). It names
//! the brand in a masked view and keeps card numbers out of references; it never decides whether a PAN is
//! accepted, so an issuer missing here costs a label, not a payment.

use std::fmt;

/// The payment network of a PAN.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Brand {
    /// A first digit that no network of the table uses.
    Unknown = 0,
    /// American Express.
    Amex = 1,
    /// Diners Club International.
    Diners = 2,
    /// Discover.
    Discover = 3,
    /// JCB.
    Jcb = 4,
    /// Maestro.
    Maestro = 5,
    /// Mastercard.
    Mastercard = 6,
    /// UnionPay.
    Unionpay = 7,
    /// Visa.
    Visa = 8,
}

impl Brand {
    /// The brand of a PAN given as ASCII digits; [`Brand::Unknown`] when its range is not in the table.
    pub fn of(digits: &[u8]) -> Self {
        range_of(digits).map_or(Self::Unknown, |range| range.brand)
    }

    /// The name used in messages: lower case, one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Amex => "amex",
            Self::Diners => "diners",
            Self::Discover => "discover",
            Self::Jcb => "jcb",
            Self::Maestro => "maestro",
            Self::Mastercard => "mastercard",
            Self::Unionpay => "unionpay",
            Self::Visa => "visa",
        }
    }
}

impl fmt::Display for Brand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether ASCII digits begin in a range of the table.
pub fn known_brand_range(digits: &[u8]) -> bool {
    range_of(digits).is_some()
}

/// Whether ASCII digits begin in a range of the table and have a length that network issues.
pub(crate) fn fits_brand(digits: &[u8]) -> bool {
    range_of(digits).is_some_and(|range| range.lengths.contains(&digits.len()))
}

/// First four digits from `low` to `high`, both included.
struct Range {
    low: u16,
    high: u16,
    brand: Brand,
    lengths: &'static [usize],
}

const fn range(low: u16, high: u16, brand: Brand, lengths: &'static [usize]) -> Range {
    Range { low, high, brand, lengths }
}

const LONG: &[usize] = &[16, 17, 18, 19];
const DINERS: &[usize] = &[14, 15, 16, 17, 18, 19];
const MAESTRO: &[usize] = &[12, 13, 14, 15, 16, 17, 18, 19];

/// Disjoint, ascending. UnionPay's 62 includes the numbers it shares with Discover (622126–622925).
const RANGES: [Range; 25] = [
    range(2221, 2720, Brand::Mastercard, &[16]),
    range(3000, 3059, Brand::Diners, DINERS),
    range(3095, 3095, Brand::Diners, DINERS),
    range(3400, 3499, Brand::Amex, &[15]),
    range(3528, 3589, Brand::Jcb, LONG),
    range(3600, 3699, Brand::Diners, DINERS),
    range(3700, 3799, Brand::Amex, &[15]),
    range(3800, 3999, Brand::Diners, DINERS),
    range(4000, 4999, Brand::Visa, &[13, 16, 19]),
    range(5018, 5018, Brand::Maestro, MAESTRO),
    range(5020, 5020, Brand::Maestro, MAESTRO),
    range(5038, 5038, Brand::Maestro, MAESTRO),
    range(5100, 5599, Brand::Mastercard, &[16]),
    range(5612, 5612, Brand::Maestro, MAESTRO),
    range(5893, 5893, Brand::Maestro, MAESTRO),
    range(6011, 6011, Brand::Discover, LONG),
    range(6200, 6299, Brand::Unionpay, LONG),
    range(6304, 6304, Brand::Maestro, MAESTRO),
    range(6390, 6390, Brand::Maestro, MAESTRO),
    range(6440, 6499, Brand::Discover, LONG),
    range(6500, 6599, Brand::Discover, LONG),
    range(6759, 6759, Brand::Maestro, MAESTRO),
    range(6761, 6763, Brand::Maestro, MAESTRO),
    range(6799, 6799, Brand::Maestro, MAESTRO),
    range(8100, 8199, Brand::Unionpay, LONG),
];

fn range_of(digits: &[u8]) -> Option<&'static Range> {
    let first = digits.first_chunk::<4>()?;
    if !first.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let prefix = first.iter().fold(0, |prefix: u16, digit| prefix * 10 + u16::from(digit - b'0'));
    RANGES.iter().find(|range| (range.low..=range.high).contains(&prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::samples::PUBLISHED;

    #[test]
    fn the_published_test_numbers_have_their_brand() {
        for (digits, brand) in PUBLISHED {
            assert_eq!(Brand::of(digits.as_bytes()).as_str(), brand, "{digits}");
            assert!(known_brand_range(digits.as_bytes()) && fits_brand(digits.as_bytes()), "{digits}");
        }
    }

    #[test]
    fn the_table_is_ascending_and_disjoint() {
        assert!(RANGES.iter().all(|range| range.low <= range.high));
        assert!(RANGES.windows(2).all(|two| two[0].high < two[1].low));
    }

    #[test]
    fn every_first_four_digits_have_exactly_the_brand_of_the_published_ranges() {
        let edges = [
            ("2220", "unknown"),
            ("2221", "mastercard"),
            ("2720", "mastercard"),
            ("2721", "unknown"),
            ("3399", "unknown"),
            ("3400", "amex"),
            ("3500", "unknown"),
            ("3527", "unknown"),
            ("3528", "jcb"),
            ("3589", "jcb"),
            ("3590", "unknown"),
            ("3999", "diners"),
            ("4000", "visa"),
            ("4999", "visa"),
            ("5000", "unknown"),
            ("5100", "mastercard"),
            ("5599", "mastercard"),
            ("5600", "unknown"),
            ("6011", "discover"),
            ("6012", "unknown"),
            ("6200", "unionpay"),
            ("6300", "unknown"),
            ("6439", "unknown"),
            ("6440", "discover"),
            ("6599", "discover"),
            ("6600", "unknown"),
            ("8100", "unionpay"),
            ("8200", "unknown"),
            ("0000", "unknown"),
            ("9999", "unknown"),
        ];
        for (first, brand) in edges {
            assert_eq!(Brand::of(first.as_bytes()).as_str(), brand, "{first}");
        }
    }

    #[test]
    fn too_few_digits_and_other_bytes_have_no_brand() {
        assert_eq!([&b""[..], b"411", b"41a1", b"\xff\xff\xff\xff"].map(Brand::of), [Brand::Unknown; 4]);
    }
}
