//! A custodian's share: one of several that together give the key of a seal.
//!
//! ```text
//! vaultshare1_prod_kcmbfoelgpaninhj_2_3_<64 letters>_<10 letters>
//!             │    │                │ │ │            └ checksum of all before it
//!             │    │                │ │ └ the share itself
//!             │    │                │ └ its number
//!             │    │                └ threshold: how many are needed
//!             │    └ set: drawn anew whenever shares are dealt
//!             └ environment
//! ```
//!
//! Specified in `docs/format/keyring.md`. Its letters are `a` to `p`, four bits each, so that no scanner for
//! card numbers ever fires on one. Errors name what is wrong with a share and repeat nothing of it.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use super::shamir::{self, CombineFault};
use crate::crypto::{Entropy, EntropyFault, Key32, sha256};
use crate::data::Environment;
use crate::limits::{SHARE_TEXT_BYTES_MAX, SHARES_MAX, SHARES_MIN};

const PREFIX: &str = "vaultshare";
const VERSION: &str = "1";
/// First bytes of what a checksum is over.
const CHECKED: &[u8] = b"vault/share/1";
const SET_BYTES: usize = 8;
const VALUE_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 5;

/// Names the shares that were dealt together: 64 random bits, not secret.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShareSetId([u8; SET_BYTES]);

impl ShareSetId {
    pub(super) const fn from_bytes(bytes: [u8; SET_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; SET_BYTES] {
        &self.0
    }
}

impl fmt::Display for ShareSetId {
    /// 16 letters, as they stand in every share of the set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{}{}", letter(byte >> 4), letter(byte & 0xf)))
    }
}

/// What a share says of itself; none of it is secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShareLabel {
    /// Where its vault runs.
    pub environment: Environment,
    /// With which others it was dealt.
    pub set: ShareSetId,
    /// How many of the set are needed.
    pub threshold: u8,
    /// Which of the set it is, from 1.
    pub number: u8,
}

/// A share in memory: it cannot be printed, cloned or compared, and is wiped on drop.
pub struct Share {
    label: ShareLabel,
    value: Key32,
}

/// Why a text is not a share. Says nothing of what the text was.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ShareTextError {
    /// It does not begin as shares do.
    #[error("this is not a share: a share begins with vaultshare1_")]
    NotAShare,
    /// It is a share of a release that wrote them otherwise.
    #[error("this share is of another version than this release reads")]
    OtherVersion,
    /// Something is missing or too much.
    #[error("this share is incomplete, or has more than a share has")]
    Incomplete,
    /// The checksum does not fit.
    #[error("this share is mistyped: its checksum does not fit")]
    Mistyped,
}

impl Share {
    /// Reads the text form; white space around it and upper case are forgiven.
    ///
    /// # Errors
    /// [`ShareTextError`].
    pub fn parse(text: &[u8]) -> Result<Self, ShareTextError> {
        let text = text.trim_ascii();
        if text.len() > SHARE_TEXT_BYTES_MAX {
            return Err(ShareTextError::Incomplete);
        }
        let text = Zeroizing::new(text.to_ascii_lowercase());
        let text = str::from_utf8(&text).map_err(|_| ShareTextError::NotAShare)?;
        let (version, _) = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('_'))
            .ok_or(ShareTextError::NotAShare)?;
        if version != VERSION {
            return Err(ShareTextError::OtherVersion);
        }
        let mut fields = text.split('_').skip(1);
        let mut next = || fields.next().ok_or(ShareTextError::Incomplete);
        let [environment, set, threshold, number, value, sum] =
            [next()?, next()?, next()?, next()?, next()?, next()?];
        let checked = text.len().checked_sub(1 + sum.len()).and_then(|end| text.get(..end));
        let sum = bytes_of::<CHECKSUM_BYTES>(sum).ok_or(ShareTextError::Incomplete)?;
        if fields.next().is_some() {
            return Err(ShareTextError::Incomplete);
        }
        if checked.map(checksum) != Some(*sum) {
            return Err(ShareTextError::Mistyped);
        }
        // What bears the right checksum was written by a vault: anything odd in it was made by hand.
        let label = label(environment, set, threshold, number).ok_or(ShareTextError::Mistyped)?;
        let value = bytes_of::<VALUE_BYTES>(value).ok_or(ShareTextError::Mistyped)?;
        Ok(Self { label, value: Key32::from_bytes(value) })
    }

    /// The text form, to be shown once. In one allocation: growing would leave copies behind.
    pub fn to_text(&self) -> Zeroizing<String> {
        let ShareLabel { environment, set, threshold, number } = &self.label;
        let mut text = Zeroizing::new(String::with_capacity(SHARE_TEXT_BYTES_MAX));
        text.push_str(&format!("{PREFIX}{VERSION}_{environment}_{set}_{threshold}_{number}_"));
        put_letters(&mut text, self.value.expose());
        let sum = checksum(&text);
        text.push('_');
        put_letters(&mut text, &sum);
        text
    }

    /// What it says of itself.
    pub const fn label(&self) -> &ShareLabel {
        &self.label
    }

    pub(super) const fn value(&self) -> &Key32 {
        &self.value
    }
}

