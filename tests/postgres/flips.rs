//! One bit flipped in the files of a database, without PostgreSQL's own checksums: a token gives its own
//! value or an error, never another.
//!
//! Each flip has a copy of the database, in which no page was read before. Three of four are in the vault's
//! tables and indexes, the larger a file the more, the others in any file of the database.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tempfile::TempDir;
use vault_core::audit::Origin;
use vault_core::crypto::SystemEntropy;
use vault_core::crypto::passphrase::Params;
use vault_core::data::Environment;
use vault_core::keys::{Credential, KeyringFolder, Seal};
use vault_core::policy::Identity;
use vault_core::vault::{SealedVault, Vault};
use vault_daemon::store::postgres::{PostgresOptions, PostgresStore};
use vault_recorder::Dice;
use vault_simulation::damage::{NOW, ask, fill, policy};
use vault_tests::cluster::{Cluster, Database};
use vault_tests::files::make_private_folder;
use vault_tests::values::seed;

use crate::LOG;

const FLIPS: usize = 40;
const PASSPHRASE: &[u8] = b"correct horse battery staple";

#[test]
fn a_flipped_bit_under_postgres_never_gives_another_value() {
    let flips = if std::env::var_os("VAULT_TESTS_LONG").is_some() { 10 * FLIPS } else { FLIPS };
    let (seed, begun) = (seed(), Instant::now());
    println!("postgres: {flips} flips, VAULT_TESTS_SEED={seed}");
    let cluster = Cluster::start();
    // It would read pages before they are damaged.
    cluster.set("autovacuum", "off");
    let database = cluster.database();
    let (custody, tokens) = filled(&database);
    let copies = Copies { cluster: &cluster, database: &database, custody, tables: tables(&database) };
    let log_size = copies.told("whole", &tokens, 0, |_| {}).parse().unwrap();
    assert_eq!(copies.told("whole", &tokens, log_size, |_| {}), "all right", "without a flip");
    let mut dice = Dice::new(seed);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..flips {
        let flip = |folder: &Path| copies.flip(folder, &mut dice);
        let outcome = copies.told(&format!("flip {number}"), &tokens, log_size, flip);
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("postgres: {flips} flips, {outcomes:?}, {:.0?}", begun.elapsed());
    let noticed = outcomes.iter().filter(|(outcome, _)| *outcome != "all right").count();
    assert!(noticed > 0, "no flip was ever met: {outcomes:?}");
}

/// The folder of keyring and anchor of a vault in this database, and its tokens.
fn filled(database: &Database<'_>) -> (TempDir, String) {
    let custody = TempDir::new().unwrap();
    for part in ["keyring", "anchor"] {
        make_private_folder(&custody.path().join(part));
    }
    let store = Arc::new(PostgresStore::open(database.options(), LOG).unwrap());
    let seal = Seal::Passphrase { passphrase: PASSPHRASE, params: Params::FLOOR };
    let environment = Environment::parse("test").unwrap();
    let vault =
        sealed(store, custody.path()).init(environment, seal, policy(), NOW, &mut SystemEntropy::new());
    let vault = vault.unwrap();
    let tokens = fill(&vault);
    // The anchor knows the log to its end.
    vault.keep().unwrap();
    (custody, tokens)
}

fn sealed(store: Arc<PostgresStore>, custody: &Path) -> SealedVault {
    let keyring = KeyringFolder::new(custody.join("keyring"));
    SealedVault::new(store, keyring, custody.join("anchor/anchor"), Origin::parse(LOG).unwrap())
}

/// The database, to be damaged again and again.
struct Copies<'a> {
    cluster: &'a Cluster,
    database: &'a Database<'a>,
    custody: TempDir,
    /// Names of the files of the vault's tables and indexes.
    tables: Vec<String>,
}

fn tables(database: &Database<'_>) -> Vec<String> {
    let files = "SELECT pg_relation_filenode(c.oid) FROM pg_class c WHERE pg_relation_size(c.oid) > 0 AND \
        (relnamespace = 'vault'::regnamespace OR oid IN (SELECT reltoastrelid FROM pg_class \
        WHERE relnamespace = 'vault'::regnamespace))";
    database.sql(files).lines().map(str::to_owned).collect()
}

impl Copies<'_> {
    /// What a vault on a copy says of it, after something was done to the copy's files.
    fn told(&self, what: &str, tokens: &str, log_size: u64, damage: impl FnOnce(&Path)) -> String {
        const NAME: &str = "copy";
        let from = self.database.name();
        self.cluster.sql("postgres", &format!("CREATE DATABASE {NAME} TEMPLATE {from} STRATEGY FILE_COPY"));
        let number =
            self.cluster.sql("postgres", &format!("SELECT oid FROM pg_database WHERE datname = '{NAME}'"));
        damage(&self.cluster.folder().join("data/base").join(number));
        let options = PostgresOptions { database: NAME.to_owned(), ..self.database.options() };
        let told = match PostgresStore::open(options, LOG) {
            Ok(store) => ask(self.open(store), tokens, log_size),
            Err(_) => "does not open".to_owned(),
        };
        println!("{what}: {told}");
        // Damage may end a process of the server, and all of them with it.
        self.cluster.wait_until_up();
        self.cluster.sql("postgres", &format!("DROP DATABASE {NAME} WITH (FORCE)"));
        told
    }

    /// Unseals a vault on a store with copies of keyring and anchor, which it changes.
    fn open(&self, store: PostgresStore) -> Option<Vault> {
        let custody = TempDir::new().unwrap();
        for part in ["keyring", "anchor"] {
            make_private_folder(&custody.path().join(part));
            for file in fs::read_dir(self.custody.path().join(part)).unwrap().map(Result::unwrap) {
                fs::copy(file.path(), custody.path().join(part).join(file.file_name())).unwrap();
            }
        }
        let who = Identity::uri("spiffe://test/checkout").unwrap();
        let sealed = sealed(Arc::new(store), custody.path());
        sealed.unseal(Credential::Passphrase(PASSPHRASE), &who, policy(), NOW, &mut SystemEntropy::new()).ok()
    }

    fn flip(&self, folder: &Path, dice: &mut Dice) {
        let length = |path: &Path| usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
        let (path, at) = if dice.below(4) == 0 {
            let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let filled: Vec<_> = all.filter(|path| length(path) > 0).collect();
            let path = filled[dice.below(filled.len())].clone();
            let at = dice.below(length(&path));
            (path, at)
        } else {
            let tables: Vec<_> = self.tables.iter().map(|table| folder.join(table)).collect();
            let mut at = dice.below(tables.iter().map(|path| length(path)).sum());
            let mut tables = tables.into_iter();
            let mut path = tables.next().unwrap();
            while at >= length(&path) {
                at -= length(&path);
                path = tables.next().unwrap();
            }
            (path, at)
        };
        let at = at as u64;
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0] ^= 1 << dice.below(8);
        file.write_all_at(&byte, at).unwrap();
        print!("{} byte {at}; ", path.display());
    }
}
