//! Shamir's secret sharing of a key, byte by byte over GF(2^8).
//!
//! The field is that of AES: polynomials over GF(2) modulo x⁸ + x⁴ + x³ + x + 1. For each byte of the secret
//! a polynomial of degree `threshold - 1` is drawn whose value at 0 is that byte; a share is its value at the
//! share's number. All coefficients, the highest included, are uniform over all 256 values, zero too: leaving
//! zero out is how others went wrong (RUSTSEC-2024-0398). No table is looked up and nothing branches on
//! a secret; numbers of shares are not secret.

use std::hint::black_box;

use zeroize::Zeroizing;

use crate::crypto::{Entropy, EntropyFault, Key32};

const SECRET_BYTES: usize = 32;
type Bytes = Zeroizing<[u8; SECRET_BYTES]>;

/// Why shares were not combined.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CombineFault {
    /// A share numbered 0 would be the secret itself.
    Zero,
    /// The same number twice.
    Repeated(u8),
    /// No share at all.
    None,
}

/// The shares numbered 1 to `count` of a key, any `threshold` of which give it back. The caller keeps
/// `1 <= threshold <= count`.
pub(super) fn split(
    secret: &Key32,
    threshold: u8,
    count: u8,
    entropy: &mut dyn Entropy,
) -> Result<Vec<Key32>, EntropyFault> {
    let mut coefficients: Vec<Bytes> = vec![Zeroizing::new([0; SECRET_BYTES]); threshold.into()];
    for (degree, coefficient) in coefficients.iter_mut().enumerate() {
        match degree {
            0 => coefficient.copy_from_slice(secret.expose()),
            _ => entropy.fill(coefficient.as_mut_slice())?,
        }
    }
    Ok((1..=count).map(|number| evaluate(&coefficients, number)).collect())
}

/// Horner's rule at `number`, for all bytes at once.
fn evaluate(coefficients: &[Bytes], number: u8) -> Key32 {
    let mut value: Bytes = Zeroizing::new([0; SECRET_BYTES]);
    for coefficient in coefficients.iter().rev() {
        for (byte, coefficient) in value.iter_mut().zip(coefficient.iter()) {
            *byte = multiply(*byte, number) ^ coefficient;
        }
    }
    Key32::from_bytes(value)
}

/// What these shares are shares of: Lagrange's interpolation at 0. Too few, or a wrong one among them, give
/// a key like any other: whoever combines checks a commitment.
pub(super) fn combine(shares: &[(u8, &Key32)]) -> Result<Key32, CombineFault> {
    check_numbers(shares)?;
    let mut secret: Bytes = Zeroizing::new([0; SECRET_BYTES]);
    for (number, share) in shares {
        let others = shares.iter().map(|(other, _)| *other).filter(|other| other != number);
        let weight =
            others.fold(1, |weight, other| multiply(weight, multiply(other, invert(other ^ number))));
        for (byte, share) in secret.iter_mut().zip(share.expose()) {
            *byte ^= multiply(*share, weight);
        }
    }
    Ok(Key32::from_bytes(secret))
}

fn check_numbers(shares: &[(u8, &Key32)]) -> Result<(), CombineFault> {
    if shares.is_empty() {
        return Err(CombineFault::None);
    }
    for (at, (number, _)) in shares.iter().enumerate() {
        if *number == 0 {
            return Err(CombineFault::Zero);
        }
        if shares.iter().skip(at + 1).any(|(other, _)| other == number) {
            return Err(CombineFault::Repeated(*number));
        }
    }
    Ok(())
}

/// The product in the field. Always eight steps; the masks are kept from becoming branches.
fn multiply(a: u8, b: u8) -> u8 {
    let mut product = 0;
    let mut shifted = a;
    for bit in 0..8 {
        product ^= shifted & black_box(mask(b >> bit));
        shifted = (shifted << 1) ^ (0x1b & black_box(mask(shifted >> 7)));
    }
    product
}

/// All ones if the lowest bit is one, else all zeros.
const fn mask(bit: u8) -> u8 {
    0_u8.wrapping_sub(bit & 1)
}

/// a²⁵⁴: the inverse; of 0, which has none, 0.
fn invert(a: u8) -> u8 {
    let mut power = a;
    let mut product = 1;
    for _ in 0..7 {
        power = multiply(power, power);
        product = multiply(product, power);
    }
    product
}

#[cfg(test)]
mod tests;
