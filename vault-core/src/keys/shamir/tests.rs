//! Proof of the arithmetic by exhaustion, and of the sharing by statistics and by others' implementations.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use vsss_rs::Gf256;

use super::*;
use crate::crypto::SeededEntropy;

/// Long division: the product of the polynomials, then the field's polynomial taken away from above.
fn reference_product(a: u8, b: u8) -> u8 {
    let mut product =
        (0..8).filter(|bit| b >> bit & 1 == 1).fold(0_u16, |sum, bit| sum ^ (u16::from(a) << bit));
    for bit in (8..16).rev() {
        if product >> bit & 1 == 1 {
            product ^= 0x11b << (bit - 8);
        }
    }
    product as u8
}

fn key(bytes: [u8; 32]) -> Key32 {
    Key32::from_bytes(Zeroizing::new(bytes))
}

fn secret(seed: u64) -> Key32 {
    Key32::generate(&mut SeededEntropy::new(seed)).unwrap()
}

/// Every subset of `count` shares with so many members, as numbers.
fn subsets(count: u8, members: u32) -> impl Iterator<Item = Vec<u8>> {
    let chosen = (0_u32..1 << count).filter(move |chosen| chosen.count_ones() == members);
    chosen.map(move |chosen| (1..=count).filter(|number| chosen >> (number - 1) & 1 == 1).collect())
}

fn combined(shares: &[Key32], numbers: &[u8]) -> [u8; 32] {
    let chosen: Vec<_> = numbers.iter().map(|number| (*number, &shares[usize::from(*number) - 1])).collect();
    *combine(&chosen).unwrap().expose()
}

#[test]
fn every_product_is_that_of_long_division() {
    for (a, b) in (0..=255).flat_map(|a| (0..=255).map(move |b| (a, b))) {
        assert_eq!(multiply(a, b), reference_product(a, b), "{a} times {b}");
    }
}

#[test]
fn every_inverse_is_the_only_one_there_is() {
    for a in 1..=255 {
        let inverses: Vec<u8> = (0..=255).filter(|b| reference_product(a, *b) == 1).collect();
        assert_eq!(inverses, [invert(a)], "of {a}");
    }
    assert_eq!(invert(0), 0);
}

#[test]
fn every_subset_of_the_threshold_or_more_reconstructs_and_no_smaller_one() {
    for count in 2..=8 {
        for threshold in 2..=count {
            let secret = secret(u64::from(count) << 8 | u64::from(threshold));
            let shares = split(&secret, threshold, count, &mut SeededEntropy::new(1)).unwrap();
            assert_eq!(shares.len(), usize::from(count));
            for members in 1..=u32::from(count) {
                for numbers in subsets(count, members) {
                    let whole = combined(&shares, &numbers) == *secret.expose();
                    assert_eq!(whole, members >= u32::from(threshold), "{threshold} of {count}: {numbers:?}");
                }
            }
        }
    }
}

#[test]
fn the_order_of_shares_does_not_matter() {
    let secret = secret(7);
    let shares = split(&secret, 3, 5, &mut SeededEntropy::new(2)).unwrap();
    for numbers in [[1, 3, 5], [5, 3, 1], [3, 5, 1]] {
        assert_eq!(combined(&shares, &numbers), *secret.expose());
    }
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let (one, other) = (key([1; 32]), key([2; 32]));
    assert_eq!(combine(&[]).err(), Some(CombineFault::None));
    assert_eq!(combine(&[(1, &one), (0, &other)]).err(), Some(CombineFault::Zero));
    assert_eq!(combine(&[(4, &one), (2, &other), (4, &other)]).err(), Some(CombineFault::Repeated(4)));
}

/// How often each byte value came, and how far that is from even: χ² over 255 degrees of freedom.
struct Counts {
    of: Vec<u64>,
}

impl Counts {
    fn new() -> Self {
        Self { of: vec![0; 256] }
    }

    fn add(&mut self, byte: u8) {
        self.of[usize::from(byte)] += 1;
    }

    fn chi_square(&self) -> f64 {
        let even = self.of.iter().sum::<u64>() as f64 / 256.0;
        self.of.iter().map(|count| (*count as f64 - even).powi(2) / even).sum()
    }

    /// All values came, none too often: χ² of 350 is passed by chance once in ten thousand.
    fn is_uniform(&self) -> bool {
        self.of.iter().all(|count| *count > 0) && self.chi_square() < 350.0
    }
}

