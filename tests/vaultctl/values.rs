//! One value at a time.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::command::{ask, command, run};
use crate::{PAN, RELEASE, Site, terminal};

#[test]
fn a_value_becomes_a_token_and_comes_back_masked() {
    let site = Site::start();
    let said = site.run("checkout", &["tokenize", "--from", "-"], PAN);
    assert_eq!(said.text("masked"), "************1111");
    let token = said.text("token");
    let detokenize = [&["detokenize", &token][..], &RELEASE].concat();
    let said = site.run("billing", &detokenize, "");
    assert_eq!(said.text("value"), "************1111");
    let shown = site.run("billing", &["show", &token], "");
    assert_eq!((shown.text("state"), shown.text("brand")), ("active".to_owned(), "visa".to_owned()));
}

#[test]
fn a_value_goes_into_a_pipe_only_when_that_is_meant_and_is_not_even_fetched_before() {
    let site = Site::start();
    let token = site.token(&format!("{PAN}\n12/30\nTest Card\n"));
    let reveal = [&["detokenize", &token, "--reveal"][..], &RELEASE].concat();
    let said = site.run("billing", &reveal, "");
    assert!(said.expect(2).err.contains("--allow-pipe") && said.out.is_empty());
    let log = site.run("auditor", &["audit", "tail"], "");
    assert!(!log.expect(0).out.contains("\"detokenize\""), "the vault was asked: {}", log.out);

    let said = site.run("billing", &[&reveal[..], &["--allow-pipe"]].concat(), "");
    assert_eq!((said.text("value"), said.text("expiry")), (PAN.to_owned(), "12/2030".to_owned()));
    assert_eq!(said.text("cardholder_name"), "Test Card");
}

#[test]
fn at_a_terminal_a_value_is_revealed() {
    let site = Site::start();
    let token = site.token(PAN);
    let reveal = [&["detokenize", &token, "--reveal"][..], &RELEASE].concat();
    let seen = terminal::run(&site.arguments("billing", &reveal), "", "");
    assert!(seen.contains(PAN), "{seen}");
}

#[test]
fn what_is_typed_at_a_prompt_is_not_to_be_seen() {
    let site = Site::start();
    let seen = terminal::run(&site.arguments("checkout", &["tokenize"]), "Card number: ", PAN);
    assert!(seen.contains("tok_pan_") && !seen.contains(PAN), "{seen}");
}

#[test]
fn the_last_four_are_compared_and_a_value_s_token_is_found() {
    let site = Site::start();
    let token = site.token(PAN);
    for (digits, matches) in [("1111\n", true), ("1112\n", false)] {
        let said = site.run("billing", &["compare", &token, "--from", "-"], digits);
        assert_eq!(said.field("matches"), matches);
    }
    let found = site.run("billing", &["find", "--from", "-"], PAN);
    assert_eq!((found.field("found"), found.text("token")), (true.into(), token));
    let absent = site.run("billing", &["find", "--from", "-"], "5555555555554444");
    assert_eq!(absent.field("found"), false);
}

#[test]
fn a_value_is_erased_only_when_that_is_meant_and_then_for_ever() {
    let site = Site::start();
    let token = site.token(PAN);
    let erase = ["erase", &token, "--reference", "request-1"];
    assert!(site.run("care", &erase, "").expect(2).err.contains("--for-ever"));
    assert_eq!(site.run("billing", &["show", &token], "").text("state"), "active");

    let said = site.run("care", &[&erase[..], &["--for-ever"]].concat(), "");
    assert_eq!(said.field("erased"), true);
    assert!(said.text("receipt").contains("/log"));
    assert!(site.run("billing", &["show", &token], "").expect(1).err.contains("UNKNOWN_TOKEN"));
    assert_ne!(site.token(PAN), token, "the same value has a new token");
}

#[test]
fn an_ssn_is_a_class_of_its_own() {
    let site = Site::start();
    let said = site.run("checkout", &["tokenize", "--class", "ssn", "--from", "-"], "078-05-1120");
    assert!(said.text("token").starts_with("tok_ssn_"));
    assert_eq!(said.text("masked"), "*****1120");
}

#[test]
fn the_exit_code_says_who_has_to_act() {
    let site = Site::start();
    let wrong = site.run("checkout", &["tokenize", "--from", "-"], "4111111111111112");
    assert!(wrong.expect(1).err.contains("refused: PAN_LUHN"));
    let denied = site.run("checkout", &["audit", "tail"], "");
    assert!(denied.expect(1).err.contains("refused: DENIED"));
    let argument = site.run("checkout", &["tokenize", PAN], "");
    assert!(!argument.expect(2).err.contains(PAN));
    let nobody = site.run("nobody", &["status"], "");
    assert!(nobody.expect(2).err.contains("nobody.pem"));
}

