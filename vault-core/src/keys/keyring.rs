//! All keys of one vault, in memory and ready to use.

use std::collections::BTreeMap;
use std::ops::Deref;

use thiserror::Error;
use zeroize::Zeroizing;

use super::state::KeyState;
use super::token_tag::TokenTag;
use crate::clock::Timestamp;
use crate::crypto::{
    Context, DecryptFailed, Entropy, EntropyFault, Envelope, Key32, MacKey, NONCE_BYTES, RecordHeader,
    RecordKey, SigningKey,
};
use crate::data::{Class, Environment, TenantId, Token, VaultId};
use crate::limits::{KEY_DECRYPTS_DAYS_MAX, KEY_ENCRYPTS_DAYS_MAX, KEY_VERSIONS_MAX};

/// The keys of one version of (tenant, class), to decrypt and to look up with. One deletion epoch: they live
/// and die together.
///
/// Nothing here encrypts: what a retired version could still be made to protect would end with it. Only
/// [`EncryptingKeys`] do, and a keyring gives those of an enabled version alone.
///
/// ```compile_fail,E0599
/// use vault_core::crypto::{Context, RecordHeader};
/// use vault_core::keys::ClassKeys;
///
/// fn misuse(retired: &ClassKeys, context: &Context<'_>, header: RecordHeader) {
///     retired.encrypt(context, header, [0; 24], b"");
/// }
/// ```
pub struct ClassKeys {
    version: u32,
    data: RecordKey,
    blind_index: MacKey,
    idempotency: MacKey,
}

impl ClassKeys {
    /// Their version, as it stands in every record they encrypted.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Decrypts a record's padded value.
    ///
    /// # Errors
    /// [`DecryptFailed`] unless these keys encrypted it under this context.
    pub fn decrypt(
        &self,
        envelope: &Envelope,
        context: &Context<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, DecryptFailed> {
        envelope.decrypt(&self.data, context)
    }

    /// The data key itself, to compare in tests.
    #[cfg(test)]
    pub(super) const fn data(&self) -> &RecordKey {
        &self.data
    }

    /// Maps a whole value to its row, where the tenant keeps one token per value.
    pub const fn blind_index(&self) -> &MacKey {
        &self.blind_index
    }

    /// Maps idempotency keys and bodies to their row.
    pub const fn idempotency(&self) -> &MacKey {
        &self.idempotency
    }
}

/// The keys that encrypt new records of a tenant and class: those of its enabled version, within its
/// cryptoperiod. They do all that [`ClassKeys`] do besides.
#[derive(Clone, Copy)]
pub struct EncryptingKeys<'k>(&'k ClassKeys);

impl EncryptingKeys<'_> {
    /// Encrypts a padded value. The header's key version becomes that of these keys; the nonce must be fresh
    /// from an entropy source.
    pub fn encrypt(
        &self,
        context: &Context<'_>,
        header: RecordHeader,
        nonce: [u8; NONCE_BYTES],
        plaintext: &[u8],
    ) -> Envelope {
        let header = RecordHeader { key_version: self.version, ..header };
        Envelope::encrypt(&self.0.data, context, header, nonce, plaintext)
    }
}

impl Deref for EncryptingKeys<'_> {
    type Target = ClassKeys;

    fn deref(&self) -> &ClassKeys {
        self.0
    }
}

/// The three keys of a version as they are stored.
pub(super) struct ClassMaterial {
    pub(super) data: Key32,
    pub(super) blind_index: Key32,
    pub(super) idempotency: Key32,
}

impl ClassMaterial {
    fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyFault> {
        Ok(Self {
            data: Key32::generate(entropy)?,
            blind_index: Key32::generate(entropy)?,
            idempotency: Key32::generate(entropy)?,
        })
    }

    fn copied(&self) -> Self {
        Self {
            data: copied(&self.data),
            blind_index: copied(&self.blind_index),
            idempotency: copied(&self.idempotency),
        }
    }

    fn ready(&self, version: u32) -> ClassKeys {
        ClassKeys {
            version,
            data: RecordKey::new(&self.data),
            blind_index: MacKey::new(&self.blind_index),
            idempotency: MacKey::new(&self.idempotency),
        }
    }
}

