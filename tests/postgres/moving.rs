//! `vaultd move`: the rows of a vault from files into a database, and back.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use vault_proto::v1::batch_detokenize_result::Verdict as Released;
use vault_proto::v1::batch_tokenize_result::Verdict as Stored;
use vault_proto::v1::batches_client::BatchesClient;
use vault_proto::v1::{BatchDetokenizeItem, BatchDetokenizeRequest, BatchTokenizeItem, BatchTokenizeRequest};
use vault_tests::cluster::{Cluster, Database};
use vault_tests::values::{Seeded, card, digits, seed};

use crate::installation::Installation;

const BATCHES: usize = 8;
const BATCH: usize = 1_000;
/// How often a move is begun that may be over before it is cut off.
const TRIES: usize = 10;
const POLL: Duration = Duration::from_millis(5);

/// The configurations of one vault in each of its stores, beside the one that is served.
struct Stores {
    site: Installation,
    runtime: Runtime,
}

impl Stores {
    fn of(database: &Database<'_>) -> Self {
        let site = Installation::on(database);
        let text = fs::read_to_string(site.path("vaultd.toml")).unwrap();
        site.write("database.toml", &text);
        for files in ["files", "others"] {
            let table = files_table(&site, files);
            site.write(&format!("{files}.toml"), text.replace(&database.store_table(), &table));
        }
        Self { site, runtime: Runtime::new().unwrap() }
    }

    fn configure(&self, store: &str) {
        let text = fs::read(self.site.path(&format!("{store}.toml"))).unwrap();
        self.site.write("vaultd.toml", text);
    }

    fn move_to(&self, store: &str) -> Result<String, String> {
        let to = self.site.path(&format!("{store}.toml"));
        self.site.run(&["move", "--to", to.to_str().unwrap()])
    }

    fn stores(&self, numbers: &[String]) -> Vec<String> {
        let serving = self.site.serve();
        let tokens = self.runtime.block_on(async {
            let mut client = BatchesClient::new(self.site.connect("checkout").await);
            let mut tokens = Vec::new();
            for batch in numbers.chunks(BATCH) {
                let item = |pan: &String| BatchTokenizeItem { value: Some(card(pan)), ..Default::default() };
                let items = batch.iter().map(item).collect();
                let request = BatchTokenizeRequest { items, ..Default::default() };
                let results = client.batch_tokenize(request).await.unwrap().into_inner().results;
                tokens.extend(results.into_iter().map(|result| match result.verdict {
                    Some(Stored::Token(token)) => token,
                    _ => panic!("a good value was refused"),
                }));
            }
            tokens
        });
        drop(serving);
        tokens
    }

    /// Serves from the store of the configuration, and has every token opened.
    fn opens(&self, tokens: &[String], numbers: &[String]) {
        let serving = self.site.serve();
        self.runtime.block_on(async {
            let mut client = BatchesClient::new(self.site.connect("billing").await);
            for (tokens, numbers) in tokens.chunks(BATCH).zip(numbers.chunks(BATCH)) {
                let request = BatchDetokenizeRequest {
                    items: tokens.iter().map(|token| BatchDetokenizeItem { token: token.clone() }).collect(),
                    purpose: "settlement".to_owned(),
                    recipient: "acquirer".to_owned(),
                    reference: "moved".to_owned(),
                };
                let results = client.batch_detokenize(request).await.unwrap().into_inner().results;
                assert_eq!(results.len(), numbers.len());
                for (result, number) in results.iter().zip(numbers) {
                    let Some(Released::Record(record)) = &result.verdict else { panic!("not opened") };
                    assert_eq!(digits(record.value.as_ref()), number.as_bytes());
                }
            }
        });
        drop(serving);
    }
}

#[test]
fn a_vault_moves_into_a_database_and_back_and_nothing_is_lost() {
    let database = Cluster::shared().database();
    let stores = Stores::of(&database);
    let mut random = Seeded::new(seed());
    let numbers: Vec<String> = (0..BATCHES * BATCH).map(|_| random.pan(16)).collect();
    stores.configure("files");
    stores.site.run(&["init"]).unwrap();
    let tokens = stores.stores(&numbers);

    assert!((0..TRIES).any(|_| is_cut_off(&stores, &database)), "every move was over at once");
    let said = stores.move_to("database").unwrap();
    assert!(said.contains(&format!("{} records among them", numbers.len())), "{said}");
    stores.configure("database");
    stores.opens(&tokens, &numbers);
    let report = stores.site.run(&["check"]).unwrap();
    assert!(report.contains(&format!(" {} records", numbers.len())), "{report}");

    stores.configure("files");
    let refused = stores.site.run(&["check"]).unwrap_err();
    assert!(refused.contains("does not extend"), "the old store still opens: {refused}");

    stores.configure("database");
    stores.move_to("others").unwrap();
    stores.configure("others");
    stores.opens(&tokens, &numbers);
    stores.site.run(&["check"]).unwrap();
}

/// Begins a move and kills it once some rows are there; whether that was before all were.
fn is_cut_off(stores: &Stores, database: &Database<'_>) -> bool {
    let count = |which: &str| database.sql(&format!("SELECT count(*) FROM vault.rows WHERE {which}"));
    database.sql("DELETE FROM vault.rows");
    let to = stores.site.path("database.toml");
    let moving = stores.site.start(&["move", "--to", to.to_str().unwrap()]);
    let begun = Instant::now();
    while count("true") == "0" {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not begin");
        thread::sleep(POLL);
    }
    drop(moving);
    // Heads of logs come last.
    count("space = 8") == "0"
}

#[test]
fn a_move_to_another_vaults_place_is_refused() {
    let database = Cluster::shared().database();
    let stores = Stores::of(&database);
    // The database has a vault of its own.
    stores.site.run(&["init"]).unwrap();
    let other = Cluster::shared().database();
    let another = Stores::of(&other);
    another.configure("files");
    another.site.run(&["init"]).unwrap();
    let text = fs::read_to_string(another.site.path("files.toml")).unwrap();
    another
        .site
        .write("taken.toml", text.replace(&files_table(&another.site, "files"), &database.store_table()));
    let refused = another.move_to("taken").unwrap_err();
    assert!(refused.contains("holds other rows already"), "{refused}");

    let renamed = text.replace("audit_origin = \"", "audit_origin = \"x");
    another.site.write("renamed.toml", renamed);
    let refused = another.move_to("renamed").unwrap_err();
    assert!(refused.contains("vault.audit_origin is not the same"), "{refused}");
}

fn files_table(site: &Installation, folder: &str) -> String {
    format!("[store]\nengine = \"fjall\"\nfolder = \"{}\"\n", site.path(folder).display())
}
