//! Several endpoints: the daemon that answers is found, and one is named where one is meant.

use std::fs;
use std::net::TcpListener;

use crate::command::{Said, run};
use crate::{PAN, RELEASE, Site};

impl Site {
    /// A profile of `checkout` or another principal, with these endpoints beside the vault's own.
    fn profile(&self, principal: &str, others: &[String]) -> String {
        let own = fs::read_to_string(self.file("endpoint")).unwrap();
        let endpoints: Vec<&str> = others.iter().map(String::as_str).chain([own.trim()]).collect();
        let text = format!(
            "endpoints = {endpoints:?}\nca_file = \"certs/ca.pem\"\n\
             certificate_file = \"certs/{principal}.pem\"\nprivate_key_file = \"certs/{principal}.key\"\n"
        );
        let path = self.file(&format!("{principal}.toml"));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

/// Endpoints where nobody is.
fn nobody(count: usize) -> Vec<String> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

fn said(profile: &str, arguments: &[&str], input: &str) -> Said {
    run(&[&["--output", "json", "--profile", profile], arguments].concat(), input)
}

#[test]
fn a_daemon_that_is_away_is_passed_by() {
    let site = Site::start();
    let (checkout, billing) = (site.profile("checkout", &nobody(2)), site.profile("billing", &nobody(2)));
    // As often as the turn takes to come to each.
    for _ in 0..6 {
        let token = said(&checkout, &["tokenize", "--from", "-"], PAN).text("token");
        let released = said(&billing, &[&["detokenize", &token][..], &RELEASE].concat(), "");
        assert_eq!(released.text("value"), "************1111");
    }
}

#[test]
fn where_nobody_is_the_exit_code_says_so() {
    let site = Site::start();
    let endpoints = nobody(2);
    let at: Vec<&str> = endpoints.iter().flat_map(|endpoint| ["--endpoint", endpoint]).collect();
    let profile = site.profile("checkout", &[]);
    let said = said(&profile, &[&at[..], &["tokenize", "--from", "-"]].concat(), PAN);
    said.expect(3);
}

#[test]
fn what_concerns_one_daemon_wants_one_named() {
    let site = Site::start();
    let profile = site.profile("custodian", &nobody(1));
    let refused = said(&profile, &["status"], "");
    refused.expect(2);
    assert!(refused.err.contains("say which by --endpoint"), "{}", refused.err);
    let own = fs::read_to_string(site.file("endpoint")).unwrap();
    let status = said(&profile, &["--endpoint", own.trim(), "status"], "");
    assert_eq!(status.text("state"), "unsealed");
}
