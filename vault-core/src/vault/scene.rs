//! A vault with its keyring, anchor and journal in a throwaway folder, for the tests of this room.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop loudly")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::closing::Closing;
use super::open::Vault;
use super::sealed::{SealedVault, UnsealError};
use crate::audit::{Entry, Origin, read_entries};
use crate::clock::Timestamp;
use crate::crypto::SeededEntropy;
use crate::crypto::passphrase::Params;
use crate::data::Environment;
use crate::keys::{Credential, KeyringFolder, Seal};
use crate::policy::{Identity, Policy};
use crate::store::memory::MemoryStore;

const PASSPHRASE: &[u8] = b"correct horse battery staple";

pub(super) const POLICY: &str = r#"
[[tenant]]
id = "shop"
classes = ["pan"]

[[principal]]
id = "keeper"
identity = "uri:spiffe://test/keeper"
ca = "office"
tenant = "*"
role = "custodian"
rights = ["status", "unseal", "seal"]

[[principal]]
id = "clerk"
identity = "uri:spiffe://test/clerk"
ca = "office"
tenant = "*"
role = "custodian"
rights = ["status"]
"#;

/// Files and rows of one vault, which is sealed.
pub(super) struct Scene {
    pub(super) store: Arc<MemoryStore>,
    pub(super) sealed: SealedVault,
    pub(super) now: Timestamp,
    pub(super) entropy: SeededEntropy,
    folder: TempDir,
}

impl Scene {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::new());
        let keyring = KeyringFolder::new(folder.path().join("keyring"));
        let origin = Origin::parse("vault.test/one").unwrap();
        let anchor = folder.path().join("anchor");
        let sealed = SealedVault::new(store.clone(), keyring, anchor, origin);
        let now = Timestamp::from_seconds(1_800_000_000);
        let mut entropy = SeededEntropy::new(7);
        let environment = Environment::parse("test").unwrap();
        let seal = Seal::Passphrase { passphrase: PASSPHRASE, params: Params::FLOOR };
        let vault = sealed.init(environment, seal, policy(POLICY), now, &mut entropy).unwrap();
        vault.seal(&Closing::Entered, now, &mut entropy);
        Self { store, sealed, now, entropy, folder }
    }

    pub(super) fn anchor(&self) -> PathBuf {
        self.folder.path().join("anchor")
    }

    pub(super) fn keyring(&self) -> PathBuf {
        self.folder.path().join("keyring")
    }

    /// As by another `audit_origin`.
    pub(super) fn rename_log(&mut self, origin: &str) {
        let keyring = KeyringFolder::new(self.keyring());
        let origin = Origin::parse(origin).unwrap();
        self.sealed = SealedVault::new(self.store.clone(), keyring, self.anchor(), origin);
    }

    /// Another program with the same files, over the store of now.
    pub(super) fn reopen(&mut self) {
        self.rename_log("vault.test/one");
    }

    /// The files of the keyring as they are, to be put back later.
    pub(super) fn keyring_files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = fs::read_dir(self.keyring()).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    pub(super) fn unseal(&mut self) -> Result<Vault, UnsealError> {
        self.unseal_under(POLICY)
    }

    pub(super) fn unseal_under(&mut self, text: &str) -> Result<Vault, UnsealError> {
        self.sealed.unseal(self.passphrase(), &keeper(), policy(text), self.now, &mut self.entropy)
    }

    /// Seals without an entry of its own.
    pub(super) fn close(&mut self, vault: Vault) {
        vault.seal(&Closing::Entered, self.now, &mut self.entropy);
    }

    pub(super) fn passphrase(&self) -> Credential<'static> {
        Credential::Passphrase(PASSPHRASE)
    }
}

pub(super) fn policy(text: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(text).unwrap())
}

/// A custodian with the right to unseal and to seal.
pub(super) fn keeper() -> Identity {
    identity("keeper")
}

pub(super) fn identity(name: &str) -> Identity {
    Identity::uri(&format!("spiffe://test/{name}")).unwrap().issued_by("office")
}

/// The whole log.
pub(super) fn entries(vault: &Vault) -> Vec<Entry> {
    let head = vault.tree_head();
    let mut entries = Vec::new();
    while (entries.len() as u64) < head.size {
        let part = read_entries(&vault.log(), &head, entries.len() as u64, 500).unwrap();
        entries.extend(part.into_iter().map(|logged| logged.entry));
    }
    entries
}
