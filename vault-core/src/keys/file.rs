//! The keyring on disk: two copies of one authenticated file. Specified in `docs/format/keyring.md`.
//!
//! A copy is replaced whole, and only when the other one is good, so that every crash leaves at least one;
//! the copy of the higher generation wins and repairs the other. What tells a damaged copy is a checksum;
//! what tells a forged one is the root key, under which the body is encrypted with the whole clear header as
//! associated data.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::keyring::Keyring;
use super::root::RootKey;
use super::seal::{
    Credential, CredentialFault, Seal, SealFault, SealKind, SealedRoot, UnsealFault, VaultName,
};
use super::share::Share;
use super::share_set::ShareFault;
use super::{body, disk};
use crate::crypto::codec::Reader;
use crate::crypto::kdf::Label;
use crate::crypto::passphrase::PassphraseError;
use crate::crypto::{Entropy, EntropyFault, Key32, NONCE_BYTES, RecordKey, sha256};
use crate::data::{Environment, VaultId};
use crate::error::HsmFault;
use crate::limits::KEYRING_BYTES_MAX;

const MAGIC: &[u8; 8] = b"vaultkr\n";
const FORMAT: u16 = 1;
const CHECKSUM_BYTES: usize = 32;
const COPIES: [&str; 2] = ["keyring-a", "keyring-b"];

/// Why a keyring did not open.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum OpenError {
    /// The passphrase is not the one the keyring was sealed with.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// Something is wrong with a share, or there are too few.
    #[error(transparent)]
    Share(#[from] ShareFault),
    /// The keyring is sealed in another way than it was to be opened.
    #[error("the keyring is sealed in another way: see its kind of seal")]
    OtherSeal,
    /// The HSM did not give what opens the keyring.
    #[error(transparent)]
    Hsm(#[from] HsmFault),
    /// Neither copy is intact and authentic.
    #[error("both copies of the keyring are damaged")]
    Damaged,
    /// There is no keyring here.
    #[error("there is no keyring in this folder")]
    Missing,
    /// The passphrase hashing parameters were lowered.
    #[error("the keyring's passphrase hashing parameters are below the compiled-in floor")]
    BelowFloor,
    /// The two copies belong to different vaults.
    #[error("the copies of the keyring belong to different vaults")]
    OtherVault,
    /// Group or others have access to the folder or to a copy.
    #[error("the keyring must not be accessible to group or others")]
    Exposed,
    /// The passphrase could not be hashed for lack of memory.
    #[error("there is not enough memory to hash the passphrase")]
    Memory,
    /// The operating system refused.
    #[error("the keyring cannot be read or repaired: {0}")]
    Io(io::ErrorKind),
}

/// Why a keyring was not saved.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SaveError {
    /// The folder already holds a keyring: nothing ever overwrites one vault with another.
    #[error("the folder already holds a keyring")]
    Exists,
    /// There is no keyring to replace.
    #[error("there is no keyring in this folder")]
    Missing,
    /// No copy on disk is authentic under this root key.
    #[error("no copy on disk belongs to this root key")]
    Damaged,
    /// The keyring on disk is of another vault.
    #[error("the keyring on disk belongs to another vault")]
    OtherVault,
    /// The keyring on disk has changed as often or more often than this one.
    #[error("the keyring on disk is newer")]
    Stale,
    /// More keys than a file may hold.
    #[error("the keyring is too large")]
    TooLarge,
    /// Passphrase or hashing parameters do not suit.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// Not one custodian for each share.
    #[error("each share needs a custodian, and each custodian has one share")]
    Custodians,
    /// The HSM took no part.
    #[error(transparent)]
    Hsm(#[from] HsmFault),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyFault),
    /// Group or others have access to the folder or to a copy.
    #[error("the keyring must not be accessible to group or others")]
    Exposed,
    /// The operating system refused. What is on disk is the old keyring or the new one.
    #[error("the keyring cannot be written: {0}")]
    Io(io::ErrorKind),
}

/// What a keyring says of itself before it is opened. **Not authenticated**: good for choosing what to ask,
/// not for trust.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SealDescription {
    /// What opens it.
    pub kind: SealKind,
    /// Where the vault runs.
    pub environment: Environment,
    /// Which vault.
    pub vault_id: VaultId,
    /// The generation of the newer intact copy.
    pub generation: u64,
    /// Whether both copies are intact and equal; if not, the next opening repairs one.
    pub copies_agree: bool,
}

