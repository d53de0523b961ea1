//! Closing and opening the vault.

use crate::command::run;
use crate::{PAN, Site};

#[test]
fn the_size_of_a_sealed_log_is_not_said_to_be_zero() {
    let site = Site::start();
    let open = site.run("custodian", &["status"], "");
    let size = open.field("log_size").as_u64().unwrap();
    assert!(size > 0 && open.field("anchored_log_size").is_null());
    site.run("custodian", &["seal", "--reason", "exercise-1"], "");
    let sealed = site.run("custodian", &["status"], "");
    assert!(sealed.field("log_size").is_null());
    // The status above and the sealing have their entries, and the anchor was written behind them.
    assert_eq!(sealed.field("anchored_log_size").as_u64(), Some(size + 1));
    assert_eq!(sealed.text("log_origin"), open.text("log_origin"));
    let told = run(&site.arguments("custodian", &["status"]), "");
    let line = told.expect(0).out.lines().find(|line| line.starts_with("log size:")).unwrap().to_owned();
    assert!(line.ends_with("unknown (sealed)"), "{line}");
}

#[test]
fn a_custodian_seals_and_unseals() {
    let site = Site::start();
    let sealed = site.run("custodian", &["seal", "--reason", "exercise-1"], "");
    assert_eq!(sealed.text("state"), "sealed");
    let refused = site.run("checkout", &["tokenize", "--from", "-"], PAN);
    assert!(refused.expect(1).err.contains("refused: SEALED"));

    let wrong = site.run("custodian", &["unseal", "--from", "-"], "not the passphrase of this vault");
    wrong.expect(1);
    assert_eq!(site.run("custodian", &["status"], "").text("state"), "sealed");

    let passphrase = site.file("passphrase");
    let unsealed = site.run("custodian", &["unseal", "--from", passphrase.to_str().unwrap()], "");
    assert_eq!(unsealed.text("state"), "unsealed");
    site.token(PAN);
    let log = site.run("auditor", &["audit", "tail"], "");
    assert!(log.expect(0).out.contains("\"note\":\"exercise-1\""), "{}", log.out);
}
