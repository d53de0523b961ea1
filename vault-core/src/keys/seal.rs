//! How the root key is wrapped: by a passphrase, by shares of custodians, by an HSM, or by an HSM and shares.
//!
//! Whatever its kind, a seal comes to one *seal key*, which wraps the root key behind a commitment. The kinds
//! differ in how that key is had: hashed from a passphrase, put together from shares, decrypted by an HSM, or
//! joined of the last two.

use zeroize::Zeroizing;

use super::hsm::{Hsm, HsmKey, HsmKeyId, HsmSlot};
use super::root::RootKey;
use super::share::{Deal, Share};
use super::share_set::{ShareFault, ShareSet};
use crate::crypto::codec::{Reader, put_short_text};
use crate::crypto::commitment::{COMMITMENT_BYTES, commit, is_committed};
use crate::crypto::kdf::{Label, joined, subkey};
use crate::crypto::passphrase::{self, Params, PassphraseError, SALT_BYTES};
use crate::crypto::{Entropy, EntropyFault, Key32, NONCE_BYTES, RecordKey, TAG_BYTES};
use crate::data::{Environment, PrincipalId, VaultId};
use crate::error::HsmFault;

/// First bytes of everything a seal binds.
const FORMAT: &[u8] = b"vault/seal/1";
const WRAPPED_BYTES: usize = 32 + TAG_BYTES;

/// How to seal a new keyring.
#[derive(Clone, Copy)]
pub enum Seal<'a> {
    /// Opened by whoever knows the passphrase. One person alone: this is not dual control (PCI DSS 3.7.6).
    Passphrase {
        /// 15 to 1,024 bytes.
        passphrase: &'a [u8],
        /// Not below [`Params::FLOOR`].
        params: Params,
    },
    /// Opened by as many of these shares as the deal says: split knowledge and dual control.
    Shares {
        /// Key and shares; the shares are with their custodians before anything is sealed.
        deal: &'a Deal,
        /// Whose each share is, in their order.
        custodians: &'a [PrincipalId],
    },
    /// Opened by whoever may use this key of the device: nobody has the key itself.
    Hsm(HsmKey<'a>),
    /// Opened by the device and the custodians together, by neither without the other.
    HsmAndShares {
        /// The key in the device.
        key: HsmKey<'a>,
        /// As in [`Seal::Shares`].
        deal: &'a Deal,
        /// As in [`Seal::Shares`].
        custodians: &'a [PrincipalId],
    },
}

/// What a sealed vault is to be opened with.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// The passphrase.
    Passphrase(&'a [u8]),
    /// Shares of custodians, in any order.
    Shares(&'a [Share]),
    /// The device.
    Hsm(&'a dyn Hsm),
    /// The device, and shares of custodians in any order.
    HsmAndShares(&'a dyn Hsm, &'a [Share]),
}

/// The kind of a seal, readable without opening it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SealKind {
    /// A passphrase, hashed at this cost.
    Passphrase(Params),
    /// Shares of custodians.
    Shares(ShareSet),
    /// A key in an HSM.
    Hsm(HsmKeyId),
    /// A key in an HSM, and shares of custodians.
    HsmAndShares(HsmKeyId, ShareSet),
}

impl SealKind {
    /// The shares that are needed, whatever else is.
    pub const fn shares(&self) -> Option<&ShareSet> {
        match self {
            Self::Shares(set) | Self::HsmAndShares(_, set) => Some(set),
            Self::Passphrase(_) | Self::Hsm(_) => None,
        }
    }

    /// The key in an HSM that is needed, whatever else is.
    pub const fn hsm_key(&self) -> Option<HsmKeyId> {
        match self {
            Self::Hsm(key) | Self::HsmAndShares(key, _) => Some(*key),
            Self::Passphrase(_) | Self::Shares(_) => None,
        }
    }

    /// A word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "passphrase",
            Self::Shares(_) => "shares",
            Self::Hsm(_) => "hsm",
            Self::HsmAndShares(..) => "hsm+shares",
        }
    }
}

const PASSPHRASE: u8 = 1;
const SHARES: u8 = 2;
const HSM: u8 = 3;
const HSM_AND_SHARES: u8 = 4;

