//! Sealing a vault anew: another root key, under another passphrase or another set of shares.

use thiserror::Error;

use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::keys::{
    AnchorError, AnchorState, CeremonyStep, Credential, Keyring, RootKey, SaveError, Seal, UnsealAttempt,
    UnsealOutcome,
};
use crate::policy::Identity;

use super::registry::Registry;
use super::sealed::{Opening, SealedVault, UnsealError, outcome_of};

/// Why a vault is not sealed anew.
#[derive(Debug, Error)]
pub enum ResealError {
    /// Nothing changed: what opened the vault before opens it, and nothing else does.
    #[error("{0}")]
    Unchanged(UnsealError),
    /// The new seal may count already, and the old one may still: neither may be thrown away until one of
    /// them has opened the vault.
    #[error(
        "{0}; the new seal may count already: keep the old one and the new until one of them opens the vault"
    )]
    Undecided(UnsealError),
}

/// An attempt to seal anew that stands in the journal, made with what opens the vault.
#[must_use = "it stands as cut off unless the reseal follows"]
pub struct BegunReseal {
    attempt: UnsealAttempt,
    who: Identity,
}

impl SealedVault {
    /// Writes down that a reseal begins, and finds out whether this opens the vault: nobody is given a share
    /// before. Changes nothing but a copy of the keyring that needs repair. One that is never ended stands in
    /// the journal as cut off.
    ///
    /// # Errors
    /// [`UnsealError`]; the journal says so.
    pub fn begin_reseal(
        &self,
        given: Credential<'_>,
        who: &Identity,
        now: Timestamp,
    ) -> Result<BegunReseal, UnsealError> {
        let begun = self.begin(who, now)?;
        match self.opening(given) {
            Ok(_) => Ok(BegunReseal { attempt: begun, who: who.clone() }),
            Err(error) => {
                self.attempts.settle(&begun, outcome_of(&error));
                Err(error)
            }
        }
    }

    /// Seals the vault anew, under another root key: the way to another passphrase or another set of shares.
    /// What opened it before opens it no more, not even with the keyring of before. The journal has two
    /// entries for the log: that it began, and that it is done.
    ///
    /// # Errors
    /// [`ResealError`], which says whether the old seal or the new one is to be kept.
    pub fn reseal(
        &self,
        begun: BegunReseal,
        given: Credential<'_>,
        seal: Seal<'_>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<(), ResealError> {
        let BegunReseal { attempt: begun, who } = begun;
        let opening =
            self.opening(given).inspect_err(|error| self.attempts.settle(&begun, outcome_of(error)));
        let opening = opening.map_err(ResealError::Unchanged)?;
        let resealing = UnsealOutcome::ResealBegun;
        let written = self.attempts.journal().settle(&begun, resealing);
        written.map_err(|error| ResealError::Unchanged(UnsealError::Journal(error)))?;
        let root = self.handed_over(&opening, entropy).map_err(ResealError::Unchanged)?;
        self.seal_under(opening, &root, seal, entropy)?;
        self.note_step(UnsealOutcome::Resealed, CeremonyStep::default(), &who, now)
            .map_err(ResealError::Undecided)
    }

    /// Another root key, under which the anchor reads as it does under the present one: a crash before the
    /// keyring has it, or after, changes nothing.
    fn handed_over(&self, opening: &Opening, entropy: &mut dyn Entropy) -> Result<RootKey, UnsealError> {
        let root = RootKey::generate(entropy).map_err(|fault| UnsealError::Keyring(fault.to_string()))?;
        let handed = self.anchor_of(&opening.keyring).hand_over(&opening.root, &root);
        handed.map_err(|error| UnsealError::Anchor(error.to_string()))?;
        Ok(root)
    }