impl SealDescription {
    /// Whether a share is one of those that open this vault: wrong ones are named before all are there.
    ///
    /// # Errors
    /// [`OpenError::Share`], or [`OpenError::OtherSeal`] where no shares are asked for.
    pub fn check_share(&self, share: &Share) -> Result<(), OpenError> {
        let set = self.kind.shares().ok_or(OpenError::OtherSeal)?;
        let vault = VaultName { environment: self.environment.clone(), vault_id: self.vault_id };
        Ok(set.check(&vault, share)?)
    }
}

/// The folder of one vault's keyring, outside the data store: mode 0700, its files 0600.
#[derive(Clone, Debug)]
pub struct KeyringFolder {
    folder: PathBuf,
}

impl KeyringFolder {
    /// Names the folder; touches nothing.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Seals a new vault: makes the folder if need be and writes both copies. Takes as long as the seal's
    /// parameters ask.
    ///
    /// # Errors
    /// [`SaveError`]; [`SaveError::Exists`] if any copy exists, in whatever state.
    pub fn create(
        &self,
        keyring: &Keyring,
        root: &RootKey,
        seal: Seal<'_>,
        entropy: &mut dyn Entropy,
    ) -> Result<(), SaveError> {
        disk::create_folder(&self.folder)?;
        let _lock = disk::lock_folder(&self.folder)?;
        self.refuse_existing()?;
        let sealed = SealedRoot::make(root, &name_of(keyring), seal, entropy)?;
        self.write_both(&encode(keyring, root, &sealed, entropy)?, 0)
    }

    /// Describes the keyring without opening it.
    ///
    /// # Errors
    /// [`OpenError`], but for those of passphrase and shares.
    pub fn describe(&self) -> Result<SealDescription, OpenError> {
        let found = self.found()?;
        let newest = &found.intact.first().ok_or(OpenError::Damaged)?.stored;
        Ok(SealDescription {
            kind: newest.sealed.kind(),
            environment: newest.vault.environment.clone(),
            vault_id: newest.vault.vault_id,
            generation: newest.generation,
            copies_agree: found.agree(),
        })
    }

    /// Opens the keyring with what its seal asks for, and repairs the copy that is older or damaged.
    ///
    /// # Errors
    /// [`OpenError`]. A wrong passphrase costs one hash and changes nothing.
    pub fn open(&self, given: Credential<'_>) -> Result<(RootKey, Keyring), OpenError> {
        self.open_by(|vault, sealed| Ok(sealed.key_from(vault, given)?))
    }

    /// Opens with whatever key `derive` gives for a seal.
    fn open_by(
        &self,
        mut derive: impl FnMut(&VaultName, &SealedRoot) -> Result<Key32, OpenError>,
    ) -> Result<(RootKey, Keyring), OpenError> {
        self.refuse_exposed()?;
        let _lock = disk::lock_folder(&self.folder)?;
        let found = self.found()?;
        let mut tried: Option<(&SealedRoot, Key32)> = None;
        for copy in &found.intact {
            let Stored { vault, sealed, .. } = &copy.stored;
            let seal_key = match tried.take() {
                Some((same, key)) if same == sealed => key,
                _ => derive(vault, sealed)?,
            };
            match sealed.unwrap(vault, &seal_key) {
                // The newer copy decides: an older one under another passphrase must not bring itself back.
                Err(UnsealFault::OtherKey) => return Err(other_key(&sealed.kind())),
                Err(UnsealFault::Damaged) => {}
                Ok(root) => {
                    if let Some(keyring) = copy.stored.decrypt(&root) {
                        self.repair_from(&found, copy)?;
                        return Ok((root, keyring));
                    }
                }
            }
            tried = Some((sealed, seal_key));
        }
        Err(OpenError::Damaged)
    }

    /// Saves a changed keyring under the seal it has: both copies, each durable before the next is touched.
    /// On success the new keys may encrypt.
    ///
    /// # Errors
    /// [`SaveError`]; [`SaveError::Stale`] unless the generation is higher than on disk, or nothing changed
    /// at all.
    pub fn save(
        &self,
        root: &RootKey,
        keyring: &Keyring,
        entropy: &mut dyn Entropy,
    ) -> Result<(), SaveError> {
        self.refuse_exposed()?;
        let _lock = disk::lock_folder(&self.folder)?;
        let found = self.found()?;
        let authentic = found.intact.iter().find_map(|copy| Some((copy, copy.stored.decrypt(root)?)));
        let (copy, on_disk) = authentic.ok_or(SaveError::Damaged)?;
        if copy.stored.vault != name_of(keyring) {
            return Err(SaveError::OtherVault);
        }
        if on_disk.generation() < keyring.generation() {
            let bytes = encode(keyring, root, &copy.stored.sealed, entropy)?;
            return self.write_both(&bytes, 1 - copy.place);
        }
        let unchanged =
            on_disk.generation() == keyring.generation() && *body::encode(&on_disk) == *body::encode(keyring);
        if unchanged { Ok(self.repair_from(&found, copy)?) } else { Err(SaveError::Stale) }
    }

