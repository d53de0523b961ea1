//! A throwaway PostgreSQL cluster with TLS on, started as an ordinary user; and a standby of it.
//!
//! Run by root, it runs as the user `postgres`, since PostgreSQL refuses root. It ends with the test program,
//! however that ends: a shell between the two waits for the end of its input.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vault_core::clock::Clock as _;
use vault_daemon::certificates::{Authority, Request, Validity};
use vault_daemon::clock::SystemClock;
use vault_daemon::store::postgres::{Credentials, Host, PostgresOptions, migrate};

use crate::process::STORE_FILE;

/// The role that owns the schema.
pub const OWNER: &str = "vault_owner";
/// The role that serves.
pub const USER: &str = "vaultd";
const PASSWORD: &str = "tests only: correct horse battery staple";
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// For every process of the server to have read a changed parameter; nothing tells when.
const RELOAD: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);
/// PostgreSQL's oldest version that is tested with.
const VERSION_MIN: u32 = 15;

/// Runs the server until its input ends, stops it as its operator would, even if it was stopped in its
/// tracks, and removes what it wrote.
const KEEPER: &str = r#"trap '' INT TERM
"$1/postgres" -D "$2/data" -k "$2" -p "$3" & server=$!
read -r _
kill -CONT $server $(cat /proc/$server/task/$server/children)
kill -INT $server; wait $server
rm -rf "$2""#;
/// Shared memory in the data's folder, so that nothing stays behind of a server that is killed.
const SETTINGS: &str = "listen_addresses = '127.0.0.1'\nssl = on\n\
    ssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\nssl_min_protocol_version = 'TLSv1.3'\n\
    dynamic_shared_memory_type = mmap\nmax_connections = 200\nshared_buffers = '64MB'\n\
    max_wal_size = '4GB'\nautovacuum_naptime = '5s'\n";
/// The name under which a standby follows its primary.
const STANDBY: &str = "standby";

/// A running cluster.
pub struct Cluster {
    /// Closed when dropped, which ends the cluster.
    keeper: Option<Child>,
    programs: PathBuf,
    folder: PathBuf,
    secrets: Arc<TempDir>,
    port: u16,
    databases: AtomicUsize,
}

/// A database with the schema of a vault in it.
pub struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
    /// Where else it is to be found, should the cluster be lost.
    standby: Option<u16>,
}

