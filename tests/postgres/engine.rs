//! The engine keeps every promise of the store, and its sessions are what they should be.

use vault_core::store::conformance::{Place, suite};
use vault_core::store::{Change, Commit, Fault, Key, Space, Store};
use vault_daemon::store::postgres::PostgresStore;
use vault_tests::cluster::{Cluster, Database};

use crate::{LOG, insert, is_there, key, written};

struct Fresh(Database<'static>);

impl Place for Fresh {
    fn open(&self) -> Box<dyn Store> {
        Box::new(PostgresStore::open(self.0.options(), LOG).unwrap())
    }
}

#[test]
fn conforms() {
    suite(&|| Box::new(Fresh(Cluster::shared().database())));
}

/// The way from another runtime's thread, where waiting is forbidden, is another one.
#[tokio::test]
async fn it_serves_threads_of_another_runtime() {
    let database = Cluster::shared().database();
    let store = PostgresStore::open(database.options(), LOG).unwrap();
    assert_eq!(written(&store, "row"), Ok(Commit::Done));
    assert!(is_there(&store, "row"));
}

#[test]
fn a_log_belongs_to_one_handle_and_another_log_to_another() {
    let database = Cluster::shared().database();
    let first = PostgresStore::open(database.options(), LOG).unwrap();
    assert!(matches!(PostgresStore::open(database.options(), LOG), Err(Fault::Unavailable(_))));
    let other = PostgresStore::open(database.options(), "tests.invalid/other").unwrap();
    assert_eq!(written(&other, "other"), Ok(Commit::Done));
    assert_eq!(written(&first, "first"), Ok(Commit::Done));
    assert!(is_there(&first, "other") && is_there(&other, "first"), "the rows are everybody's");
    drop(first);
    PostgresStore::open(database.options(), LOG).unwrap();
}

/// The lock on the log is for the operator's comfort; this holds without it.
#[test]
fn whoever_was_fenced_off_writes_nothing() {
    let database = Cluster::shared().database();
    let store = PostgresStore::open(database.options(), LOG).unwrap();
    assert_eq!(written(&store, "before"), Ok(Commit::Done));
    database.sql("UPDATE vault.writers SET epoch = epoch + 1");
    assert!(matches!(written(&store, "after"), Err(Fault::Unavailable(_))));
    assert!(matches!(store.read(&[key("before")]), Err(Fault::Unavailable(_))), "poisoned");
    store.reopen().unwrap();
    assert!(is_there(&store, "before") && !is_there(&store, "after"));
}

/// Commits of several daemons meet on the same rows: one of two is done, none waits for ever, none is lost.
#[test]
fn commits_of_several_daemons_conflict_and_never_wait_in_a_circle() {
    const ROUNDS: u64 = 100;
    let database = Cluster::shared().database();
    let names = ["a", "b", "c", "d"].map(key);
    let logs = ["tests.invalid/1", "tests.invalid/2", "tests.invalid/3"];
    let stores = logs.map(|log| PostgresStore::open(database.options(), log).unwrap());
    let zero = 0_u64.to_be_bytes().to_vec();
    let all = names.iter().map(|key| (key.clone(), Change::Insert(zero.clone()))).collect();
    assert_eq!(stores[0].commit(&all), Ok(Commit::Done));
    std::thread::scope(|scope| {
        for (at, store) in stores.iter().enumerate() {
            let mut names = names.to_vec();
            names.rotate_left(at);
            scope.spawn(move || (0..ROUNDS).for_each(|_| increment(store, &names)));
        }
    });
    for row in stores[0].read(&names).unwrap() {
        let row = row.unwrap();
        assert_eq!(u64::from_be_bytes(row.value[..].try_into().unwrap()), 3 * ROUNDS);
        assert_eq!(row.version, 1 + 3 * ROUNDS);
    }
}

/// Adds one to every row at once, however often others come in between.
fn increment(store: &PostgresStore, keys: &[Key]) {
    loop {
        let rows = store.read(keys).unwrap();
        let writes = keys.iter().zip(rows).map(|(key, row)| {
            let row = row.unwrap();
            let count = u64::from_be_bytes(row.value[..].try_into().unwrap());
            let value = (count + 1).to_be_bytes().to_vec();
            (key.clone(), Change::Replace { version: row.version, value })
        });
        match store.commit(&writes.collect()).unwrap() {
            Commit::Done => return,
            Commit::Conflict => {}
        }
    }
}

#[test]
fn two_daemons_that_insert_the_same_row_write_it_once() {
    let database = Cluster::shared().database();
    let one = PostgresStore::open(database.options(), "tests.invalid/1").unwrap();
    let other = PostgresStore::open(database.options(), "tests.invalid/2").unwrap();
    let outcomes: Vec<Commit> = std::thread::scope(|scope| {
        let threads = [&one, &other].map(|store| {
            scope.spawn(move || {
                let name = |round: u32| format!("row {round}");
                (0..50).map(|round| store.commit(&insert(&name(round))).unwrap()).collect::<Vec<_>>()
            })
        });
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Commit::Done).count(), 50);
}

/// A connection that was lost while nobody used it costs nothing: a read may be asked again.
#[test]
fn a_read_survives_sessions_that_were_ended_meanwhile() {
    let database = Cluster::shared().database();
    let store = PostgresStore::open(database.options(), LOG).unwrap();
    assert_eq!(written(&store, "row"), Ok(Commit::Done));
    end_sessions(&database);
    assert!(is_there(&store, "row"));
}

/// Sessions and epoch are as they were: nobody has to reopen, and no commit under way is fenced off.
#[test]
fn a_read_that_the_server_refuses_costs_its_caller_the_answer_and_nothing_else() {
    let database = Cluster::shared().database();
    let store = PostgresStore::open(database.options(), LOG).unwrap();
    assert_eq!(written(&store, "row"), Ok(Commit::Done));
    let sessions = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND usename = 'vaultd'";
    let before = database.sql(sessions);
    database.sql("REVOKE SELECT ON vault.rows FROM vaultd");
    assert!(matches!(store.read(&[key("row")]), Err(Fault::Unavailable(_))));
    assert!(matches!(store.scan(Space::Meta, None, None, 1), Err(Fault::Unavailable(_))));
    database.sql("GRANT SELECT ON vault.rows TO vaultd");
    assert!(is_there(&store, "row"));
    assert_eq!(written(&store, "another"), Ok(Commit::Done));
    assert_eq!(database.sql(sessions), before);
}

/// More readings of the log than there are sessions, each of which takes its time, and a commit beside them.
#[test]
fn readings_of_the_log_never_take_the_session_of_the_lane() {
    const READERS: usize = 6;
    let database = Cluster::shared().database();
    let store = PostgresStore::open(database.options(), LOG).unwrap();
    assert_eq!(written(&store, "row"), Ok(Commit::Done));
    // Reading the log takes as long as this lasts; other rows are read as ever.
    let page = Key::new(Space::LogPage, None, b"page");
    database.sql(&format!(
        "CREATE FUNCTION public.slowly() RETURNS boolean LANGUAGE sql VOLATILE AS \
            'SELECT pg_sleep(2) IS NOT NULL'; \
         ALTER TABLE vault.rows ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY slow ON vault.rows TO vaultd USING (space <> {} OR public.slowly()) WITH CHECK (true)",
        page.space().code()
    ));
    assert_eq!(
        store.commit(&[(page.clone(), Change::Insert(vec![1]))].into_iter().collect()),
        Ok(Commit::Done)
    );
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..READERS).map(|_| scope.spawn(|| store.read(std::slice::from_ref(&page)))).collect();
        std::thread::sleep(std::time::Duration::from_millis(500));
        let begun = std::time::Instant::now();
        assert_eq!(written(&store, "another"), Ok(Commit::Done));
        assert!(is_there(&store, "another"));
        assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(readers.iter().any(|reader| !reader.is_finished()), "nothing was read meanwhile");
        readers.into_iter().for_each(|reader| assert!(reader.join().unwrap().is_ok()));
    });
}

#[test]
fn a_database_whose_rows_were_damaged_says_so() {
    let database = Cluster::shared().database();
    let store = PostgresStore::open(database.options(), LOG).unwrap();
    assert_eq!(written(&store, "row"), Ok(Commit::Done));
    database.sql("UPDATE vault.rows SET version = -1");
    assert!(matches!(store.read(&[key("row")]), Err(Fault::Corrupt(_))));
    assert!(matches!(store.scan(Space::Meta, None, None, 1), Err(Fault::Corrupt(_))));
    assert_eq!(written(&store, "another"), Ok(Commit::Done), "the handle is still good");
}

pub(crate) fn end_sessions(database: &Database<'_>) {
    let of_ours = "datname = current_database() AND usename = 'vaultd'";
    database.sql(&format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {of_ours}"));
}
