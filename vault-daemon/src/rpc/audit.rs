//! `vault.v1.Audit`: entries for auditors, checkpoints and proofs for whoever holds a receipt.

use std::sync::Arc;

use prost::Message as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status};
use vault_core::audit::{Actor, Entry, LeafHash, LoggedEntry};
use vault_core::crypto::RecordState;
use vault_core::error::{Error, Exhausted, Invalid};
use vault_core::limits::MESSAGE_BYTES_MAX;
use vault_core::policy::Grant;
use vault_core::vault::{LogListing, Reply, Request as Ask, Vault};
use vault_proto::v1 as wire;
use vault_proto::v1::audit_server::Audit;

use crate::limits::LOG_READS_MAX;

use super::apart::apart;
use super::calls::Calls;
use super::status::Refusal;
use super::values;

/// Entries of a listing that asks for no number.
const PAGE_SIZE: usize = 100;
/// Bytes of a page beside its entries: the origin and two numbers, each behind its tag.
const PAGE_FRAME_BYTES_MAX: usize = 256;
/// Bytes that an entry takes in its page beside its own: tag and length.
const ENTRY_FRAME_BYTES_MAX: usize = 4;

impl Calls {
    /// Passes the door for a right that concerns no record; the grant then opens the log.
    async fn granted<M>(&self, request: Request<M>, ask: Ask) -> Result<(Arc<Vault>, Arc<Grant>), Refusal> {
        match self.entered(request, |_| Ok(ask)).await? {
            (Reply::Granted(grant), _) => Ok((self.custody.vault()?, grant)),
            _ => Err(Error::Bug.into()),
        }
    }

    async fn entries(
        &self,
        request: Request<wire::ListEntriesRequest>,
    ) -> Result<wire::ListEntriesResponse, Refusal> {
        let (from, size) = (request.get_ref().start_index, request.get_ref().page_size);
        let turn = turn()?;
        let (vault, grant) = self.granted(request, Ask::ReadLog).await?;
        let limit = if size == 0 { PAGE_SIZE } else { usize::try_from(size).unwrap_or(usize::MAX) };
        let origin = vault.origin().as_str().to_owned();
        let listing = reading(turn, move || vault.entries(&grant, from, limit)).await?;
        let log_size = listing.size;
        let (entries, next_index) = page(listing);
        Ok(wire::ListEntriesResponse { entries, next_index, log_size, origin })
    }

    async fn checkpoint(
        &self,
        request: Request<wire::GetCheckpointRequest>,
    ) -> Result<wire::GetCheckpointResponse, Refusal> {
        let (vault, _) = self.granted(request, Ask::Prove).await?;
        Ok(wire::GetCheckpointResponse { checkpoint: vault.checkpoint().as_ref().to_owned() })
    }

    async fn inclusion(
        &self,
        request: Request<wire::ProveInclusionRequest>,
    ) -> Result<wire::ProveInclusionResponse, Refusal> {
        let index = request.get_ref().index;
        let leaf = LeafHash::try_from(request.get_ref().leaf_hash.as_slice())
            .map_err(|_| Invalid::LeafHashMismatch)?;
        let turn = turn()?;
        let (vault, grant) = self.granted(request, Ask::Prove).await?;
        let proof = reading(turn, move || vault.prove_inclusion(&grant, index, &leaf)).await?;
        let hashes = proof.hashes.iter().map(|hash| hash.to_vec()).collect();
        Ok(wire::ProveInclusionResponse { hashes, checkpoint: proof.checkpoint })
    }

    async fn consistency(
        &self,
        request: Request<wire::ProveConsistencyRequest>,
    ) -> Result<wire::ProveConsistencyResponse, Refusal> {
        let (from, to) = (request.get_ref().from_size, request.get_ref().to_size);
        let turn = turn()?;
        let (vault, grant) = self.granted(request, Ask::Prove).await?;
        let hashes = reading(turn, move || vault.prove_consistency(&grant, from, to)).await?;
        Ok(wire::ProveConsistencyResponse { hashes: hashes.iter().map(|hash| hash.to_vec()).collect() })
    }
}

