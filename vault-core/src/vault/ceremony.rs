//! Custodians come together: each gives one share, and when enough are there the vault has what its seal asks
//! for.
//!
//! A ceremony lives in memory alone. One that is interrupted, cancelled or over time leaves everything as it
//! was, and what was given is wiped. It decides nothing about rights: whoever drives it does, before each
//! step, and writes each step down.

use crate::clock::Timestamp;
use crate::data::PrincipalId;
use crate::error::CeremonyFault;
use crate::keys::{CeremonyId, CeremonyStep, OpenError, SealDescription, Share};
use crate::limits::CEREMONY_SECONDS;
use crate::policy::Identity;

/// A gathering of shares, until it is complete or over.
pub struct Ceremony {
    id: CeremonyId,
    begun_by: PrincipalId,
    ends_at: Timestamp,
    needed: u8,
    given: Vec<Given>,
}

/// Who gives a share: one person, as policy and as a certificate name them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Giver {
    /// The principal.
    pub principal: PrincipalId,
    /// What its certificate says.
    pub identity: Identity,
}

struct Given {
    by: Giver,
    share: Share,
}

impl Giver {
    /// Whether these are one person: one principal under two certificates, or one name in certificates under
    /// two principals, whichever CA vouched for it.
    fn is_same_as(&self, other: &Self) -> bool {
        let name = |giver: &Self| (giver.identity.kind, giver.identity.name.clone());
        self.principal == other.principal || name(self) == name(other)
    }
}

/// What may be told of a ceremony.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CeremonyView {
    /// Its name: whoever gives a share names the ceremony that it is for.
    pub id: CeremonyId,
    /// Who began it.
    pub begun_by: PrincipalId,
    /// When it is over, complete or not.
    pub ends_at: Timestamp,
    /// Shares that are needed.
    pub needed: u8,
    /// Who gave which share, in order.
    pub given: Vec<(PrincipalId, u8)>,
}

impl Ceremony {
    /// Begins one for the vault that is sealed so.
    ///
    /// # Errors
    /// [`CeremonyFault::OtherSeal`] where shares open nothing.
    pub fn begin(
        seal: &SealDescription,
        id: CeremonyId,
        by: PrincipalId,
        now: Timestamp,
    ) -> Result<Self, CeremonyFault> {
        let set = seal.kind.shares().ok_or(CeremonyFault::OtherSeal)?;
        let ends_at = now.plus_seconds(CEREMONY_SECONDS);
        Ok(Self { id, begun_by: by, ends_at, needed: set.threshold(), given: Vec::new() })
    }