    /// Seals an opened keyring anew, under another root key: both copies, with a generation more, which is
    /// given. Copies under the old seal are refused once the anchor knows it.
    ///
    /// # Errors
    /// [`SaveError`]; what is on disk is then the old keyring or the new one.
    pub fn reseal(
        &self,
        old_root: &RootKey,
        mut keyring: Keyring,
        root: &RootKey,
        seal: Seal<'_>,
        entropy: &mut dyn Entropy,
    ) -> Result<u64, SaveError> {
        let sealed = SealedRoot::make(root, &name_of(&keyring), seal, entropy)?;
        self.refuse_exposed()?;
        let _lock = disk::lock_folder(&self.folder)?;
        let found = self.found()?;
        let newest = found.intact.first().ok_or(SaveError::Damaged)?;
        let on_disk = newest.stored.decrypt(old_root).ok_or(SaveError::Damaged)?;
        // Another process changed it since it was opened.
        if on_disk.generation() != keyring.generation() {
            return Err(SaveError::Stale);
        }
        keyring.count_reseal();
        self.write_both(&encode(&keyring, root, &sealed, entropy)?, 1 - newest.place)?;
        Ok(keyring.generation())
    }

    /// Writes a copy, then the other; the one that is not the newest good one first.
    fn write_both(&self, bytes: &[u8], first: usize) -> Result<(), SaveError> {
        for place in [first, 1 - first] {
            disk::replace(&self.copy(place), bytes)?;
        }
        Ok(())
    }

    /// Gives the other place the same bytes as this copy, if it has not.
    fn repair_from(&self, found: &Found, copy: &Intact) -> Result<(), io::Error> {
        if found.agree() { Ok(()) } else { disk::replace(&self.copy(1 - copy.place), &copy.bytes) }
    }

    fn copy(&self, place: usize) -> PathBuf {
        let [a, b] = COPIES;
        self.folder.join(if place == 0 { a } else { b })
    }

    fn refuse_existing(&self) -> Result<(), SaveError> {
        for place in [0, 1] {
            if self.copy(place).try_exists()? {
                return Err(SaveError::Exists);
            }
        }
        if disk::is_exposed(&self.folder)? { Err(SaveError::Exposed) } else { Ok(()) }
    }