fn label(environment: &str, set: &str, threshold: &str, number: &str) -> Option<ShareLabel> {
    let label = ShareLabel {
        environment: Environment::parse(environment).ok()?,
        set: ShareSetId(*bytes_of::<SET_BYTES>(set)?),
        threshold: decimal(threshold)?,
        number: decimal(number)?,
    };
    let fits =
        (SHARES_MIN..=SHARES_MAX).contains(&label.threshold) && (1..=SHARES_MAX).contains(&label.number);
    fits.then_some(label)
}

/// A number as the text form writes it: without sign or leading zero.
fn decimal(text: &str) -> Option<u8> {
    text.parse().ok().filter(|number: &u8| number.to_string() == text)
}

fn checksum(text: &str) -> [u8; CHECKSUM_BYTES] {
    let hash = sha256(&[CHECKED, text.as_bytes()]);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.iter_mut().zip(hash).for_each(|(sum, byte)| *sum = byte);
    sum
}

const fn letter(bits: u8) -> char {
    (b'a' + bits) as char
}

fn put_letters(text: &mut String, bytes: &[u8]) {
    text.extend(bytes.iter().flat_map(|byte| [letter(byte >> 4), letter(byte & 0xf)]));
}

/// Exactly so many bytes from their letters.
fn bytes_of<const N: usize>(letters: &str) -> Option<Zeroizing<[u8; N]>> {
    let (pairs, rest) = letters.as_bytes().as_chunks::<2>();
    (pairs.len() == N && rest.is_empty()).then_some(())?;
    let mut bytes = Zeroizing::new([0; N]);
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = bits(*high)? << 4 | bits(*low)?;
    }
    Some(bytes)
}

fn bits(letter: u8) -> Option<u8> {
    Some(letter.wrapping_sub(b'a')).filter(|bits| *bits < 16)
}

/// Why no shares were dealt.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum DealError {
    /// One share alone would open the vault, or more are needed than there are.
    #[error("at least 2 shares are needed, at most as many as there are, and there are at most 16")]
    Numbers,
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyFault),
}

/// A key dealt out in shares, before anything is sealed with it.
pub struct Deal {
    pub(super) set: ShareSetId,
    pub(super) threshold: u8,
    pub(super) key: Key32,
    shares: Vec<Share>,
}

