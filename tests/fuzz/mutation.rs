//! Where bytes come from that nobody meant to write.

use crate::seed;

/// SplitMix64: fast, seeded, and good enough to mutate with.
pub(crate) struct Random(u64);

impl Random {
    /// The stream of this run for one purpose, whatever other tests draw.
    pub(crate) fn of(purpose: &str) -> Self {
        Self(purpose.bytes().fold(seed(), |mix, byte| (mix ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Bytes at which parsers tend to turn.
const TURNS: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b' ', b'\n', b'-', b'"', b'='];

/// One of `whole`, changed in one to eight places; now and then nothing but noise. `words` are what its
/// parser looks for.
pub(crate) fn mutated(random: &mut Random, whole: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    if random.below(32) == 0 {
        let length = random.below(300);
        return random.bytes(length);
    }
    let mut bytes = random.pick(whole).clone();
    for _ in 0..=random.below(8) {
        change(random, &mut bytes, whole, words);
        // Half of all inputs have one change: more of them would hide one another.
        if random.below(2) == 0 {
            break;
        }
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, whole: &[Vec<u8>], words: &[&[u8]]) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(17)).min(bytes.len());
    match random.below(9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = *random.pick(&TURNS),
        2 => drop(bytes.drain(at..end)),
        3 => bytes.truncate(at),
        4 => insert(bytes, at, bytes[at..end].to_vec()),
        5 => {
            let length = random.below(17);
            insert(bytes, at, random.bytes(length));
        }
        6 if !words.is_empty() => insert(bytes, at, random.pick(words).to_vec()),
        7 => {
            let other = random.pick(whole);
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        8 => {
            let (byte, length) = (*random.pick(&TURNS), random.below(200));
            insert(bytes, at, vec![byte; length]);
        }
        _ => bytes.push(*random.pick(&TURNS)),
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: Vec<u8>) {
    drop(bytes.splice(at..at, piece));
}

#[test]
fn the_same_seed_changes_the_same_things() {
    let whole = [b"one".to_vec(), b"twelve letters".to_vec()];
    let draw = |purpose| {
        let mut random = Random::of(purpose);
        (0..100).map(|_| mutated(&mut random, &whole, &[b"word"])).collect::<Vec<_>>()
    };
    assert_eq!(draw("a"), draw("a"));
    assert_ne!(draw("a"), draw("b"));
    let changed = draw("a").iter().filter(|bytes| !whole.contains(bytes)).count();
    assert!(changed > 80, "{changed} of 100");
}
