//! `audit`: reading the log, and proving what stands in it without trusting whoever keeps it.

pub(super) mod proof;
pub(super) mod prove;
pub(super) mod tail;
pub(super) mod verify;

use std::path::Path;

use vault_core::audit::{CheckpointError, Receipt, TreeHead, VerifierKey};

use crate::failure::Failure;
use crate::values::read_text;

/// Bytes of a file of receipts or proofs: some hundred thousand of them.
const RECEIPTS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The verifier key that was given.
fn verifier_key(text: &str) -> Result<VerifierKey, Failure> {
    VerifierKey::parse(text.trim()).map_err(|error| Failure::usage(format!("--log-key: {error}")))
}

/// The head of a checkpoint, if the key signed it.
fn verified_head(key: &VerifierKey, checkpoint: &str, what: &str) -> Result<TreeHead, Failure> {
    key.verify(checkpoint).map_err(|error: CheckpointError| Failure::Unproven(format!("{what}: {error}")))
}

/// The receipts of a file, one a line.
fn receipts(path: &Path) -> Result<Vec<Receipt>, Failure> {
    let text = read_text(path, RECEIPTS_BYTES_MAX)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    let parsed = lines.map(|(at, line)| {
        Receipt::parse(line)
            .map_err(|error| Failure::usage(format!("{}: line {}: {error}", path.display(), at + 1)))
    });
    parsed.collect()
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
