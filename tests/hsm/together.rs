//! The HSM and custodians: both are needed, and neither is enough.

use std::fs;

use crate::host::{CUSTODIANS, Host};

#[test]
fn an_hsm_and_two_of_three_custodians_open_the_vault_together() {
    let mut host = Host::new();
    let dealt = host.dealt("share");
    let dealt: Vec<&str> =
        ["init", "--seal", "hsm"].into_iter().chain(dealt.iter().map(String::as_str)).collect();
    host.vaultd(&dealt).expect();
    host.serve();
    assert_eq!(host.status("seal_kind"), "hsm+shares");
    assert_eq!(
        (host.status("custodians"), host.status("shares_needed")),
        ("ann, bob, cyd".into(), "2".into())
    );
    assert!(host.status("seal_note").ends_with(": dual control"));

    // Nobody comes for nothing.
    host.tokens.pull();
    host.ctl("ann", &["custody", "begin"]).refused("HSM_AWAY");
    host.tokens.put_back();
    host.ctl("ann", &["unseal", "--hsm"]).refused("OTHER_SEAL");
    let ceremony = host.ctl("ann", &["custody", "begin"]).field("ceremony");
    assert_eq!(host.give("ann", "share", &ceremony).field("state"), "open");
    assert_eq!(host.status("state"), "sealed");
    // Gone before the last share: the ceremony is over, and the vault as sealed as before.
    host.tokens.pull();
    host.give("bob", "share", &ceremony).refused("HSM_AWAY");
    assert_eq!((host.status("state"), host.status("ceremony")), ("sealed".into(), "".into()));
    host.tokens.put_back();

    for _ in 0..2 {
        let ceremony = host.ctl("cyd", &["custody", "begin"]).field("ceremony");
        host.give("cyd", "share", &ceremony).expect();
        assert_eq!(host.give("bob", "share", &ceremony).field("state"), "complete");
        assert_eq!(host.status("state"), "unsealed");
        host.tokenize().expect();
        host.stop();
        host.serve();
        assert_eq!((host.status("state"), host.status("sealed_because")), ("sealed".into(), "".into()));
    }
    host.stop();
}

#[test]
fn all_shares_without_the_hsm_or_the_hsm_with_one_share_open_nothing() {
    let host = Host::new();
    let dealt = host.dealt("share");
    let dealt: Vec<&str> =
        ["init", "--seal", "hsm"].into_iter().chain(dealt.iter().map(String::as_str)).collect();
    host.vaultd(&dealt).expect();
    let shares = CUSTODIANS.map(|name| host.share_file(name, "share"));
    let check = |shares: &[String]| {
        host.vaultd(&["check"].into_iter().chain(shares.iter().map(String::as_str)).collect::<Vec<_>>())
    };
    check(&shares[..2]).expect();
    check(&shares[1..2]).refused("1 shares are given and 2 are needed");
    host.tokens.pull();
    check(&shares).refused("no token of the configured label and serial number is there");
    // Without an HSM in the configuration neither: the file says what is needed, whatever the operator says.
    let config = fs::read_to_string(host.path("vaultd.toml")).unwrap();
    let without = config.find("[seal.hsm]").unwrap()..config.find("[metrics]").unwrap();
    host.write("vaultd.toml", &[&config[..without.start], &config[without.end..]].concat());
    check(&shares).refused("seal.hsm: an HSM is needed, and the configuration names none");
}
