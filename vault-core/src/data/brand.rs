//! Payment networks, told from the first digits of a PAN.
//!
//! A small table of the ranges the networks publish (ISO/IEC 7812 issuer identification numbers). It names the
//! brand in a masked view and keeps card numbers out of references; it never decides whether a PAN is
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
const MAESTRO: &[usize] = &[12, 13, 14, 15, 16, 17, 18, 19];

/// Disjoint, ascending. UnionPay's 62 includes the numbers it shares with Discover (622126–622925).
const RANGES: [Range; 25] = [
    range(2221, 2720, Brand::Mastercard, &[16]),
    range(3000, 3059, Brand::Diners, LONG),
    range(3095, 3095, Brand::Diners, LONG),
    range(3400, 3499, Brand::Amex, &[15]),
    range(3528, 3589, Brand::Jcb, LONG),
    range(3600, 3699, Brand::Diners, &[14, 15, 16, 17, 18, 19]),
    range(3700, 3799, Brand::Amex, &[15]),
    range(3800, 3999, Brand::Diners, LONG),
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
