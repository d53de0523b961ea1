//! The core alone: prepare and commit over the store in memory, on one thread, without network and disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vault_core::audit::Origin;
use vault_core::clock::Timestamp;
use vault_core::crypto::{BulkEntropy, Purposes};
use vault_core::data::{CallerText, Card, Environment, Expiry, Pan, Token, Value};
use vault_core::keys::Keyring;
use vault_core::limits::BATCH_ITEMS_MAX;
use vault_core::policy::{Identity, Policy};
use vault_core::store::memory::MemoryStore;
use vault_core::vault::{NewValue, Reply, Request, Vault};

use crate::Done;
use crate::numbers::{DIGITS, Numbers};
use crate::site::{PURPOSE, RECIPIENT, REFERENCE, policy};

/// Calls in one commit: what waits in the lane at 128 in flight.
const CALLS: usize = 128;
/// Any time does; the vault has no clock of its own.
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// Time of one item.
#[derive(Clone, Copy)]
pub(crate) struct PerItem {
    /// Deciding, encrypting or decrypting, drafting the entry: on the core of the connection.
    pub(crate) prepare: Duration,
    /// Planning, hashing the log, writing: in the lane.
    pub(crate) commit: Duration,
}

/// One shape of work and its time, the median over many commits.
pub(crate) struct CoreCost {
    pub(crate) name: &'static str,
    pub(crate) per_item: PerItem,
}

/// Measures every shape, each for so long.
pub(crate) fn measure(seed: u64, index: bool, lasting: Duration) -> Done<Vec<CoreCost>> {
    let mut core = Core::new(seed, index)?;
    let mut costs = Vec::new();
    for (name, calls, items) in [("tokenize", CALLS, 1), ("batch_tokenize", 1, BATCH_ITEMS_MAX)] {
        let tokenized = core.tokenize(calls, items, lasting)?;
        costs.push(CoreCost { name, per_item: tokenized.per_item });
        // The day's first detokenization of a token is entered against the quota of distinct tokens.
        let first = core.detokenize(&tokenized.tokens, calls, items)?;
        let again = core.detokenize(&tokenized.tokens, calls, items)?;
        let names = match calls {
            1 => ["batch_detokenize_first", "batch_detokenize_again"],
            _ => ["detokenize_first", "detokenize_again"],
        };
        costs.extend(
            names.into_iter().zip([first, again]).map(|(name, per_item)| CoreCost { name, per_item }),
        );
    }
    Ok(costs)
}

struct Core {
    vault: Vault,
    entropy: BulkEntropy,
    numbers: Numbers,
    checkout: Identity,
    billing: Identity,
}

struct Tokenized {
    tokens: Vec<Token>,
    per_item: PerItem,
}

impl Core {
    fn new(seed: u64, index: bool) -> Done<Self> {
        let mut entropy = BulkEntropy::new();
        let keyring = Keyring::create(Environment::parse("bench")?, &mut entropy, NOW)?;
        let policy = Arc::new(Policy::parse(&policy(index))?);
        let origin = Origin::parse("vault-bench.invalid/core")?;
        let store = Arc::new(MemoryStore::new());
        let vault = Vault::with_keyring(store, keyring, origin, policy, NOW, &mut entropy)?;
        Ok(Self {
            vault,
            entropy,
            numbers: Numbers::new(seed),
            checkout: Identity::uri("spiffe://vaultd-dev/checkout")?,
            billing: Identity::uri("spiffe://vaultd-dev/billing")?,
        })
    }

    fn tokenize(&mut self, calls: usize, items: usize, lasting: Duration) -> Done<Tokenized> {
        let mut tokens = Vec::new();
        let mut times = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < lasting {
            let requests = (0..calls).map(|_| tokenize(&mut self.numbers, items)).collect::<Done<_>>()?;
            let (time, replies) = self.commit(&self.checkout.clone(), requests)?;
            times.push(time);
            for reply in replies {
                let Reply::Tokenized(minted) = reply else { return Err("another reply".into()) };
                tokens.extend(minted.into_iter().collect::<Result<Vec<_>, _>>()?);
            }
        }
        Ok(Tokenized { tokens, per_item: median(&times, calls * items) })
    }

    fn detokenize(&mut self, tokens: &[Token], calls: usize, items: usize) -> Done<PerItem> {
        let mut times = Vec::new();
        for tokens in tokens.chunks_exact(calls * items) {
            let requests = tokens.chunks(items).map(detokenize).collect::<Done<_>>()?;
            let (time, replies) = self.commit(&self.billing.clone(), requests)?;
            times.push(time);
            for reply in replies {
                let Reply::Detokenized(released) = reply else { return Err("another reply".into()) };
                released.into_iter().collect::<Result<Vec<_>, _>>()?;
            }
        }
        Ok(median(&times, calls * items))
    }

    fn commit(&mut self, caller: &Identity, requests: Vec<Request>) -> Done<(PerItem, Vec<Reply>)> {
        let begun = Instant::now();
        let prepare = |request| self.vault.prepare(caller, request, NOW, &mut self.entropy);
        let prepared: Vec<_> = requests.into_iter().map(prepare).collect();
        let between = Instant::now();
        let outcomes = self.vault.commit(&prepared, &mut self.entropy);
        let time = PerItem { prepare: between - begun, commit: between.elapsed() };
        let replies = outcomes.into_iter().map(|outcome| outcome.into_result()).collect::<Result<_, _>>()?;
        Ok((time, replies))
    }
}

fn tokenize(numbers: &mut Numbers, items: usize) -> Done<Request> {
    let item = |number: [u8; DIGITS]| -> Done<_> {
        let expiry = Some(Expiry::new(12, 2030)?);
        let value = Value::Pan(Card { pan: Pan::parse(&number)?, expiry, cardholder_name: None });
        let reference = Some(CallerText::parse(REFERENCE)?);
        Ok(Ok(NewValue { value, purposes: Purposes::unrestricted(), reference }))
    };
    let items: Vec<_> = (0..items).map(|_| item(numbers.draw())).collect::<Done<_>>()?;
    let batch = items.len() > 1;
    Ok(Request::Tokenize { items, idempotency_key: None, batch })
}

fn detokenize(tokens: &[Token]) -> Done<Request> {
    Ok(Request::Detokenize {
        items: tokens.iter().copied().map(Ok).collect(),
        purpose: PURPOSE.to_owned(),
        recipient: RECIPIENT.to_owned(),
        reference: Some(CallerText::parse(REFERENCE)?),
    })
}

/// Medians of commits, divided by their items: whatever else the machine does touches few of them.
fn median(times: &[PerItem], items: usize) -> PerItem {
    let middle = |part: fn(&PerItem) -> Duration| {
        let mut parts: Vec<Duration> = times.iter().map(part).collect();
        parts.sort_unstable();
        let middle = parts.get(parts.len() / 2).copied().unwrap_or_default();
        middle.div_f64(items.max(1) as f64)
    };
    PerItem { prepare: middle(|time| time.prepare), commit: middle(|time| time.commit) }
}
