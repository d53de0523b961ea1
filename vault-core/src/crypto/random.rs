//! Randomness is given, like time: every drawing function takes an [`Entropy`].

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

/// The operating system gave no randomness. Nothing may be minted or encrypted then.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the source of randomness failed")]
pub struct EntropyFault;

/// Gives random bytes.
pub trait Entropy: Send {
    /// Overwrites all of `out` with random bytes.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source fails; `out` is then not to be used.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFault>;
}

/// The operating system's generator, one call for each draw: for keys and everything rare.
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    /// Opens nothing and keeps nothing.
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFault> {
        self.0.fill(out).map_err(|_| EntropyFault)
    }
}

/// Bytes drawn from the operating system at once: one call for about a hundred nonces (a call costs more than
/// the encryption it serves).
const POOL_BYTES: usize = 4096;

/// The operating system's generator, drawn in bulk: for nonces, token bits and entry ids on the hot path.
///
/// Bytes are wiped from the pool as they are handed out, the rest on drop. A child process that inherits the
/// pool by `fork` sees another process id and draws anew, so that parent and child never hand out the same
/// bytes. A virtual machine resumed twice from one snapshot is not noticed: at most one pool (4 KiB) repeats
/// then, which the insert-only token rows turn into conflicts and 192-bit nonces under one data key into the
/// documented residual risk.
pub struct BulkEntropy {
    system: SystemEntropy,
    pool: Box<Zeroizing<[u8; POOL_BYTES]>>,
    used: usize,
    process: u32,
}

impl BulkEntropy {
    /// An empty pool; the first draw fills it.
    pub fn new() -> Self {
        Self {
            system: SystemEntropy::new(),
            pool: Box::new(Zeroizing::new([0; POOL_BYTES])),
            used: POOL_BYTES,
            process: std::process::id(),
        }
    }

    fn refill(&mut self, process: u32) -> Result<(), EntropyFault> {
        self.used = POOL_BYTES;
        self.system.fill(self.pool.as_mut_slice())?;
        self.used = 0;
        self.process = process;
        Ok(())
    }
}

impl Default for BulkEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for BulkEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFault> {
        if out.len() > POOL_BYTES {
            return self.system.fill(out);
        }
        let process = std::process::id();
        if process != self.process || out.len() > POOL_BYTES - self.used {
            self.refill(process)?;
        }
        let end = self.used + out.len();
        let drawn = self.pool.get_mut(self.used..end).ok_or(EntropyFault)?;
        out.copy_from_slice(drawn);
        drawn.zeroize();
        self.used = end;
        Ok(())
    }
}

/// A reproducible stream of bytes, HMAC-SHA-256 of a counter under the seed. **For tests and simulations
/// only**: whoever knows the 64-bit seed knows every byte.
pub struct SeededEntropy {
    key: hmac::Key,
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl SeededEntropy {
    /// The stream of this seed, from its beginning.
    pub fn new(seed: u64) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &seed.to_be_bytes()),
            counter: 0,
            block: [0; 32],
            used: 32,
        }
    }

    fn next_byte(&mut self) -> u8 {
        if self.used == self.block.len() {
            let tag = hmac::sign(&self.key, &self.counter.to_be_bytes());
            self.block.copy_from_slice(tag.as_ref());
            self.counter += 1;
            self.used = 0;
        }
        let byte = self.block.get(self.used).copied().unwrap_or_default();
        self.used += 1;
        byte
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFault> {
        out.fill_with(|| self.next_byte());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn draws(entropy: &mut dyn Entropy, bytes: usize, count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|_| {
                let mut out = vec![0; bytes];
                entropy.fill(&mut out).unwrap();
                out
            })
            .collect()
    }

    #[test]
    fn no_source_repeats_itself() {
        let sources: [Box<dyn Entropy>; 3] =
            [Box::new(SystemEntropy::new()), Box::new(BulkEntropy::new()), Box::new(SeededEntropy::new(1))];
        for mut source in sources {
            let distinct: HashSet<_> = draws(source.as_mut(), 24, 2_000).into_iter().collect();
            assert_eq!(distinct.len(), 2_000);
        }
    }

    #[test]
    fn every_size_is_filled_completely() {
        // A byte left unwritten stays zero in all of 64 draws with probability 2^-512 otherwise.
        let mut bulk = BulkEntropy::new();
        for bytes in [0, 1, 24, 4095, 4096, 4097, 10_000] {
            let mut seen = vec![0_u8; bytes];
            for drawn in draws(&mut bulk, bytes, 64) {
                seen.iter_mut().zip(drawn).for_each(|(seen, byte)| *seen |= byte);
            }
            assert!(seen.iter().all(|byte| *byte != 0), "{bytes} bytes");
        }
    }

    #[test]
    fn the_pool_keeps_nothing_it_handed_out() {
        let mut bulk = BulkEntropy::new();
        draws(&mut bulk, 24, 5);
        assert_eq!(bulk.used, 120);
        assert!(bulk.pool[..120].iter().all(|byte| *byte == 0));
        assert!(bulk.pool[120..].iter().any(|byte| *byte != 0));
    }

    #[test]
    fn a_forked_child_draws_anew() {
        let mut bulk = BulkEntropy::new();
        draws(&mut bulk, 24, 1);
        let inherited = bulk.pool.to_vec();
        // What a child sees: the parent's id in its copy of the pool.
        bulk.process = bulk.process.wrapping_add(1);
        draws(&mut bulk, 24, 1);
        assert_eq!(bulk.process, std::process::id());
        assert_ne!(&bulk.pool[24..], &inherited[24..]);
    }

    #[test]
    fn a_seed_fixes_the_stream_whatever_the_sizes_drawn() {
        let whole = draws(&mut SeededEntropy::new(9), 96, 1).concat();
        let pieces = draws(&mut SeededEntropy::new(9), 12, 8).concat();
        assert_eq!(whole, pieces);
        assert_ne!(whole, draws(&mut SeededEntropy::new(10), 96, 1).concat());
    }
}
