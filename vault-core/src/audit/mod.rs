//! What happened, undeniably: an append-only Merkle log of every operation, refusals included.
//!
//! ```text
//! Entry ── to_bytes, leaf_hash ──► LogWriter::stage ──► page, full tiles, head row ──► one store commit
//!                                        ▲                                                  │
//!                                        └────────────────── accept ◄───── durable ─────────┘
//! LogSource (pages, tiles) ──► inclusion_proof, consistency_proof, extends, check, write_export
//! TreeHead ── Checkpoint::sign ──► text that any C2SP verifier reads
//! ```
//!
//! Hashing follows RFC 6962, tiles C2SP tlog-tiles, checkpoints C2SP tlog-checkpoint and signed-note.
//! `docs/format/audit-log.md` specifies every byte and says what the log proves and what it does not.
//!
//! Nothing read from the store is trusted: it is checked against a tree head, and the head against the anchor
//! and the signature.

mod checkpoint;
mod entry;
mod export;
mod head;
mod log;
mod nodes;
mod outcome;
mod page;
mod proof;
mod reading;
mod receipt;
mod source;
mod tree;

#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, CheckpointError, Origin, OriginError, VerifierKey};
pub use entry::{Actor, Entry};
pub use export::{ExportError, Held, Report, verify_export, write_export};
pub use head::head_of_row;
pub use log::{FullTile, LogWriter, Next, OpenTiles, StageError, Staged, Stale, WithOpenTiles};
pub use outcome::{Action, Outcome};
pub use proof::{
    ConsistencyProof, Extension, InclusionProof, consistency_proof, extends, inclusion_proof,
    verify_consistency, verify_inclusion,
};
pub use reading::{LoggedEntry, check, read_entries};
pub use receipt::{Receipt, ReceiptError};
pub use source::{LogFault, LogSource};
pub use tree::{Hash, LeafHash, Tree, TreeHead, leaf_hash};
