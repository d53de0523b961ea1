//! Closing and opening the vault.

use crate::{PAN, Site};

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
