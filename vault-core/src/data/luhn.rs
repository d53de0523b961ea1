//! The check digit of ISO/IEC 7812-1, annex B.

/// Whether ASCII digits end in the right check digit. Anything but digits, and nothing at all, is wrong.
pub(crate) fn luhn_holds(digits: &[u8]) -> bool {
    let mut sum = 0_u32;
    for (place, digit) in digits.iter().rev().enumerate() {
        if !digit.is_ascii_digit() {
            return false;
        }
        let weighted = u32::from(digit - b'0') << (place % 2);
        // The digit sum of a two-digit product is the product less nine.
        sum += if weighted > 9 { weighted - 9 } else { weighted };
    }
    !digits.is_empty() && sum.is_multiple_of(10)
}
