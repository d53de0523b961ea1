//! What a database must be before a vault is kept in it: every other one is refused, and told why.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;
use vault_core::clock::Clock as _;
use vault_core::store::Commit;
use vault_daemon::certificates::{Authority, Validity};
use vault_daemon::clock::SystemClock;
use vault_daemon::store::postgres::{
    Credentials, Host, MigrateError, Migrated, PostgresOptions, PostgresStore, migrate,
};
use vault_tests::cluster::{Cluster, Database, OWNER, USER};

use crate::{LOG, written};

/// For a session that begins read-only.
const READ_WRITE: &str = "SET transaction_read_only = off";

/// Why there is no store.
fn refusal(options: PostgresOptions) -> String {
    match PostgresStore::open(options, LOG) {
        Ok(_) => panic!("the database was taken"),
        Err(fault) => fault.to_string(),
    }
}

fn opens(database: &Database<'_>) {
    let store = PostgresStore::open(database.options(), LOG).unwrap();
    assert_eq!(written(&store, "row"), Ok(Commit::Done));
}

/// Of two servers the first takes connections and says nothing, as a stopped machine does.
#[test]
fn a_silent_server_keeps_nobody_from_the_next() {
    let database = Cluster::shared().database();
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    silent.set_nonblocking(true).unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut options = database.options();
    options.hosts.insert(0, Host { name: "127.0.0.1".to_owned(), port });
    let store = PostgresStore::open(options, LOG).unwrap();
    assert_eq!(written(&store, "row"), Ok(Commit::Done));
    let asked = std::iter::from_fn(|| silent.accept().ok()).count();
    assert_eq!(asked, 1, "it is asked once, whatever the number of sessions");
}

/// What the operator does in SQL, what the vault says, and how it is put right.
#[test]
fn a_database_that_cannot_hold_a_vault_is_refused_until_it_is_put_right() {
    let cluster = Cluster::shared();
    let name = |database: &Database<'_>| database.name().to_owned();
    type Change = fn(&str) -> String;
    let cases: [(Change, &str, Change); 9] = [
        (
            |_| "UPDATE vault.migrations SET version = version + 1".to_owned(),
            "version 2, this vaultd needs 1",
            |_| "UPDATE vault.migrations SET version = version - 1".to_owned(),
        ),
        (
            |_| "ALTER SCHEMA vault RENAME TO hidden".to_owned(),
            "no schema of a vault",
            |_| "ALTER SCHEMA hidden RENAME TO vault".to_owned(),
        ),
        (
            |_| format!("REVOKE DELETE ON vault.rows FROM {USER}"),
            "lacks rights",
            |_| format!("GRANT DELETE ON vault.rows TO {USER}"),
        ),
        (
            |_| format!("REVOKE USAGE ON SCHEMA vault FROM {USER}"),
            "no schema of a vault that this role may see",
            |_| format!("GRANT USAGE ON SCHEMA vault TO {USER}"),
        ),
        (
            |_| format!("GRANT CREATE ON SCHEMA vault TO {USER}"),
            "may change the schema",
            |_| format!("REVOKE CREATE ON SCHEMA vault FROM {USER}"),
        ),
        (
            |name| format!("GRANT CREATE ON DATABASE {name} TO {USER}"),
            "may change the schema",
            |name| format!("REVOKE CREATE ON DATABASE {name} FROM {USER}"),
        ),
        (
            |_| format!("ALTER TABLE vault.rows OWNER TO {USER}"),
            "may change the schema",
            |_| format!("ALTER TABLE vault.rows OWNER TO {OWNER}; GRANT ALL ON vault.rows TO {USER}"),
        ),
        (
            |name| format!("ALTER ROLE {USER} IN DATABASE {name} SET synchronous_commit = 'off'"),
            "synchronous_commit",
            |name| format!("ALTER ROLE {USER} IN DATABASE {name} RESET synchronous_commit"),
        ),
        (
            |name| format!("ALTER DATABASE {name} SET default_transaction_read_only = on"),
            "database does not allow writes",
            |name| format!("{READ_WRITE}; ALTER DATABASE {name} RESET default_transaction_read_only"),
        ),
    ];
    for (spoil, told, mend) in cases {
        let database = cluster.database();
        cluster.sql(database.name(), &spoil(&name(&database)));
        let problem = refusal(database.options());
        assert!(problem.contains(told), "{problem}");
        cluster.sql(database.name(), &mend(&name(&database)));
        opens(&database);
    }
}