impl Cluster {
    /// The cluster of this test program, started when it is first asked for.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts one of its own, for tests that break it.
    pub fn start() -> Self {
        let user = User::find();
        let folder = own_folder(&user);
        let programs = programs();
        let mut initdb = user.command(&programs.join("initdb"), &folder);
        initdb.arg("-D").arg(folder.join("data")).args([
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let secrets = Arc::new(configure(&folder, &user));
        let mut cluster =
            Self { keeper: None, programs, folder, secrets, port, databases: AtomicUsize::new(0) };
        cluster.resume_with(&user);
        for role in [OWNER, USER] {
            cluster.sql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"));
        }
        cluster
    }

    /// A second server, which from here on has every commit of this one before it is acknowledged.
    pub fn with_standby(&self) -> Self {
        // First: it is copied.
        self.set("synchronous_standby_names", STANDBY);
        let (programs, secrets) = (self.programs.clone(), Arc::clone(&self.secrets));
        let (folder, port, databases) = (own_folder(&User::find()), free_port(), AtomicUsize::new(0));
        let mut standby = Self { keeper: None, programs, folder, secrets, port, databases };
        standby.follow(self);
        standby
    }

    /// Throws away what this server has, which must not run, and makes it the standby of another one; waits
    /// until it is that.
    pub fn follow(&mut self, primary: &Self) {
        let user = User::find();
        let data = self.folder.join("data");
        let _ = fs::remove_dir_all(&data);
        let mut copy = user.command(&self.programs.join("pg_basebackup"), &self.folder);
        copy.arg("-D").arg(&data).args(["-U", "postgres", "-X", "stream", "-c", "fast", "--no-sync"]);
        copy.arg("-h").arg(&primary.folder).arg("-p").arg(primary.port.to_string());
        let copied = copy.output().unwrap();
        assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
        let settings = data.join("postgresql.auto.conf");
        let mut text = fs::read_to_string(&settings).unwrap();
        // The last line of a name counts.
        text.push_str(&format!(
            "primary_conninfo = 'host={} port={} user=postgres application_name={STANDBY}'\n",
            primary.folder.display(),
            primary.port
        ));
        fs::write(&settings, text).unwrap();
        fs::write(data.join("standby.signal"), "").unwrap();
        user.give(&data.join("standby.signal"));
        self.resume_with(&user);
        let begun = Instant::now();
        let synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        while primary.sql("postgres", synchronous) != "1" {
            assert!(begun.elapsed() < START_TIMEOUT, "the standby does not follow");
            thread::sleep(POLL);
        }
    }

    /// Has a standby take the place of its primary.
    pub fn promote(&self) {
        assert_eq!(self.sql("postgres", "SELECT pg_promote(true, 120)"), "t", "it is not promoted");
    }

    /// Stops every process of the server in its tracks: connections stay, nothing is said on them.
    pub fn freeze(&self) {
        // First the one that makes others, so that none comes after they are listed.
        self.signal_first(Signal::STOP);
        self.signal_others(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal_others(Signal::CONT);
        self.signal_first(Signal::CONT);
    }

    fn signal_first(&self, signal: Signal) {
        kill_process(self.processes().remove(0), signal).unwrap();
    }

    /// One that has ended meanwhile is signalled no more.
    fn signal_others(&self, signal: Signal) {
        for process in self.processes().into_iter().skip(1) {
            let _ = kill_process(process, signal);
        }
    }

    /// Ends every process of the server as `kill -9` does. What it keeps stays, and is as the processes left
    /// it.
    pub fn kill_hard(&mut self) {
        let mut keeper = self.keeper.take().unwrap();
        // First, since it would remove the folder.
        keeper.kill().unwrap();
        keeper.wait().unwrap();
        let processes = self.processes();
        for process in &processes {
            // All but the first one may have ended meanwhile, or do so when they see that it is gone.
            let _ = kill_process(*process, Signal::KILL);
        }
        let begun = Instant::now();
        while !processes.iter().all(|process| is_gone(*process)) {
            assert!(begun.elapsed() < START_TIMEOUT, "the server does not end");
            thread::sleep(POLL);
        }
        // A segment of shared memory that the next start in the same folder would have removed.
        let pid_file = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let segment = pid_file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)).unwrap();
        assert!(Command::new("ipcrm").args(["-m", segment]).status().unwrap().success());
        // Until somebody has asked how the first process ended its number is taken, and the next start would
        // believe that it runs.
        for lock in ["data/postmaster.pid".to_owned(), format!(".s.PGSQL.{}.lock", self.port)] {
            fs::remove_file(self.folder.join(lock)).unwrap();
        }
    }

    /// The server's first process, then those that it made.
    fn processes(&self) -> Vec<Pid> {
        let first = self.first_process();
        let made = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        let all = std::iter::once(first.as_str()).chain(made.split_whitespace());
        all.map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect()
    }

    fn first_process(&self) -> String {
        let file = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().to_owned()
    }

    /// Stops the server as its operator does; what it keeps stays.
    pub fn stop(&mut self) {
        self.end("INT");
    }

    /// Ends the server at once, as the kernel does when memory is short: it has to recover when it starts
    /// again.
    pub fn kill(&mut self) {
        self.end("QUIT");
    }

    fn end(&mut self, signal: &str) {
        let mut keeper = self.keeper.take().unwrap();
        self.signal(signal);
        let begun = Instant::now();
        while self.try_sql("postgres", "SELECT 1").is_ok() || self.folder.join("data/postmaster.pid").exists()
        {
            assert!(begun.elapsed() < START_TIMEOUT, "the server does not stop");
            thread::sleep(POLL);
        }
        // Before its input ends: it would remove the folder.
        keeper.kill().unwrap();
        keeper.wait().unwrap();
    }

    /// Starts it again.
    pub fn resume(&mut self) {
        self.resume_with(&User::find());
    }

    fn resume_with(&mut self, user: &User) {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let keeper = user
            .command(Path::new("/bin/sh"), &self.folder)
            .args(["-c", KEEPER, "sh"])
            .arg(&self.programs)
            .arg(&self.folder)
            .arg(self.port.to_string())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
        self.wait_until_up();
    }

    /// Sends the server's first process a signal.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.first_process()]).status().unwrap().success());
    }

