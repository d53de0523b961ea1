//! What unsealing and sealing leave of the keys on the stack of the thread that did it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may stop loudly"
)]

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use vault_core::audit::Origin;
use vault_core::clock::Clock;
use vault_core::crypto::passphrase::Params;
use vault_core::crypto::{Entropy, EntropyFault, SystemEntropy};
use vault_core::data::Environment;
use vault_core::keys::{KeyringFolder, Seal};
use vault_core::policy::{Identity, Policy};
use vault_core::store::Store;
use vault_core::store::memory::MemoryStore;
use vault_core::vault::{Closing, SealedVault};
use vault_daemon::clock::SystemClock;
use vault_daemon::custody::Custody;
use vault_daemon::lane::Lane;
use vault_daemon::telemetry::Metrics;

const PASSPHRASE: &[u8] = b"correct horse battery staple";
/// More than either leaves; the rest of a thread's stack was never touched.
const STACK_BYTES: usize = 1024 * 1024;
const POLICY: &str = "[[tenant]]\nid = \"shop\"\nclasses = [\"pan\"]\n\
    [[principal]]\nid = \"custodian\"\nidentity = \"uri:spiffe://test/custodian\"\ntenant = \"*\"\n\
    role = \"custodian\"\nrights = [\"status\", \"unseal\", \"seal\"]\n";

/// Randomness that is remembered: every key of a new vault is among it.
#[derive(Default)]
struct Remembered(Vec<[u8; 32]>);

impl Entropy for Remembered {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFault> {
        SystemEntropy::new().fill(out)?;
        self.0.extend(<[u8; 32]>::try_from(&*out));
        Ok(())
    }
}

/// A sealed vault and its secrets: the passphrase, and whatever it drew of a key's length that no file shows.
fn vault(folder: &Path) -> (Arc<Custody>, Vec<Vec<u8>>) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let keyring = folder.join("keyring");
    let origin = Origin::parse("vault.test/one").unwrap();
    let sealed = SealedVault::new(store.clone(), KeyringFolder::new(&keyring), folder.join("anchor"), origin);
    let policy = Arc::new(Policy::parse(POLICY).unwrap());
    let clock = Arc::new(SystemClock);
    let seal = Seal::Passphrase { passphrase: PASSPHRASE, params: Params::FLOOR };
    let mut drawn = Remembered::default();
    let environment = Environment::parse("test").unwrap();
    let vault = sealed.init(environment, seal, policy.clone(), clock.now(), &mut drawn).unwrap();
    drop(vault.seal(&Closing::Entered, clock.now(), &mut drawn));
    let file = fs::read(keyring.join("keyring-a")).unwrap();
    let mut secrets: Vec<Vec<u8>> = drawn.0.iter().map(|key| key.to_vec()).collect();
    secrets.retain(|key| !file.windows(32).any(|part| part == key));
    secrets.push(PASSPHRASE.to_vec());
    (Arc::new(Custody::new(sealed, store, policy, clock)), secrets)
}

/// How many copies of secrets lie on the stack below an address.
#[inline(never)]
fn copies_below(address: usize, secrets: &[Vec<u8>]) -> usize {
    let mut stack = vec![0; STACK_BYTES];
    let memory = File::open("/proc/self/mem").expect("a process may read its own memory");
    memory.read_exact_at(&mut stack, (address - STACK_BYTES) as u64).unwrap();
    // Half a key is too much already, and ring keeps keys in parts.
    let halves = secrets.iter().flat_map(|secret| secret.chunks_exact(secret.len() / 2));
    halves.map(|half| stack.windows(half.len()).filter(|found| *found == half).count()).sum()
}

/// Leaves copies on the stack, as any work with a key does; deep enough that looking for them does not
/// overwrite them all.
#[inline(never)]
fn touch(secret: &[u8]) {
    let mut deep = [0; 48 * 1024];
    for copy in deep.chunks_exact_mut(4 * 1024).take(6) {
        copy[..secret.len()].copy_from_slice(secret);
    }
    black_box(&mut deep);
}

#[inline(never)]
fn unseal(custody: &Custody, who: &Identity) {
    custody.unseal(PASSPHRASE, who).unwrap();
}

#[inline(never)]
fn seal(custody: &Custody, lane: &Lane) {
    assert!(custody.seal(lane, &Closing::Stop));
}

#[test]
fn neither_unsealing_nor_sealing_leaves_a_key_on_the_stack() {
    let folder = tempfile::tempdir().unwrap();
    let (custody, secrets) = vault(folder.path());
    assert!(secrets.len() >= 8, "root key, three of the vault, three of the class, passphrase");
    let lane = Lane::start(1, custody.clone(), Arc::new(Metrics::new())).unwrap();
    let looked = thread::Builder::new().stack_size(4 * STACK_BYTES).spawn(move || {
        let who = Identity::uri("spiffe://test/custodian").unwrap();
        let here = std::ptr::from_ref(black_box(&who)) as usize;
        touch(PASSPHRASE);
        let touched = copies_below(here, &secrets);
        unseal(&custody, &who);
        let unsealed = copies_below(here, &secrets);
        seal(&custody, &lane);
        (touched > 0, unsealed, copies_below(here, &secrets))
    });
    assert_eq!(looked.unwrap().join().unwrap(), (true, 0, 0));
}
