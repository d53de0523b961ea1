//! Auditors: reading the log, and believing nothing that is not proven.

use std::fs;

use serde_json::Value;

use crate::{PAN, RELEASE, Site};

#[test]
fn the_tail_shows_the_newest_entries_and_no_value() {
    let site = Site::start();
    let token = site.token(PAN);
    site.run("billing", &[&["detokenize", &token][..], &RELEASE].concat(), "").expect(0);
    let said = site.run("auditor", &["audit", "tail", "--entries", "3"], "");
    let entries: Vec<Value> =
        said.expect(0).out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The last is the reading itself.
    let actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["tokenize", "detokenize", "audit-read"]);
    assert_eq!((&entries[1]["actor"], &entries[1]["reference"]), (&"billing".into(), &"case-1".into()));
    assert_eq!(entries[1]["token"], token);
    assert!(!said.out.contains(PAN));

    let start = entries[0]["index"].to_string();
    let from_there = site.run("auditor", &["audit", "tail", "--start", &start], "");
    assert!(from_there.expect(0).out.starts_with(said.out.lines().next().unwrap()));
}

#[test]
fn a_receipt_is_proven_and_its_proof_verifies_without_a_vault() {
    let site = Site::start();
    let receipt = site.run("checkout", &["tokenize", "--from", "-"], PAN).text("receipt");
    let (key, proofs) = (site.log_key(), site.file("proofs"));
    let proofs = proofs.to_str().unwrap();
    let prove = ["audit", "prove", &receipt, "--log-key", &key, "--out", proofs];
    assert_eq!(site.run("checkout", &prove, "").text("proven"), receipt);

    let verify = ["audit", "verify", "--proofs", proofs, "--log-key", &key, "--output", "json"];
    assert_eq!(crate::run(&verify, "").field("proofs_verified"), 1);
    let text = fs::read_to_string(proofs).unwrap();
    let index: u64 = receipt.split(' ').nth(1).unwrap().parse().unwrap();
    fs::write(proofs, text.replace(&format!(" {index} "), &format!(" {} ", index - 1))).unwrap();
    assert!(crate::run(&verify, "").expect(1).err.contains("not proven"));
}

#[test]
fn a_proof_of_another_vault_s_log_is_not_believed() {
    let (site, other) = (Site::start(), Site::start());
    let receipt = site.run("checkout", &["tokenize", "--from", "-"], PAN).text("receipt");
    let said = site.run("checkout", &["audit", "prove", &receipt, "--log-key", &other.log_key()], "");
    assert!(said.expect(1).err.contains("not proven"), "{}", said.err);
}

#[test]
fn the_log_extends_the_checkpoint_that_was_kept() {
    let site = Site::start();
    let (key, kept) = (site.log_key(), site.file("kept"));
    let kept = kept.to_str().unwrap();
    let first = site.run("auditor", &["audit", "verify", "--log-key", &key, "--keep", kept], "");
    let size = first.field("log_size");
    site.token(PAN);
    // Asking for proofs of an entry makes the vault sign a checkpoint that covers it.
    let receipt = site.run("checkout", &["tokenize", "--from", "-"], PAN).text("receipt");
    site.run("checkout", &["audit", "prove", &receipt, "--log-key", &key], "").expect(0);
    let verify = ["audit", "verify", "--log-key", &key, "--checkpoint", kept, "--keep", kept];
    let again = site.run("auditor", &verify, "");
    assert_eq!(again.field("extends_size"), size);
    assert!(again.field("log_size").as_u64() > size.as_u64());
    assert_eq!(site.run("auditor", &verify, "").field("extends_size"), again.field("log_size"));
}

#[test]
fn a_checkpoint_of_another_vault_s_log_is_not_believed() {
    let (site, other) = (Site::start(), Site::start());
    let kept = other.file("kept");
    let kept = kept.to_str().unwrap();
    other.run("auditor", &["audit", "verify", "--log-key", &other.log_key(), "--keep", kept], "").expect(0);
    let verify = ["audit", "verify", "--log-key", &site.log_key(), "--checkpoint", kept];
    assert!(site.run("auditor", &verify, "").expect(1).err.contains("not proven"));
}

#[test]
fn an_export_verifies_with_what_was_kept_and_not_when_a_byte_is_changed() {
    let site = Site::start();
    let (key, kept) = (site.log_key(), site.file("kept"));
    let kept = kept.to_str().unwrap();
    site.run("auditor", &["audit", "verify", "--log-key", &key, "--keep", kept], "").expect(0);
    let receipt = site.run("checkout", &["tokenize", "--from", "-"], PAN).text("receipt");
    let (receipts, export) = (site.file("receipts"), site.file("export"));
    fs::write(&receipts, format!("{receipt}\n")).unwrap();
    let mut bytes = Vec::new();
    site.vault.daemon().custody().vault().unwrap().export_log(&mut bytes).unwrap();
    fs::write(&export, &bytes).unwrap();

    let (export_path, receipts) = (export.to_str().unwrap(), receipts.to_str().unwrap());
    let held = ["--checkpoint", kept, "--receipts", receipts, "--output", "json"];
    let verify = [&["audit", "verify", "--log-key", &key, "--export", export_path][..], &held].concat();
    assert_eq!(crate::run(&verify, "").field("receipts_found"), 1);
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&export, &bytes).unwrap();
    assert!(crate::run(&verify, "").expect(1).err.contains("not proven"));
}
