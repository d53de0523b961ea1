//! `vaultd` on a PostgreSQL store as an operator runs it: migrate, init, serve, kill, serve again, check.

use std::fs;

use tokio::runtime::Runtime;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_proto::v1::{DetokenizeRequest, TokenizeRequest};
use vault_tests::cluster::Cluster;
use vault_tests::values::{card, digits};

use crate::installation::Installation;

const PAN: &str = "4111111111111111";

#[test]
fn a_vault_in_a_database_is_made_served_killed_served_again_and_checked() {
    let cluster = Cluster::shared();
    let database = cluster.empty_database();
    let site = Installation::on(&database);
    let refused = site.run(&["init"]).unwrap_err();
    assert!(refused.contains("vaultd migrate"), "{refused}");
    assert!(site.migrate(&cluster.password_file()).unwrap().contains("from version 0 to 1"));
    assert!(site.migrate(&cluster.password_file()).unwrap().contains("version 1 already"));
    let plan = site.run(&["check-config"]).unwrap();
    assert!(plan.contains(&format!("store in the PostgreSQL database {}", database.name())), "{plan}");
    site.run(&["init"]).unwrap();
    assert!(site.run(&["init"]).unwrap_err().contains("there is a vault here already"));
    let runtime = Runtime::new().unwrap();
    let serving = site.serve();
    let token = runtime.block_on(async {
        let request = TokenizeRequest { value: Some(card(PAN)), ..TokenizeRequest::default() };
        let mut client = TokenizationClient::new(site.connect("checkout").await);
        client.tokenize(request).await.unwrap().into_inner().token
    });
    let refused = site.run(&["check"]).unwrap_err();
    assert!(refused.contains("another process or handle has this log"), "{refused}");
    // As `kill -9`; the next one takes over at once.
    drop(serving);
    let serving = site.serve();
    let value = runtime.block_on(async {
        let mut client = TokenizationClient::new(site.connect("billing").await);
        let request = DetokenizeRequest {
            token: token.clone(),
            purpose: "settlement".to_owned(),
            recipient: "acquirer".to_owned(),
            reference: "after-kill".to_owned(),
        };
        client.detokenize(request).await.unwrap().into_inner().value
    });
    assert_eq!(digits(value.as_ref()), PAN.as_bytes());
    drop(serving);
    let report = site.run(&["check"]).unwrap();
    assert!(report.contains(" 1 records and 1 index rows read"), "{report}");
    // A record that somebody removes is missed.
    database.sql("DELETE FROM vault.rows WHERE space = 1");
    assert!(site.run(&["check"]).unwrap_err().contains("findings"));
}

/// Files of the embedded engines have no schema.
#[test]
fn only_a_postgres_store_is_migrated() {
    let cluster = Cluster::shared();
    let site = Installation::on(&cluster.empty_database());
    let text = fs::read_to_string(site.path("vaultd.toml")).unwrap();
    let begin = text.find("[store]").unwrap();
    let end = text.find("[listen]").unwrap();
    let folder = site.path("store").display().to_string();
    let embedded = format!("{}[store]\nfolder = \"{folder}\"\n{}", &text[..begin], &text[end..]);
    site.write("vaultd.toml", embedded);
    assert!(site.migrate(&cluster.password_file()).unwrap_err().contains("only postgres has a schema"));
}
