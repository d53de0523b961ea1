//! `audit verify`.

use std::fs::{self, File};
use std::io::{BufReader, Write as _};
use std::path::Path;

use prost_types::Timestamp;
use tonic::transport::Channel;
use vault_core::audit::{Entry, Hash, Held, TreeHead, VerifierKey, verify_consistency, verify_export};
use vault_core::limits::CHECKPOINT_BYTES_MAX;
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::{GetCheckpointRequest, ProveConsistencyRequest};

use crate::cli::Verify;
use crate::commands::{Session, timed, wire};
use crate::failure::Failure;
use crate::output::Record;
use crate::values::read_text;

use super::proof::Proof;
use super::{RECEIPTS_BYTES_MAX, hex, receipts, verified_head, verifier_key};

/// Verifies proofs or an export without a vault, or else what the vault shows of its log.
pub(in crate::commands) async fn run(session: &Session, options: &Verify) -> Result<(), Failure> {
    let key = verifier_key(&options.log_key)?;
    let record = match (&options.proofs, &options.export) {
        (Some(path), _) => proofs(session, path, &key)?,
        (None, Some(path)) => export(path, options, &key)?,
        (None, None) => log(session, options, &key).await?,
    };
    session.output.write(&record)
}

fn proofs(session: &Session, path: &Path, key: &VerifierKey) -> Result<Record, Failure> {
    let text = read_text(path, RECEIPTS_BYTES_MAX)?;
    let mut verified: u64 = 0;
    for (at, line) in text.lines().enumerate() {
        let at = |problem: &str| format!("{}: line {}: {problem}", path.display(), at + 1);
        let proof: Proof = serde_json::from_str(line).map_err(|_| Failure::usage(at("is no proof")))?;
        let verify = || {
            let (receipt, _) = proof.verify(key)?;
            proof.entry(&receipt)
        };
        let entry = verify().map_err(|failure| match failure {
            Failure::Unproven(problem) => Failure::Unproven(at(&problem)),
            other => other,
        })?;
        if let Some(entry) = entry {
            session.output.write_line(&certified(&entry))?;
        }
        verified += 1;
    }
    Ok(Record::new().text("origin", key.origin().as_str()).count("proofs_verified", verified))
}

/// What the entry of a certificate says.
fn certified(entry: &Entry) -> Record {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let at = i64::try_from(entry.at.seconds()).ok().map(|seconds| Timestamp { seconds, nanos: 0 });
    Record::new()
        .text("create_time", wire::time(at))
        .text("action", entry.action.as_str())
        .text("outcome", entry.outcome.reason())
        .text("tenant", text(entry.tenant.as_ref().map(|tenant| tenant.as_str())))
        .text("class", text(entry.class.map(|class| class.as_str())))
        .count("key_version", entry.key_version)
        .text("note", text(entry.note.as_ref().map(|note| note.as_str())))
}

fn export(path: &Path, options: &Verify, key: &VerifierKey) -> Result<Record, Failure> {
    let mut held = Held::default();
    held.heads.extend(kept(options, key)?);
    held.receipts = options.receipts.as_deref().map(receipts).transpose()?.unwrap_or_default();
    let file = File::open(path).map_err(|error| Failure::file(path, &error))?;
    let report = verify_export(&mut BufReader::new(file), key, &held, &mut |_, _| {});
    let report = report.map_err(|error| Failure::Unproven(format!("{}: {error}", path.display())))?;
    Ok(of_head(key, &report.head, held.heads.first())
        .count("released", report.released)
        .count("receipts_found", held.receipts.len() as u64))
}

async fn log(session: &Session, options: &Verify, key: &VerifierKey) -> Result<Record, Failure> {
    let kept = kept(options, key)?;
    let mut client = AuditClient::new(session.connector()?.connect().await?);
    let checkpoint = client.get_checkpoint(timed(GetCheckpointRequest {})).await?.into_inner().checkpoint;
    let head = verified_head(key, &checkpoint, "the vault's checkpoint")?;
    if let Some(kept) = &kept {
        extends(&mut client, kept, &head).await?;
    }
    if let Some(path) = &options.keep {
        replace(path, &checkpoint)?;
    }
    Ok(of_head(key, &head, kept.as_ref()))
}

/// Has the vault prove that its log begins with the one that was kept.
async fn extends(client: &mut AuditClient<Channel>, kept: &TreeHead, head: &TreeHead) -> Result<(), Failure> {
    let unproven = |problem: String| Err(Failure::Unproven(problem));
    if head.size < kept.size {
        return unproven(format!(
            "the vault shows {} entries, the kept checkpoint has {}",
            head.size, kept.size
        ));
    }
    let hashes = match kept.size {
        // Every log begins with the empty one; the vault proves nothing that needs no proof.
        0 => Vec::new(),
        from_size => {
            let request = ProveConsistencyRequest { from_size, to_size: head.size };
            client.prove_consistency(timed(request)).await?.into_inner().hashes
        }
    };
    let path: Result<Vec<Hash>, _> = hashes.iter().map(|hash| Hash::try_from(hash.as_slice())).collect();
    match path {
        Ok(path) if verify_consistency(kept, head, &path) => Ok(()),
        _ => unproven(format!("the log is not an extension of the kept one of {} entries", kept.size)),
    }
}

fn kept(options: &Verify, key: &VerifierKey) -> Result<Option<TreeHead>, Failure> {
    let Some(path) = &options.checkpoint else { return Ok(None) };
    let text = read_text(path, CHECKPOINT_BYTES_MAX as u64)?;
    verified_head(key, &text, &path.display().to_string()).map(Some)
}

fn of_head(key: &VerifierKey, head: &TreeHead, kept: Option<&TreeHead>) -> Record {
    let record = Record::new().text("origin", key.origin().as_str()).count("log_size", head.size);
    let record = record.text("root", hex(&head.root));
    match kept {
        Some(kept) => record.count("extends_size", kept.size),
        None => record,
    }
}

/// Whole or not at all: what is replaced may be the only checkpoint that is kept.
fn replace(path: &Path, checkpoint: &str) -> Result<(), Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = Path::new(&name);
    let written = File::create(fresh)
        .and_then(|mut file| file.write_all(checkpoint.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(fresh, path));
    written.map_err(|error| Failure::file(path, &error))
}
