//! The daemon as a whole refuses what does not fit together, and leaves nothing in the way of the next
//! attempt.
#![allow(clippy::expect_used, reason = "tests may stop loudly")]

use std::sync::Arc;

use vault_daemon::TestVault;
use vault_daemon::clock::SystemClock;
use vault_daemon::config::Engine;
use vault_daemon::dev::DevFolder;

#[test]
fn with_two_client_cas_every_principal_must_name_its_own() {
    let started = TestVault::start_with(Engine::Fjall, |_, config| {
        let mut other = config.listen.tls.client_cas.first().expect("a CA").clone();
        other.name = "other".into();
        config.listen.tls.client_cas.push(other);
    });
    let refused = started.err().expect("either CA could vouch for every principal").to_string();
    assert!(refused.contains("principal[0].ca"), "{refused}");
}

#[test]
fn a_creation_without_a_place_for_the_anchor_leaves_no_keyring_in_the_way() {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = DevFolder::open(&temporary.path().join("vault")).expect("a vault's folder");
    let mut config = folder.config(Engine::Fjall).expect("a configuration");
    config.vault.anchor_file = temporary.path().join("missing/anchor");
    let refused = folder.serve_with(config, Arc::new(SystemClock)).err().expect("there is no place");
    assert!(refused.to_string().contains("the anchor's folder does not exist"), "{refused}");
    folder.serve(Engine::Fjall, Arc::new(SystemClock)).expect("the second attempt finds nothing in its way");
}