    /// Runs SQL as the superuser: what the tests' operator does. Rows one a line, columns with `|` between.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|problem| panic!("{sql}: {problem}"))
    }

    /// Waits until the server answers again: one whose process died recovers by itself.
    pub fn wait_until_up(&self) {
        let begun = Instant::now();
        while self.try_sql("postgres", "SELECT 1").is_err() {
            let said = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < START_TIMEOUT, "the server does not start:\n{}", said());
            thread::sleep(POLL);
        }
    }

    fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = self.psql(database, sql).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The command that runs SQL, for a test that goes on meanwhile.
    pub fn psql(&self, database: &str, sql: &str) -> Command {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        psql.arg("-h").arg(&self.folder).arg("-p").arg(self.port.to_string()).args(["-c", sql]);
        psql
    }

    /// Sets a parameter of the whole server and has it read.
    pub fn set(&self, parameter: &str, value: &str) {
        self.sql("postgres", &format!("ALTER SYSTEM SET {parameter} = '{value}'"));
        self.sql("postgres", "SELECT pg_reload_conf()");
        thread::sleep(RELOAD);
    }

    /// A new database with the schema of a vault.
    pub fn database(&self) -> Database<'_> {
        let database = self.empty_database();
        migrate(&database.options(), OWNER, &self.password()).unwrap();
        database
    }

    /// A new database that only the two roles may use.
    pub fn empty_database(&self) -> Database<'_> {
        let name = format!("vault_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {OWNER}"));
        self.sql(
            "postgres",
            &format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO {USER}"),
        );
        Database { cluster: self, name, standby: None }
    }

    /// What both roles show.
    pub fn password(&self) -> Credentials {
        Credentials::Password(self.password_file())
    }

    /// The file with the password of both roles.
    pub fn password_file(&self) -> PathBuf {
        self.secrets.path().join("password")
    }

    /// The CA of the server's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.secrets.path().join("ca.pem")
    }

    /// Everything it keeps, its log too.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        match self.keeper.take() {
            Some(mut keeper) => {
                drop(keeper.stdin.take());
                let _ = keeper.wait();
            }
            None => drop(fs::remove_dir_all(&self.folder)),
        }
    }
}

impl Database<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, where a standby may take the cluster's place: a daemon knows both, and requires one.
    pub fn with_standby(self, standby: &Cluster) -> Self {
        Self { standby: Some(standby.port), ..self }
    }

    /// Runs SQL in it as the superuser.
    pub fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.name, sql)
    }

    /// How a vault reaches it.
    pub fn options(&self) -> PostgresOptions {
        PostgresOptions {
            hosts: self.ports().map(|port| Host { name: "127.0.0.1".to_owned(), port }).collect(),
            database: self.name.clone(),
            user: USER.to_owned(),
            ca_file: self.cluster.ca_file(),
            credentials: self.cluster.password(),
            channel_binding_required: true,
            connections: 2,
            answer_timeout: Duration::from_secs(self.answer_seconds()),
            synchronous_standby_required: self.standby.is_some(),
        }
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        [self.cluster.port].into_iter().chain(self.standby)
    }

    /// Long, since a slow answer is none; short where a lost server is to be given up.
    const fn answer_seconds(&self) -> u64 {
        if self.standby.is_some() { 3 } else { 20 }
    }

    /// The same as the `[store]` of a configuration.
    pub fn store_table(&self) -> String {
        let hosts: Vec<String> = self.ports().map(|port| format!("127.0.0.1:{port}")).collect();
        format!(
            "[store]\nengine = \"postgres\"\n\
             [store.postgres]\nhosts = {hosts:?}\ndatabase = \"{}\"\n\
             user = \"{USER}\"\nca_file = \"{}\"\npassword_file = \"{}\"\n\
             answer_timeout_seconds = {}\nsynchronous_standby_required = {}\n",
            self.name,
            self.cluster.ca_file().display(),
            self.cluster.password_file().display(),
            self.answer_seconds(),
            self.standby.is_some(),
        )
    }

    /// Puts a daemon's store in this database: `Vaultd` with the engine `postgres`, in this folder.
    pub fn write_store_file(&self, folder: &Path) {
        let file = folder.join(STORE_FILE);
        fs::write(&file, self.store_table()).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }
}