    /// Whether its time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.ends_at
    }

    /// Whether it goes by this name.
    pub fn is_named(&self, name: &str) -> bool {
        self.id.to_string() == name
    }

    /// Takes a custodian's share, if it is one of the present set, not yet there, and the custodian's first.
    ///
    /// # Errors
    /// [`CeremonyFault`]; nothing changed then.
    pub fn give(&mut self, by: Giver, share: Share, seal: &SealDescription) -> Result<(), CeremonyFault> {
        if self.given.iter().any(|given| given.by.is_same_as(&by)) {
            return Err(CeremonyFault::GaveAlready);
        }
        seal.check_share(&share).map_err(|error| match error {
            OpenError::Share(fault) => fault.into(),
            _ => CeremonyFault::OtherSeal,
        })?;
        let number = share.label().number;
        if self.given.iter().any(|given| given.share.label().number == number) {
            return Err(CeremonyFault::ShareRepeated);
        }
        self.given.push(Given { by, share });
        Ok(())
    }

    /// Drops the shares of whoever may no longer take part.
    pub fn keep_only(&mut self, mut may: impl FnMut(&Giver) -> bool) {
        self.given.retain(|given| may(&given.by));
    }

    /// Whether enough shares are there.
    pub fn is_complete(&self) -> bool {
        self.given.len() >= usize::from(self.needed)
    }

    /// The shares, for [`Credential::Shares`](crate::keys::Credential).
    pub fn into_shares(self) -> Vec<Share> {
        self.given.into_iter().map(|given| given.share).collect()
    }

    /// What may be told of it.
    pub fn view(&self) -> CeremonyView {
        let Self { id, begun_by, ends_at, needed, given } = self;
        let given =
            given.iter().map(|given| (given.by.principal.clone(), given.share.label().number)).collect();
        CeremonyView { id: *id, begun_by: begun_by.clone(), ends_at: *ends_at, needed: *needed, given }
    }

    /// How a step stands in journal and log; share 0: none.
    pub const fn step(&self, share: u8) -> CeremonyStep {
        CeremonyStep { ceremony: self.id, share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededEntropy;
    use crate::crypto::passphrase::Params;
    use crate::data::{Environment, VaultId};
    use crate::keys::{Deal, Keyring, KeyringFolder, RootKey, Seal, SealKind};

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn name(text: &str) -> PrincipalId {
        PrincipalId::parse(text).unwrap()
    }

    fn giver(text: &str) -> Giver {
        giver_as(text, text, "office")
    }

    fn giver_as(principal: &str, identity: &str, ca: &str) -> Giver {
        let identity = Identity::uri(&format!("spiffe://test/{identity}")).unwrap().issued_by(ca);
        Giver { principal: name(principal), identity }
    }

    /// Two of three, as a keyring on disk describes it.
    fn sealed() -> (Deal, SealDescription) {
        let environment = Environment::parse("test").unwrap();
        let mut entropy = SeededEntropy::new(1);
        let keyring = Keyring::create(environment.clone(), &mut entropy, NOW).unwrap();
        let deal = Deal::draw(&environment, 2, 3, &mut entropy).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let folder = KeyringFolder::new(folder.path().join("keyring"));
        let custodians = ["ann", "bob", "cyd"].map(name);
        let seal = Seal::Shares { deal: &deal, custodians: &custodians };
        folder.create(&keyring, &RootKey::generate(&mut entropy).unwrap(), seal, &mut entropy).unwrap();
        (deal, folder.describe().unwrap())
    }

    fn share(deal: &Deal, number: usize) -> Share {
        Share::parse(deal.shares()[number - 1].to_text().as_bytes()).unwrap()
    }

    fn begun(seal: &SealDescription) -> Ceremony {
        let id = CeremonyId::draw(&mut SeededEntropy::new(2)).unwrap();
        Ceremony::begin(seal, id, name("ann"), NOW).unwrap()
    }

    #[test]
    fn one_share_of_each_custodian_until_enough_are_there() {
        let (deal, seal) = sealed();
        let mut ceremony = begun(&seal);
        assert!(!ceremony.is_complete());
        assert_eq!(ceremony.give(giver("ann"), share(&deal, 1), &seal), Ok(()));
        assert_eq!(ceremony.give(giver("ann"), share(&deal, 2), &seal), Err(CeremonyFault::GaveAlready));
        assert_eq!(ceremony.give(giver("bob"), share(&deal, 1), &seal), Err(CeremonyFault::ShareRepeated));
        assert!(!ceremony.is_complete());
        assert_eq!(ceremony.give(giver("bob"), share(&deal, 3), &seal), Ok(()));
        assert!(ceremony.is_complete());
        assert_eq!(ceremony.view().given, [(name("ann"), 1), (name("bob"), 3)]);
        assert_eq!(ceremony.into_shares().len(), 2);
    }

    #[test]
    fn one_person_under_two_names_gives_one_share() {
        let (deal, seal) = sealed();
        let mut ceremony = begun(&seal);
        assert_eq!(ceremony.give(giver("ann"), share(&deal, 1), &seal), Ok(()));
        let again = [
            giver_as("bob", "ann", "office"),
            giver_as("bob", "ann", "elsewhere"),
            giver_as("ann", "bob", "office"),
        ];
        for giver in again {
            assert_eq!(ceremony.give(giver, share(&deal, 2), &seal), Err(CeremonyFault::GaveAlready));
        }
        assert!(!ceremony.is_complete());
        assert_eq!(ceremony.give(giver("bob"), share(&deal, 2), &seal), Ok(()));
    }

    #[test]
    fn shares_of_others_are_refused_and_leave_room_for_the_right_one() {
        let (deal, seal) = sealed();
        let elsewhere = Environment::parse("prod").unwrap();
        let foreign = Deal::draw(&elsewhere, 2, 3, &mut SeededEntropy::new(3)).unwrap();
        let older = Deal::draw(&seal.environment, 2, 3, &mut SeededEntropy::new(4)).unwrap();
        let mut ceremony = begun(&seal);
        let refused = [(&foreign, CeremonyFault::ShareForeign), (&older, CeremonyFault::ShareOtherSet)];
        for (other, fault) in refused {
            assert_eq!(ceremony.give(giver("ann"), share(other, 1), &seal), Err(fault));
        }
        let elsewhere = SealDescription { vault_id: VaultId::from_bytes([9; 16]), ..seal.clone() };
        assert_eq!(ceremony.give(giver("ann"), share(&deal, 1), &elsewhere), Err(CeremonyFault::ShareWrong));
        assert_eq!(ceremony.give(giver("ann"), share(&deal, 1), &seal), Ok(()));
    }

    #[test]
    fn a_ceremony_has_a_name_an_end_and_only_those_who_still_may() {
        let (deal, seal) = sealed();
        let mut ceremony = begun(&seal);
        let id = ceremony.view().id.to_string();
        assert!(ceremony.is_named(&id) && !ceremony.is_named("") && !ceremony.is_named("aaaaaaaaaaaa"));
        assert!(!ceremony.is_over(NOW.plus_seconds(CEREMONY_SECONDS - 1)));
        assert!(ceremony.is_over(NOW.plus_seconds(CEREMONY_SECONDS)));
        ceremony.give(giver("ann"), share(&deal, 1), &seal).unwrap();
        ceremony.give(giver("bob"), share(&deal, 2), &seal).unwrap();
        ceremony.keep_only(|giver| giver.principal.as_str() != "ann");
        assert_eq!(ceremony.view().given, [(name("bob"), 2)]);
        assert_eq!(ceremony.give(giver("cyd"), share(&deal, 1), &seal), Ok(()));
    }

    #[test]
    fn a_passphrase_is_not_gathered() {
        let (_, seal) = sealed();
        let seal = SealDescription { kind: SealKind::Passphrase(Params::FLOOR), ..seal };
        let begun = Ceremony::begin(&seal, CeremonyId::default(), name("ann"), NOW);
        assert_eq!(begun.err(), Some(CeremonyFault::OtherSeal));
    }
}
