//! From a passphrase to a key: Argon2id (RFC 9106), version 0x13.

use argon2::{Algorithm, Argon2, Block, Version};
use thiserror::Error;
use zeroize::Zeroizing;

use super::key::Key32;
use crate::limits::{PASSPHRASE_BYTES_MAX, PASSPHRASE_BYTES_MIN};

/// Bytes of a salt.
pub const SALT_BYTES: usize = 32;

/// What a derivation costs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Params {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes; computed one after another here, in parallel by an attacker: more than 1 helps only him.
    pub lanes: u32,
}

impl Params {
    /// The least accepted, when a seal is made and whenever it is opened: a file whose parameters were
    /// lowered is refused before the passphrase is touched. RFC 9106's second recommendation with one lane:
    /// 64 MiB, 3 passes.
    pub const FLOOR: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// The most accepted: bounds what a forged file can make an unseal cost.
    pub const CEILING: Self = Self { memory_kib: 4 * 1024 * 1024, passes: 32, lanes: 16 };

    /// Refuses parameters below the floor or above the ceiling.
    ///
    /// # Errors
    /// [`PassphraseError::BelowFloor`] or [`PassphraseError::AboveCeiling`].
    pub const fn check(self) -> Result<(), PassphraseError> {
        let (floor, ceiling) = (Self::FLOOR, Self::CEILING);
        if self.memory_kib < floor.memory_kib || self.passes < floor.passes || self.lanes < floor.lanes {
            return Err(PassphraseError::BelowFloor);
        }
        if self.memory_kib > ceiling.memory_kib || self.passes > ceiling.passes || self.lanes > ceiling.lanes
        {
            return Err(PassphraseError::AboveCeiling);
        }
        Ok(())
    }
}

/// Why no key was derived.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PassphraseError {
    /// Memory, passes or lanes below the compiled-in floor.
    #[error("the passphrase hashing parameters are below the compiled-in floor")]
    BelowFloor,
    /// Memory, passes or lanes above the compiled-in ceiling.
    #[error("the passphrase hashing parameters are above the compiled-in ceiling")]
    AboveCeiling,
    /// Shorter than 15 or longer than 1,024 bytes.
    #[error("a passphrase has 15 to 1024 bytes")]
    Length,
    /// The memory the parameters ask for is not to be had.
    #[error("there is not enough memory to hash the passphrase")]
    Memory,
}

/// Derives a key from a passphrase. Takes about a quarter of a second at the floor, and its memory; the
/// memory is wiped.
///
/// # Errors
/// [`PassphraseError`]; parameters and length are checked before any work.
pub fn derive(passphrase: &[u8], salt: &[u8; SALT_BYTES], params: Params) -> Result<Key32, PassphraseError> {
    params.check()?;
    if !(PASSPHRASE_BYTES_MIN..=PASSPHRASE_BYTES_MAX).contains(&passphrase.len()) {
        return Err(PassphraseError::Length);
    }
    let cost = argon2::Params::new(params.memory_kib, params.passes, params.lanes, Some(32))
        .map_err(|_| PassphraseError::Memory)?; // 8 KiB a lane: the floor has it for all lanes of the ceiling
    let mut memory = zeroed_blocks(cost.block_count())?;
    let mut out = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, cost)
        .hash_password_into_with_memory(passphrase, salt, out.as_mut_slice(), memory.as_mut_slice())
        .map_err(|_| PassphraseError::Memory)?;
    Ok(Key32::from_bytes(out))
}

/// Memory for the hash that is refused rather than aborted over, and wiped on drop.
fn zeroed_blocks(count: usize) -> Result<Zeroizing<Vec<Block>>, PassphraseError> {
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(count).map_err(|_| PassphraseError::Memory)?;
    blocks.resize(count, Block::new());
    Ok(Zeroizing::new(blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &[u8] = b"correct horse battery staple";

    #[test]
    fn every_parameter_below_the_floor_or_above_the_ceiling_is_refused_before_any_work() {
        let changed: [fn(Params) -> Params; 3] = [
            |params| Params { memory_kib: params.memory_kib - 1, ..params },
            |params| Params { passes: params.passes - 1, ..params },
            |params| Params { lanes: params.lanes - 1, ..params },
        ];
        for lowered in changed {
            let refused = derive(PASSPHRASE, &[0; SALT_BYTES], lowered(Params::FLOOR));
            assert_eq!(refused.err(), Some(PassphraseError::BelowFloor));
        }
        let changed: [fn(Params) -> Params; 3] = [
            |params| Params { memory_kib: params.memory_kib + 1, ..params },
            |params| Params { passes: params.passes + 1, ..params },
            |params| Params { lanes: params.lanes + 1, ..params },
        ];
        for raised in changed {
            let refused = derive(PASSPHRASE, &[0; SALT_BYTES], raised(Params::CEILING));
            assert_eq!(refused.err(), Some(PassphraseError::AboveCeiling));
        }
        assert_eq!((Params::FLOOR.check(), Params::CEILING.check()), (Ok(()), Ok(())));
    }

    #[test]
    fn passphrases_outside_the_length_are_refused() {
        for length in [0, 14, 1025] {
            let refused = derive(&vec![b'a'; length], &[0; SALT_BYTES], Params::FLOOR);
            assert_eq!(refused.err(), Some(PassphraseError::Length), "{length} bytes");
        }
    }

    /// Computed by the reference implementation in C (libargon2 20171227, `argon2id_hash_raw`).
    #[test]
    fn agrees_with_the_reference_implementation() {
        let salt = *b"0123456789abcdef0123456789abcdef";
        let key = derive(PASSPHRASE, &salt, Params::FLOOR).unwrap();
        let hex: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "d12ac228e1566ecd9f80cf05621657ee1b5b34e40133438917d7ed334641f455");
    }
}
