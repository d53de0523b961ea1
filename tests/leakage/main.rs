//! Plaintext is nowhere but where it is asked for: ten thousand values go in and out of the real daemon, by
//! every way that succeeds and every way that fails, and are then looked for in everything it leaves behind.
//!
//! Looked for: each value as digits, with spaces and hyphens, in UTF-16, packed as BCD, in hexadecimal, in
//! Base64 at each of its three alignments, and reversed. Looked in: store, keyring, anchor and every other
//! file of the folder, with PostgreSQL everything that its server keeps (tables, WAL, log), both output
//! streams at the most talkative log level, every metric, every error the clients were given, and the memory
//! of the process. Not looked for: values that went through a compressor together with others (store engines
//! compress blocks, but find nothing to shorten in unrelated digits, so that these would stand there
//! literally).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests may stop loudly, and say what they measured"
)]

mod calls;
mod memory;
mod scanner;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use vault_tests::cluster::Cluster;
use vault_tests::process::Vaultd;
use vault_tests::values::{Seeded, seed};

use crate::memory::Remains;
use crate::scanner::{Findings, Scanner};

/// How long a closed connection may take to be forgotten.
const FORGETTING: Duration = Duration::from_secs(3);

#[test]
fn no_value_is_left_in_files_logs_errors_or_memory_on_fjall() {
    look_everywhere("fjall");
}

#[test]
fn no_value_is_left_in_files_logs_errors_or_memory_on_sled() {
    look_everywhere("sled");
}

#[test]
fn no_value_is_left_in_files_logs_errors_or_memory_on_postgres() {
    look_everywhere("postgres");
}

fn look_everywhere(engine: &str) {
    let seed = seed();
    println!("{engine}: VAULT_TESTS_SEED={seed}");
    let folder = TempDir::new().unwrap();
    let numbers = calls::Numbers::new(&mut Seeded::new(seed));
    let scanner = Scanner::of_every_encoding(&numbers.all());
    let mut server = (engine == "postgres").then(|| Server::start(folder.path(), &scanner));
    let vaultd = Vaultd::start(folder.path(), engine, &["--log-level", "trace"]);
    let endpoint = fs::read_to_string(folder.path().join("vault/endpoint")).unwrap();
    let runtime = Runtime::new().unwrap();
    let begun = Instant::now();
    let clients = runtime.block_on(calls::Clients::connect(&vaultd));
    let mut heard = runtime.block_on(calls::make_every_call(&clients, &numbers, &endpoint));
    let metrics = fs::read_to_string(folder.path().join("vault/metrics-endpoint")).unwrap();
    heard.extend(calls::scrape(&metrics, &numbers));
    println!(
        "{engine}: {} values in and out, {} errors heard, {:.0?}",
        numbers.len(),
        heard.len(),
        begun.elapsed()
    );

    let digits = Scanner::of_digits(&numbers.all());
    let open = memory::scan(vaultd.pid(), &digits);
    // With the runtime go the connections.
    drop(clients);
    drop(runtime);
    std::thread::sleep(FORGETTING);
    let closed = memory::scan(vaultd.pid(), &digits);
    let told = |remains: &Option<Remains>| remains.as_ref().map_or("left out".into(), Remains::to_string);
    println!("{engine}: memory with open connections: {}", told(&open));
    println!("{engine}: memory with closed connections: {}", told(&closed));

    let begun = Instant::now();
    let mut found = scan_files(folder.path(), &scanner);
    assert!(vaultd.stop().success(), "the daemon did not stop as it should");
    found.extend(scan_files(folder.path(), &scanner));
    if let Some(server) = &mut server {
        found.extend(server.scan(&scanner));
        server.expect_a_value_in_a_table_to_be_found(&scanner, numbers.all()[0]);
    }
    for message in &heard {
        found.scan(&scanner, Path::new("an error's message"), message);
    }
    println!("{engine}: {found}, {:.0?}", begun.elapsed());
    expect_only_own_lines(&fs::read_to_string(folder.path().join("stderr")).unwrap());
    expect_a_planted_value_to_be_found(folder.path(), &scanner, numbers.all()[0]);
    found.expect_none();
    if let Some(closed) = closed {
        closed.expect_none();
    }
}

/// A database's server of its own, with all that it keeps.
struct Server {
    cluster: Cluster,
    /// What its files held before a vault came.
    before: Findings,
}

impl Server {
    /// Starts it with a database for the daemon in this folder.
    fn start(folder: &Path, scanner: &Scanner) -> Self {
        let mut cluster = Cluster::start();
        cluster.database().write_store_file(folder);
        cluster.stop();
        let before = scan_files(cluster.folder(), scanner);
        cluster.resume();
        Self { cluster, before }
    }

    fn scan(&mut self, scanner: &Scanner) -> Findings {
        // What it holds in memory goes to its files.
        self.cluster.stop();
        let mut found = scan_files(self.cluster.folder(), scanner);
        found.leave_out(&self.before);
        found
    }

    /// The same after somebody wrote one value into a table in clear.
    fn expect_a_value_in_a_table_to_be_found(&mut self, scanner: &Scanner, value: &str) {
        self.cluster.resume();
        self.cluster.sql("postgres", &format!("CREATE TABLE planted AS SELECT decode('{value}', 'escape')"));
        assert!(self.scan(scanner).count() > 0, "a value in a table was not found");
    }
}

/// No library writes into the log, however talkative the daemon was told to be.
fn expect_only_own_lines(log: &str) {
    assert!(log.contains("event=\"serving\""), "there is no log");
    let strange = log.lines().find(|line| !line.contains(" vault_daemon::"));
    assert_eq!(strange, None, "a line of somebody else's");
}

fn scan_files(folder: &Path, scanner: &Scanner) -> Findings {
    let mut found = Findings::default();
    for path in files(folder) {
        found.scan(scanner, &path, &fs::read(&path).unwrap());
    }
    found
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.extend(files(&entry.path()));
        } else if entry.file_type().unwrap().is_file() {
            all.push(entry.path());
        }
    }
    all
}

/// The scan of the largest file again, with one value put into the middle of a copy: a scanner that cannot
/// find it has proven nothing.
fn expect_a_planted_value_to_be_found(folder: &Path, scanner: &Scanner, value: &str) {
    let largest = files(folder).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut copy = fs::read(&largest).unwrap();
    let middle = copy.len() / 2;
    copy.splice(middle..middle, value.bytes());
    let mut found = Findings::default();
    found.scan(scanner, &largest, &copy);
    assert!(found.count() > 0, "a planted value was not found");
}
