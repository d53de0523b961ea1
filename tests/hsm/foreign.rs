//! Tokens and keys that are not the vault's.

use std::fs;

use crate::host::Host;
use crate::token::{LABEL, PIN};

/// Another key under the name of the vault's own, with these options of `pkcs11-tool`.
fn replace(host: &Host, id: &str, options: &[&str]) {
    host.tokens.tool(&["--delete-object", "--type", "secrkey", "--id", id]);
    let make = ["--keygen", "--key-type", "AES:32", "--id", id, "--label", "vaultd test"];
    host.tokens.tool(&[&make[..], options].concat());
}

#[test]
fn another_token_or_key_opens_nothing_and_says_so() {
    let host = Host::new();
    host.vaultd(&["init", "--seal", "hsm"]).expect();
    let id = host.tokens.keys().remove(0);
    let keyring = fs::read(host.path("keyring/keyring-a")).unwrap();

    // The same label and PIN, on another token.
    host.tokens.pull();
    host.tokens.make(LABEL, PIN);
    host.vaultd(&["check"]).refused("the token has no key of this vault");
    host.tokens.put_back();
    host.vaultd(&["check"]).expect();
    host.tokens.make(LABEL, PIN);
    host.vaultd(&["check"]).refused("its serial number tells them apart");

    host.tokens.pull();
    host.tokens.make(LABEL, PIN);
    let make = ["--keygen", "--key-type", "AES:32", "--id", &id, "--label", "vaultd test", "--sensitive"];
    host.tokens.tool(&make);
    host.vaultd(&["check"]).refused("the token's key is not the one that the vault was sealed with");
    replace(&host, &id, &["--extractable"]);
    host.vaultd(&["check"]).refused("the token's key is not sensitive, or can be extracted");
    host.tokens.tool(&make);
    host.vaultd(&["check"]).refused("the token has no key of this vault, or more than one");
    assert_eq!(fs::read(host.path("keyring/keyring-a")).unwrap(), keyring);
}