/// The vault that a seal belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct VaultName {
    pub(super) environment: Environment,
    pub(super) vault_id: VaultId,
}

impl VaultName {
    /// Environment behind its length in one byte, vault id.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_short_text(&mut out, self.environment.as_str());
        out.extend_from_slice(self.vault_id.as_bytes());
        out
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let environment = Environment::parse(reader.short_text()?).ok()?;
        Some(Self { environment, vault_id: VaultId::from_bytes(reader.array()?) })
    }
}

/// How the seal key is had, as it is stored: everything but the passphrase, the shares or the device.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Slot {
    Passphrase { params: Params, salt: [u8; SALT_BYTES] },
    Shares(ShareSet),
    Hsm(HsmSlot),
    HsmAndShares(HsmSlot, ShareSet),
}

impl Slot {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Passphrase { params, salt } => {
                out.push(PASSPHRASE);
                for cost in [params.memory_kib, params.passes, params.lanes] {
                    out.extend_from_slice(&cost.to_be_bytes());
                }
                out.extend_from_slice(salt);
            }
            Self::Shares(set) => {
                out.push(SHARES);
                set.put(out);
            }
            Self::Hsm(hsm) => {
                out.push(HSM);
                hsm.put(out);
            }
            Self::HsmAndShares(hsm, set) => {
                out.push(HSM_AND_SHARES);
                hsm.put(out);
                set.put(out);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.u8()? {
            PASSPHRASE => {
                let params =
                    Params { memory_kib: reader.u32()?, passes: reader.u32()?, lanes: reader.u32()? };
                Some(Self::Passphrase { params, salt: reader.array()? })
            }
            SHARES => ShareSet::read(reader).map(Self::Shares),
            HSM => HsmSlot::read(reader).map(Self::Hsm),
            HSM_AND_SHARES => Some(Self::HsmAndShares(HsmSlot::read(reader)?, ShareSet::read(reader)?)),
            _ => None,
        }
    }
}

/// The root key as it is stored: wrapped, with everything needed to unwrap it but the credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SealedRoot {
    slot: Slot,
    commitment: [u8; COMMITMENT_BYTES],
    nonce: [u8; NONCE_BYTES],
    wrapped: [u8; WRAPPED_BYTES],
}

/// Why a sealed root key does not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum UnsealFault {
    /// The commitment is to another key.
    OtherKey,
    /// The key is the right one, but what it wraps does not authenticate.
    Damaged,
}

/// Why a credential gives no seal key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CredentialFault {
    /// The seal asks for something else.
    OtherKind,
    Passphrase(PassphraseError),
    Share(ShareFault),
    Hsm(HsmFault),
}

impl SealedRoot {
    /// Seals the root key of a vault; takes as long as the parameters ask for.
    pub(super) fn make(
        root: &RootKey,
        vault: &VaultName,
        seal: Seal<'_>,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, SealFault> {
        match seal {
            Seal::Passphrase { passphrase, params } => {
                let mut salt = [0; SALT_BYTES];
                entropy.fill(&mut salt)?;
                let seal_key = passphrase::derive(passphrase, &salt, params)?;
                Ok(Self::wrap(root, vault, &seal_key, Slot::Passphrase { params, salt }, entropy)?)
            }
            Seal::Shares { deal, custodians } => {
                let set = ShareSet::of(vault, deal, custodians).ok_or(SealFault::Custodians)?;
                Ok(Self::wrap(root, vault, &deal.key, Slot::Shares(set), entropy)?)
            }
            Seal::Hsm(key) => {
                let (slot, secret) = HsmSlot::make(vault, key, entropy)?;
                let sealed = Self::wrap(root, vault, &secret, Slot::Hsm(slot.clone()), entropy)?;
                sealed.tried(vault, &slot.open(vault, key.hsm)?)
            }
            Seal::HsmAndShares { key, deal, custodians } => {
                let set = ShareSet::of(vault, deal, custodians).ok_or(SealFault::Custodians)?;
                let (slot, secret) = HsmSlot::make(vault, key, entropy)?;
                let kept = Slot::HsmAndShares(slot.clone(), set);
                let sealed = Self::wrap(root, vault, &of_both(&secret, &deal.key), kept, entropy)?;
                sealed.tried(vault, &of_both(&slot.open(vault, key.hsm)?, &deal.key))
            }
        }
    }

