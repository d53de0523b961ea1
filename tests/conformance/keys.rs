//! A deletion epoch from its beginning to its end, as custodians see it.

use std::time::Duration;

use vault_core::audit::{Entry, Receipt, VerifierKey, leaf_hash};
use vault_proto::v1 as wire;
use vault_proto::v1::custody_client::CustodyClient;
use vault_proto::v1::key_version::State;
use vault_proto::v1::keys_client::KeysClient;
use vault_proto::v1::rewrap::Phase;

use crate::requests;
use crate::rpcs::{Ask, Refused};
use crate::site::{EVERY_ENGINE, OWN, Site};

const DAY: u64 = 24 * 60 * 60;

async fn keys(site: &Site, page_size: u32) -> Vec<wire::KeyVersion> {
    let mut client = KeysClient::new(site.channel("custodian"));
    let (mut keys, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = client.list_keys(wire::ListKeysRequest { page_size, page_token }).await.unwrap();
        let wire::ListKeysResponse { keys: listed, next_page_token } = page.into_inner();
        keys.extend(listed);
        if next_page_token.is_empty() {
            return keys;
        }
        page_token = next_page_token;
    }
}

/// Number and state of each version of shop's keys for cards.
async fn of_shop(site: &Site) -> Vec<(u32, State)> {
    let keys = keys(site, 0).await.into_iter();
    let own = keys.filter(|key| key.tenant == "shop" && key.class() == wire::Class::Pan);
    own.map(|key| (key.version, key.state())).collect()
}

/// Waits until the vault has proven that shop's cards are all under the version that encrypts.
async fn wait_for_proof(site: &Site) -> wire::Rewrap {
    for _ in 0..200 {
        let mut rewraps = keys(site, 0).await.into_iter().filter_map(|key| key.rewrap);
        if let Some(done) = rewraps.find(|rewrap| rewrap.phase() == Phase::Done) {
            return done;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the rewrap does not end");
}

async fn refusal(site: &Site, version: u32) -> Option<String> {
    let asked = site.ask("custodian", Ask::DestroyKeys(requests::destroy("shop", version))).await;
    Refused::of(asked).and_then(|refused| refused.reason)
}

#[tokio::test]
async fn custodians_rotate_wait_for_the_proof_and_destroy_what_is_retired() {
    for engine in EVERY_ENGINE {
        let mut site = Site::start_on(engine).await;
        assert_eq!(of_shop(&site).await, [(1, State::Enabled), (2, State::Introduced)]);
        let mark = site.log_size().await;
        let mut custodian = KeysClient::new(site.channel("custodian"));
        let rotated = custodian.rotate_keys(requests::rotate("shop")).await.unwrap().into_inner();
        assert_eq!(rotated.version, 2);
        let expected = [(1, State::DecryptOnly), (2, State::Enabled), (3, State::Introduced)];
        assert_eq!(of_shop(&site).await, expected);
        let entered = site.entries_since(mark).await;
        let ordered = entered.iter().find(|entry| entry.action == "rotate-keys").unwrap();
        assert_eq!((ordered.tenant.as_str(), ordered.note.as_str()), ("shop", "case-1"));
        assert!(entered.iter().any(|entry| entry.action == "key-enabled" && entry.key_version == 2));

        let proof = wait_for_proof(&site).await;
        assert!(proof.rewrapped >= 3 && proof.left == 0, "{proof:?}");
        assert_eq!(refusal(&site, 1).await.as_deref(), Some("KEY_IN_USE"), "a day is not over");
        site.clock.advance(DAY);
        let mut custodian = KeysClient::new(site.channel("custodian"));
        let certificate = custodian.destroy_keys(requests::destroy("shop", 1)).await.unwrap().into_inner();
        assert_eq!(of_shop(&site).await[0], (1, State::Destroyed));
        assert_eq!(refusal(&site, 1).await.as_deref(), Some("NO_SUCH_KEY"));
        assert_eq!(refusal(&site, 2).await.as_deref(), Some("KEY_IN_USE"));
        verify(&site, &certificate).await;

        // What there was is still there, for the vault that opens tomorrow, too.
        site.restart_sealed();
        site.unseal().await;
        let kept = site.ask("checkout", requests::with_value("Tokenize", Some(requests::card(OWN)))).await;
        assert_eq!(kept.unwrap().token, site.stage.own);
        site.ask("billing", requests::with_token("Detokenize", &site.stage.own)).await.unwrap();
        assert_eq!(of_shop(&site).await[0], (1, State::Destroyed));
    }
}

/// Without the vault: with nothing but the key of its log.
async fn verify(site: &Site, certificate: &wire::DestroyKeysResponse) {
    let status = CustodyClient::new(site.channel("custodian"))
        .get_status(wire::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let key = VerifierKey::parse(&status.log_verifier_key).unwrap();
    let head = key.verify(&certificate.checkpoint).unwrap();
    let index = certificate.receipt.as_ref().unwrap().index;
    let leaf_hash = leaf_hash(&certificate.entry);
    let path: Vec<_> = certificate.hashes.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect();
    assert!(Receipt { origin: key.origin().clone(), index, leaf_hash }.verify(&head, &path));
    let entry = Entry::from_bytes(&certificate.entry).unwrap();
    let told = (entry.action.as_str(), entry.tenant.as_ref().unwrap().as_str(), entry.key_version);
    assert_eq!(told, ("key-destroyed", "shop", 1));
}

#[tokio::test]
async fn the_listing_comes_in_pages_and_leaves_nothing_out() {
    let site = Site::start().await;
    let whole = keys(&site, 0).await;
    assert!(whole.len() > 6);
    for page_size in [1, 2, whole.len() as u32, 10_000] {
        assert!(keys(&site, page_size).await == whole, "pages of {page_size}");
    }
    // Who may act for one tenant sees the keys of no other.
    let mut auditor = KeysClient::new(site.channel("tenant-auditor"));
    let own = auditor.list_keys(wire::ListKeysRequest::default()).await.unwrap().into_inner().keys;
    assert!(!own.is_empty() && own.iter().all(|key| key.tenant == "shop"));
}