#[tonic::async_trait]
impl Audit for Calls {
    async fn list_entries(
        &self,
        request: Request<wire::ListEntriesRequest>,
    ) -> Result<Response<wire::ListEntriesResponse>, Status> {
        self.counted("ListEntries", self.entries(request)).await
    }

    async fn get_checkpoint(
        &self,
        request: Request<wire::GetCheckpointRequest>,
    ) -> Result<Response<wire::GetCheckpointResponse>, Status> {
        self.counted("GetCheckpoint", self.checkpoint(request)).await
    }

    async fn prove_inclusion(
        &self,
        request: Request<wire::ProveInclusionRequest>,
    ) -> Result<Response<wire::ProveInclusionResponse>, Status> {
        self.counted("ProveInclusion", self.inclusion(request)).await
    }

    async fn prove_consistency(
        &self,
        request: Request<wire::ProveConsistencyRequest>,
    ) -> Result<Response<wire::ProveConsistencyResponse>, Status> {
        self.counted("ProveConsistency", self.consistency(request)).await
    }
}

/// A reading under way. Taken before anything is decided: who is told to come back has read nothing.
static READS: Semaphore = Semaphore::const_new(LOG_READS_MAX);

fn turn() -> Result<SemaphorePermit<'static>, Error> {
    READS.try_acquire().map_err(|_| Error::Exhausted(Exhausted::Busy))
}

/// Reads the log on a thread that may wait for the store, so that this core goes on meanwhile.
async fn reading<T: Send + 'static>(
    turn: SemaphorePermit<'static>,
    read: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    // The turn lasts as long as the reading does, even where its caller has gone.
    apart(move || {
        let _turn = turn;
        read()
    })
    .await?
}

/// As many entries as one message holds, and where the next page begins.
fn page(listing: LogListing) -> (Vec<wire::Entry>, u64) {
    let mut room = MESSAGE_BYTES_MAX - PAGE_FRAME_BYTES_MAX;
    let mut entries = Vec::with_capacity(listing.entries.len());
    for logged in listing.entries {
        let index = logged.index;
        let entry = wire_entry(logged);
        match room.checked_sub(entry.encoded_len() + ENTRY_FRAME_BYTES_MAX) {
            Some(rest) => room = rest,
            None => return (entries, index),
        }
        entries.push(entry);
    }
    (entries, listing.next)
}

fn wire_entry(logged: LoggedEntry) -> wire::Entry {
    let LoggedEntry { index, entry, .. } = logged;
    let released = entry.outcome.released();
    wire::Entry {
        index,
        raw: entry.to_bytes(),
        id: entry.id.to_vec(),
        create_time: Some(values::wire_time(entry.at)),
        actor: Some(actor(&entry)),
        tenant: name(entry.tenant.as_ref().map(|tenant| tenant.as_str())),
        action: entry.action.as_str().to_owned(),
        class: entry.class.map_or(wire::Class::Unspecified, values::wire_class).into(),
        token: entry.token.map(|token| token.to_text()).unwrap_or_default(),
        record_version: entry.record_version,
        record_state: RecordState::from_code(entry.record_state)
            .map_or(wire::RecordState::Unspecified, values::wire_state)
            .into(),
        key_version: entry.key_version,
        purpose: name(entry.purpose.as_ref().map(|purpose| purpose.as_str())),
        recipient: name(entry.recipient.as_ref().map(|recipient| recipient.as_str())),
        reference: name(entry.reference.as_ref().map(|reference| reference.as_str())),
        outcome: entry.outcome.reason().to_owned(),
        released,
        count: entry.count,
        policy_hash: entry.policy.to_vec(),
        note: name(entry.note.as_ref().map(|note| note.as_str())),
    }
}

fn actor(entry: &Entry) -> wire::entry::Actor {
    match &entry.actor {
        Actor::Principal(id) => wire::entry::Actor::Principal(id.as_str().to_owned()),
        Actor::Unknown { identity_hash } => wire::entry::Actor::UnknownIdentityHash(identity_hash.to_vec()),
        Actor::Vault => wire::entry::Actor::Vault(true),
    }
}

fn name(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}
