//! A proof that an entry stands in the log, as a file keeps it: one JSON object a line.
//!
//! ```json
//! {"receipt": "origin index hash", "hashes": ["<64 hexadecimal digits>", …], "checkpoint": "<signed note>"}
//! ```

use serde::{Deserialize, Serialize};
use vault_core::audit::{Hash, Receipt, TreeHead, VerifierKey};
use vault_proto::v1::ProveInclusionResponse;

use crate::failure::Failure;

use super::{hex, verified_head};

/// What is needed to verify a receipt, but for the log's key.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    receipt: String,
    hashes: Vec<String>,
    checkpoint: String,
}

impl Proof {
    /// The vault's answer for a receipt.
    pub(super) fn new(receipt: &Receipt, answer: ProveInclusionResponse) -> Self {
        let hashes = answer.hashes.iter().map(|hash| hex(hash)).collect();
        Self { receipt: receipt.to_string(), hashes, checkpoint: answer.checkpoint }
    }

    /// Verifies it all: the signature over the log's head, and the way from the receipt's entry to that head.
    pub(super) fn verify(&self, key: &VerifierKey) -> Result<(Receipt, TreeHead), Failure> {
        let unproven = |problem: &str| Failure::Unproven(problem.to_owned());
        let receipt = Receipt::parse(&self.receipt).map_err(|error| Failure::Unproven(error.to_string()))?;
        if receipt.origin != *key.origin() {
            return Err(unproven("the receipt is of another log than the key"));
        }
        let head = verified_head(key, &self.checkpoint, "the proof's checkpoint")?;
        let path: Option<Vec<Hash>> = self.hashes.iter().map(|hash| unhex(hash)).collect();
        let path = path.ok_or_else(|| unproven("a hash of the proof is malformed"))?;
        if !receipt.verify(&head, &path) {
            return Err(unproven("the log of the checkpoint does not contain the receipt's entry"));
        }
        Ok((receipt, head))
    }
}

fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    let digits = text.as_bytes().as_chunks::<2>();
    if digits.0.len() != hash.len() || !digits.1.is_empty() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.0) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let [high, low] = *pair;
        *byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use vault_core::audit::{Checkpoint, Origin, Tree, leaf_hash};
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
    fn nothing_of_a_proof_can_be_changed() {
        let (key, proof) = proven();
        let refused = |proof: Proof| proof.verify(&key).is_err();
        let Proof { receipt, hashes, checkpoint } = &proof;
        let proof = |receipt: &str, hashes: &[String], checkpoint: &str| Proof {
            receipt: receipt.to_owned(),
            hashes: hashes.to_vec(),
            checkpoint: checkpoint.to_owned(),
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