    fn refuse_exposed(&self) -> Result<(), FolderFault> {
        let places = [self.folder.clone(), self.copy(0), self.copy(1)];
        for path in places {
            match disk::is_exposed(&path) {
                Ok(false) => {}
                Ok(true) => return Err(FolderFault::Exposed),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.folder.try_exists()? { Ok(()) } else { Err(FolderFault::Missing) }
    }

    /// Reads both copies and sorts the intact ones, newest first.
    fn found(&self) -> Result<Found, FolderFault> {
        let mut found = Found { intact: Vec::new() };
        let mut missing = 0;
        for place in [0, 1] {
            match disk::read(&self.copy(place), KEYRING_BYTES_MAX)? {
                None => missing += 1,
                Some(bytes) => found.intact.extend(Intact::read(place, bytes)),
            }
        }
        found.intact.sort_by_key(|copy| std::cmp::Reverse(copy.stored.generation));
        match found.intact.as_slice() {
            [] if missing == 2 => Err(FolderFault::Missing),
            [a, b] if a.stored.vault != b.stored.vault => Err(FolderFault::OtherVault),
            _ => Ok(found),
        }
    }
}

/// What is wrong with a folder, whoever asks.
enum FolderFault {
    Missing,
    Exposed,
    OtherVault,
    Io(io::ErrorKind),
}

/// The copies whose checksum holds, newest first.
struct Found {
    intact: Vec<Intact>,
}

impl Found {
    fn agree(&self) -> bool {
        matches!(self.intact.as_slice(), [a, b] if a.bytes == b.bytes)
    }
}

struct Intact {
    place: usize,
    bytes: Vec<u8>,
    stored: Stored,
}

impl Intact {
    fn read(place: usize, bytes: Vec<u8>) -> Option<Self> {
        let stored = Stored::read(&bytes)?;
        Some(Self { place, bytes, stored })
    }
}

/// One copy, taken apart but not yet believed.
struct Stored {
    vault: VaultName,
    generation: u64,
    sealed: SealedRoot,
    nonce: [u8; NONCE_BYTES],
    /// All bytes before the body: its associated data.
    clear: Vec<u8>,
    body: Vec<u8>,
}

impl Stored {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        (bytes.len() <= KEYRING_BYTES_MAX && sha256(&[content]) == *checksum).then_some(())?;
        let mut reader = Reader::new(content);
        (reader.array()? == *MAGIC && reader.u16()? == FORMAT).then_some(())?;
        let vault = VaultName::read(&mut reader)?;
        let generation = reader.u64()?;
        let sealed = SealedRoot::read(&mut reader)?;
        let nonce = reader.array()?;
        let body = reader.rest().to_vec();
        let clear = content.get(..content.len() - body.len())?.to_vec();
        Some(Self { vault, generation, sealed, nonce, clear, body })
    }

    /// The keyring, if this copy is authentic under the root key.
    fn decrypt(&self, root: &RootKey) -> Option<Keyring> {
        let plaintext = body_key(root, &self.vault).decrypt(&self.nonce, &self.clear, &self.body).ok()?;
        body::decode(self.vault.clone(), self.generation, &plaintext)
    }
}

fn encode(
    keyring: &Keyring,
    root: &RootKey,
    sealed: &SealedRoot,
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>, SaveError> {
    let vault = name_of(keyring);
    let mut nonce = [0; NONCE_BYTES];
    entropy.fill(&mut nonce)?;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&FORMAT.to_be_bytes());
    out.extend_from_slice(&vault.to_bytes());
    out.extend_from_slice(&keyring.generation().to_be_bytes());
    sealed.encode_into(&mut out);
    out.extend_from_slice(&nonce);
    let body = body_key(root, &vault).encrypt(&nonce, &out, &body::encode(keyring));
    out.extend_from_slice(&body);
    let checksum = sha256(&[&out]);
    out.extend_from_slice(&checksum);
    if out.len() > KEYRING_BYTES_MAX { Err(SaveError::TooLarge) } else { Ok(out) }
}

fn body_key(root: &RootKey, vault: &VaultName) -> RecordKey {
    RecordKey::new(&root.subkey(Label::KeyringWrap, &vault.to_bytes()))
}

pub(super) fn name_of(keyring: &Keyring) -> VaultName {
    VaultName { environment: keyring.environment().clone(), vault_id: *keyring.vault_id() }
}

impl From<io::Error> for FolderFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

impl From<FolderFault> for OpenError {
    fn from(fault: FolderFault) -> Self {
        match fault {
            FolderFault::Missing => Self::Missing,
            FolderFault::Exposed => Self::Exposed,
            FolderFault::OtherVault => Self::OtherVault,
            FolderFault::Io(kind) => Self::Io(kind),
        }
    }
}

impl From<FolderFault> for SaveError {
    fn from(fault: FolderFault) -> Self {
        match fault {
            FolderFault::Missing => Self::Missing,
            FolderFault::Exposed => Self::Exposed,
            FolderFault::OtherVault => Self::OtherVault,
            FolderFault::Io(kind) => Self::Io(kind),
        }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        FolderFault::from(error).into()
    }
}

impl From<io::Error> for SaveError {
    fn from(error: io::Error) -> Self {
        FolderFault::from(error).into()
    }
}

/// What a key that the seal does not commit to means. Each share was committed to by itself, and what a
/// device decrypts was bound to this vault and key: that all of them are right and give another key, no
/// release ever wrote.
const fn other_key(kind: &SealKind) -> OpenError {
    match kind {
        SealKind::Passphrase(_) => OpenError::WrongPassphrase,
        SealKind::Shares(_) | SealKind::Hsm(_) | SealKind::HsmAndShares(..) => OpenError::Damaged,
    }
}

impl From<CredentialFault> for OpenError {
    fn from(fault: CredentialFault) -> Self {
        match fault {
            CredentialFault::OtherKind => Self::OtherSeal,
            CredentialFault::Passphrase(error) => error.into(),
            CredentialFault::Share(fault) => Self::Share(fault),
            CredentialFault::Hsm(fault) => Self::Hsm(fault),
        }
    }
}

impl From<PassphraseError> for OpenError {
    fn from(error: PassphraseError) -> Self {
        match error {
            PassphraseError::BelowFloor => Self::BelowFloor,
            // No release ever wrote such a file, no passphrase of such a length ever sealed one.
            PassphraseError::AboveCeiling => Self::Damaged,
            PassphraseError::Length => Self::WrongPassphrase,
            PassphraseError::Memory => Self::Memory,
        }
    }
}

impl From<SealFault> for SaveError {
    fn from(fault: SealFault) -> Self {
        match fault {
            SealFault::Passphrase(error) => Self::Passphrase(error),
            SealFault::Custodians => Self::Custodians,
            SealFault::Hsm(fault) => Self::Hsm(fault),
            SealFault::Entropy(fault) => Self::Entropy(fault),
        }
    }
}

#[cfg(test)]
mod tests;
