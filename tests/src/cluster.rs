//! A throwaway PostgreSQL cluster with TLS on, started as an ordinary user.
//!
//! Run by root, it runs as the user `postgres`, since PostgreSQL refuses root. It ends with the test program,
//! however that ends: a shell between the two waits for the end of its input.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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

/// Runs the server until its input ends, stops it as its operator would, and removes what it wrote.
const KEEPER: &str = r#"trap '' INT TERM
"$1/postgres" -D "$2/data" & server=$!
read -r _
kill -INT $server; wait $server
rm -rf "$2""#;

/// A running cluster.
pub struct Cluster {
    /// Closed when dropped, which ends the cluster.
    keeper: Option<Child>,
    programs: PathBuf,
    folder: PathBuf,
    secrets: TempDir,
    port: u16,
    databases: AtomicUsize,
}

/// A database with the schema of a vault in it.
pub struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
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
        let folder = TempDir::with_prefix("vault-postgres-").unwrap().keep();
        user.give(&folder);
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
        let secrets = configure(&folder, port, &user);
        let mut cluster =
            Self { keeper: None, programs, folder, secrets, port, databases: AtomicUsize::new(0) };
        cluster.resume_with(&user);
        for role in [OWNER, USER] {
            cluster.sql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"));
        }
        cluster
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
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
        let begun = Instant::now();
        while self.try_sql("postgres", "SELECT 1").is_err() {
            let said = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < START_TIMEOUT, "the server does not start:\n{}", said());
            thread::sleep(POLL);
        }
    }

    /// Sends the server's first process a signal.
    pub fn signal(&self, name: &str) {
        let pid = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Runs SQL as the superuser: what the tests' operator does. Rows one a line, columns with `|` between.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|problem| panic!("{sql}: {problem}"))
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
        Database { cluster: self, name }
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

    /// Runs SQL in it as the superuser.
    pub fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.name, sql)
    }

    /// How a vault reaches it.
    pub fn options(&self) -> PostgresOptions {
        PostgresOptions {
            hosts: vec![Host { name: "127.0.0.1".to_owned(), port: self.cluster.port }],
            database: self.name.clone(),
            user: USER.to_owned(),
            ca_file: self.cluster.ca_file(),
            credentials: self.cluster.password(),
            channel_binding_required: true,
            connections: 2,
            answer_timeout: Duration::from_secs(20),
            synchronous_standby_required: false,
        }
    }

    /// The same as the `[store]` of a configuration.
    pub fn store_table(&self) -> String {
        format!(
            "[store]\nengine = \"postgres\"\n\
             [store.postgres]\nhosts = [\"127.0.0.1:{}\"]\ndatabase = \"{}\"\n\
             user = \"{USER}\"\nca_file = \"{}\"\npassword_file = \"{}\"\n",
            self.cluster.port,
            self.name,
            self.cluster.ca_file().display(),
            self.cluster.password_file().display()
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

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Certificates, passwords, and a server that takes nothing but TLS and SCRAM from the network.
fn configure(folder: &Path, port: u16, user: &User) -> TempDir {
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
    let settings = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nssl = on\n\
         ssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\nssl_min_protocol_version = 'TLSv1.3'\n\
         max_connections = 200\nshared_buffers = '64MB'\nmax_wal_size = '4GB'\nautovacuum_naptime = '5s'\n",
        folder.display()
    );
    let mut file = fs::read_to_string(data.join("postgresql.conf")).unwrap();
    file.push_str(&settings);
    fs::write(data.join("postgresql.conf"), file).unwrap();
    let rules = "local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(data.join("pg_hba.conf"), rules).unwrap();
    let secrets = TempDir::new().unwrap();
    fs::write(secrets.path().join("ca.pem"), authority.certificate_pem()).unwrap();
    fs::write(secrets.path().join("password"), format!("{PASSWORD}\n")).unwrap();
    fs::set_permissions(secrets.path().join("password"), Permissions::from_mode(0o600)).unwrap();
    secrets
}
