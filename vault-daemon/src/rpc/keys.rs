//! `vault.v1.Keys`: the inventory of keys, rotation and destruction on demand.

use tonic::{Request, Response, Status};
use vault_core::crypto::SystemEntropy;
use vault_core::data::Class;
use vault_core::error::{Error, Invalid};
use vault_core::keys::KeyState;
use vault_core::policy::Grant;
use vault_core::vault::{
    DestroyedKey, KeyListing, KeyOrder, Reply, Request as Ask, RewrapPhase, RewrapProgress, Vault,
};
use vault_proto::v1 as wire;
use vault_proto::v1::keys_server::Keys;
use vault_proto::v1::{key_version, rewrap};

use crate::limits::KEY_PAGE_MAX;

use super::apart::apart;
use super::calls::Calls;
use super::status::Refusal;
use super::values;

/// Versions of a listing that asks for no number.
const PAGE_SIZE: usize = 100;

#[tonic::async_trait]
impl Keys for Calls {
    async fn list_keys(
        &self,
        request: Request<wire::ListKeysRequest>,
    ) -> Result<Response<wire::ListKeysResponse>, Status> {
        self.counted("ListKeys", self.listed(request)).await
    }

    async fn rotate_keys(
        &self,
        request: Request<wire::RotateKeysRequest>,
    ) -> Result<Response<wire::RotateKeysResponse>, Status> {
        self.counted("RotateKeys", self.rotated(request)).await
    }

    async fn destroy_keys(
        &self,
        request: Request<wire::DestroyKeysRequest>,
    ) -> Result<Response<wire::DestroyKeysResponse>, Status> {
        self.counted("DestroyKeys", self.destroyed(request)).await
    }
}

impl Calls {
    async fn listed(
        &self,
        request: Request<wire::ListKeysRequest>,
    ) -> Result<wire::ListKeysResponse, Refusal> {
        let ask = |message: wire::ListKeysRequest| Ok((Ask::Status, Page::of(&message)?));
        let listing = self.granted_work(request, ask, |vault, grant, page| {
            Ok((vault.key_listing(grant, page.from, page.size)?, page))
        });
        let (keys, page) = listing.await?;
        let more = keys.len() == page.size;
        let next = page.from.saturating_add(keys.len());
        let next_page_token = if more { next.to_string() } else { String::new() };
        Ok(wire::ListKeysResponse { keys: keys.into_iter().map(wire_key).collect(), next_page_token })
    }

    async fn rotated(
        &self,
        request: Request<wire::RotateKeysRequest>,
    ) -> Result<wire::RotateKeysResponse, Refusal> {
        let now = self.custody.now();
        let ask = |message: wire::RotateKeysRequest| {
            ordered(order(&message.tenant, message.class, None, &message.reason)?)
        };
        let rotated = self.granted_work(request, ask, move |vault, grant, order| {
            vault.rotate(grant, &order, now, &mut SystemEntropy::new())
        });
        let info = rotated.await?;
        Ok(wire::RotateKeysResponse { version: info.version, state: wire_state(info.state).into() })
    }

    async fn destroyed(
        &self,
        request: Request<wire::DestroyKeysRequest>,
    ) -> Result<wire::DestroyKeysResponse, Refusal> {
        let now = self.custody.now();
        let ask = |message: wire::DestroyKeysRequest| {
            let version =
                Some(message.version).filter(|version| *version > 0).ok_or(Invalid::FieldMissing)?;
            ordered(order(&message.tenant, message.class, Some(version), &message.reason)?)
        };
        let destroyed = self.granted_work(request, ask, move |vault, grant, order| {
            vault.destroy(grant, &order, now, &mut SystemEntropy::new())
        });
        let DestroyedKey { receipt, entry, inclusion } = destroyed.await?;
        Ok(wire::DestroyKeysResponse {
            receipt: Some(values::wire_receipt(&receipt)),
            entry,
            hashes: inclusion.hashes.iter().map(|hash| hash.to_vec()).collect(),
            checkpoint: inclusion.checkpoint,
        })
    }

