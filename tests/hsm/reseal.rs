//! From and to an HSM with `vaultd reseal`.

use crate::host::Host;

#[test]
fn a_vault_is_resealed_to_an_hsm_with_and_without_shares_and_back() {
    let mut host = Host::new();
    let file = |host: &Host, option: &str| format!("--{option}={}", host.path("passphrase").display());
    let (given, new) = (file(&host, "passphrase-file"), file(&host, "new-passphrase-file"));
    host.vaultd(&["init", &given]).expect();

    host.vaultd(&["reseal", &given, "--seal", "hsm"]).expect();
    host.vaultd(&["check", &given]).refused("an HSM opens this vault, no passphrase does");
    host.vaultd(&["check"]).expect();
    // To another key of the same token.
    host.vaultd(&["reseal", "--seal", "hsm"]).expect();
    assert_eq!(host.tokens.keys().len(), 2);

    let dealt = host.dealt("share");
    let dealt = dealt.iter().map(String::as_str);
    host.vaultd(&["reseal", "--seal", "hsm"].into_iter().chain(dealt).collect::<Vec<_>>()).expect();
    let (ann, cyd) = (host.share_file("ann", "share"), host.share_file("cyd", "share"));
    host.vaultd(&["check", &ann, &cyd]).expect();
    host.vaultd(&["reseal", &ann, &new]).refused("1 shares are given and 2 are needed");

    // To shares alone, which need no HSM any more.
    let dealt = host.dealt("new");
    let dealt = dealt.iter().map(String::as_str);
    host.vaultd(&["reseal", &ann, &cyd].into_iter().chain(dealt).collect::<Vec<_>>()).expect();
    host.tokens.pull();
    host.vaultd(&["check", &ann, &cyd]).refused("share 1 is of another set");
    let (ann, bob) = (host.share_file("ann", "new"), host.share_file("bob", "new"));
    host.vaultd(&["check", &ann, &bob]).expect();
    host.vaultd(&["reseal", &ann, &bob, "--seal", "hsm"]).refused("no token of the configured label");
    host.vaultd(&["check", &ann, &bob]).expect();
    host.vaultd(&["reseal", &ann, &bob, &new]).expect();
    host.vaultd(&["check", &given]).expect();

    host.serve();
    let passphrase = host.path("passphrase");
    let opened = host.ctl("bob", &["unseal", "--from", passphrase.to_str().unwrap()]);
    assert_eq!((opened.field("state"), opened.field("seal_kind")), ("unsealed".into(), "passphrase".into()));
    let log = host.ctl("auditor", &["audit", "tail", "--start", "0"]).expect();
    assert_eq!(log.matches("\"action\":\"resealed\"").count(), 5, "{log}");
    host.stop();
}

#[test]
fn a_kind_of_seal_that_does_not_fit_what_else_is_said_is_refused() {
    let host = Host::new();
    let dealt = host.dealt("share");
    let dealt = dealt.iter().map(String::as_str);
    let both: Vec<&str> = ["init", "--seal", "passphrase"].into_iter().chain(dealt).collect();
    host.vaultd(&both).refused("no passphrase is shared among custodians");
    host.vaultd(&["init", "--seal", "shares"]).refused("shares need --threshold and --custodian");
    assert!(host.tokens.keys().is_empty());
}
