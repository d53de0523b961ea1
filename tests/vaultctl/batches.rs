//! Files of values and tokens, and batches that are cut off.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use vault_daemon::TestVault;
use vault_daemon::config::Engine;

use crate::command::command;
use crate::{PAN, RELEASE, Site};

/// More than two chunks.
const ROWS: usize = 1_100;

/// A vault that gives every value a new token, so that a chunk counted twice shows.
fn site() -> Site {
    let vault = TestVault::start_with(Engine::Fjall, |folder, _| {
        let policy = folder.join("policy.toml");
        let text = fs::read_to_string(&policy).unwrap();
        let new_tokens = text.replace("one_token_per_value = true", "one_token_per_value = false");
        assert_ne!(text, new_tokens);
        fs::write(&policy, new_tokens.replace("\"find-by-value\", ", "")).unwrap();
    });
    Site { vault: vault.unwrap() }
}

fn write(site: &Site, name: &str, text: &str) -> String {
    let path = site.file(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn many_values(site: &Site) -> String {
    write(site, "in.csv", &format!("pan\n{}", format!("{PAN}\n").repeat(ROWS)))
}

/// A column of a CSV file in which no field is quoted.
fn column(path: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let at = text.lines().next().unwrap().split(',').position(|column| column == name).unwrap();
    text.lines().skip(1).map(|line| line.split(',').nth(at).unwrap().to_owned()).collect()
}

#[test]
fn a_file_of_values_becomes_tokens_and_tokens_become_values() {
    let site = Site::start();
    let input = write(
        &site,
        "in.csv",
        "pan,expiry,reference\n4111111111111111,12/30,o-1\n4111111111111112,,o-2\n5555555555554444,,o-3\n",
    );
    let tokens = site.file("tokens.csv");
    let out = tokens.to_str().unwrap();
    let said = site.run("checkout", &["batch", "tokenize", &input, "--out", out], "");
    assert!(said.expect(1).err.contains("1 of 3 rows were refused"));
    assert_eq!(column(&tokens, "reason"), ["", "PAN_LUHN", ""]);
    assert!(column(&tokens, "token")[1].is_empty());

    let masked = site.file("masked.csv");
    let files = [out, "--out", masked.to_str().unwrap()];
    let detokenize = [&["batch", "detokenize"][..], &files, &RELEASE].concat();
    site.run("billing", &detokenize, "").expect(1);
    assert_eq!(column(&masked, "masked"), ["************1111", "", "************4444"]);
    assert_eq!(column(&masked, "reason")[1], "TOKEN_MALFORMED");

    let values = site.file("values.csv");
    let files = [out, "--out", values.to_str().unwrap(), "--reveal"];
    let reveal = [&["batch", "detokenize"][..], &files, &RELEASE].concat();
    site.run("billing", &reveal, "").expect(2);
    assert!(!values.exists());
    site.run("billing", &[&reveal[..], &["--allow-pipe"]].concat(), "").expect(1);
    assert_eq!(column(&values, "value"), [PAN, "", "5555555555554444"]);
    assert_eq!(column(&values, "expiry"), ["12/2030", "", ""]);
}

#[test]
fn every_item_of_a_batch_has_a_receipt_that_is_proven_malformed_ones_too() {
    let site = Site::start();
    let input = write(&site, "in.csv", "ssn\n078-05-1120\n078\n078051120\n");
    let tokens = site.file("tokens.csv");
    site.run("checkout", &["batch", "tokenize", &input, "--out", tokens.to_str().unwrap()], "").expect(1);
    assert_eq!(column(&tokens, "reason"), ["", "SSN_LENGTH", ""]);
    let receipts = write(&site, "receipts", &column(&tokens, "receipt").join("\n"));
    let key = site.log_key();
    let said = site.run("checkout", &["audit", "prove", "--receipts", &receipts, "--log-key", &key], "");
    assert_eq!(said.expect(0).out.lines().count(), 3);
}

#[test]
fn a_batch_that_was_cut_off_goes_on_and_counts_no_value_twice() {
    let site = site();
    let input = many_values(&site);
    let (out, job) = (site.file("out.csv"), site.file("out.csv.job"));
    let tokenize = ["batch", "tokenize", &input, "--out", out.to_str().unwrap()];
    site.run("custodian", &["seal", "--reason", "cut-off"], "").expect(0);
    let cut_off = site.run("checkout", &tokenize, "");
    assert!(cut_off.expect(1).err.contains("the same command again goes on"));
    let key = fs::read(&job).unwrap();
    let passphrase = site.file("passphrase");
    site.run("custodian", &["unseal", "--from", passphrase.to_str().unwrap()], "").expect(0);

    site.run("checkout", &tokenize, "").expect(0);
    let whole = column(&out, "token");
    assert_eq!(whole.len(), ROWS);
    assert!(!job.exists(), "the key of a finished batch is forgotten");

    // As a crash would have left it: half a line of the second chunk, whose answer the vault had given.
    let text = fs::read_to_string(&out).unwrap();
    let torn: usize = text.split_inclusive('\n').take(700).map(str::len).sum::<usize>() + 20;
    fs::write(&out, &text[..torn]).unwrap();
    fs::write(&job, key).unwrap();
    site.run("checkout", &tokenize, "").expect(0);
    let resumed = column(&out, "token");
    assert_eq!(resumed[..1_000], whole[..1_000], "chunks known to the vault are answered as before");
    assert_eq!(resumed, whole, "and so is the last one");
    assert_eq!(column(&out, "row"), (1..=ROWS).map(|row| row.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_batch_that_was_killed_goes_on_where_it_stopped() {
    let site = site();
    let rows = 10 * ROWS;
    let input = write(&site, "in.csv", &format!("pan\n{}", format!("{PAN}\n").repeat(rows)));
    let out = site.file("out.csv");
    let tokenize = ["batch", "tokenize", &input, "--out", out.to_str().unwrap()];
    let mut child =
        command().args(site.arguments("checkout", &tokenize)).stdout(Stdio::null()).spawn().unwrap();
    let lines = || fs::read_to_string(&out).map_or(0, |text| text.lines().count());
    while lines() < ROWS {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let cut = lines();
    assert!(cut < rows, "it had finished");

    site.run("checkout", &tokenize, "").expect(0);
    let tokens = column(&out, "token");
    assert_eq!(tokens.len(), rows);
    assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), rows, "a token stands for two rows");
    let log = site.run("auditor", &["audit", "tail", "--start", "0"], "");
    let stored =
        |line: &&str| line.contains("\"action\":\"tokenize\"") && line.contains("\"outcome\":\"DONE\"");
    assert_eq!(log.expect(0).out.lines().filter(stored).count(), rows, "a value was stored twice");
}

#[test]
fn another_input_or_a_finished_output_is_not_gone_on_with() {
    let site = site();
    let input = many_values(&site);
    let (out, job) = (site.file("out.csv"), site.file("out.csv.job"));
    let tokenize = ["batch", "tokenize", &input, "--out", out.to_str().unwrap()];
    site.run("custodian", &["seal", "--reason", "cut-off"], "").expect(0);
    site.run("checkout", &tokenize, "").expect(1);
    let key = fs::read(&job).unwrap();
    let passphrase = site.file("passphrase");
    site.run("custodian", &["unseal", "--from", passphrase.to_str().unwrap()], "").expect(0);
    site.run("checkout", &tokenize, "").expect(0);

    let finished = fs::read_to_string(&out).unwrap();
    assert!(site.run("checkout", &tokenize, "").expect(2).err.contains("is no unfinished batch"));
    assert_eq!(fs::read_to_string(&out).unwrap(), finished);

    fs::write(&job, key).unwrap();
    fs::write(&input, format!("pan\n{}", "4222222222222\n".repeat(ROWS))).unwrap();
    assert!(site.run("checkout", &tokenize, "").expect(2).err.contains("another input"));
    assert_eq!(fs::read_to_string(&out).unwrap(), finished);
}
