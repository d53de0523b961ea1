//! The ambiguous commit: whatever becomes of the answer, the vault learns whether its batch is there.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use vault_core::store::{Commit, Fault, Store as _};
use vault_daemon::store::postgres::{Host, PostgresOptions, PostgresStore};
use vault_tests::cluster::{Cluster, Database};
use vault_tests::proxy::Proxy;

use crate::{LOG, insert, is_there, reopened, written};

const PATIENCE: Duration = Duration::from_secs(4);
const SYNC_WAIT: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

fn impatient(database: &Database<'_>) -> PostgresOptions {
    PostgresOptions { answer_timeout: PATIENCE, ..database.options() }
}

/// A store behind a proxy.
fn proxied(database: &Database<'_>) -> (Proxy, PostgresStore) {
    let server = database.options().hosts[0].port;
    let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], server)));
    let hosts = vec![Host { name: "127.0.0.1".to_owned(), port: proxy.address().port() }];
    let store = PostgresStore::open(PostgresOptions { hosts, ..impatient(database) }, LOG).unwrap();
    (proxy, store)
}

#[test]
fn a_commit_whose_answer_is_lost_is_found_when_reopened() {
    let database = Cluster::shared().database();
    let (proxy, store) = proxied(&database);
    assert_eq!(written(&store, "before"), Ok(Commit::Done));
    proxy.hold_answers();
    assert!(matches!(written(&store, "unknown"), Err(Fault::Unknown(_))));
    assert!(matches!(written(&store, "poisoned"), Err(Fault::Unavailable(_))));
    proxy.cut();
    reopened(&store);
    assert!(is_there(&store, "unknown"), "it was done");
    assert!(!is_there(&store, "poisoned"));
}

/// The request comes to the server after the vault has read that it never came: then it must not be carried
/// out.
#[test]
fn a_commit_that_arrives_after_reopening_is_refused() {
    let database = Cluster::shared().database();
    let (proxy, store) = proxied(&database);
    assert_eq!(written(&store, "before"), Ok(Commit::Done));
    proxy.hold_requests();
    assert!(matches!(written(&store, "delayed"), Err(Fault::Unknown(_))));
    // The claim's session is silent behind the proxy, too, until the server gives it up.
    let idle = "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'";
    database.sql(&format!(
        "{idle} AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ));
    reopened(&store);
    assert!(!is_there(&store, "delayed"));
    proxy.deliver();
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        assert!(!is_there(&store, "delayed"), "a commit of an earlier epoch was carried out");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(written(&store, "after"), Ok(Commit::Done));
}

/// A commit that waits for a standby which does not answer: it stands on the primary alone. Reopening waits
/// for it, and then finds it.
#[test]
fn reopening_waits_for_a_commit_that_is_under_way() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let store = PostgresStore::open(impatient(&database), LOG).unwrap();
    assert_eq!(written(&store, "before"), Ok(Commit::Done));
    cluster.set("synchronous_standby_names", "absent");
    assert!(matches!(written(&store, "waiting"), Err(Fault::Unknown(_))));
    assert_eq!(database.sql(SYNC_WAIT), "1", "nobody cancelled it");
    assert!(matches!(store.reopen(), Err(Fault::Unavailable(_))), "it is still under way");
    assert_eq!(database.sql(SYNC_WAIT), "1", "and nobody cancels it");
    cluster.set("synchronous_standby_names", "");
    reopened(&store);
    assert!(is_there(&store, "waiting"));
    assert_eq!(written(&store, "after"), Ok(Commit::Done));
}

/// PostgreSQL answers a cancelled wait for the standby with success and a warning: the commit may not survive
/// a failover.
#[test]
fn a_commit_whose_wait_for_the_standby_was_cancelled_is_not_done() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let store = PostgresStore::open(database.options(), LOG).unwrap();
    for (name, end) in [("cancelled", "pg_cancel_backend(pid)"), ("terminated", "pg_terminate_backend(pid)")]
    {
        cluster.set("synchronous_standby_names", "absent");
        let outcome = thread::scope(|scope| {
            let commit = scope.spawn(|| store.commit(&insert(name)));
            while database.sql(SYNC_WAIT) != "1" {
                assert!(!commit.is_finished(), "the commit did not wait for the standby");
            }
            let waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            database.sql(&format!("SELECT {end} {waiting}"));
            commit.join().unwrap()
        });
        assert!(matches!(outcome, Err(Fault::Unknown(_))), "{name}: {outcome:?}");
        cluster.set("synchronous_standby_names", "");
        reopened(&store);
        assert!(is_there(&store, name), "it stands on the primary");
    }
}
