//! Looks for many values in many encodings in one pass.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// How a value may be written down.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Encoding {
    Digits,
    Separated,
    Utf16,
    Bcd,
    Hexadecimal,
    Base64,
    Reversed,
}

/// Patterns shorter than this meet random bytes by chance: an SSN in BCD has five. Ten thousand such
/// patterns are found about once in 110 MB of ciphertext, so that they are counted apart and held against
/// that expectation.
const CERTAIN_BYTES: usize = 6;

/// All patterns of all values.
pub(crate) struct Scanner {
    patterns: AhoCorasick,
    encodings: Vec<Encoding>,
    short: usize,
}

impl Scanner {
    /// Of the digits alone: for memory.
    pub(crate) fn of_digits(values: &[&str]) -> Self {
        Self::new(values.iter().map(|value| (Encoding::Digits, value.as_bytes().to_vec())).collect())
    }

    /// Of every encoding.
    pub(crate) fn of_every_encoding(values: &[&str]) -> Self {
        Self::new(values.iter().flat_map(|value| encoded(value)).collect())
    }

    fn new(patterns: Vec<(Encoding, Vec<u8>)>) -> Self {
        let short = patterns.iter().filter(|(_, pattern)| pattern.len() < CERTAIN_BYTES).count();
        let (encodings, patterns): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
        let patterns = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::Standard)
            .build(patterns)
            .expect("an automaton");
        Self { patterns, encodings, short }
    }

    /// Every place where a pattern stands, one inside another included: the offset and the encoding.
    pub(crate) fn find<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (usize, Encoding, usize)> + 'a {
        self.patterns.find_overlapping_iter(bytes).map(|found| {
            (found.start(), self.encodings[found.pattern().as_usize()], found.end() - found.start())
        })
    }
}

/// A value in every encoding.
fn encoded(value: &str) -> Vec<(Encoding, Vec<u8>)> {
    let digits = value.as_bytes();
    let wide = |order: fn(u16) -> [u8; 2]| value.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let mut all = vec![
        (Encoding::Digits, digits.to_vec()),
        (Encoding::Utf16, wide(u16::to_le_bytes)),
        (Encoding::Utf16, wide(u16::to_be_bytes)),
        (Encoding::Hexadecimal, digits.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()),
        (Encoding::Reversed, digits.iter().rev().copied().collect()),
    ];
    all.extend([" ", "-"].map(|separator| (Encoding::Separated, separated(value, separator))));
    all.extend((0..3).map(|alignment| (Encoding::Base64, base64_within(digits, alignment))));
    all.extend(packed(value).map(|packed| (Encoding::Bcd, packed)));
    all
}

/// As people print it: a PAN in groups of four, an SSN in three, two and four.
fn separated(value: &str, separator: &str) -> Vec<u8> {
    let groups = match value.len() {
        9 => vec![&value[..3], &value[3..5], &value[5..]],
        length => (0..length).step_by(4).map(|at| &value[at..length.min(at + 4)]).collect(),
    };
    groups.join(separator).into_bytes()
}

/// Two digits a byte; an odd number of them fills up with a zero before or an F after, both of which are in
/// use.
fn packed(value: &str) -> impl Iterator<Item = Vec<u8>> {
    let full = [format!("0{value}"), format!("{value}f")];
    let even = if value.len().is_multiple_of(2) { vec![value.to_owned()] } else { full.to_vec() };
    even.into_iter().map(|digits| {
        let nibbles: Vec<u8> = digits.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
        nibbles.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    })
}

/// The characters that the bytes alone decide when so many others come before them.
fn base64_within(bytes: &[u8], before: usize) -> Vec<u8> {
    let text = STANDARD_NO_PAD.encode([vec![0; before].as_slice(), bytes].concat());
    // Of 6 bits each: the first ones hold bits of what came before, the last one of what comes after.
    let first = (before * 8).div_ceil(6);
    let end = (before + bytes.len()) * 8 / 6;
    text.as_bytes()[first..end].to_vec()
}

/// What was found where.
#[derive(Default)]
pub(crate) struct Findings {
    files: usize,
    bytes: u64,
    certain: BTreeMap<(String, Encoding), usize>,
    /// Each once: a database keeps the same random bytes in a table and in its WAL.
    by_chance: BTreeSet<Vec<u8>>,
    expected_by_chance: f64,
}

impl Findings {
    /// Looks into one thing.
    pub(crate) fn scan(&mut self, scanner: &Scanner, place: &Path, bytes: &[u8]) {
        self.files += 1;
        self.bytes += bytes.len() as u64;
        // Every pattern that is too short has five bytes.
        self.expected_by_chance += scanner.short as f64 * bytes.len() as f64 / 2_f64.powi(40);
        for (start, encoding, length) in scanner.find(bytes) {
            if length < CERTAIN_BYTES {
                self.by_chance.insert(bytes[start..start + length].to_vec());
            } else {
                *self.certain.entry((place.display().to_string(), encoding)).or_default() += 1;
            }
        }
    }

    /// Adds those of another scan.
    pub(crate) fn extend(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.by_chance.extend(other.by_chance);
        self.expected_by_chance += other.expected_by_chance;
        for (place, count) in other.certain {
            *self.certain.entry(place).or_default() += count;
        }
    }

    /// What was there by chance before is there still: files of a server are no random bytes.
    pub(crate) fn leave_out(&mut self, before: &Self) {
        self.by_chance.retain(|found| !before.by_chance.contains(found));
    }

    /// Values found that are no chance.
    pub(crate) fn count(&self) -> usize {
        self.certain.values().sum()
    }

    /// Nothing was found, and of the short patterns no more than random bytes hold: ten standard deviations
    /// and ten above the mean. A leak shows thousands.
    pub(crate) fn expect_none(&self) {
        assert!(self.certain.is_empty(), "values in the clear: {:?}", self.certain);
        let bound = 10.0 + self.expected_by_chance + 10.0 * self.expected_by_chance.sqrt();
        let found = self.by_chance.len();
        assert!((found as f64) < bound, "{found} values in BCD");
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes, expected_by_chance, .. } = self;
        let by_chance = self.by_chance.len();
        write!(
            f,
            "{} found in {files} files, logs and messages of {bytes} bytes; {by_chance} SSNs in BCD, \
             {expected_by_chance:.2} expected by chance",
            self.count()
        )
    }
}

#[test]
fn a_value_is_found_in_every_encoding() {
    let (pan, ssn) = ("4111111111111111", "078051120");
    let scanner = Scanner::of_every_encoding(&[pan, ssn]);
    let texts: [&[u8]; 13] = [
        b"<4111111111111111>",
        b"4111 1111 1111 1111",
        b"078-05-1120",
        b"4\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\0",
        b"\x00a\x000\x007\x008\x000\x005\x001\x001\x002\x000",
        b"\x41\x11\x11\x11\x11\x11\x11\x11",
        b"\x00\x78\x05\x11\x20",
        b"\x07\x80\x51\x12\x0f",
        b"30373830353131323021",
        STANDARD_NO_PAD.encode("078051120!").leak().as_bytes(),
        STANDARD_NO_PAD.encode("!078051120!").leak().as_bytes(),
        STANDARD_NO_PAD.encode("!!078051120!").leak().as_bytes(),
        b"021150870",
    ];
    for text in texts {
        assert!(scanner.find(text).next().is_some(), "not found in {text:?}");
    }
    assert!(scanner.find(b"411111111111111 78051120 41111111****1111").next().is_none());
}
