//! The life of keys, from the command line.

use std::fs;

use crate::{PAN, Site};

#[test]
fn a_custodian_lists_and_rotates_keys_and_destroys_none_that_is_needed() {
    let site = Site::start();
    let token = site.token(PAN);
    let versions = || {
        let listed = site.run("custodian", &["custody", "keys"], "");
        let lines = listed.expect(0).out.lines().map(|line| serde_json::from_str(line).unwrap());
        let keys: Vec<serde_json::Value> = lines.collect();
        let pans = keys.iter().filter(|key| key["class"] == "pan");
        pans.map(|key| (key["version"].as_u64().unwrap(), key["state"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(versions(), [(1, "enabled".into()), (2, "introduced".into())]);

    let of_cards = ["--tenant", "shop", "--class", "pan", "--reason", "exercise-2"];
    let rotated = site.run("custodian", &[&["custody", "rotate"], &of_cards[..]].concat(), "");
    assert_eq!(rotated.field("version").as_u64(), Some(2));
    let expected = [(1, "decrypt-only".into()), (2, "enabled".into()), (3, "introduced".into())];
    assert_eq!(versions(), expected);
    site.run("billing", &["show", &token], "").expect(0);

    let certificate = site.file("certificate");
    let path = certificate.to_str().unwrap();
    let destroy = [&["custody", "destroy-keys"], &of_cards[..], &["--version", "1", "--certificate", path]];
    let destroy = destroy.concat();
    assert!(site.run("custodian", &destroy, "").expect(2).err.contains("--for-ever"));
    let meant = [&destroy[..], &["--for-ever"]].concat();
    let refused = site.run("custodian", &meant, "");
    assert!(refused.expect(1).err.contains("refused: KEY_IN_USE"), "{}", refused.err);
    assert!(!certificate.exists(), "there is nothing to certify");
    fs::write(&certificate, "kept").unwrap();
    site.run("custodian", &meant, "").expect(2);
    assert_eq!(fs::read_to_string(&certificate).unwrap(), "kept", "it is not overwritten");
    let denied = site.run("billing", &[&["custody", "rotate"], &of_cards[..]].concat(), "");
    assert!(denied.expect(1).err.contains("refused: DENIED"));
}
