//! Keys that rotate while the daemon is killed: what was ordered stays ordered, and old records get the new
//! keys however often the vault dies on the way.

use std::time::Duration;

use tonic::transport::Channel;
use vault_proto::reason;
use vault_proto::v1::keys_client::KeysClient;
use vault_proto::v1::rewrap::Phase;
use vault_proto::v1::{Class, KeyVersion, ListKeysRequest, RotateKeysRequest, key_version};
use vault_tests::process::Vaultd;

/// How long the last rewrap may take, in looks and between them. A guard, not a measurement.
const LOOKS_MAX: usize = 1_200;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Orders a rotation. The version that encrypts then, unless the daemon died on it or keeps as many as it
/// may.
pub(crate) async fn rotate(custodian: Channel, class: Class) -> Option<u32> {
    let request =
        RotateKeysRequest { tenant: "shop".to_owned(), class: class.into(), reason: "drill".to_owned() };
    match KeysClient::new(custodian).rotate_keys(request).await {
        Ok(answer) => Some(answer.into_inner().version),
        Err(status) => {
            let said = reason(&status);
            assert!(matches!(said.as_deref(), None | Some("KEY_IN_USE")), "refused: {said:?}");
            None
        }
    }
}

/// Waits until it is proven that nothing is left under an old key, and gives each class's version.
pub(crate) async fn wait_for_proofs(vaultd: &Vaultd) -> Vec<(Class, u32)> {
    let mut client = KeysClient::new(vaultd.connect("custodian").await);
    for _ in 0..LOOKS_MAX {
        let request = ListKeysRequest { page_size: 200, ..ListKeysRequest::default() };
        let keys = client.list_keys(request).await.expect("a listing").into_inner().keys;
        let enabled = keys.iter().filter(|key| key.state() == key_version::State::Enabled);
        if enabled.clone().all(is_proven) {
            return enabled.map(|key| (key.class(), key.version)).collect();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("the rewrap does not come to its end");
}

/// Version 1 has none before it.
fn is_proven(key: &KeyVersion) -> bool {
    let done = key.rewrap.filter(|rewrap| rewrap.phase() == Phase::Done);
    assert!(done.is_none_or(|rewrap| rewrap.left == 0), "rows are left under an old key: {key:?}");
    key.version == 1 || done.is_some()
}