impl Deal {
    /// Draws a key and deals it out in `count` shares, `threshold` of which are needed.
    ///
    /// # Errors
    /// [`DealError`].
    pub fn draw(
        environment: &Environment,
        threshold: u8,
        count: u8,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, DealError> {
        if threshold < SHARES_MIN || threshold > count || count > SHARES_MAX {
            return Err(DealError::Numbers);
        }
        let mut set = [0; SET_BYTES];
        entropy.fill(&mut set)?;
        let set = ShareSetId(set);
        let key = Key32::generate(entropy)?;
        let values = shamir::split(&key, threshold, count, entropy)?;
        let label = |number| ShareLabel { environment: environment.clone(), set, threshold, number };
        let shares = values.into_iter().zip(1..).map(|(value, number)| Share { label: label(number), value });
        Ok(Self { set, threshold, key, shares: shares.collect() })
    }

    /// The shares, by number.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }
}

/// The key that these shares give together: the right one only if a commitment says so. Their labels are the
/// caller's to check.
pub(super) fn combine(shares: &[&Share]) -> Result<Key32, CombineFault> {
    let points: Vec<_> = shares.iter().map(|share| (share.label.number, &share.value)).collect();
    shamir::combine(&points)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededEntropy;

    fn deal(threshold: u8, count: u8) -> Result<Deal, DealError> {
        let environment = Environment::parse("test").unwrap();
        Deal::draw(&environment, threshold, count, &mut SeededEntropy::new(1))
    }

    fn share() -> Share {
        deal(2, 3).unwrap().shares.swap_remove(1)
    }

    fn refused(text: &str) -> ShareTextError {
        Share::parse(text.as_bytes()).err().unwrap()
    }

    /// A text made by hand whose checksum fits.
    fn with_checksum(text: &str) -> String {
        let mut made = format!("{text}_");
        put_letters(&mut made, &checksum(text));
        made
    }

    #[test]
    fn what_was_written_is_read_the_same() {
        for share in deal(3, 16).unwrap().shares() {
            let text = share.to_text();
            for given in [text.to_string(), format!(" {}\r\n", *text), text.to_uppercase()] {
                let read = Share::parse(given.as_bytes()).unwrap();
                assert_eq!(read.label(), share.label());
                assert_eq!(read.value().expose(), share.value().expose());
            }
        }
    }

    #[test]
    fn the_longest_share_fits_its_bound_and_no_card_scanner() {
        let environment = Environment::parse(&"e".repeat(32)).unwrap();
        let deal = Deal::draw(&environment, 16, 16, &mut SeededEntropy::new(2)).unwrap();
        let text = deal.shares().last().unwrap().to_text();
        assert!(text.len() <= SHARE_TEXT_BYTES_MAX);
        assert_eq!(text.capacity(), SHARE_TEXT_BYTES_MAX, "it never grew");
        assert!(text.split('_').all(|field| field.bytes().filter(u8::is_ascii_digit).count() < 3));
    }

    #[test]
    fn the_text_form_is_the_documented_one() {
        deal(2, 3).unwrap().shares().iter().for_each(|share| {
            crate::data::documents::says("keyring.md", &share.to_text());
        });
    }

    #[test]
    fn every_mistyped_letter_is_noticed() {
        let text = share().to_text();
        for at in PREFIX.len()..text.len() {
            for typed in ['a', 'p', '1', '-', '_'] {
                let mut mistyped: Vec<char> = text.chars().collect();
                if mistyped[at] != typed {
                    mistyped[at] = typed;
                    assert!(Share::parse(String::from_iter(&mistyped).as_bytes()).is_err(), "{at} {typed}");
                }
            }
        }
        for at in PREFIX.len()..text.len() - 1 {
            let mut swapped: Vec<char> = text.chars().collect();
            swapped.swap(at, at + 1);
            let swapped = String::from_iter(&swapped);
            assert!(swapped == *text || Share::parse(swapped.as_bytes()).is_err(), "{at}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let text = share().to_text();
        assert_eq!(refused(""), ShareTextError::NotAShare);
        assert_eq!(refused("correct horse battery staple"), ShareTextError::NotAShare);
        assert_eq!(refused(&text.replacen('1', "2", 1)), ShareTextError::OtherVersion);
        assert_eq!(refused(&text[..text.len() - 1]), ShareTextError::Incomplete);
        assert_eq!(refused(&text[..40]), ShareTextError::Incomplete);
        assert_eq!(refused(&format!("{}_a", *text)), ShareTextError::Incomplete);
        assert_eq!(refused(&format!("{}{}", *text, "a".repeat(300))), ShareTextError::Incomplete);
        assert_eq!(refused(&text.replacen("test", "tess", 1)), ShareTextError::Mistyped);
        assert_eq!(Share::parse(b"vaultshare1_\xff").err(), Some(ShareTextError::NotAShare));
    }

    #[test]
    fn a_share_made_by_hand_is_no_share() {
        let good = share().to_text();
        let (content, _) = good.rsplit_once('_').unwrap();
        assert!(Share::parse(with_checksum(content).as_bytes()).is_ok(), "unchanged");
        for (from, to) in [
            ("_2_2_", "_1_2_"),
            ("_2_2_", "_2_0_"),
            ("_2_2_", "_17_2_"),
            ("_2_2_", "_2_17_"),
            ("_2_2_", "_02_2_"),
            ("_test_", "_te%st_"),
        ] {
            assert_eq!(
                refused(&with_checksum(&content.replacen(from, to, 1))),
                ShareTextError::Mistyped,
                "{to}"
            );
        }
    }

    #[test]
    fn nobody_alone_and_never_more_than_there_are() {
        for (threshold, count) in [(0, 3), (1, 1), (1, 3), (4, 3), (2, 17), (17, 17)] {
            assert_eq!(deal(threshold, count).err(), Some(DealError::Numbers), "{threshold} of {count}");
        }
        for (threshold, count) in [(2, 2), (2, 16), (16, 16)] {
            assert_eq!(deal(threshold, count).unwrap().shares().len(), usize::from(count));
        }
    }

    #[test]
    fn shares_give_the_key_back_and_sets_differ() {
        let deal = deal(2, 3).unwrap();
        let shares: Vec<&Share> = deal.shares().iter().collect();
        for pair in [[0, 1], [0, 2], [2, 1]] {
            let key = combine(&pair.map(|at| shares[at])).unwrap();
            assert_eq!(key.expose(), deal.key.expose());
        }
        assert_eq!(combine(&[shares[0], shares[0]]).err(), Some(CombineFault::Repeated(1)));
        let environment = Environment::parse("test").unwrap();
        let other = Deal::draw(&environment, 2, 3, &mut SeededEntropy::new(2)).unwrap();
        assert_ne!(other.set, deal.set);
    }
}
