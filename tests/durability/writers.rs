//! Sixteen clients that write until nobody answers, and remember what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;
use vault_proto::reason;
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_proto::v1::{Class, ProveInclusionRequest, Receipt, TokenizeRequest, TokenizeResponse};
use vault_tests::process::Vaultd;
use vault_tests::values::{Seeded, card, ssn};

use crate::keys;

const WRITERS: u64 = 16;
/// Between two calls that are proven at once.
const PROOFS_EVERY: Duration = Duration::from_millis(5);
/// Acknowledged calls with a key that are repeated after a kill.
const REPEATED: usize = 32;

/// A call that was answered: from now on it may not be lost.
pub(crate) struct Acknowledged {
    pub(crate) digits: String,
    pub(crate) token: String,
    pub(crate) receipt: Receipt,
    key: String,
}

/// A call on which the daemon died. Its outcome is unknown.
pub(crate) struct Unanswered {
    digits: String,
    key: String,
}

/// What the clients know when the daemon is dead.
pub(crate) struct Harvest {
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) unanswered: Vec<Unanswered>,
    /// The last one that was seen.
    pub(crate) checkpoint: Option<String>,
}

/// Lets the writers write, and kills the daemon `moment` later, in the middle of it. Keys may be rotated some
/// time before; gives whose, and which version was said to encrypt then.
pub(crate) async fn write_until_killed(
    vaultd: Vaultd,
    round: u64,
    seed: u64,
    moment: Duration,
    rotate: Option<(Class, Duration)>,
) -> (Harvest, Option<(Class, u32)>) {
    let dying = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let checkout = vaultd.connect("checkout").await;
        let random = Seeded::new(seed ^ writer << 32);
        writers.spawn(write(checkout, format!("round-{round}-{writer}"), random, Arc::clone(&dying)));
    }
    let random = Seeded::new(seed ^ WRITERS << 32);
    let watcher = tokio::spawn(watch(vaultd.connect("checkout").await, random, Arc::clone(&dying)));
    let custodian = vaultd.connect("custodian").await;
    let rotation = tokio::spawn(async move {
        let (class, after) = rotate?;
        tokio::time::sleep(after).await;
        keys::rotate(custodian, class).await.map(|version| (class, version))
    });
    tokio::time::sleep(moment).await;
    dying.store(true, Ordering::SeqCst);
    tokio::task::spawn_blocking(move || vaultd.kill()).await.unwrap();
    let (acknowledged, checkpoint) = watcher.await.unwrap();
    let mut harvest = Harvest { acknowledged, unanswered: Vec::new(), checkpoint };
    while let Some(written) = writers.join_next().await {
        let (acknowledged, unanswered) = written.unwrap();
        harvest.acknowledged.extend(acknowledged);
        harvest.unanswered.push(unanswered);
    }
    (harvest, rotation.await.unwrap())
}

async fn write(
    checkout: Channel,
    name: String,
    mut random: Seeded,
    dying: Arc<AtomicBool>,
) -> (Vec<Acknowledged>, Unanswered) {
    let mut client = TokenizationClient::new(checkout);
    let mut acknowledged = Vec::new();
    loop {
        let digits = if random.below(4) == 0 {
            random.ssn()
        } else {
            let digits = 13 + usize::try_from(random.below(7)).unwrap();
            random.pan(digits)
        };
        let key = match random.below(2) {
            0 => format!("{name}-{}", acknowledged.len()),
            _ => String::new(),
        };
        match client.tokenize(request(&digits, &key)).await {
            Ok(answer) => acknowledged.push(Acknowledged::new(digits, key, answer.into_inner())),
            Err(status) => {
                expect_cut_off(&status, &dying);
                return (acknowledged, Unanswered { digits, key });
            }
        }
    }
}

/// A client that has the vault prove each of its calls, so that fresh checkpoints are signed under way: the
/// calls and the newest checkpoint seen until the daemon was gone.
async fn watch(
    checkout: Channel,
    mut random: Seeded,
    dying: Arc<AtomicBool>,
) -> (Vec<Acknowledged>, Option<String>) {
    let mut client = TokenizationClient::new(checkout.clone());
    let mut audit = AuditClient::new(checkout);
    let (mut acknowledged, mut newest) = (Vec::new(), None);
    let status = loop {
        let digits = random.ssn();
        let answer = match client.tokenize(request(&digits, "")).await {
            Ok(answer) => Acknowledged::new(digits, String::new(), answer.into_inner()),
            Err(status) => break status,
        };
        let Receipt { index, leaf_hash, .. } = answer.receipt.clone();
        acknowledged.push(answer);
        match audit.prove_inclusion(ProveInclusionRequest { index, leaf_hash }).await {
            Ok(proof) => newest = Some(proof.into_inner().checkpoint),
            Err(status) => break status,
        }
        tokio::time::sleep(PROOFS_EVERY).await;
    };
    expect_cut_off(&status, &dying);
    (acknowledged, newest)
}

/// The only excuse for no answer is a dead daemon: nothing it says itself is one.
fn expect_cut_off(status: &Status, dying: &AtomicBool) {
    let said = reason(status);
    assert!(said.is_none(), "the daemon refused a good call: {said:?}");
    assert!(dying.load(Ordering::SeqCst), "a living daemon broke off: {status:?}");
}

/// Repeats some acknowledged calls that had a key: the token must be the same.
pub(crate) async fn repeat_acknowledged(vaultd: &Vaultd, calls: &[Acknowledged]) -> Vec<Acknowledged> {
    let mut client = TokenizationClient::new(vaultd.connect("checkout").await);
    let mut replays = Vec::new();
    // The newest: what was acknowledged last is what a kill would take first.
    for call in calls.iter().rev().filter(|call| !call.key.is_empty()).take(REPEATED) {
        let answer = client.tokenize(request(&call.digits, &call.key)).await.expect("a repetition");
        let replay = Acknowledged::new(call.digits.clone(), call.key.clone(), answer.into_inner());
        assert_eq!(replay.token, call.token, "a repeated key gave another token");
        replays.push(replay);
    }
    replays
}

/// Repeats the unanswered calls that had a key, as their callers would: now they are answered.
pub(crate) async fn repeat_unanswered(vaultd: &Vaultd, calls: Vec<Unanswered>) -> Vec<Acknowledged> {
    let mut client = TokenizationClient::new(vaultd.connect("checkout").await);
    let mut repeated = Vec::new();
    for Unanswered { digits, key } in calls.into_iter().filter(|call| !call.key.is_empty()) {
        let answer = client.tokenize(request(&digits, &key)).await.expect("a repetition");
        repeated.push(Acknowledged::new(digits, key, answer.into_inner()));
    }
    repeated
}

/// One call; its status where it was not answered.
pub(crate) async fn write_one(checkout: &Channel, digits: &str, key: &str) -> Result<Acknowledged, Status> {
    let answer = TokenizationClient::new(checkout.clone()).tokenize(request(digits, key)).await?;
    Ok(Acknowledged::new(digits.to_owned(), key.to_owned(), answer.into_inner()))
}

fn request(digits: &str, key: &str) -> TokenizeRequest {
    let value = if digits.len() == 9 { ssn(digits) } else { card(digits) };
    TokenizeRequest { value: Some(value), idempotency_key: key.to_owned(), ..TokenizeRequest::default() }
}

impl Acknowledged {
    fn new(digits: String, key: String, answer: TokenizeResponse) -> Self {
        Self { digits, token: answer.token, receipt: answer.receipt.expect("a receipt"), key }
    }
}
