//! The shares that open a vault, as its seal knows them: which set, how many are needed, and for each share
//! whose it is and a commitment to it, so that a wrong one is found out by itself and by name.

use std::collections::BTreeSet;

use thiserror::Error;

use super::seal::VaultName;
use super::shamir::CombineFault;
use super::share::{self, Deal, Share, ShareSetId};
use crate::crypto::Key32;
use crate::crypto::codec::{Reader, put_short_text};
use crate::crypto::commitment::{COMMITMENT_BYTES, commit, is_committed};
use crate::data::PrincipalId;
use crate::error::CeremonyFault;
use crate::limits::{SHARES_MAX, SHARES_MIN};

/// First bytes of what the commitment to a share is bound to.
const FORMAT: &[u8] = b"vault/share-slot/1";

/// The shares of a seal. A commitment to a share says nothing about it: the share is 256 random bits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShareSet {
    id: ShareSetId,
    threshold: u8,
    /// By number, from 1.
    slots: Vec<ShareSlot>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct ShareSlot {
    custodian: PrincipalId,
    commitment: [u8; COMMITMENT_BYTES],
}

/// What is wrong with the shares that were given. Says nothing about what they hold.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ShareFault {
    /// Keys of one environment never open another.
    #[error("share {0} is of a vault of another environment")]
    OtherEnvironment(u8),
    /// Another vault's, or dealt before these.
    #[error("share {0} is of another set: of another vault, or from before the last ceremony")]
    OtherSet(u8),
    /// It bears the name of this set and is none of its shares.
    #[error("share {0} is not the one that was dealt under this number")]
    NotTheOne(u8),
    /// Given twice.
    #[error("share {0} is there already: another share is needed")]
    Repeated(u8),
    /// Each by itself is right.
    #[error("{given} shares are given and {needed} are needed")]
    TooFew {
        /// So many are there.
        given: u8,
        /// So many have to be.
        needed: u8,
    },
}

impl From<ShareFault> for CeremonyFault {
    fn from(fault: ShareFault) -> Self {
        match fault {
            ShareFault::OtherEnvironment(_) => Self::ShareForeign,
            ShareFault::OtherSet(_) => Self::ShareOtherSet,
            ShareFault::NotTheOne(_) => Self::ShareWrong,
            ShareFault::Repeated(_) => Self::ShareRepeated,
            ShareFault::TooFew { .. } => Self::SharesTooFew,
        }
    }
}

impl ShareSet {
    /// The set of a deal, with the custodians of its shares in order: another one for each.
    pub(super) fn of(vault: &VaultName, deal: &Deal, custodians: &[PrincipalId]) -> Option<Self> {
        let distinct: BTreeSet<_> = custodians.iter().collect();
        (custodians.len() == deal.shares().len() && distinct.len() == custodians.len()).then_some(())?;
        let mut set = Self { id: deal.set, threshold: deal.threshold, slots: Vec::new() };
        for (share, custodian) in deal.shares().iter().zip(custodians) {
            let bound = set.bound(vault, share.label().number, custodian);
            let commitment = commit(share.value(), &bound);
            set.slots.push(ShareSlot { custodian: custodian.clone(), commitment });
        }
        Some(set)
    }

    /// Names the set.
    pub const fn id(&self) -> ShareSetId {
        self.id
    }

    /// How many shares are needed.
    pub const fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Whose each share is, by number.
    pub fn custodians(&self) -> impl Iterator<Item = (u8, &PrincipalId)> {
        (1..).zip(self.slots.iter().map(|slot| &slot.custodian))
    }

    /// Whether a share is one of this set, of this vault.
    pub(super) fn check(&self, vault: &VaultName, share: &Share) -> Result<(), ShareFault> {
        let label = share.label();
        let number = label.number;
        if label.environment != vault.environment {
            return Err(ShareFault::OtherEnvironment(number));
        }
        if label.set != self.id {
            return Err(ShareFault::OtherSet(number));
        }
        let slot = usize::from(number).checked_sub(1).and_then(|at| self.slots.get(at));
        let dealt = slot.is_some_and(|slot| {
            let bound = self.bound(vault, number, &slot.custodian);
            label.threshold == self.threshold && is_committed(share.value(), &bound, &slot.commitment)
        });
        if dealt { Ok(()) } else { Err(ShareFault::NotTheOne(number)) }
    }

    /// The key of the seal, from shares of which each is checked.
    pub(super) fn combine(&self, vault: &VaultName, shares: &[Share]) -> Result<Key32, ShareFault> {
        for (at, share) in shares.iter().enumerate() {
            self.check(vault, share)?;
            let number = share.label().number;
            if shares.iter().take(at).any(|other| other.label().number == number) {
                return Err(ShareFault::Repeated(number));
            }
        }
        // None has a number twice, so that there are at most as many as slots.
        let too_few = ShareFault::TooFew { given: shares.len() as u8, needed: self.threshold };
        let fewest = shares.get(..self.threshold.into()).ok_or(too_few)?;
        share::combine(&fewest.iter().collect::<Vec<_>>()).map_err(|fault| match fault {
            CombineFault::Zero | CombineFault::None => too_few,
            CombineFault::Repeated(number) => ShareFault::Repeated(number),
        })
    }

    /// What the commitment to one share is bound to: format, vault, set, threshold, number, custodian.
    fn bound(&self, vault: &VaultName, number: u8, custodian: &PrincipalId) -> Vec<u8> {
        let mut out = FORMAT.to_vec();
        out.extend_from_slice(&vault.to_bytes());
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&[self.threshold, number]);
        put_short_text(&mut out, custodian.as_str());
        out
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&[self.threshold, self.slots.len() as u8]); // at most 16
        for slot in &self.slots {
            put_short_text(out, slot.custodian.as_str());
            out.extend_from_slice(&slot.commitment);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let id = ShareSetId::from_bytes(reader.array()?);
        let (threshold, count) = (reader.u8()?, reader.u8()?);
        (SHARES_MIN..=count).contains(&threshold).then_some(())?;
        (count <= SHARES_MAX).then_some(())?;
        let slots = (0..count).map(|_| {
            let custodian = PrincipalId::parse(reader.short_text()?).ok()?;
            Some(ShareSlot { custodian, commitment: reader.array()? })
        });
        Some(Self { id, threshold, slots: slots.collect::<Option<_>>()? })
    }
}