    /// Passes the door, then works on a thread that may wait for the disk, so that this core goes on
    /// meanwhile. What the work is about is read from the message together with what is asked.
    async fn granted_work<M, W: Send + 'static, T: Send + 'static>(
        &self,
        request: Request<M>,
        ask: impl FnOnce(M) -> Result<(Ask, W), Invalid>,
        work: impl FnOnce(&Vault, &Grant, W) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let mut about = None;
        let entered = self.entered(request, |message| {
            let (ask, read) = ask(message)?;
            about = Some(read);
            Ok(ask)
        });
        let ((Reply::Granted(grant), _), Some(about)) = (entered.await?, about) else {
            return Err(Error::Bug.into());
        };
        let vault = self.custody.vault()?;
        Ok(apart(move || work(&vault, &grant, about)).await??)
    }
}

/// A part of the listing. Versions come and never go: counting them, a page can repeat some of the page
/// before and leaves none out.
struct Page {
    from: usize,
    size: usize,
}

impl Page {
    fn of(message: &wire::ListKeysRequest) -> Result<Self, Invalid> {
        let size = match usize::try_from(message.page_size) {
            Ok(0) => PAGE_SIZE,
            Ok(size) => size.min(KEY_PAGE_MAX),
            Err(_) => KEY_PAGE_MAX,
        };
        let from = match message.page_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| Invalid::TextMalformed)?,
        };
        Ok(Self { from, size })
    }
}

/// Asks for what is ordered.
fn ordered(order: KeyOrder) -> Result<(Ask, KeyOrder), Invalid> {
    Ok((Ask::Keys(order.clone()), order))
}

fn order(tenant: &str, class: i32, destroy: Option<u32>, reason: &str) -> Result<KeyOrder, Invalid> {
    let class = match wire::Class::try_from(class) {
        Ok(wire::Class::Pan) => Class::Pan,
        Ok(wire::Class::Ssn) => Class::Ssn,
        Ok(wire::Class::Unspecified) | Err(_) => return Err(Invalid::FieldMissing),
    };
    let reason = values::text(reason)?.ok_or(Invalid::FieldMissing)?;
    Ok(KeyOrder { tenant: values::tenant(tenant)?, class, destroy, reason })
}

fn wire_key(key: KeyListing) -> wire::KeyVersion {
    let KeyListing { tenant, class, info, rewrap } = key;
    wire::KeyVersion {
        tenant: tenant.to_string(),
        class: values::wire_class(class).into(),
        version: info.version,
        state: wire_state(info.state).into(),
        create_time: Some(values::wire_time(info.created_at)),
        enable_time: info.enabled_at.map(values::wire_time),
        encrypt_end_time: info.encrypts_until().map(values::wire_time),
        decrypt_end_time: info.decrypts_until().map(values::wire_time),
        rewrap: rewrap.as_ref().map(wire_rewrap),
    }
}

const fn wire_state(state: KeyState) -> key_version::State {
    match state {
        KeyState::Introduced => key_version::State::Introduced,
        KeyState::Announced => key_version::State::Announced,
        KeyState::Enabled => key_version::State::Enabled,
        KeyState::DecryptOnly => key_version::State::DecryptOnly,
        KeyState::Destroyed => key_version::State::Destroyed,
    }
}

fn wire_rewrap(progress: &RewrapProgress) -> wire::Rewrap {
    let phase = match progress.phase {
        RewrapPhase::Rewrapping => rewrap::Phase::Rewrapping,
        RewrapPhase::ProvingRecords => rewrap::Phase::ProvingRecords,
        RewrapPhase::ProvingIndex => rewrap::Phase::ProvingIndex,
        RewrapPhase::Done => rewrap::Phase::Done,
    };
    wire::Rewrap {
        phase: phase.into(),
        rewrapped: progress.rewrapped,
        left: progress.left,
        begin_time: Some(values::wire_time(progress.began_at)),
        step_time: Some(values::wire_time(progress.stepped_at)),
    }
}
