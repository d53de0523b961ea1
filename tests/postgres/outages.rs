//! The database goes away and comes back under a daemon that serves: nothing acknowledged is lost, no restart
//! and no unsealing is needed, and a database that is older than the anchor is not believed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tonic::Code;
use vault_daemon::TestVault;
use vault_daemon::config::{Engine, StoreConfig};
use vault_daemon::custody::Standing;
use vault_daemon::dev::DevFolder;
use vault_daemon::store::postgres::{Host, PostgresOptions};
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_proto::v1::{DetokenizeRequest, TokenizeRequest};
use vault_tests::cluster::{Cluster, Database};
use vault_tests::proxy::Proxy;
use vault_tests::values::{Seeded, card, digits, seed};

use crate::engine::end_sessions;

/// From a database that is back to a vault that serves: the keeper tries once a second.
const RETURN_MAX: Duration = Duration::from_secs(30);

/// A vault in the database, and what it has acknowledged.
struct Site {
    vault: TestVault,
    numbers: Seeded,
    acknowledged: Vec<(String, String)>,
}

impl Site {
    fn start(options: PostgresOptions) -> Self {
        let vault = TestVault::start_with(Engine::Fjall, |_, config| {
            config.store = StoreConfig::Postgres(options);
        });
        Self { vault: vault.unwrap(), numbers: Seeded::new(seed()), acknowledged: Vec::new() }
    }

    async fn tokenize(&mut self) -> Result<(), tonic::Status> {
        let channel = self.vault.connector("checkout").unwrap().connect().await.unwrap();
        let pan = self.numbers.pan(16);
        let request = TokenizeRequest { value: Some(card(&pan)), ..TokenizeRequest::default() };
        let answer = TokenizationClient::new(channel).tokenize(request).await?.into_inner();
        self.acknowledged.push((answer.token, pan));
        Ok(())
    }

    /// Everything that was ever acknowledged is there.
    async fn expect_everything(&self) {
        let channel = self.vault.connector("billing").unwrap().connect().await.unwrap();
        let mut client = TokenizationClient::new(channel);
        for (token, pan) in &self.acknowledged {
            let request = DetokenizeRequest {
                token: token.clone(),
                purpose: "settlement".to_owned(),
                recipient: "acquirer".to_owned(),
                reference: "outage".to_owned(),
            };
            let answer = client.detokenize(request).await.unwrap().into_inner();
            assert_eq!(digits(answer.value.as_ref()), pan.as_bytes());
        }
    }

    fn standing(&self) -> Standing {
        self.vault.daemon().custody().standing()
    }

    async fn wait_until(&self, standing: Standing) {
        let begun = Instant::now();
        while self.standing() != standing {
            assert!(begun.elapsed() < RETURN_MAX, "still {:?}", self.standing());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A call during the outage: its refusal is one that says to come again.
    async fn refused(&mut self) {
        let refused = self.tokenize().await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    }

    async fn back(&mut self) {
        self.wait_until(Standing::Unsealed).await;
        self.tokenize().await.unwrap();
        self.expect_everything().await;
    }
}

fn impatient(database: &Database<'_>) -> PostgresOptions {
    PostgresOptions { answer_timeout: Duration::from_secs(2), ..database.options() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_down_is_taken_up_again() {
    let mut cluster = Cluster::start();
    let options = cluster.database().options();
    let mut site = Site::start(options);
    site.tokenize().await.unwrap();
    cluster.stop();
    site.refused().await;
    site.wait_until(Standing::Suspended).await;
    cluster.resume();
    site.back().await;
    // As by the kernel when memory is short: every session ends, the server recovers.
    cluster.kill();
    site.refused().await;
    site.wait_until(Standing::Suspended).await;
    cluster.resume();
    site.back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_suspends_and_is_taken_up_again() {
    let database = Cluster::shared().database();
    let server = database.options().hosts[0].port;
    let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], server)));
    let hosts = vec![Host { name: "127.0.0.1".to_owned(), port: proxy.address().port() }];
    let mut site = Site::start(PostgresOptions { hosts, ..impatient(&database) });
    site.tokenize().await.unwrap();
    proxy.hold_answers();
    site.refused().await;
    proxy.cut();
    site.back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_turns_read_only_suspends_until_it_takes_writes() {
    let database = Cluster::shared().database();
    let mut site = Site::start(impatient(&database));
    site.tokenize().await.unwrap();
    let name = database.name();
    database.sql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    end_sessions(&database);
    site.refused().await;
    site.wait_until(Standing::Suspended).await;
    let reset =
        format!("SET transaction_read_only = off; ALTER DATABASE {name} RESET default_transaction_read_only");
    database.sql(&reset);
    site.back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_loses_its_rights_suspends_until_it_has_them_again() {
    let database = Cluster::shared().database();
    let mut site = Site::start(impatient(&database));
    site.tokenize().await.unwrap();
    database.sql("REVOKE INSERT ON vault.rows FROM vaultd");
    site.refused().await;
    site.wait_until(Standing::Suspended).await;
    database.sql("GRANT INSERT ON vault.rows TO vaultd");
    site.back().await;
}

/// As restored from a backup, under a daemon that serves.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_to_an_older_time_seals_the_vault() {
    let database = Cluster::shared().database();
    let mut site = Site::start(impatient(&database));
    site.tokenize().await.unwrap();
    database.sql("CREATE TABLE vault.backup AS TABLE vault.rows");
    site.tokenize().await.unwrap();
    restore(&database);
    // What the next call meets is another history than the vault's own.
    let _ = site.tokenize().await.unwrap_err();
    site.wait_until(Standing::Sealed).await;
}

/// The same while nobody serves: the anchor knows more than the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_older_than_the_anchor_stays_sealed() {
    let database = Cluster::shared().database();
    let temporary = tempfile::TempDir::new().unwrap();
    let folder = DevFolder::open(&temporary.path().join("vault")).unwrap();
    let start = || {
        let mut config = folder.config(Engine::Fjall).unwrap();
        config.store = StoreConfig::Postgres(database.options());
        folder.serve_with(config, std::sync::Arc::new(vault_daemon::clock::SystemClock))
    };
    start().unwrap().stop();
    database.sql("CREATE TABLE vault.backup AS TABLE vault.rows");
    start().unwrap().stop();
    restore(&database);
    let Err(refused) = start() else { panic!("an older database was taken") };
    assert!(refused.to_string().contains("does not extend"), "{refused}");
}

fn restore(database: &Database<'_>) {
    database.sql("BEGIN; DELETE FROM vault.rows; INSERT INTO vault.rows TABLE vault.backup; COMMIT");
}
