//! Keeping watch: checkpoints signed and the anchor written, always after the commit they speak of.

use std::sync::Arc;

use thiserror::Error;

use crate::audit::{Checkpoint, LogWriter, TreeHead};
use crate::crypto::VerifyingKey;
use crate::keys::{AnchorState, Keyring};

use super::open::{Vault, lock};
use super::registry::{Neighbour, anchored_log};

/// The newest signed checkpoint and the head it covers.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) head: TreeHead,
    pub(super) note: Arc<str>,
    /// The anchor as last read or written; other daemons' logs stay in it.
    pub(super) anchor: AnchorState,
    pub(super) anchored: Option<TreeHead>,
    /// The other daemons, as they were when last looked at.
    pub(super) neighbours: Vec<Neighbour>,
}

impl Published {
    /// What is published before the vault has signed anything itself.
    pub(super) fn before(log: &LogWriter, keyring: &Keyring, anchor: AnchorState) -> Self {
        let head = log.head();
        let note = Checkpoint::sign(log.origin(), &head, keyring.signing_key()).into();
        Self { head, note, anchor, anchored: None, neighbours: Vec::new() }
    }
}

/// The anchor could not be written; the checkpoint stands.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the anchor file could not be written")]
pub struct AnchorUnwritten;

impl Vault {
    /// Signs the newest durable head and anchors it, if it has grown since the last time. Called once a
    /// second and before sealing.
    ///
    /// # Errors
    /// [`AnchorUnwritten`] when the anchor's file fails: the vault goes on, since what the anchor does not
    /// yet know is still in the log, but its owner should raise an alarm.
    pub fn keep(&self) -> Result<(), AnchorUnwritten> {
        let published = self.publish();
        if published.anchored == Some(published.head) {
            return Ok(());
        }
        let Some(custody) = &self.custody else {
            return Ok(());
        };
        let log = anchored_log(&self.origin, &published.head);
        let mut state = published.anchor;
        state.sequence += 1;
        state.keyring_generation = self.keyring_generation();
        state.logs.retain(|other| other.origin != log.origin);
        state.logs.push(log);
        state.logs.sort_by(|one, other| one.origin.cmp(&other.origin));
        custody.anchor.write(&custody.root, &state).map_err(|_| AnchorUnwritten)?;
        let mut latest = lock(&self.published);
        latest.anchor = state;
        latest.anchored = Some(published.head);
        Ok(())
    }

    /// The newest checkpoint: a signed note (C2SP tlog-checkpoint).
    pub fn checkpoint(&self) -> Arc<str> {
        lock(&self.published).note.clone()
    }

    /// The public key that verifies this vault's checkpoints.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.keys().keyring.signing_key().verifying_key()
    }

    /// The newest checkpoint, signed now if the last one does not cover `size` entries.
    pub(super) fn covering(&self, size: u64) -> Published {
        let published = lock(&self.published).clone();
        if published.head.size >= size { published } else { self.publish() }
    }

    /// Signs the durable head if it is newer than the last signed one. Only durable heads are ever signed.
    fn publish(&self) -> Published {
        let durable = self.tree_head();
        let mut published = lock(&self.published);
        if durable.size > published.head.size {
            published.note = self.signed(&durable);
            published.head = durable;
        }
        published.clone()
    }

    pub(super) fn signed(&self, head: &TreeHead) -> Arc<str> {
        Checkpoint::sign(&self.origin, head, self.keys().keyring.signing_key()).into()
    }
}