    /// Where no other daemon has this keyring, whoever has an old copy of it follows its changes no more.
    fn renew_transfer(&self, keyring: &mut Keyring, entropy: &mut dyn Entropy) -> Result<(), UnsealError> {
        let store = self.store();
        if store.is_shared() && !Registry::of(store, keyring).is_alone(self.origin())? {
            return Ok(());
        }
        // Under another transfer key it would never be read.
        self.check_newest(keyring)?;
        keyring.renew_transfer(entropy).map_err(|fault| UnsealError::Keyring(fault.to_string()))
    }

    /// The keyring under the new root key, and then an anchor that the old one no longer reads: without it an
    /// old copy of the keyring is refused, whatever opens it.
    fn seal_under(
        &self,
        opening: Opening,
        root: &RootKey,
        seal: Seal<'_>,
        entropy: &mut dyn Entropy,
    ) -> Result<(), ResealError> {
        let Opening { root: old_root, mut keyring, anchor, .. } = opening;
        let unusable = |error: AnchorError| UnsealError::Anchor(error.to_string());
        let renewed = self.renew_transfer(&mut keyring, entropy);
        renewed.map_err(ResealError::Unchanged)?;
        let known = anchor.map_err(|error| ResealError::Unchanged(unusable(error)))?;
        let file = self.anchor_of(&keyring);
        let resealed = self.folder.reseal(&old_root, keyring, root, seal, entropy);
        let keyring_generation = resealed.map_err(|error| {
            let told = UnsealError::Keyring(error.to_string());
            // Anything else was found before a copy was touched.
            if matches!(error, SaveError::Io(_)) {
                ResealError::Undecided(told)
            } else {
                ResealError::Unchanged(told)
            }
        })?;
        let next = AnchorState { sequence: known.sequence + 1, keyring_generation, ..known };
        file.write(root, &next).map_err(|error| ResealError::Undecided(unusable(error)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may stop loudly")]

    use std::fs;
    use std::path::Path;

    use super::super::open::Vault;
    use super::super::scene::{POLICY, Scene, entries, policy};
    use super::super::sealed::UNSEAL_JOURNAL;
    use super::*;
    use crate::audit::Action;
    use crate::data::{Environment, PrincipalId};
    use crate::keys::{Deal, Share};

    fn who() -> Identity {
        Identity::parse("uri:vaultd:test").unwrap()
    }

    fn shares(deal: &Deal) -> Vec<Share> {
        deal.shares().iter().map(|share| Share::parse(share.to_text().as_bytes()).unwrap()).collect()
    }

    fn deal(scene: &mut Scene) -> (Deal, [PrincipalId; 2]) {
        let environment = Environment::parse("test").unwrap();
        let deal = Deal::draw(&environment, 2, 2, &mut scene.entropy).unwrap();
        (deal, ["ann", "bob"].map(|name| PrincipalId::parse(name).unwrap()))
    }

    fn reseal(scene: &mut Scene, given: Credential<'_>, seal: Seal<'_>) -> Result<(), ResealError> {
        let begun = scene.sealed.begin_reseal(given, &who(), scene.now).map_err(ResealError::Unchanged)?;
        scene.sealed.reseal(begun, given, seal, scene.now, &mut scene.entropy)
    }

    fn unseal(scene: &mut Scene, given: Credential<'_>) -> Result<Vault, UnsealError> {
        scene.sealed.unseal(given, &who(), policy(POLICY), scene.now, &mut scene.entropy)
    }

    #[test]
    fn after_a_reseal_the_vault_goes_on_under_the_new_seal_alone() {
        let mut scene = Scene::new();
        let vault = scene.unseal().unwrap();
        scene.close(vault);
        let older = scene.keyring_files();
        let (deal, custodians) = deal(&mut scene);
        let seal = Seal::Shares { deal: &deal, custodians: &custodians };
        let passphrase = scene.passphrase();
        reseal(&mut scene, passphrase, seal).unwrap();

        assert!(matches!(scene.unseal(), Err(UnsealError::OtherSeal)));
        let shares = shares(&deal);
        let vault = unseal(&mut scene, Credential::Shares(&shares)).unwrap();
        let actions: Vec<_> = entries(&vault).iter().map(|entry| entry.action).collect();
        for action in [Action::ResealBegun, Action::Resealed] {
            assert_eq!(actions.iter().filter(|entered| **entered == action).count(), 1, "{action:?}");
        }
        scene.close(vault);
        // The anchor was written under the new root: what the old passphrase opens knows no anchor any more.
        older.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        assert!(matches!(scene.unseal(), Err(UnsealError::Anchor(_))));
    }

    #[test]
    fn what_does_not_open_the_vault_does_not_seal_it_anew() {
        let mut scene = Scene::new();
        let before = scene.keyring_files();
        let (deal, custodians) = deal(&mut scene);
        let seal = Seal::Shares { deal: &deal, custodians: &custodians };
        let wrong = Credential::Passphrase(b"correct horse battery stapler");
        assert!(matches!(
            reseal(&mut scene, wrong, seal),
            Err(ResealError::Unchanged(UnsealError::WrongPassphrase))
        ));
        let given = shares(&deal);
        let shares = Credential::Shares(&given);
        assert!(matches!(
            reseal(&mut scene, shares, seal),
            Err(ResealError::Unchanged(UnsealError::OtherSeal))
        ));
        let after = scene.keyring_files();
        let journal = |path: &Path| path.ends_with(UNSEAL_JOURNAL);
        assert!(after.iter().filter(|(path, _)| !journal(path)).all(|file| before.contains(file)));
        let vault = scene.unseal().unwrap();
        let refused = entries(&vault).into_iter().filter(|entry| entry.action == Action::UnsealRefused);
        assert_eq!(
            refused.map(|entry| entry.outcome.reason()).collect::<Vec<_>>(),
            ["WRONG_PASSPHRASE", "OTHER_SEAL"],
            "each attempt is entered as it ended"
        );
    }

    /// The slots and copies of a reseal under way, as a crash after each step would leave them.
    #[test]
    fn a_reseal_that_ends_anywhere_leaves_the_old_seal_or_the_new_and_done_only_the_new() {
        let mut scene = Scene::new();
        let vault = scene.unseal().unwrap();
        scene.close(vault);
        let older = scene.keyring_files();
        let anchor_before = fs::read(scene.anchor()).unwrap();
        let (deal, custodians) = deal(&mut scene);
        let seal = Seal::Shares { deal: &deal, custodians: &custodians };
        let passphrase = scene.passphrase();
        reseal(&mut scene, passphrase, seal).unwrap();
        let newer = scene.keyring_files();
        let anchor_done = fs::read(scene.anchor()).unwrap();
        assert!(anchor_before.chunks(4096).all(|slot| anchor_done.chunks(4096).all(|now| now != slot)));

        // Done: an old copy of the keyring is refused at once, before anybody unseals under the new seal.
        older.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        assert!(matches!(scene.unseal(), Err(UnsealError::Anchor(_))));

        // Cut before the keyring: the anchor's newest slot is still that of before.
        let sequence = |anchor: &[u8], slot: usize| anchor[slot * 4096 + 10..][..8].to_vec();
        let newest = usize::from(sequence(&anchor_before, 1) > sequence(&anchor_before, 0));
        let mut handed_over = anchor_done;
        let newest = newest * 4096..(newest + 1) * 4096;
        handed_over[newest.clone()].copy_from_slice(&anchor_before[newest]);
        fs::write(scene.anchor(), &handed_over).unwrap();
        let _ = scene.sealed.begin_reseal(scene.passphrase(), &who(), scene.now).unwrap();

        // Cut between the keyring and the anchor's last write.
        newer.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let shares = shares(&deal);
        let vault = unseal(&mut scene, Credential::Shares(&shares)).unwrap();
        scene.close(vault);
    }
}