    /// Itself, if a device gives back what it was given: some take no vector but their own, or bind nothing.
    fn tried(self, vault: &VaultName, seal_key: &Key32) -> Result<Self, SealFault> {
        self.unwrap(vault, seal_key).map_err(|_| SealFault::Hsm(HsmFault::Unfit))?;
        Ok(self)
    }

    /// Wraps under a key that is there already.
    fn wrap(
        root: &RootKey,
        vault: &VaultName,
        seal_key: &Key32,
        slot: Slot,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, EntropyFault> {
        let mut sealed = Self {
            slot,
            commitment: [0; COMMITMENT_BYTES],
            nonce: [0; NONCE_BYTES],
            wrapped: [0; WRAPPED_BYTES],
        };
        entropy.fill(&mut sealed.nonce)?;
        let bound = sealed.bound(vault);
        sealed.commitment = commit(seal_key, &bound);
        let wrapped = wrapping_key(seal_key).encrypt(&sealed.nonce, &bound, root.key().expose());
        sealed.wrapped.copy_from_slice(&wrapped);
        Ok(sealed)
    }

    /// Wraps under a key that is given instead of hashed.
    #[cfg(test)]
    pub(super) fn under(
        root: &RootKey,
        vault: &VaultName,
        seal_key: &Key32,
        (params, salt): (Params, [u8; SALT_BYTES]),
        entropy: &mut dyn Entropy,
    ) -> Result<Self, EntropyFault> {
        Self::wrap(root, vault, seal_key, Slot::Passphrase { params, salt }, entropy)
    }

    pub(super) fn kind(&self) -> SealKind {
        match &self.slot {
            Slot::Passphrase { params, .. } => SealKind::Passphrase(*params),
            Slot::Shares(set) => SealKind::Shares(set.clone()),
            Slot::Hsm(hsm) => SealKind::Hsm(hsm.key()),
            Slot::HsmAndShares(hsm, set) => SealKind::HsmAndShares(hsm.key(), set.clone()),
        }
    }

    /// The key a credential gives for this seal: the right one only if [`unwrap`](Self::unwrap) says so.
    pub(super) fn key_from(
        &self,
        vault: &VaultName,
        given: Credential<'_>,
    ) -> Result<Key32, CredentialFault> {
        match (&self.slot, given) {
            (Slot::Passphrase { params, salt }, Credential::Passphrase(passphrase)) => {
                passphrase::derive(passphrase, salt, *params).map_err(CredentialFault::Passphrase)
            }
            (Slot::Shares(set), Credential::Shares(shares)) => {
                set.combine(vault, shares).map_err(CredentialFault::Share)
            }
            (Slot::Hsm(slot), Credential::Hsm(hsm)) => slot.open(vault, hsm).map_err(CredentialFault::Hsm),
            (Slot::HsmAndShares(slot, set), Credential::HsmAndShares(hsm, shares)) => {
                // First the shares: too few of them are no reason to log in to a device.
                let of_shares = set.combine(vault, shares).map_err(CredentialFault::Share)?;
                let of_device = slot.open(vault, hsm).map_err(CredentialFault::Hsm)?;
                Ok(of_both(&of_device, &of_shares))
            }
            _ => Err(CredentialFault::OtherKind),
        }
    }

    /// Checks the commitment, then unwraps: a wrong key never decrypts anything.
    pub(super) fn unwrap(&self, vault: &VaultName, seal_key: &Key32) -> Result<RootKey, UnsealFault> {
        let bound = self.bound(vault);
        if !is_committed(seal_key, &bound, &self.commitment) {
            return Err(UnsealFault::OtherKey);
        }
        let opened = wrapping_key(seal_key).decrypt(&self.nonce, &bound, &self.wrapped);
        let opened = opened.map_err(|_| UnsealFault::Damaged)?;
        let mut root = Zeroizing::new([0; 32]);
        root.copy_from_slice(&opened);
        Ok(RootKey::from_key(Key32::from_bytes(root)))
    }

    /// What commitment and wrapping are bound to: format, vault, and all that the slot says.
    fn bound(&self, vault: &VaultName) -> Vec<u8> {
        let mut out = FORMAT.to_vec();
        out.extend_from_slice(&vault.to_bytes());
        self.slot.put(&mut out);
        out
    }

    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        self.slot.put(out);
        out.extend_from_slice(&self.commitment);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.wrapped);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            slot: Slot::read(reader)?,
            commitment: reader.array()?,
            nonce: reader.array()?,
            wrapped: reader.array()?,
        })
    }
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SealFault {
    Passphrase(PassphraseError),
    /// Not one custodian for each share.
    Custodians,
    Hsm(HsmFault),
    Entropy(EntropyFault),
}