/// Whose processes the cluster's are.
struct User(Option<(u32, u32)>);

impl User {
    fn find() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self(None);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let line = users.lines().find(|line| line.starts_with("postgres:"));
        let line = line.unwrap_or_else(|| panic!("no user postgres; run tests/postgres/install --system"));
        let numbers: Vec<&str> = line.split(':').collect();
        Self(Some((numbers[2].parse().unwrap(), numbers[3].parse().unwrap())))
    }

    fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).env_clear().env("HOME", folder).env("PATH", "/usr/bin:/bin");
        command.env("LC_ALL", "C");
        if let Self(Some((user, group))) = self {
            command.uid(*user).gid(*group);
        }
        command
    }

    fn give(&self, path: &Path) {
        if let Self(Some((user, group))) = self {
            chown(path, Some(*user), Some(*group)).unwrap();
        }
    }
}

/// The newest server that is installed as Debian and Ubuntu do.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let found = versions.map(|entry| entry.path()).filter_map(|path| Some((version(&path)?, path)));
    let newest = found.filter(|(version, _)| *version >= VERSION_MIN).max();
    let (_, path) =
        newest.unwrap_or_else(|| panic!("no PostgreSQL server; run tests/postgres/install --system"));
    path.join("bin")
}

/// Ended, if perhaps not waited for by whoever inherited it.
fn is_gone(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

fn own_folder(user: &User) -> PathBuf {
    let folder = TempDir::with_prefix("vault-postgres-").unwrap().keep();
    user.give(&folder);
    folder
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Certificates, passwords, and a server that takes nothing but TLS and SCRAM from the network.
fn configure(folder: &Path, user: &User) -> TempDir {
    let validity = Validity::hours_from(SystemClock.now(), 24);
    let authority = Authority::root("postgres tests", validity).unwrap();
    let address = "127.0.0.1".parse().unwrap();
    let server = authority.issue(&Request::server(&["localhost"], &[address], validity)).unwrap();
    let data = folder.join("data");
    for (name, content) in [("server.pem", &server.chain_pem), ("server.key", &server.private_key_pem)] {
        fs::write(data.join(name), content.as_bytes()).unwrap();
        fs::set_permissions(data.join(name), Permissions::from_mode(0o600)).unwrap();
        user.give(&data.join(name));
    }
    let mut file = fs::read_to_string(data.join("postgresql.conf")).unwrap();
    file.push_str(SETTINGS);
    fs::write(data.join("postgresql.conf"), file).unwrap();
    let rules = "local all,replication postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(data.join("pg_hba.conf"), rules).unwrap();
    let secrets = TempDir::new().unwrap();
    fs::write(secrets.path().join("ca.pem"), authority.certificate_pem()).unwrap();
    fs::write(secrets.path().join("password"), format!("{PASSWORD}\n")).unwrap();
    fs::set_permissions(secrets.path().join("password"), Permissions::from_mode(0o600)).unwrap();
    secrets
}