#[test]
fn a_vault_that_is_not_there_is_told_apart_from_one_that_refuses() {
    let site = Site::start();
    // A port that was free a moment ago; whoever takes it since is not under the CA of this vault.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = silent.local_addr().unwrap().to_string();
    drop(silent);
    let certificate = |name: &str| site.file("certs").join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (certificate("ca.pem"), certificate("checkout.pem"), certificate("checkout.key"));
    let flags = ["--endpoint", &endpoint, "--ca", &ca, "--cert", &cert, "--key", &key, "status"];
    assert!(run(&flags, "").expect(3).err.contains("no vault reached"));
}

#[test]
fn a_profile_leads_to_the_vault() {
    let site = Site::start();
    let endpoint = site.vault.local_addr();
    let profile = site.file("profile.toml");
    let text = format!(
        "endpoint = \"{endpoint}\"\nca_file = \"certs/ca.pem\"\ncertificate_file = \"certs/custodian.pem\"\n\
         private_key_file = \"certs/custodian.key\"\n"
    );
    std::fs::write(&profile, &text).unwrap();
    let arguments = ["--profile", profile.to_str().unwrap(), "--output", "json", "status"];
    assert_eq!(run(&arguments, "").text("state"), "unsealed");
    std::fs::write(&profile, text + "pasword = \"x\"\n").unwrap();
    assert!(run(&arguments, "").expect(2).err.contains("pasword: unknown field"));
}

#[test]
fn without_flags_the_environment_names_the_profile_and_else_it_lies_in_its_usual_place() {
    let site = Site::start();
    let certificates = site.file("certs");
    let profile = |principal: &str| {
        format!(
            "endpoint = \"{}\"\nca_file = \"{folder}/ca.pem\"\n\
             certificate_file = \"{folder}/{principal}.pem\"\n\
             private_key_file = \"{folder}/{principal}.key\"\n",
            site.vault.local_addr(),
            folder = certificates.display(),
        )
    };
    let home = site.file("home");
    let usual = home.join(".config/vaultctl/profile.toml");
    fs::create_dir_all(usual.parent().unwrap()).unwrap();
    fs::write(&usual, profile("custodian")).unwrap();
    let named = site.file("named.toml");
    fs::write(&named, profile("checkout")).unwrap();

    let status = |environment: &[(&str, &Path)]| {
        let mut command = command();
        command.args(["--output", "json", "status"]).env("HOME", &home);
        ask(command.envs(environment.iter().copied()), "")
    };
    assert_eq!(status(&[]).text("state"), "unsealed");
    // Whoever is named there may not ask for the status.
    assert!(status(&[("VAULTCTL_PROFILE", &named)]).expect(1).err.contains("refused: DENIED"));
}

/// Every command, as its completion must offer it.
const COMMANDS: [&str; 9] =
    ["tokenize", "detokenize", "show", "compare", "find", "batch", "audit", "unseal", "completions"];

#[test]
fn completions_of_every_shell_know_every_command_and_need_no_vault() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = run(&["completions", shell], "");
        for command in COMMANDS {
            assert!(said.expect(0).out.contains(command), "{shell} does not complete {command}");
        }
    }
    // What a shell makes of it.
    const ASKED: &str =
        "COMP_WORDS=(vaultctl tok); COMP_CWORD=1; _vaultctl vaultctl tok vaultctl; echo \"${COMPREPLY[@]}\"";
    let script = format!("{}\n{ASKED}", run(&["completions", "bash"], "").expect(0).out);
    let bash = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(bash.stdout).unwrap().trim(), "tokenize");
}

#[test]
fn json_is_one_object_a_line_with_null_for_what_is_absent() {
    let site = Site::start();
    let token = site.token(PAN);
    let reveal = ["detokenize", &token, "--reveal", "--allow-pipe"];
    let said = site.run("billing", &[&reveal[..], &RELEASE].concat(), "");
    assert_eq!(said.expect(0).out.lines().count(), 1);
    assert_eq!((said.text("value"), said.field("expiry")), (PAN.to_owned(), Value::Null));
    assert_eq!(said.field("cardholder_name"), Value::Null);
    let absent = site.run("billing", &["find", "--from", "-"], "5555555555554444");
    assert_eq!(absent.field("token"), Value::Null);
}
