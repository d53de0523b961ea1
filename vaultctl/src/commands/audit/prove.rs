//! `audit prove`.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use vault_core::audit::Receipt;
use vault_proto::v1::ProveInclusionRequest;
use vault_proto::v1::audit_client::AuditClient;

use crate::cli::Prove;
use crate::commands::{Session, timed};
use crate::failure::Failure;
use crate::output::Record;

use super::proof::Proof;
use super::{receipts, verifier_key};

/// Has the vault prove each receipt, and believes no proof that does not verify.
pub(in crate::commands) async fn run(session: &Session, options: &Prove) -> Result<(), Failure> {
    let key = verifier_key(&options.log_key)?;
    let mut wanted = options.receipts.as_deref().map(receipts).transpose()?.unwrap_or_default();
    for text in &options.receipt {
        wanted.push(Receipt::parse(text).map_err(|error| Failure::usage(error.to_string()))?);
    }
    let mut client = AuditClient::new(session.connector()?.connect().await?);
    let mut proofs = Vec::with_capacity(wanted.len());
    for receipt in wanted {
        let leaf_hash = receipt.leaf_hash.to_vec();
        let request = ProveInclusionRequest { index: receipt.index, leaf_hash };
        let proof = Proof::new(&receipt, client.prove_inclusion(timed(request)).await?.into_inner());
        let (_, head) = proof.verify(&key)?;
        let record = Record::new().text("proven", receipt.to_string()).count("log_size", head.size);
        session.output.write_line(&record)?;
        proofs.push(proof);
    }
    match options.out.as_deref() {
        Some(out) => write(new_file(out)?, out, &proofs),
        None => Ok(()),
    }
}

/// A file for proofs; one that exists is not overwritten.
pub(in crate::commands) fn new_file(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.map_err(|error| Failure::file(path, &error))
}

/// Writes proofs to their file, durably.
pub(in crate::commands) fn write(mut file: File, path: &Path, proofs: &[Proof]) -> Result<(), Failure> {
    let mut text = String::new();
    for proof in proofs {
        let line = serde_json::to_string(proof).map_err(|error| Failure::usage(error.to_string()))?;
        text.push_str(&line);
        text.push('\n');
    }
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| Failure::file(path, &error))
}