/// One version of the keys of a tenant and class. The keys are there unless it is destroyed.
pub(super) struct KeyVersion {
    version: u32,
    state: KeyState,
    created_at: Timestamp,
    enabled_at: Option<Timestamp>,
    keys: Option<(ClassMaterial, ClassKeys)>,
}

impl KeyVersion {
    /// Assembles a version; `None` unless state, dates and keys fit together.
    pub(super) fn assemble(info: KeyVersionInfo, material: Option<ClassMaterial>) -> Option<Self> {
        let KeyVersionInfo { version, state, created_at, enabled_at } = info;
        let fits = version > 0
            && (state == KeyState::Destroyed) == material.is_none()
            && state.is_to_come() == enabled_at.is_none();
        let keys = material.map(|material| {
            let ready = material.ready(version);
            (material, ready)
        });
        fits.then_some(Self { version, state, created_at, enabled_at, keys })
    }

    fn generate(
        version: u32,
        state: KeyState,
        entropy: &mut dyn Entropy,
        now: Timestamp,
    ) -> Result<Self, EntropyFault> {
        let material = ClassMaterial::generate(entropy)?;
        let ready = material.ready(version);
        let enabled_at = state.encrypts().then_some(now);
        Ok(Self { version, state, created_at: now, enabled_at, keys: Some((material, ready)) })
    }

    fn copied(&self) -> Self {
        let Self { version, state, created_at, enabled_at, .. } = *self;
        let keys = self.material().map(|material| {
            let material = material.copied();
            let ready = material.ready(version);
            (material, ready)
        });
        Self { version, state, created_at, enabled_at, keys }
    }

    pub(super) const fn info(&self) -> KeyVersionInfo {
        let Self { version, state, created_at, enabled_at, .. } = *self;
        KeyVersionInfo { version, state, created_at, enabled_at }
    }

    pub(super) fn material(&self) -> Option<&ClassMaterial> {
        self.keys.as_ref().map(|(material, _)| material)
    }

    fn ready(&self) -> Option<&ClassKeys> {
        self.keys.as_ref().map(|(_, ready)| ready)
    }
}

/// What may be told of a key version: everything but the keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyVersionInfo {
    /// Counts from 1 for each tenant and class.
    pub version: u32,
    /// Where it stands in its life.
    pub state: KeyState,
    /// When its keys were drawn.
    pub created_at: Timestamp,
    /// When it began to encrypt; `None` while it is only introduced.
    pub enabled_at: Option<Timestamp>,
}

impl KeyVersionInfo {
    /// When its period of encrypting ends (SP 800-57 part 1, originator usage): from then on it encrypts
    /// nothing more, whatever its state. `None` while it is only introduced.
    pub fn encrypts_until(&self) -> Option<Timestamp> {
        self.enabled_at.map(|at| at.plus_seconds(KEY_ENCRYPTS_DAYS_MAX * DAY_SECONDS))
    }

