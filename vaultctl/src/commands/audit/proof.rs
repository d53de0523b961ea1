//! A proof that an entry stands in the log, as a file keeps it: one JSON object a line.
//!
//! ```json
//! {"receipt": "origin index hash", "hashes": ["<64 hexadecimal digits>", …], "checkpoint": "<signed note>"}
//! ```
//!
//! A certificate is a proof that also has the entry: `"entry": "<hexadecimal digits>"`.

use serde::{Deserialize, Serialize};
use vault_core::audit::{Entry, Hash, Receipt, TreeHead, VerifierKey, leaf_hash};
use vault_proto::v1::ProveInclusionResponse;

use crate::failure::Failure;

use super::{hex, verified_head};

/// What is needed to verify a receipt, but for the log's key.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::commands) struct Proof {
    receipt: String,
    hashes: Vec<String>,
    checkpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<String>,
}

impl Proof {
    /// The vault's answer for a receipt.
    pub(in crate::commands) fn new(receipt: &Receipt, answer: ProveInclusionResponse) -> Self {
        let hashes = answer.hashes.iter().map(|hash| hex(hash)).collect();
        Self { receipt: receipt.to_string(), hashes, checkpoint: answer.checkpoint, entry: None }
    }

    /// The proof with the entry itself.
    pub(in crate::commands) fn with_entry(self, entry: &[u8]) -> Self {
        Self { entry: Some(hex(entry)), ..self }
    }

    /// The entry, where the proof has one: exactly that of the receipt.
    pub(super) fn entry(&self, receipt: &Receipt) -> Result<Option<Entry>, Failure> {
        let Some(text) = &self.entry else { return Ok(None) };
        let bytes = unhex(text).filter(|bytes| leaf_hash(bytes) == receipt.leaf_hash);
        let entry = bytes.and_then(|bytes| Entry::from_bytes(&bytes).ok());
        entry.map(Some).ok_or_else(|| Failure::Unproven("the entry is not the receipt's".to_owned()))
    }

    /// Verifies it all: the signature over the log's head, and the way from the receipt's entry to that head.
    pub(in crate::commands) fn verify(&self, key: &VerifierKey) -> Result<(Receipt, TreeHead), Failure> {
        let unproven = |problem: &str| Failure::Unproven(problem.to_owned());
        let receipt = Receipt::parse(&self.receipt).map_err(|error| Failure::Unproven(error.to_string()))?;
        if receipt.origin != *key.origin() {
            return Err(unproven("the receipt is of another log than the key"));
        }
        let head = verified_head(key, &self.checkpoint, "the proof's checkpoint")?;
        let path: Option<Vec<Hash>> = self.hashes.iter().map(|hash| unhex(hash)?.try_into().ok()).collect();
        let path = path.ok_or_else(|| unproven("a hash of the proof is malformed"))?;
        if !receipt.verify(&head, &path) {
            return Err(unproven("the log of the checkpoint does not contain the receipt's entry"));
        }
        Ok((receipt, head))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use vault_core::audit::{Action, Actor, Checkpoint, Origin, Tree};
    use vault_core::clock::Timestamp;
    use vault_core::crypto::{Key32, SigningKey};
    use zeroize::Zeroizing;

    use super::*;

    /// A log of two entries, its key, and the proof of the first.
    fn proven() -> (VerifierKey, Proof) {
        let origin = Origin::parse("vault.example/log").unwrap();
        let signing = SigningKey::from_seed(&Key32::from_bytes(Zeroizing::new([1; 32])));
        let leaves = [leaf_hash(b"first"), leaf_hash(b"second")];
        let mut tree = Tree::empty();
        leaves.iter().for_each(|leaf| tree.append(*leaf));
        let checkpoint = Checkpoint::sign(&origin, &tree.head(), &signing);
        let receipt = Receipt { origin: origin.clone(), index: 0, leaf_hash: leaves[0] };
        let answer = ProveInclusionResponse { hashes: vec![leaves[1].to_vec()], checkpoint };
        (VerifierKey::new(origin, signing.verifying_key()), Proof::new(&receipt, answer))
    }

    #[test]
    fn a_proof_survives_its_file_and_verifies() {
        let (key, proof) = proven();
        let line = serde_json::to_string(&proof).unwrap();
        let (receipt, head) = serde_json::from_str::<Proof>(&line).unwrap().verify(&key).unwrap();
        assert_eq!((receipt.index, head.size), (0, 2));
    }

    #[test]
    fn the_entry_of_a_certificate_is_the_one_of_its_receipt() {
        let (key, proof) = proven();
        let (receipt, _) = proof.verify(&key).unwrap();
        assert!(proof.entry(&receipt).unwrap().is_none());
        // The right bytes, which are no entry; other bytes; no bytes at all.
        for entry in [b"first".to_vec(), b"second".to_vec(), Vec::new()] {
            let certificate = proven().1.with_entry(&entry);
            assert!(certificate.entry(&receipt).is_err());
        }
    }

    #[test]
    fn a_certificate_says_what_its_entry_says() {
        let at = Timestamp::from_seconds(1_800_000_000);
        let entry = Entry { key_version: 3, ..Entry::new(at, Actor::Vault, Action::KeyDestroyed) };
        let mut tree = Tree::empty();
        tree.append(leaf_hash(&entry.to_bytes()));
        let origin = Origin::parse("vault.example/log").unwrap();
        let signing = SigningKey::from_seed(&Key32::from_bytes(Zeroizing::new([1; 32])));
        let checkpoint = Checkpoint::sign(&origin, &tree.head(), &signing);
        let receipt = Receipt { origin: origin.clone(), index: 0, leaf_hash: leaf_hash(&entry.to_bytes()) };
        let answer = ProveInclusionResponse { hashes: Vec::new(), checkpoint };
        let certificate = Proof::new(&receipt, answer).with_entry(&entry.to_bytes());
        let line = serde_json::to_string(&certificate).unwrap();
        let certificate: Proof = serde_json::from_str(&line).unwrap();
        let (receipt, _) = certificate.verify(&VerifierKey::new(origin, signing.verifying_key())).unwrap();
        let read = certificate.entry(&receipt).unwrap().unwrap();
        assert_eq!((read.action, read.key_version, read.at), (Action::KeyDestroyed, 3, at));
    }

    #[test]
    fn nothing_of_a_proof_can_be_changed() {
        let (key, proof) = proven();
        let refused = |proof: Proof| proof.verify(&key).is_err();
        let Proof { receipt, hashes, checkpoint, .. } = &proof;
        let proof = |receipt: &str, hashes: &[String], checkpoint: &str| Proof {
            receipt: receipt.to_owned(),
            hashes: hashes.to_vec(),
            checkpoint: checkpoint.to_owned(),
            entry: None,
        };
        assert!(!refused(proof(receipt, hashes, checkpoint)));
        assert!(refused(proof(&receipt.replace(" 0 ", " 1 "), hashes, checkpoint)));
        assert!(refused(proof(&receipt.replace("/log", "/other"), hashes, checkpoint)));
        assert!(refused(proof(receipt, &[], checkpoint)));
        assert!(refused(proof(receipt, &["00".repeat(32)], checkpoint)));
        assert!(refused(proof(receipt, &["0g".repeat(32)], checkpoint)));
        assert!(refused(proof(receipt, hashes, &checkpoint.replace("\n2\n", "\n3\n"))));
    }
}
