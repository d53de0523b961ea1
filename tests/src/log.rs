//! The audit log as an auditor keeps it: every entry read once, hashed here, held against signed checkpoints.

use tonic::transport::Channel;
use vault_core::audit::{LeafHash, Tree, TreeHead, VerifierKey, leaf_hash, verify_consistency};
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::custody_client::CustodyClient;
use vault_proto::v1::{
    Entry, GetStatusRequest, ListEntriesRequest, ProveConsistencyRequest, ProveInclusionRequest, Receipt,
};

const PAGE_SIZE: u32 = 500;

/// What of an entry is held against the calls.
struct Read {
    token: String,
    action: String,
    outcome: String,
}

/// The entries read so far, and what is known to have been signed.
pub struct AuditedLog {
    key: VerifierKey,
    tree: Tree,
    leaves: Vec<LeafHash>,
    read: Vec<Read>,
    /// A head that the vault signed before it was killed, not yet found again.
    promised: Option<TreeHead>,
    /// The newest head that was verified.
    verified: Option<TreeHead>,
}

impl AuditedLog {
    /// Nothing read yet; takes the log's public key, once and for all.
    pub async fn new(custodian: Channel) -> Self {
        let mut custody = CustodyClient::new(custodian);
        let status = custody.get_status(GetStatusRequest {}).await.expect("a status").into_inner();
        let key = VerifierKey::parse(&status.log_verifier_key).expect("the log's key");
        let (tree, leaves, read) = (Tree::empty(), Vec::new(), Vec::new());
        Self { key, tree, leaves, read, promised: None, verified: None }
    }

    /// A checkpoint that was seen: whatever happens, the log must extend it.
    pub fn must_extend(&mut self, checkpoint: &str) {
        let head = self.key.verify(checkpoint).expect("a checkpoint signed by the log's key");
        assert!(head.size >= self.tree.size(), "the log was shorter than what was read of it");
        self.promised = Some(head);
        self.keep_promise();
    }

    /// Reads on to the end, and proves that what was read is what is signed.
    pub async fn read_and_verify(&mut self, auditor: Channel) {
        let mut audit = AuditClient::new(auditor);
        while self.read_page(&mut audit, PAGE_SIZE).await {}
        assert!(self.promised.is_none(), "the log lost entries of a checkpoint it had signed");
        let last = self.tree.size() - 1;
        let leaf = self.leaves.last().expect("an entry").to_vec();
        let request = ProveInclusionRequest { index: last, leaf_hash: leaf };
        let proof = audit.prove_inclusion(request).await.expect("a proof").into_inner();
        let head = self.key.verify(&proof.checkpoint).expect("a checkpoint signed by the log's key");
        while self.tree.size() < head.size {
            let missing = u32::try_from(head.size - self.tree.size()).unwrap();
            self.read_page(&mut audit, missing.min(PAGE_SIZE)).await;
        }
        assert!(self.tree.head() == head, "the entries do not add up to the signed checkpoint");
        if let Some(earlier) = self.verified.replace(head) {
            let request = ProveConsistencyRequest { from_size: earlier.size, to_size: head.size };
            let path = audit.prove_consistency(request).await.expect("a proof").into_inner().hashes;
            let path: Vec<LeafHash> = path.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect();
            assert!(verify_consistency(&earlier, &head, &path), "a consistency proof does not hold");
        }
    }

    /// Reads at most so many entries; whether more follow.
    async fn read_page(&mut self, audit: &mut AuditClient<Channel>, size: u32) -> bool {
        let request = ListEntriesRequest { start_index: self.tree.size(), page_size: size };
        let page = audit.list_entries(request).await.expect("a page of the log").into_inner();
        for entry in page.entries {
            self.take(entry);
        }
        assert_eq!(page.next_index, self.tree.size(), "an auditor of all tenants is passed no entry over");
        page.next_index < page.log_size
    }

    fn take(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.tree.size(), "entries are listed in order, without a gap");
        let leaf = leaf_hash(&entry.raw);
        self.tree.append(leaf);
        self.leaves.push(leaf);
        self.read.push(Read { token: entry.token, action: entry.action, outcome: entry.outcome });
        self.keep_promise();
    }

    fn keep_promise(&mut self) {
        if let Some(head) = self.promised.take_if(|head| head.size == self.tree.size()) {
            assert!(head.root == self.tree.root(), "the log does not extend a checkpoint it had signed");
        }
    }

    /// A call that gave this token stands where its receipt says; answers with the outcome that was recorded.
    pub fn expect_entry(&self, token: &str, receipt: &Receipt) -> &str {
        let index = usize::try_from(receipt.index).unwrap();
        assert!(index < self.leaves.len(), "entry {index} of an acknowledged call is lost");
        let (leaf, read) = (&self.leaves[index], &self.read[index]);
        assert!(leaf[..] == receipt.leaf_hash, "entry {index} is another than was acknowledged");
        assert_eq!((&*read.action, &*read.token), ("tokenize", token), "entry {index}");
        &read.outcome
    }

    /// Entries of an action.
    pub fn count(&self, action: &str) -> usize {
        self.read.iter().filter(|read| read.action == action).count()
    }

    /// Entries read.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The hashes of all entries read.
    pub fn all(&self) -> &[LeafHash] {
        &self.leaves
    }

    /// The hashes of the first entries read.
    pub fn first(&self, size: u64) -> &[LeafHash] {
        &self.leaves[..usize::try_from(size).unwrap()]
    }
}
