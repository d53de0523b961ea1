//! The core alone: prepare and commit on one thread, without network, in processor time of that thread. Over
//! the store in memory there is no disk either.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use vault_core::audit::Origin;
use vault_core::clock::Timestamp;
use vault_core::crypto::{BulkEntropy, Purposes};
use vault_core::data::{CallerText, Card, Environment, Expiry, Pan, Token, Value};
use vault_core::keys::Keyring;
use vault_core::limits::BATCH_ITEMS_MAX;
use vault_core::policy::{Identity, Policy};
use vault_core::store::Store as Rows;
use vault_core::store::fjall::{FjallOptions, FjallStore};
use vault_core::store::memory::MemoryStore;
use vault_core::store::sled::{SledOptions, SledStore};
use vault_core::vault::{NewValue, Reply, Request, Vault};

use crate::Done;
use crate::cli::{CoreOptions, Shape, Store};
use crate::numbers::{DIGITS, Numbers};
use crate::report::print_core;
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

/// Measures and prints.
pub(crate) fn run(options: &CoreOptions) -> Done {
    let folder = TempDir::new()?;
    let store: Arc<dyn Rows> = match options.store {
        None => Arc::new(MemoryStore::new()),
        Some(Store::Fjall) => Arc::new(FjallStore::open(folder.path(), FjallOptions::default())?),
        Some(Store::Sled) => Arc::new(SledStore::open(folder.path(), SledOptions::default())?),
    };
    let costs = measure(store, options.seed, options.shape, options.duration())?;
    Ok(print_core(&mut std::io::stdout().lock(), &costs)?)
}

/// Measures every shape of work, each for so long.
pub(crate) fn measure(
    store: Arc<dyn Rows>,
    seed: u64,
    shape: Shape,
    lasting: Duration,
) -> Done<Vec<CoreCost>> {
    let mut core = Core::new(store, seed, shape)?;
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
    idempotency: bool,
    checkout: Identity,
    billing: Identity,
}

struct Tokenized {
    tokens: Vec<Token>,
    per_item: PerItem,
}

impl Core {
    fn new(store: Arc<dyn Rows>, seed: u64, shape: Shape) -> Done<Self> {
        let mut entropy = BulkEntropy::new();
        let keyring = Keyring::create(Environment::parse("bench")?, &mut entropy, NOW)?;
        let policy = Arc::new(Policy::parse(&policy(shape.index))?);
        let origin = Origin::parse("vault-bench.invalid/core")?;
        let vault = Vault::with_keyring(store, keyring, origin, policy, NOW, &mut entropy)?;
        Ok(Self {
            vault,
            entropy,
            numbers: Numbers::new(seed),
            idempotency: shape.idempotency,
            checkout: Identity::uri("spiffe://vaultd-dev/checkout")?,
            billing: Identity::uri("spiffe://vaultd-dev/billing")?,
        })
    }

    fn tokenize(&mut self, calls: usize, items: usize, lasting: Duration) -> Done<Tokenized> {
        let mut tokens = Vec::new();
        let mut times = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < lasting {
            let requests = (0..calls).map(|_| self.tokenization(items)).collect::<Done<_>>()?;
            let (time, replies) = self.commit(&self.checkout.clone(), requests)?;
            times.push(time);
            for reply in replies {
                let Reply::Tokenized(minted) = reply else { return Err("another reply".into()) };
                tokens.extend(minted.into_iter().collect::<Result<Vec<_>, _>>()?);
            }
        }
        Ok(Tokenized { tokens, per_item: median(&times, calls * items) })
    }

    fn tokenization(&mut self, items: usize) -> Done<Request> {
        let idempotency_key = self.idempotency.then(|| CallerText::parse(&self.numbers.key())).transpose()?;
        let batch = items > 1;
        let items = (0..items).map(|_| new_value(self.numbers.draw()).map(Ok)).collect::<Done<_>>()?;
        Ok(Request::Tokenize { items, idempotency_key, batch })
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
        let begun = thread_cpu();
        let prepare = |request| self.vault.prepare(caller, request, NOW, &mut self.entropy);
        let prepared: Vec<_> = requests.into_iter().map(prepare).collect();
        let between = thread_cpu();
        let outcomes = self.vault.commit(&prepared, &mut self.entropy);
        let time =
            PerItem { prepare: between.saturating_sub(begun), commit: thread_cpu().saturating_sub(between) };
        let replies = outcomes.into_iter().map(|outcome| outcome.into_result()).collect::<Result<_, _>>()?;
        Ok((time, replies))
    }
}

/// Processor time of this thread, to the nanosecond: `schedstat` is brought up to date only now and then.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn new_value(number: [u8; DIGITS]) -> Done<NewValue> {
    let expiry = Some(Expiry::new(12, 2030)?);
    let value = Value::Pan(Card { pan: Pan::parse(&number)?, expiry, cardholder_name: None });
    let reference = Some(CallerText::parse(REFERENCE)?);
    Ok(NewValue { value, purposes: Purposes::unrestricted(), reference })
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
