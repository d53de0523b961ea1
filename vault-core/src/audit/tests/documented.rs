//! The vectors of `docs/format/audit-log.md`.

use super::super::{Checkpoint, Receipt, leaf_hash};
use super::rows::Log;
use super::{bare_entry, full_entry, origin, signing_key, verifier};
use crate::data::documents::{says, shows};

const DOCUMENT: &str = "audit-log.md";

#[test]
fn entries_checkpoints_and_receipts_are_the_documented_ones() {
    let mut log = Log::empty();
    let entries = vec![full_entry(1).to_bytes(), bare_entry(2).to_bytes()];
    for entry in &entries {
        shows(DOCUMENT, entry);
        shows(DOCUMENT, &leaf_hash(entry));
    }
    let leaf = leaf_hash(&entries[1]);
    log.commit(entries).unwrap();
    shows(DOCUMENT, &log.rows.pages[&2]);
    shows(DOCUMENT, &log.rows.head);
    let checkpoint = Checkpoint::sign(&origin(), &log.writer.head(), &signing_key(7));
    says(DOCUMENT, &checkpoint);
    says(DOCUMENT, &verifier().to_string());
    let receipt = Receipt { origin: origin(), index: 1, leaf_hash: leaf };
    says(DOCUMENT, &receipt.to_string());
}