#[test]
fn a_database_without_a_schema_is_refused_and_a_standby_is_required_where_asked() {
    let cluster = Cluster::shared();
    assert!(refusal(cluster.empty_database().options()).contains("vaultd migrate"));
    let database = cluster.database();
    let alone = PostgresOptions { synchronous_standby_required: true, ..database.options() };
    assert!(refusal(alone).contains("no synchronous standby"));
}

#[test]
fn a_server_that_another_ca_vouches_for_is_refused() {
    let database = Cluster::shared().database();
    let folder = TempDir::new().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let other = Authority::root("another", Validity::hours_from(SystemClock.now(), 1)).unwrap();
    fs::write(&ca_file, other.certificate_pem()).unwrap();
    let problem = refusal(PostgresOptions { ca_file, ..database.options() });
    assert!(problem.contains("certificate"), "{problem}");
    fs::write(folder.path().join("empty.pem"), "").unwrap();
    let empty = PostgresOptions { ca_file: folder.path().join("empty.pem"), ..database.options() };
    assert!(refusal(empty).contains("is not PEM with a certificate"));
}

/// The certificate is for 127.0.0.1 and localhost; the same server under another name of this machine is not
/// it.
#[test]
fn a_server_under_a_name_that_is_not_its_own_is_refused() {
    let database = Cluster::shared().database();
    let port = database.options().hosts[0].port;
    let proxy = vault_tests::proxy::Proxy::to(([127, 0, 0, 1], port).into());
    let host = |name: &str, port| vec![Host { name: name.to_owned(), port }];
    let by = |hosts| PostgresOptions { hosts, ..database.options() };
    PostgresStore::open(by(host("localhost", proxy.address().port())), LOG).unwrap();
    let problem = refusal(by(host("0.0.0.0", proxy.address().port())));
    assert!(problem.contains("certificate"), "{problem}");
}

#[test]
fn a_wrong_or_exposed_password_is_refused_and_never_told() {
    let database = Cluster::shared().database();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "not the password\n").unwrap();
    let with_file =
        || PostgresOptions { credentials: Credentials::Password(file.clone()), ..database.options() };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refusal(with_file()).contains("chmod 600"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let problem = refusal(with_file());
    assert!(problem.contains("password authentication failed"), "{problem}");
    assert!(!problem.contains("not the password"));
}

/// As a server that knows no password at all would ask for it: in clear.
#[test]
fn a_server_that_does_not_bind_the_password_is_refused() {
    let cluster = Cluster::start();
    let options = cluster.database().options();
    let rules = cluster.folder().join("data/pg_hba.conf");
    let clear = fs::read_to_string(&rules).unwrap().replace("scram-sha-256", "password");
    fs::write(&rules, clear).unwrap();
    cluster.set("log_connections", "on"); // has the rules read as well
    let problem = refusal(options.clone());
    assert!(problem.contains("channel binding"), "{problem}");
    let trusting = PostgresOptions { channel_binding_required: false, ..options };
    PostgresStore::open(trusting, LOG).unwrap();
}

/// Of several servers those that are away are passed over.
#[test]
fn the_first_server_that_takes_writes_is_used() {
    let database = Cluster::shared().database();
    let mut options = database.options();
    options.hosts.insert(0, Host { name: "127.0.0.1".to_owned(), port: 1 });
    PostgresStore::open(options, LOG).unwrap();
}

#[test]
fn a_migration_is_its_owners_alone_and_can_be_repeated() {
    let cluster = Cluster::shared();
    let database = cluster.empty_database();
    let migrated = |owner: &str| migrate(&database.options(), owner, &cluster.password());
    assert!(matches!(migrated(USER), Err(MigrateError::SameRole)));
    // The same server-side role under another name in the configuration has no right to.
    let other = PostgresOptions { user: "somebody_else".to_owned(), ..database.options() };
    assert!(matches!(migrate(&other, USER, &cluster.password()), Err(MigrateError::Refused(_))));
    assert_eq!(migrated(OWNER).unwrap(), Migrated { from: 0, to: 1 });
    opens(&database);
    assert_eq!(migrated(OWNER).unwrap(), Migrated { from: 1, to: 1 });
    database.sql("UPDATE vault.migrations SET version = 9");
    assert!(matches!(migrated(OWNER), Err(MigrateError::Newer { found: 9 })));
}
