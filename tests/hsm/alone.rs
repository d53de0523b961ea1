//! The HSM alone: the vault opens itself, waits for a token that is away, and spares one that counts PINs.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::thread::sleep;
use std::time::Duration;

use crate::host::Host;
use crate::token::PIN;

/// Longer than the first pauses between two looks at a token.
const LONG: Duration = Duration::from_secs(4);

#[test]
fn the_vault_opens_itself_by_a_key_that_never_leaves_the_token() {
    let mut host = Host::new();
    let said = host.vaultd(&["init", "--seal", "hsm"]).expect();
    let listed = host.tokens.tool(&["--list-objects", "--type", "secrkey"]);
    let [id] = &host.tokens.keys()[..] else { panic!("{listed}") };
    assert!(said.contains(&format!("key {id} made in the HSM, labelled \"vaultd test\"")), "{said}");
    assert!(listed.contains("AES length 32") && listed.contains("label:      vaultd test"), "{listed}");
    let line = |name: &str| listed.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap().trim();
    assert_eq!(line("Access:"), "sensitive, always sensitive, never extractable, local");
    assert_eq!(line("Usage:"), "encrypt, decrypt");
    host.vaultd(&["init", "--seal", "hsm"]).refused("there is a vault here already");
    assert_eq!(host.tokens.keys().len(), 1, "no key is made for nothing");

    // Twice: what opens the vault opens it again after a restart.
    for _ in 0..2 {
        host.serve();
        host.wait_until("state", "unsealed");
        assert_eq!(host.status("seal_kind"), "hsm");
        assert!(host.status("seal_note").contains("not dual control"));
        assert_eq!((host.status("shares_needed"), host.status("sealed_because")), ("".into(), "".into()));
        assert!(host.tokenize().expect().contains("tok_pan_"));
        host.stop();
    }
    host.vaultd(&["check"]).expect();
    let (passphrase, share) = (host.path("passphrase"), host.path("passphrase"));
    let passphrase = format!("--passphrase-file={}", passphrase.display());
    host.vaultd(&["check", &passphrase]).refused("an HSM opens this vault, no passphrase does");
    host.vaultd(&["check", &format!("--share-file={}", share.display())])
        .refused("no shares open this vault");
    assert!(!host.log().contains(PIN) && !said.contains(PIN));
}

#[test]
fn a_vault_waits_for_its_token_and_only_until_it_was_open() {
    let mut host = Host::new();
    host.vaultd(&["init", "--seal", "hsm"]).expect();
    host.tokens.pull();
    host.serve();
    host.wait_until("sealed_because", "HSM_AWAY");
    assert_eq!(host.status("state"), "sealed");
    host.tokenize().refused("SEALED");
    host.ctl("ann", &["unseal", "--hsm"]).refused("HSM_AWAY");
    host.vaultd(&["check"]).refused("another process or handle uses this store");
    host.tokens.put_back();
    host.wait_until("state", "unsealed");
    assert_eq!(host.status("sealed_because"), "");
    host.tokenize().expect();

    // Gone while it serves: the keys are in memory, and the HSM is needed again only when they no longer are.
    host.tokens.pull();
    host.tokenize().expect();
    assert_eq!(host.ctl("ann", &["seal", "--reason", "drill"]).field("state"), "sealed");
    host.ctl("ann", &["unseal", "--hsm"]).refused("HSM_AWAY");
    host.tokens.put_back();
    // Whoever sealed it did not do so to have it opened again.
    sleep(LONG);
    assert_eq!(host.status("state"), "sealed");
    assert_eq!(host.ctl("ann", &["unseal", "--hsm"]).field("state"), "unsealed");
    // Nothing was attempted while nobody asked; both times that somebody did are in the log.
    assert_eq!(host.refusals("HSM_AWAY"), 2);
    host.stop();
}

#[test]
fn a_module_that_is_missing_or_open_to_others_is_not_loaded() {
    let mut host = Host::new();
    host.vaultd(&["init", "--seal", "hsm"]).expect();
    let module = host.path("module.so");
    host.configure(module.to_str().unwrap());
    host.serve();
    host.wait_until("sealed_because", "HSM_MODULE");
    host.stop();
    // The very module, where others could have put another.
    fs::copy(crate::token::MODULE, &module).unwrap();
    fs::set_permissions(&module, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    host.vaultd(&["check"]).refused("the PKCS#11 module cannot be used");
    fs::set_permissions(&module, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    host.vaultd(&["check"]).expect();
    // Only root can give a file away.
    if fs::metadata(&module).unwrap().uid() == 0 {
        chown(&module, Some(65_534), None).unwrap();
        host.vaultd(&["check"]).refused("the PKCS#11 module cannot be used");
        chown(&module, Some(0), None).unwrap();
    }
    // Nor from a folder in which others could put another in its place.
    let open = host.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    fs::copy(&module, open.join("module.so")).unwrap();
    host.configure(open.join("module.so").to_str().unwrap());
    host.vaultd(&["check"]).refused("the PKCS#11 module cannot be used");
    // No module at all.
    host.configure(host.path("pin").to_str().unwrap());
    host.vaultd(&["check"]).refused("the PKCS#11 module cannot be used");
}

#[test]
fn a_wrong_pin_is_given_once_and_then_only_to_whoever_asks() {
    let mut host = Host::new();
    host.vaultd(&["init", "--seal", "hsm"]).expect();
    host.write("pin", "not-the-pin\n");
    host.serve();
    host.wait_until("sealed_because", "HSM_WRONG_PIN");
    sleep(LONG);
    host.stop();
    // The next start is told by the token itself, and gives it no PIN, right or wrong.
    host.write("pin", PIN);
    host.serve();
    host.wait_until("sealed_because", "HSM_PIN_SPARED");
    sleep(LONG);
    let given = host.log().matches("Function::Login").count();
    assert_eq!(given, 1, "{}", host.log());
    host.write("pin", "not-the-pin\n");
    host.ctl("ann", &["unseal", "--hsm"]).refused("HSM_WRONG_PIN");
    host.write("pin", PIN);
    fs::set_permissions(host.path("pin"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    host.ctl("ann", &["unseal", "--hsm"]).refused("HSM_PIN_FILE");
    host.write("pin", PIN);
    assert_eq!(host.ctl("ann", &["unseal", "--hsm"]).field("state"), "unsealed");
    assert_eq!((host.refusals("HSM_WRONG_PIN"), host.refusals("HSM_PIN_FILE")), (2, 1));
    host.stop();
    // A right one since: it opens itself again.
    host.serve();
    host.wait_until("state", "unsealed");
    host.stop();
    assert!(!host.log().contains(PIN) && !host.log().contains("not-the-pin"));
}