#[test]
fn fewer_shares_than_the_threshold_are_uniform_whatever_the_secret() {
    // 32 bytes a split: a million bytes for each share and each difference of two shares.
    let splits = 32_768;
    for secret in [[0; 32], [255; 32]] {
        let mut entropy = SeededEntropy::new(secret[0].into());
        let mut single = [Counts::new(), Counts::new(), Counts::new()];
        let mut pairs = [Counts::new(), Counts::new(), Counts::new()];
        for _ in 0..splits {
            let shares = split(&key(secret), 3, 3, &mut entropy).unwrap();
            let bytes: Vec<_> = shares.iter().map(Key32::expose).collect();
            for share in 0..3 {
                for (this, next) in bytes[share].iter().zip(bytes[(share + 1) % 3]) {
                    single[share].add(*this);
                    // Any fixed combination of two: were they dependent, some would be uneven.
                    pairs[share].add(this ^ multiply(*next, 0x53));
                }
            }
        }
        assert!(single.iter().chain(&pairs).all(Counts::is_uniform), "secret {secret:?}");
    }
}

#[test]
fn the_highest_coefficient_takes_every_value_and_zero_among_them() {
    // Two of three: the coefficient of degree 1 is the difference of secret and share, over the number.
    let mut counts = Counts::new();
    let mut entropy = SeededEntropy::new(3);
    for _ in 0..4_000 {
        let shares = split(&key([0x5a; 32]), 2, 3, &mut entropy).unwrap();
        shares[0].expose().iter().for_each(|byte| counts.add(byte ^ 0x5a));
    }
    assert!(counts.is_uniform());
}

#[test]
fn what_leaves_zero_out_or_takes_only_odd_values_is_not_called_uniform() {
    let counted = |bytes: &dyn Fn(u32) -> u8| {
        let mut counts = Counts::new();
        (0..100_000).for_each(|n| counts.add(bytes(n)));
        counts.is_uniform()
    };
    assert!(counted(&|n| n as u8));
    assert!(!counted(&|n| (n % 255) as u8 + 1));
    assert!(!counted(&|n| n as u8 | 1));
}

/// Our shares as others write them: number, then value.
fn with_numbers(shares: &[Key32]) -> Vec<Vec<u8>> {
    let numbered = shares.iter().zip(1_u8..);
    numbered.map(|(share, number)| [&[number], share.expose().as_slice()].concat()).collect()
}

/// Others' shares combined by us.
fn combined_of(shares: &[Vec<u8>]) -> [u8; 32] {
    let keys: Vec<(u8, Key32)> =
        shares.iter().map(|share| (share[0], key(share[1..].try_into().unwrap()))).collect();
    let borrowed: Vec<_> = keys.iter().map(|(number, key)| (*number, key)).collect();
    *combine(&borrowed).unwrap().expose()
}

/// Randomness for others.
struct ForOthers(SeededEntropy);

impl TryRng for ForOthers {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out).unwrap();
        Ok(())
    }
}

impl TryCryptoRng for ForOthers {}

#[test]
fn vsss_rs_combines_our_shares_and_we_combine_its() {
    for (threshold, count) in [(2_u8, 3_u8), (3, 5), (5, 8)] {
        let secret = secret(threshold.into());
        let ours = with_numbers(&split(&secret, threshold, count, &mut SeededEntropy::new(4)).unwrap());
        let fewest = &ours[usize::from(count - threshold)..];
        assert_eq!(Gf256::combine_bytes(fewest).unwrap(), secret.expose());
        let random = ForOthers(SeededEntropy::new(5));
        let theirs = Gf256::split_bytes(threshold.into(), count.into(), secret.expose(), random).unwrap();
        assert_eq!(combined_of(&theirs[..threshold.into()]), *secret.expose());
    }
}

#[test]
fn shamirsecretsharing_combines_our_shares_and_we_combine_its() {
    use shamirsecretsharing::hazmat::{combine_keyshares, create_keyshares};
    for (threshold, count) in [(2_u8, 3_u8), (3, 5), (5, 8)] {
        let secret = secret(threshold.into());
        let ours = with_numbers(&split(&secret, threshold, count, &mut SeededEntropy::new(6)).unwrap());
        let fewest = &ours[usize::from(count - threshold)..];
        assert_eq!(combine_keyshares(fewest).unwrap(), secret.expose());
        let theirs = create_keyshares(secret.expose(), count, threshold).unwrap();
        assert_eq!(combined_of(&theirs[..threshold.into()]), *secret.expose());
    }
}
