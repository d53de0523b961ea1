//! Where the keys of an open vault stand, and what unsealing and sealing leave of them elsewhere.
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
use vault_daemon::custody::{Custody, Opens};
use vault_daemon::lane::Lane;
use vault_daemon::telemetry::Metrics;
use vault_guard::{KeyMemory, key_memory, wipe_stack};

const PASSPHRASE: &[u8] = b"correct horse battery staple";
/// More than either leaves; the rest of a thread's stack was never touched.
const STACK_BYTES: usize = 1024 * 1024;
const POLICY: &str = "[[tenant]]\nid = \"shop\"\nclasses = [\"pan\"]\n\
    [[principal]]\nid = \"custodian\"\nidentity = \"uri:spiffe://test/custodian\"\ntenant = \"*\"\n\
    role = \"custodian\"\nrights = [\"status\", \"unseal\", \"seal\"]\n";

#[global_allocator]
static ALLOCATOR: vault_guard::Allocator = vault_guard::allocator();

/// The test keeps what it looks for so that looking does not find its own copies.
const MASK: u8 = 0xb7;

fn masked<const BYTES: usize>(secret: &[u8]) -> Option<[u8; BYTES]> {
    let mut masked: [u8; BYTES] = secret.try_into().ok()?;
    masked.iter_mut().for_each(|byte| *byte ^= MASK);
    Some(masked)
}

/// Randomness that is remembered, masked: every key of a new vault is among it.
#[derive(Default)]
struct Remembered(Vec<[u8; 32]>);

impl Entropy for Remembered {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyFault> {
        SystemEntropy::new().fill(out)?;
        self.0.extend(masked::<32>(out));
        Ok(())
    }
}

/// A sealed vault and its keys, masked: whatever it drew of a key's length that no file shows.
fn vault(folder: &Path) -> (Arc<Custody>, Vec<[u8; 32]>) {
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
    let mut keys = drawn.0;
    keys.retain(|key| !file.windows(32).any(|part| masked(part) == Some(*key)));
    (Arc::new(Custody::new(sealed, store, policy, clock)), keys)
}

/// How many halves of secrets stand in some bytes. Half a key is too much already, and ring keeps keys in
/// parts.
fn halves_in(bytes: &[u8], keys: &[[u8; 32]]) -> usize {
    let halves: Vec<&[u8]> = keys.iter().flat_map(|key| key.chunks_exact(16)).collect();
    let mut begins = [false; 256];
    halves.iter().for_each(|half| begins[usize::from(half[0] ^ MASK)] = true);
    let places = bytes.windows(16).filter(|place| begins[usize::from(place[0])]);
    places
        .filter(|place| {
            halves.iter().any(|half| place.iter().map(|byte| byte ^ MASK).eq(half.iter().copied()))
        })
        .count()
}

/// How many halves of secrets lie on the stack below an address.
#[inline(never)]
fn copies_below(address: usize, keys: &[[u8; 32]]) -> usize {
    let mut stack = vec![0; STACK_BYTES];
    let memory = File::open("/proc/self/mem").expect("a process may read its own memory");
    memory.read_exact_at(&mut stack, (address - STACK_BYTES) as u64).unwrap();
    halves_in(&stack, keys)
}

/// How many halves of secrets any memory of this process shows to a reader, and how many bytes it shows.
#[inline(never)]
fn copies_anywhere(keys: &[[u8; 32]]) -> (usize, usize) {
    let memory = File::open("/proc/self/mem").expect("a process may read its own memory");
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let (mut found, mut bytes) = (0, 0);
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|address| usize::from_str_radix(address, 16).unwrap());
        let mut content = vec![0; to - from];
        let read = memory.read_at(&mut content, from as u64).unwrap_or(0);
        found += halves_in(&content[..read], keys);
        bytes += read;
    }
    (found, bytes)
}

/// Leaves copies on the stack, as any work with a key does; deep enough that looking for them does not
/// overwrite them all.
#[inline(never)]
fn touch(key: &[u8; 32]) {
    let mut deep = [0; 48 * 1024];
    for copy in deep.chunks_exact_mut(4 * 1024).take(6) {
        copy.iter_mut().zip(key).for_each(|(byte, masked)| *byte = masked ^ MASK);
    }
    black_box(&mut deep);
}

#[inline(never)]
fn unseal(custody: &Custody, who: &Identity) {
    custody.unseal(Opens::Passphrase(PASSPHRASE), who).unwrap();
}

#[inline(never)]
fn seal(custody: &Custody, lane: &Lane) {
    assert!(custody.seal(lane, &Closing::Stop));
}

#[test]
fn neither_unsealing_nor_sealing_leaves_a_key_on_the_stack() {
    let folder = tempfile::tempdir().unwrap();
    let (custody, keys) = vault(folder.path());
    assert!(keys.len() >= 7, "root key, three of the vault, three of the class");
    let lane = Lane::start(1, custody.clone(), Arc::new(Metrics::new())).unwrap();
    let looked = thread::Builder::new().stack_size(4 * STACK_BYTES).spawn(move || {
        let who = Identity::uri("spiffe://test/custodian").unwrap();
        let here = std::ptr::from_ref(black_box(&who)) as usize;
        touch(&keys[0]);
        let touched = copies_below(here, &keys);
        unseal(&custody, &who);
        let unsealed = copies_below(here, &keys);
        seal(&custody, &lane);
        (touched > 0, unsealed, copies_below(here, &keys))
    });
    assert_eq!(looked.unwrap().join().unwrap(), (true, 0, 0));
}

/// While the vault is open its keys stand in the arena, which a reader of the process does not see, and
/// nowhere else.
#[test]
fn no_key_of_an_open_vault_stands_where_a_reader_of_the_process_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let (custody, keys) = vault(folder.path());
    wipe_stack();
    let lane = Lane::start(1, custody.clone(), Arc::new(Metrics::new())).unwrap();
    let who = Identity::uri("spiffe://test/custodian").unwrap();
    let plain: Vec<u8> = keys[0].iter().map(|byte| byte ^ MASK).collect();
    let (seen, bytes) = copies_anywhere(&keys);
    assert!(seen >= 2 && bytes > STACK_BYTES, "a copy on the heap is seen: {seen} in {bytes} bytes");
    drop(plain);
    unseal(&custody, &who);
    let (open, _) = copies_anywhere(&keys);
    seal(&custody, &lane);
    let (sealed, _) = copies_anywhere(&keys);
    if key_memory() == KeyMemory::Secret {
        assert_eq!((open, sealed), (0, 0));
    } else {
        // Locked memory is kept from swap, core files and children, not from a reader: it shows the keys.
        assert!(open > 0 && sealed == 0, "{open} halves of keys while open, {sealed} after sealing");
    }
}