    /// When its period of decrypting ends (recipient usage): by then it should be destroyed. It still
    /// decrypts, since to lose data is no lesser evil.
    pub fn decrypts_until(&self) -> Option<Timestamp> {
        self.enabled_at.map(|at| at.plus_seconds(KEY_DECRYPTS_DAYS_MAX * DAY_SECONDS))
    }
}

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Why a key version did not change.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum KeyChangeError {
    /// The tenant has no keys of this class, or not this version.
    #[error("there is no such key version")]
    NoSuchVersion,
    /// A version is introduced already and waits to be enabled.
    #[error("the next key version is introduced already")]
    AlreadyIntroduced,
    /// A version passes from introduced to announced, enabled, decrypt-only and destroyed, a step at a time.
    #[error("the key version is not in the state for this change")]
    WrongState,
    /// As many versions as a keyring holds of one tenant and class are not destroyed yet.
    #[error("too many old key versions are kept: destroy retired ones first")]
    TooManyVersions,
    /// No randomness for new keys.
    #[error(transparent)]
    Entropy(#[from] EntropyFault),
}

/// The keys that belong to the whole vault, as they are stored.
pub(super) struct VaultMaterial {
    pub(super) token_tag: Key32,
    pub(super) row_mac: Key32,
    pub(super) signing_seed: Key32,
    /// Opens what other daemons make of this keyring, and nothing from before it: each change draws another.
    pub(super) transfer: Key32,
}

impl VaultMaterial {
    fn copied(&self) -> Self {
        Self {
            transfer: copied(&self.transfer),
            token_tag: copied(&self.token_tag),
            row_mac: copied(&self.row_mac),
            signing_seed: copied(&self.signing_seed),
        }
    }
}

/// A second copy of a key, wiped by itself. Only a keyring that is about to change needs one.
fn copied(key: &Key32) -> Key32 {
    Key32::from_bytes(Zeroizing::new(*key.expose()))
}

type Versions = Vec<KeyVersion>;

/// All keys of one vault. Every change raises its generation; **no key may encrypt before the change is
/// saved** ([`KeyringFolder::save`](super::KeyringFolder::save)).
pub struct Keyring {
    environment: Environment,
    vault_id: VaultId,
    generation: u64,
    created_at: Timestamp,
    classes: BTreeMap<TenantId, BTreeMap<Class, Versions>>,
    material: VaultMaterial,
    token_tag: TokenTag,
    row_mac: MacKey,
    signing_key: SigningKey,
}

impl Keyring {
    /// The keyring of a new vault: a fresh vault id and the vault's own keys, no tenant yet; generation 1.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source of randomness fails.
    pub fn create(
        environment: Environment,
        entropy: &mut dyn Entropy,
        now: Timestamp,
    ) -> Result<Self, EntropyFault> {
        let mut vault_id = [0; 16];
        entropy.fill(&mut vault_id)?;
        let material = VaultMaterial {
            token_tag: Key32::generate(entropy)?,
            row_mac: Key32::generate(entropy)?,
            signing_seed: Key32::generate(entropy)?,
            transfer: Key32::generate(entropy)?,
        };
        Ok(Self::assemble(environment, VaultId::from_bytes(vault_id), 1, now, material))
    }

    pub(super) fn assemble(
        environment: Environment,
        vault_id: VaultId,
        generation: u64,
        created_at: Timestamp,
        material: VaultMaterial,
    ) -> Self {
        Self {
            token_tag: TokenTag::new(&material.token_tag, environment.clone(), vault_id),
            row_mac: MacKey::new(&material.row_mac),
            signing_key: SigningKey::from_seed(&material.signing_seed),
            environment,
            vault_id,
            generation,
            created_at,
            classes: BTreeMap::new(),
            material,
        }
    }

    /// Puts the stored versions of a tenant and class in place.
    pub(super) fn restore(&mut self, tenant: TenantId, class: Class, versions: Versions) {
        self.classes.entry(tenant).or_default().insert(class, versions);
    }

    /// Where the vault runs.
    pub const fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The vault's identity.
    pub const fn vault_id(&self) -> &VaultId {
        &self.vault_id
    }

    /// Counts the changes of this keyring; begins at 1.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// When the keyring was created.
    pub const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// A copy with a change made to it. This keyring stays as it is, to be used until the copy is saved.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn changed<T, E>(&self, change: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<(Self, T), E> {
        let Self { environment, vault_id, generation, created_at, .. } = self;
        let material = self.material.copied();
        let mut next = Self::assemble(environment.clone(), *vault_id, *generation, *created_at, material);
        for (tenant, class, versions) in self.stored() {
            next.restore(tenant.clone(), class, versions.iter().map(KeyVersion::copied).collect());
        }
        let changed = change(&mut next)?;
        Ok((next, changed))
    }

    /// Gives a tenant keys of a class, version 1 and enabled, unless it has some. `true` when it had none:
    /// the generation is one higher then, and the keyring must be saved before the keys are used.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source of randomness fails; nothing changed then.
    pub fn ensure_class(
        &mut self,
        tenant: &TenantId,
        class: Class,
        entropy: &mut dyn Entropy,
        now: Timestamp,
    ) -> Result<bool, EntropyFault> {
        if !self.of(tenant, class).is_empty() {
            return Ok(false);
        }
        let first = KeyVersion::generate(1, KeyState::Enabled, entropy, now)?;
        self.classes.entry(tenant.clone()).or_default().insert(class, vec![first]);
        self.generation += 1;
        Ok(true)
    }

    /// Draws the next version of a tenant's keys. It decrypts, but encrypts only once it is enabled. Returns
    /// its number.
    ///
    /// # Errors
    /// [`KeyChangeError`]; nothing changed then.
    pub fn introduce(
        &mut self,
        tenant: &TenantId,
        class: Class,
        entropy: &mut dyn Entropy,
        now: Timestamp,
    ) -> Result<u32, KeyChangeError> {
        let versions = self.of_mut(tenant, class)?;
        let newest = versions.last().ok_or(KeyChangeError::NoSuchVersion)?;
        if newest.state.is_to_come() {
            return Err(KeyChangeError::AlreadyIntroduced);
        }
        if versions.iter().filter(|key| key.state.decrypts()).count() >= KEY_VERSIONS_MAX {
            return Err(KeyChangeError::TooManyVersions);
        }
        let version = newest.version.checked_add(1).ok_or(KeyChangeError::WrongState)?;
        versions.push(KeyVersion::generate(version, KeyState::Introduced, entropy, now)?);
        self.generation += 1;
        Ok(version)
    }

    /// Whether another version of these keys may be introduced once the next one is enabled.
    pub fn has_room(&self, tenant: &TenantId, class: Class) -> bool {
        self.of(tenant, class).iter().filter(|key| key.state.decrypts()).count() < KEY_VERSIONS_MAX
    }

    /// As [`introduce`](Self::introduce), unless a version is introduced already. `true` when it was not.
    ///
    /// # Errors
    /// [`KeyChangeError`]; nothing changed then.
    pub fn ensure_next(
        &mut self,
        tenant: &TenantId,
        class: Class,
        entropy: &mut dyn Entropy,
        now: Timestamp,
    ) -> Result<bool, KeyChangeError> {
        match self.introduce(tenant, class, entropy, now) {
            Ok(_) => Ok(true),
            Err(KeyChangeError::AlreadyIntroduced) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells all daemons that the introduced version is about to encrypt.
    ///
    /// # Errors
    /// [`KeyChangeError`]; nothing changed then.
    pub fn announce(&mut self, tenant: &TenantId, class: Class, version: u32) -> Result<(), KeyChangeError> {
        let versions = self.of_mut(tenant, class)?;
        let at = position(versions, version, KeyState::Announced)?;
        versions.get_mut(at).ok_or(KeyChangeError::NoSuchVersion)?.state = KeyState::Announced;
        self.generation += 1;
        Ok(())
    }

    /// Makes the version that is to come the one that encrypts; the one that did is decrypt-only from now on.
    ///
    /// # Errors
    /// [`KeyChangeError`]; nothing changed then.
    pub fn enable(
        &mut self,
        tenant: &TenantId,
        class: Class,
        version: u32,
        now: Timestamp,
    ) -> Result<(), KeyChangeError> {
        let versions = self.of_mut(tenant, class)?;
        let next = position(versions, version, KeyState::Enabled)?;
        for (at, key) in versions.iter_mut().enumerate() {
            if at == next {
                key.state = KeyState::Enabled;
                key.enabled_at = Some(now);
            } else if key.state == KeyState::Enabled {
                key.state = KeyState::DecryptOnly;
            }
        }
        self.generation += 1;
        Ok(())
    }

    /// Destroys the keys of a decrypt-only version: what only they open is gone once no keyring copy holds
    /// them.
    ///
    /// # Errors
    /// [`KeyChangeError`]; nothing changed then.
    pub fn destroy(&mut self, tenant: &TenantId, class: Class, version: u32) -> Result<(), KeyChangeError> {
        let versions = self.of_mut(tenant, class)?;
        let at = position(versions, version, KeyState::Destroyed)?;
        let key = versions.get_mut(at).ok_or(KeyChangeError::NoSuchVersion)?;
        key.state = KeyState::Destroyed;
        key.keys = None; // wiped by their own drop
        self.generation += 1;
        Ok(())
    }

    /// Lets the next change have a generation above this one, which another copy has reached already.
    pub(crate) fn catch_up(&mut self, generation: u64) {
        self.generation = self.generation.max(generation);
    }

    /// Draws another transfer key: what was made from the keyring before opens with this one no more.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source of randomness fails.
    pub(crate) fn renew_transfer(&mut self, entropy: &mut dyn Entropy) -> Result<(), EntropyFault> {
        self.material.transfer = Key32::generate(entropy)?;
        Ok(())
    }

    /// Counts a new seal as a change, so that the anchor knows keyrings under the old one as older.
    pub(super) const fn count_reseal(&mut self) {
        self.generation += 1;
    }

    /// The keys that encrypt new records of a tenant and class at this time; `None` once their period is
    /// over.
    pub fn encrypting(&self, tenant: &TenantId, class: Class, now: Timestamp) -> Option<EncryptingKeys<'_>> {
        let enabled = self.of(tenant, class).iter().rev().find(|key| key.state.encrypts())?;
        let in_period = enabled.info().encrypts_until().is_some_and(|end| now < end);
        enabled.ready().filter(|_| in_period).map(EncryptingKeys)
    }

    /// The keys of one version, to decrypt with: any state but destroyed.
    pub fn decrypting(&self, tenant: &TenantId, class: Class, version: u32) -> Option<&ClassKeys> {
        let versions = self.of(tenant, class);
        let at = versions.binary_search_by_key(&version, |key| key.version).ok()?;
        versions.get(at).filter(|key| key.state.decrypts())?.ready()
    }

    /// The versions of a tenant's keys of a class, oldest first.
    pub fn versions(&self, tenant: &TenantId, class: Class) -> Vec<KeyVersionInfo> {
        self.of(tenant, class).iter().map(KeyVersion::info).collect()
    }

    /// Every key version of the vault, by tenant, class and version: the key inventory (PCI DSS 3.6.1.1),
    /// without keys.
    pub fn inventory(&self) -> Vec<(TenantId, Class, KeyVersionInfo)> {
        self.stored()
            .flat_map(|(tenant, class, versions)| {
                versions.iter().map(move |key| (tenant.clone(), class, key.info()))
            })
            .collect()
    }

    /// Mints and recognises this vault's tokens.
    pub const fn token_tag(&self) -> &TokenTag {
        &self.token_tag
    }

    /// Authenticates the rows that are neither record nor log.
    pub const fn row_mac(&self) -> &MacKey {
        &self.row_mac
    }

    /// Signs the checkpoints of the audit log.
    pub const fn signing_key(&self) -> &SigningKey {
        &self.signing_key
    }

    /// A new token of this vault.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source of randomness fails.
    pub fn mint(&self, class: Class, entropy: &mut dyn Entropy) -> Result<Token, EntropyFault> {
        self.token_tag.mint(class, entropy)
    }

    /// Whether this vault minted the token.
    pub fn verify_tag(&self, token: &Token) -> bool {
        self.token_tag.verify(token)
    }

    /// All stored versions in canonical order.
    pub(super) fn stored(&self) -> impl Iterator<Item = (&TenantId, Class, &[KeyVersion])> {
        self.classes.iter().flat_map(|(tenant, classes)| {
            classes.iter().map(move |(class, versions)| (tenant, *class, versions.as_slice()))
        })
    }

    pub(super) const fn material(&self) -> &VaultMaterial {
        &self.material
    }

    fn of(&self, tenant: &TenantId, class: Class) -> &[KeyVersion] {
        self.classes.get(tenant).and_then(|classes| classes.get(&class)).map_or(&[], Vec::as_slice)
    }

    fn of_mut(&mut self, tenant: &TenantId, class: Class) -> Result<&mut Versions, KeyChangeError> {
        let classes = self.classes.get_mut(tenant).ok_or(KeyChangeError::NoSuchVersion)?;
        classes.get_mut(&class).ok_or(KeyChangeError::NoSuchVersion)
    }
}

/// Where a version stands, if it may pass to `next`.
fn position(versions: &[KeyVersion], version: u32, next: KeyState) -> Result<usize, KeyChangeError> {
    let at = versions
        .binary_search_by_key(&version, |key| key.version)
        .map_err(|_| KeyChangeError::NoSuchVersion)?;
    let key = versions.get(at).ok_or(KeyChangeError::NoSuchVersion)?;
    if key.state.may_become(next) { Ok(at) } else { Err(KeyChangeError::WrongState) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededEntropy;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const LATER: Timestamp = Timestamp::from_seconds(1_710_000_000);
    const NONCE: [u8; 24] = [7; 24];

    fn acme() -> TenantId {
        TenantId::parse("acme").unwrap()
    }

    fn keyring() -> (Keyring, SeededEntropy) {
        let mut entropy = SeededEntropy::new(1);
        let environment = Environment::parse("test").unwrap();
        let mut keyring = Keyring::create(environment, &mut entropy, NOW).unwrap();
        keyring.ensure_class(&acme(), Class::Pan, &mut entropy, NOW).unwrap();
        (keyring, entropy)
    }

    fn states(keyring: &Keyring) -> Vec<(u32, KeyState)> {
        keyring.versions(&acme(), Class::Pan).iter().map(|info| (info.version, info.state)).collect()
    }

    #[test]
    fn a_class_gets_keys_once() {
        let (mut keyring, mut entropy) = keyring();
        assert_eq!(keyring.generation(), 2);
        assert_eq!(keyring.ensure_class(&acme(), Class::Pan, &mut entropy, LATER), Ok(false));
        assert_eq!(keyring.generation(), 2);
        assert_eq!(keyring.ensure_class(&acme(), Class::Ssn, &mut entropy, LATER), Ok(true));
        assert_eq!(keyring.generation(), 3);
        let expected =
            KeyVersionInfo { version: 1, state: KeyState::Enabled, created_at: NOW, enabled_at: Some(NOW) };
        assert_eq!(keyring.versions(&acme(), Class::Pan), [expected]);
        assert_eq!(keyring.inventory().len(), 2);
    }

    #[test]
    fn nobody_has_keys_of_others() {
        let (keyring, _) = keyring();
        let other = TenantId::parse("initech").unwrap();
        assert!(keyring.encrypting(&acme(), Class::Pan, NOW).is_some());
        assert!(keyring.encrypting(&acme(), Class::Ssn, NOW).is_none());
        assert!(keyring.encrypting(&other, Class::Pan, NOW).is_none());
        assert!(keyring.decrypting(&other, Class::Pan, 1).is_none());
        assert!(keyring.decrypting(&acme(), Class::Pan, 2).is_none());
        assert!(keyring.versions(&other, Class::Pan).is_empty());
    }

    #[test]
    fn a_version_lives_from_introduced_to_destroyed() {
        let (mut keyring, mut entropy) = keyring();
        let old = keyring.encrypting(&acme(), Class::Pan, NOW).unwrap().data().encrypt(&NONCE, b"", b"old");

        assert_eq!(keyring.introduce(&acme(), Class::Pan, &mut entropy, LATER), Ok(2));
        assert_eq!(states(&keyring), [(1, KeyState::Enabled), (2, KeyState::Introduced)]);
        assert_eq!(keyring.encrypting(&acme(), Class::Pan, LATER).unwrap().version(), 1);
        assert_eq!(keyring.decrypting(&acme(), Class::Pan, 2).unwrap().version(), 2, "introduced decrypts");

        assert_eq!(keyring.enable(&acme(), Class::Pan, 2, LATER), Ok(()));
        assert_eq!(states(&keyring), [(1, KeyState::DecryptOnly), (2, KeyState::Enabled)]);
        assert_eq!(keyring.encrypting(&acme(), Class::Pan, LATER).unwrap().version(), 2);
        let opened = keyring.decrypting(&acme(), Class::Pan, 1).unwrap().data().decrypt(&NONCE, b"", &old);
        assert_eq!(opened.unwrap().as_slice(), b"old");

        assert_eq!(keyring.destroy(&acme(), Class::Pan, 1), Ok(()));
        assert_eq!(states(&keyring), [(1, KeyState::Destroyed), (2, KeyState::Enabled)]);
        assert!(keyring.decrypting(&acme(), Class::Pan, 1).is_none());
        assert_eq!(keyring.generation(), 5);
    }

    #[test]
    fn no_step_is_skipped_or_undone() {
        let (mut keyring, mut entropy) = keyring();
        let pan = Class::Pan;
        assert_eq!(keyring.destroy(&acme(), pan, 1), Err(KeyChangeError::WrongState), "enabled");
        assert_eq!(keyring.enable(&acme(), pan, 1, NOW), Err(KeyChangeError::WrongState), "enabled already");
        assert_eq!(keyring.enable(&acme(), pan, 2, NOW), Err(KeyChangeError::NoSuchVersion));
        keyring.introduce(&acme(), pan, &mut entropy, NOW).unwrap();
        let again = keyring.introduce(&acme(), pan, &mut entropy, NOW);
        assert_eq!(again, Err(KeyChangeError::AlreadyIntroduced));
        assert_eq!(keyring.destroy(&acme(), pan, 2), Err(KeyChangeError::WrongState), "introduced");
        keyring.enable(&acme(), pan, 2, NOW).unwrap();
        assert_eq!(keyring.enable(&acme(), pan, 1, NOW), Err(KeyChangeError::WrongState), "decrypt-only");
        keyring.destroy(&acme(), pan, 1).unwrap();
        assert_eq!(keyring.destroy(&acme(), pan, 1), Err(KeyChangeError::WrongState), "destroyed");
        let stranger = TenantId::parse("initech").unwrap();
        assert_eq!(keyring.destroy(&stranger, pan, 1), Err(KeyChangeError::NoSuchVersion));
        assert_eq!(keyring.generation(), 5, "refusals change nothing");
    }

    #[test]
    fn no_key_encrypts_beyond_its_period_but_it_decrypts() {
        let (keyring, _) = keyring();
        let [info] = keyring.versions(&acme(), Class::Pan)[..] else { panic!("one version") };
        let end = info.encrypts_until().unwrap();
        assert_eq!(end, NOW.plus_seconds(730 * 24 * 60 * 60), "two years, as SP 800-57 has it");
        assert!(info.decrypts_until().unwrap() > end);
        let last = Timestamp::from_micros(end.micros() - 1);
        assert!(keyring.encrypting(&acme(), Class::Pan, last).is_some());
        assert!(keyring.encrypting(&acme(), Class::Pan, end).is_none());
        assert!(keyring.decrypting(&acme(), Class::Pan, 1).is_some());
    }

    #[test]
    fn a_change_is_made_to_a_copy() {
        let (keyring, mut entropy) = keyring();
        let (mut changed, version) =
            keyring.changed(|next| next.introduce(&acme(), Class::Pan, &mut entropy, LATER)).unwrap();
        assert_eq!((version, changed.generation()), (2, 3));
        assert_eq!((keyring.generation(), keyring.versions(&acme(), Class::Pan).len()), (2, 1));
        // What the copy did not change is the same to the byte.
        let old = super::super::body::encode(&keyring);
        changed.classes.get_mut(&acme()).unwrap().get_mut(&Class::Pan).unwrap().pop();
        assert_eq!(*super::super::body::encode(&changed), *old);
        assert!(keyring.changed(|next| next.destroy(&acme(), Class::Pan, 1)).is_err());
    }

    #[test]
    fn all_keys_of_a_vault_differ() {
        let (mut keyring, mut entropy) = keyring();
        keyring.ensure_class(&acme(), Class::Ssn, &mut entropy, NOW).unwrap();
        keyring.introduce(&acme(), Class::Pan, &mut entropy, NOW).unwrap();
        let vault = keyring.material();
        let vault = [&vault.token_tag, &vault.row_mac, &vault.signing_seed, &vault.transfer];
        let mut keys: Vec<_> = vault.iter().map(|key| *key.expose()).collect();
        for (_, _, versions) in keyring.stored() {
            for material in versions.iter().filter_map(KeyVersion::material) {
                keys.extend(
                    [&material.data, &material.blind_index, &material.idempotency].map(|key| *key.expose()),
                );
            }
        }
        assert_eq!(keys.len(), 4 + 3 * 3);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 4 + 3 * 3);
    }

    #[test]
    fn nothing_changes_without_randomness() {
        struct Dry;
        impl Entropy for Dry {
            fn fill(&mut self, _: &mut [u8]) -> Result<(), EntropyFault> {
                Err(EntropyFault)
            }
        }
        let (mut keyring, _) = keyring();
        assert_eq!(keyring.ensure_class(&acme(), Class::Ssn, &mut Dry, NOW), Err(EntropyFault));
        let introduced = keyring.introduce(&acme(), Class::Pan, &mut Dry, NOW);
        assert_eq!(introduced, Err(KeyChangeError::Entropy(EntropyFault)));
        assert_eq!(keyring.mint(Class::Pan, &mut Dry), Err(EntropyFault));
        assert_eq!((keyring.generation(), keyring.inventory().len()), (2, 1));
        assert!(Keyring::create(Environment::parse("test").unwrap(), &mut Dry, NOW).is_err());
    }
}
