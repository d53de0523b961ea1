//! A changed keyring on its way to the other daemons. Specified in `docs/format/keyring.md`.
//!
//! Daemons meet in the store alone, whose backups outlive every key. So a changed keyring goes through it
//! encrypted under a key that only the keyring has from which it was made, and that it does not have itself:
//! whoever holds the older one learns the newer one, never the other way round. What was destroyed does not
//! come back from an old backup of the store and a keyring of today.

use thiserror::Error;

use super::body;
use super::file::name_of;
use super::keyring::Keyring;
use crate::crypto::codec::Reader;
use crate::crypto::kdf::{Label, subkey};
use crate::crypto::{Entropy, EntropyFault, NONCE_BYTES, RecordKey};

/// What is there was not made from this keyring, or was changed on its way.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("this was not made from this keyring")]
pub(crate) struct NotTransferred;

impl Keyring {
    /// A keyring that was made from this one, for whoever holds this one.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source of randomness fails.
    pub(crate) fn transfer(&self, next: &Self, entropy: &mut dyn Entropy) -> Result<Vec<u8>, EntropyFault> {
        let mut nonce = [0; NONCE_BYTES];
        entropy.fill(&mut nonce)?;
        let generation = next.generation().to_be_bytes();
        let mut out = [&generation[..], &nonce].concat();
        let bound = bound(&self.digest(), generation);
        let encrypted = self.transfer_key().encrypt(&nonce, &bound, &body::encode(next));
        out.extend_from_slice(&encrypted);
        Ok(out)
    }

    /// The keyring that another daemon made from this one.
    ///
    /// # Errors
    /// [`NotTransferred`].
    pub(crate) fn transferred(&self, bytes: &[u8]) -> Result<Self, NotTransferred> {
        self.transferred_from(&self.digest(), bytes).ok_or(NotTransferred)
    }

    /// As made from the keyring of a digest, whoever tries: the digest is no secret.
    pub(crate) fn transferred_from(&self, base: &[u8; 32], bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (generation, nonce) = (reader.array()?, reader.array()?);
        let plaintext = self.transfer_key().decrypt(&nonce, &bound(base, generation), reader.rest()).ok()?;
        body::decode(name_of(self), u64::from_be_bytes(generation), &plaintext)
    }

    fn transfer_key(&self) -> RecordKey {
        let bound = name_of(self).to_bytes();
        RecordKey::new(&subkey(&self.material().transfer, Label::KeyringTransfer, &bound))
    }
}

/// What is authenticated beside the body: from which keyring it was made, and how often it was changed.
fn bound(base: &[u8; 32], generation: [u8; 8]) -> Vec<u8> {
    [&base[..], &generation].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may stop loudly")]

    use super::*;
    use crate::clock::Timestamp;
    use crate::crypto::SeededEntropy;
    use crate::data::{Class, Environment, TenantId};
    use crate::keys::KeyState;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn acme() -> TenantId {
        TenantId::parse("acme").unwrap()
    }

    fn keyring(entropy: &mut SeededEntropy) -> Keyring {
        let mut keyring = Keyring::create(Environment::parse("test").unwrap(), entropy, NOW).unwrap();
        keyring.ensure_class(&acme(), Class::Pan, entropy, NOW).unwrap();
        keyring.introduce(&acme(), Class::Pan, entropy, NOW).unwrap();
        keyring
    }

    /// As a change is made: with another transfer key.
    fn changed(keyring: &Keyring, entropy: &mut SeededEntropy, change: impl Fn(&mut Keyring)) -> Keyring {
        let (next, ()) = keyring
            .changed(|next| {
                change(next);
                next.renew_transfer(entropy)
            })
            .unwrap();
        next
    }

    #[test]
    fn whoever_holds_the_keyring_before_gets_the_next_and_nobody_else() {
        let mut entropy = SeededEntropy::new(5);
        let first = keyring(&mut entropy);
        let second = changed(&first, &mut entropy, |next| next.announce(&acme(), Class::Pan, 2).unwrap());
        let carried = first.transfer(&second, &mut entropy).unwrap();
        let arrived = first.transferred(&carried).unwrap();
        assert_eq!((arrived.digest(), arrived.generation()), (second.digest(), second.generation()));
        assert!(second.transferred(&carried).is_err(), "not the one that it carries");
        assert!(keyring(&mut SeededEntropy::new(6)).transferred(&carried).is_err(), "another vault");
        for at in 0..carried.len() {
            let mut flipped = carried.clone();
            flipped[at] ^= 1;
            assert!(first.transferred(&flipped).is_err(), "byte {at}");
            assert!(first.transferred(&carried[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn what_was_destroyed_does_not_come_back_from_what_was_carried_before() {
        let mut entropy = SeededEntropy::new(5);
        let first = keyring(&mut entropy);
        let mut chain = vec![first];
        let steps: [&dyn Fn(&mut Keyring); 3] = [
            &|next| next.announce(&acme(), Class::Pan, 2).unwrap(),
            &|next| next.enable(&acme(), Class::Pan, 2, NOW).unwrap(),
            &|next| next.destroy(&acme(), Class::Pan, 1).unwrap(),
        ];
        let mut carried = Vec::new();
        for step in steps {
            let next = changed(&chain[chain.len() - 1], &mut entropy, step);
            carried.push(chain[chain.len() - 1].transfer(&next, &mut entropy).unwrap());
            chain.push(next);
        }
        let today = &chain[3];
        assert_eq!(today.versions(&acme(), Class::Pan)[0].state, KeyState::Destroyed);
        let opens =
            |(base, carried): (&Keyring, &Vec<u8>)| today.transferred_from(&base.digest(), carried).is_some();
        assert!(!chain.iter().zip(&carried).any(opens), "not even with the digest of the time");
        assert!(chain[0].transferred_from(&chain[0].digest(), &carried[0]).is_some());
    }

    #[test]
    fn what_is_carried_is_the_documented() {
        let mut entropy = SeededEntropy::new(5);
        let mut first = Keyring::create(Environment::parse("test").unwrap(), &mut entropy, NOW).unwrap();
        first.ensure_class(&acme(), Class::Pan, &mut entropy, NOW).unwrap();
        let second = changed(&first, &mut entropy, |next| {
            next.introduce(&acme(), Class::Pan, &mut SeededEntropy::new(6), NOW).unwrap();
        });
        let carried = first.transfer(&second, &mut entropy).unwrap();
        for bytes in [
            &first.vault_id().as_bytes()[..],
            first.material().transfer.expose(),
            &first.digest(),
            &body::encode(&second),
            &carried,
        ] {
            crate::data::documents::shows("keyring.md", bytes);
        }
    }
}