impl From<HsmFault> for SealFault {
    fn from(fault: HsmFault) -> Self {
        Self::Hsm(fault)
    }
}

impl From<PassphraseError> for SealFault {
    fn from(error: PassphraseError) -> Self {
        Self::Passphrase(error)
    }
}

impl From<EntropyFault> for SealFault {
    fn from(fault: EntropyFault) -> Self {
        Self::Entropy(fault)
    }
}

/// The seal key where the device and the shares each give one half.
fn of_both(of_device: &Key32, of_shares: &Key32) -> Key32 {
    joined(of_device, of_shares, Label::SealJoin)
}

fn wrapping_key(seal_key: &Key32) -> RecordKey {
    RecordKey::new(&subkey(seal_key, Label::SealWrap, b""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededEntropy;
    use crate::crypto::aead::collision;
    use crate::keys::file::OpenError;
    use crate::keys::hsm::double::Device;

    fn key(byte: u8) -> Key32 {
        Key32::from_bytes(Zeroizing::new([byte; 32]))
    }

    fn vault() -> VaultName {
        VaultName { environment: Environment::parse("test").unwrap(), vault_id: VaultId::from_bytes([3; 16]) }
    }

    fn sealed() -> SealedRoot {
        let root = RootKey::from_key(key(1));
        let at_cost = (Params::FLOOR, [5; SALT_BYTES]);
        SealedRoot::under(&root, &vault(), &key(2), at_cost, &mut SeededEntropy::new(1)).unwrap()
    }

    fn unwrapped(sealed: &SealedRoot, vault: &VaultName, seal_key: u8) -> Result<[u8; 32], UnsealFault> {
        sealed.unwrap(vault, &key(seal_key)).map(|root| *root.key().expose())
    }

    #[test]
    fn only_the_right_key_for_the_right_vault_unwraps() {
        assert_eq!(unwrapped(&sealed(), &vault(), 2), Ok([1; 32]));
        assert_eq!(unwrapped(&sealed(), &vault(), 3), Err(UnsealFault::OtherKey));
        let renamed = VaultName { environment: Environment::parse("prod").unwrap(), ..vault() };
        assert_eq!(unwrapped(&sealed(), &renamed, 2), Err(UnsealFault::OtherKey));
        let other = VaultName { vault_id: VaultId::from_bytes([4; 16]), ..vault() };
        assert_eq!(unwrapped(&sealed(), &other, 2), Err(UnsealFault::OtherKey));
    }

    #[test]
    fn what_was_written_is_read_and_every_flipped_bit_of_it_refused() {
        let mut bytes = Vec::new();
        sealed().encode_into(&mut bytes);
        assert_eq!(SealedRoot::read(&mut Reader::new(&bytes)), Some(sealed()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened =
                SealedRoot::read(&mut Reader::new(&flipped)).map(|seal| unwrapped(&seal, &vault(), 2));
            assert!(!matches!(opened, Some(Ok(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_root_key_wrapped_for_two_passphrases_at_once_is_refused() {
        // Both seal keys decrypt the forged wrapping; the commitment lets only one of them come that far.
        let mut forged = sealed();
        let wrapping_keys = [wrapping_key(&key(2)), wrapping_key(&key(3))];
        let collision =
            collision::of([&wrapping_keys[0], &wrapping_keys[1]], &forged.nonce, &forged.bound(&vault()));
        forged.wrapped.copy_from_slice(&collision);
        for key in &wrapping_keys {
            assert!(key.decrypt(&forged.nonce, &forged.bound(&vault()), &forged.wrapped).is_ok());
        }
        assert!(unwrapped(&forged, &vault(), 2).is_ok());
        assert_eq!(unwrapped(&forged, &vault(), 3), Err(UnsealFault::OtherKey));
    }

    fn custodians(names: &[&str]) -> Vec<PrincipalId> {
        names.iter().map(|name| PrincipalId::parse(name).unwrap()).collect()
    }

    /// Two of three, by the seed.
    fn dealt(seed: u64) -> (Deal, SealedRoot) {
        let mut entropy = SeededEntropy::new(seed);
        let deal = Deal::draw(&vault().environment, 2, 3, &mut entropy).unwrap();
        let seal = Seal::Shares { deal: &deal, custodians: &custodians(&["ann", "bob", "cyd"]) };
        let sealed = SealedRoot::make(&RootKey::from_key(key(1)), &vault(), seal, &mut entropy).unwrap();
        (deal, sealed)
    }

    fn shares(deal: &Deal, numbers: &[usize]) -> Vec<Share> {
        let texts = numbers.iter().map(|number| deal.shares()[number - 1].to_text());
        texts.map(|text| Share::parse(text.as_bytes()).unwrap()).collect()
    }

    fn by_shares(
        sealed: &SealedRoot,
        vault: &VaultName,
        shares: &[Share],
    ) -> Result<[u8; 32], CredentialFault> {
        let seal_key = sealed.key_from(vault, Credential::Shares(shares))?;
        Ok(*sealed.unwrap(vault, &seal_key).unwrap().key().expose())
    }

    #[test]
    fn every_two_of_three_shares_open_and_one_alone_does_not() {
        let (deal, sealed) = dealt(1);
        for numbers in [&[1, 2][..], &[3, 1], &[2, 3], &[1, 2, 3]] {
            assert_eq!(by_shares(&sealed, &vault(), &shares(&deal, numbers)), Ok([1; 32]), "{numbers:?}");
        }
        for numbers in [&[][..], &[1], &[2], &[3]] {
            let too_few = ShareFault::TooFew { given: numbers.len() as u8, needed: 2 };
            let refused = by_shares(&sealed, &vault(), &shares(&deal, numbers));
            assert_eq!(refused, Err(CredentialFault::Share(too_few)));
        }
    }

    #[test]
    fn what_is_wrong_with_a_share_is_said_with_its_number() {
        let ((deal, sealed), (older, _)) = (dealt(1), dealt(2));
        let refused = |shares: &[Share]| match by_shares(&sealed, &vault(), shares) {
            Err(CredentialFault::Share(fault)) => fault,
            other => panic!("{other:?}"),
        };
        let mut one_older = shares(&deal, &[1]);
        one_older.extend(shares(&older, &[2]));
        assert_eq!(refused(&one_older), ShareFault::OtherSet(2));
        assert_eq!(refused(&shares(&deal, &[3, 3])), ShareFault::Repeated(3));

        let elsewhere = Environment::parse("prod").unwrap();
        let foreign = Deal::draw(&elsewhere, 2, 3, &mut SeededEntropy::new(1)).unwrap();
        assert_eq!(refused(&shares(&foreign, &[1, 2])), ShareFault::OtherEnvironment(1));

        // The same set, told by its random bits, yet not what was dealt: made by hand.
        let mut forged = Deal::draw(&vault().environment, 2, 4, &mut SeededEntropy::new(1)).unwrap();
        forged.set = deal.set;
        assert_eq!(refused(&shares(&forged, &[4, 1])), ShareFault::NotTheOne(4));
        let mut forged = Deal::draw(&vault().environment, 3, 3, &mut SeededEntropy::new(1)).unwrap();
        forged.set = deal.set;
        assert_eq!(refused(&shares(&forged, &[1, 2])), ShareFault::NotTheOne(1));
    }

    #[test]
    fn shares_open_no_other_vault_and_no_other_kind_of_seal() {
        let (deal, shared) = dealt(1);
        let renamed = VaultName { vault_id: VaultId::from_bytes([4; 16]), ..vault() };
        let elsewhere = by_shares(&shared, &renamed, &shares(&deal, &[1, 2]));
        assert_eq!(elsewhere, Err(CredentialFault::Share(ShareFault::NotTheOne(1))));
        let other_kind = |sealed: &SealedRoot, given| sealed.key_from(&vault(), given).err();
        let shares = shares(&deal, &[1, 2]);
        assert_eq!(other_kind(&sealed(), Credential::Shares(&shares)), Some(CredentialFault::OtherKind));
        let passphrase = Credential::Passphrase(b"correct horse battery staple");
        assert_eq!(other_kind(&shared, passphrase), Some(CredentialFault::OtherKind));
    }

    #[test]
    fn a_seal_of_shares_is_read_as_written_and_every_flipped_bit_of_it_refused() {
        let (deal, sealed) = dealt(1);
        let (mut bytes, given) = (Vec::new(), shares(&deal, &[1, 3]));
        sealed.encode_into(&mut bytes);
        assert_eq!(SealedRoot::read(&mut Reader::new(&bytes)), Some(sealed));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Some(read) = SealedRoot::read(&mut Reader::new(&flipped)) else { continue };
            let opened = read.key_from(&vault(), Credential::Shares(&given));
            let opened = opened.ok().and_then(|seal_key| read.unwrap(&vault(), &seal_key).ok());
            assert!(opened.is_none(), "bit {bit}");
        }
    }

    fn made(seal: Seal<'_>) -> Result<SealedRoot, SealFault> {
        SealedRoot::make(&RootKey::from_key(key(1)), &vault(), seal, &mut SeededEntropy::new(1))
    }

    /// What a credential opens the seal to, as a file would have it.
    fn opened(sealed: &SealedRoot, vault: &VaultName, given: Credential<'_>) -> Result<[u8; 32], OpenError> {
        let seal_key = sealed.key_from(vault, given)?;
        sealed.unwrap(vault, &seal_key).map(|root| *root.key().expose()).map_err(|_| OpenError::Damaged)
    }

    /// By the device with this key, and two of three shares.
    fn combined(device: &Device) -> (Deal, SealedRoot) {
        let deal = Deal::draw(&vault().environment, 2, 3, &mut SeededEntropy::new(2)).unwrap();
        let custodians = custodians(&["ann", "bob", "cyd"]);
        let sealed = made(Seal::HsmAndShares { key: device.key(), deal: &deal, custodians: &custodians });
        (deal, sealed.unwrap())
    }

    #[test]
    fn only_the_device_with_the_key_opens_its_seal_and_says_what_is_wrong() {
        let device = Device::with_key(9);
        let sealed = made(Seal::Hsm(device.key())).unwrap();
        assert_eq!(opened(&sealed, &vault(), Credential::Hsm(&device)), Ok([1; 32]));
        let other = Device::with_key(8);
        let refused = |fault| Err(OpenError::Hsm(fault));
        assert_eq!(opened(&sealed, &vault(), Credential::Hsm(&other)), refused(HsmFault::OtherKey));
        let renamed = VaultName { vault_id: VaultId::from_bytes([4; 16]), ..vault() };
        assert_eq!(opened(&sealed, &renamed, Credential::Hsm(&device)), refused(HsmFault::OtherKey));
        let away = Device { fault: Some(HsmFault::Away), ..Device::with_key(9) };
        assert_eq!(opened(&sealed, &vault(), Credential::Hsm(&away)), refused(HsmFault::Away));
        let mistaken = Device { off_by: 1, ..Device::with_key(9) };
        assert_eq!(opened(&sealed, &vault(), Credential::Hsm(&mistaken)), Err(OpenError::Damaged));
    }

    #[test]
    fn a_seal_of_device_and_shares_opens_to_both_and_to_neither_alone() {
        let device = Device::with_key(9);
        let (deal, sealed) = combined(&device);
        let (two, one) = (shares(&deal, &[3, 1]), shares(&deal, &[2]));
        assert_eq!(opened(&sealed, &vault(), Credential::HsmAndShares(&device, &two)), Ok([1; 32]));
        let asked = device.asked.get();
        let too_few = opened(&sealed, &vault(), Credential::HsmAndShares(&device, &one));
        assert_eq!(too_few, Err(OpenError::Share(ShareFault::TooFew { given: 1, needed: 2 })));
        assert_eq!(device.asked.get(), asked, "a PIN is not given for nothing");
        for half in [Credential::Hsm(&device), Credential::Shares(&two)] {
            assert_eq!(opened(&sealed, &vault(), half), Err(OpenError::OtherSeal));
        }
        let other = Device::with_key(8);
        let foreign = opened(&sealed, &vault(), Credential::HsmAndShares(&other, &two));
        assert_eq!(foreign, Err(OpenError::Hsm(HsmFault::OtherKey)));
        // Nor is the key of the shares the seal's by itself.
        assert_eq!(sealed.unwrap(&vault(), &deal.key).err(), Some(UnsealFault::OtherKey));
    }

    #[test]
    fn a_seal_with_a_device_is_read_as_written_and_every_flipped_bit_of_it_refused() {
        let device = Device::with_key(9);
        let (deal, both) = combined(&device);
        let given = shares(&deal, &[1, 3]);
        let alone = made(Seal::Hsm(device.key())).unwrap();
        let kinds = [(alone, Credential::Hsm(&device)), (both, Credential::HsmAndShares(&device, &given))];
        for (sealed, given) in kinds {
            let mut bytes = Vec::new();
            sealed.encode_into(&mut bytes);
            assert_eq!(SealedRoot::read(&mut Reader::new(&bytes)), Some(sealed));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let Some(read) = SealedRoot::read(&mut Reader::new(&flipped)) else { continue };
                assert!(opened(&read, &vault(), given).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_device_is_tried_before_a_seal_relies_on_it() {
        let chooses = Device { own_iv: Some([7; 12]), ..Device::with_key(9) };
        let sealed = made(Seal::Hsm(chooses.key())).unwrap();
        assert_eq!(opened(&sealed, &vault(), Credential::Hsm(&chooses)), Ok([1; 32]));
        let mistaken = Device { off_by: 1, ..Device::with_key(9) };
        assert_eq!(made(Seal::Hsm(mistaken.key())), Err(SealFault::Hsm(HsmFault::Unfit)));
        let away = Device { fault: Some(HsmFault::Away), ..Device::with_key(9) };
        assert_eq!(made(Seal::Hsm(away.key())), Err(SealFault::Hsm(HsmFault::Away)));
    }

    #[test]
    fn what_seals_with_a_device_store_is_the_documented() {
        let device = Device::with_key(9);
        let (_, both) = combined(&device);
        for sealed in [made(Seal::Hsm(device.key())).unwrap(), both] {
            let mut slot = Vec::new();
            sealed.slot.put(&mut slot);
            crate::data::documents::shows("keyring.md", &slot);
            crate::data::documents::shows("keyring.md", &sealed.commitment);
        }
    }

    #[test]
    fn each_share_has_a_custodian_of_its_own() {
        let deal = Deal::draw(&vault().environment, 2, 3, &mut SeededEntropy::new(1)).unwrap();
        for names in [&["ann", "bob"][..], &["ann", "bob", "cyd", "dan"], &["ann", "bob", "ann"]] {
            let seal = Seal::Shares { deal: &deal, custodians: &custodians(names) };
            let root = RootKey::from_key(key(1));
            let refused = SealedRoot::make(&root, &vault(), seal, &mut SeededEntropy::new(1));
            assert_eq!(refused, Err(SealFault::Custodians));
        }
        let (_, sealed) = dealt(1);
        let SealKind::Shares(set) = sealed.kind() else { panic!("another kind") };
        let named: Vec<_> = set.custodians().map(|(number, name)| (number, name.as_str())).collect();
        assert_eq!((set.threshold(), named), (2, vec![(1, "ann"), (2, "bob"), (3, "cyd")]));
    }
}
