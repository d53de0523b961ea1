//! The tokenization vault as a library: no network, no clock, no randomness of its own.
//!
//! ```text
//! data     values, tokens, masks, text a caller may give
//! crypto   envelopes, keyed hashes, signatures, randomness
//! keys     root key and seal, keyring, anchor
//! policy   who may do what, for which purpose, to whom
//! audit    the log: entries, Merkle tree, checkpoints, proofs
//! store    rows and commits: memory, fjall, sled
//! vault    the door: prepare on any thread, commit on one
//! ```
//!
//! A room uses those above it and never one below. [`vault::Vault`] is where requests come in: `prepare`
//! decides what can be decided without the store, `commit` takes many such calls and writes their rows and
//! audit entries in one synced transaction. Only then are there outcomes.
//!
//! ```
//! use std::sync::Arc;
//!
//! use vault_core::audit::Origin;
//! use vault_core::clock::Timestamp;
//! use vault_core::crypto::{Purposes, SystemEntropy};
//! use vault_core::data::{CallerText, Card, Environment, Pan, Value};
//! use vault_core::keys::Keyring;
//! use vault_core::policy::{Identity, Policy};
//! use vault_core::store::memory::MemoryStore;
//! use vault_core::vault::{NewValue, Reply, Request, Vault};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1_800_000_000));
//! let policy = Arc::new(Policy::parse(include_str!("../../docs/examples/policy.toml"))?);
//! let keyring = Keyring::create(Environment::parse("test")?, &mut entropy, now)?;
//! let origin = Origin::parse("vault.example.com/test-1")?;
//! let store = Arc::new(MemoryStore::new());
//! let vault = Vault::with_keyring(store, keyring, origin, policy, now, &mut entropy)?;
//!
//! let checkout = Identity::uri("spiffe://shop/checkout")?;
//! let card = Card { pan: Pan::parse(b"4111 1111 1111 1111")?, expiry: None, cardholder_name: None };
//! let value = NewValue { value: Value::Pan(card), purposes: Purposes::unrestricted(), reference: None };
//! let tokenize = Request::Tokenize { items: vec![Ok(value)], idempotency_key: None, batch: false };
//! let call = vault.prepare(&checkout, tokenize, now, &mut entropy);
//! let outcome = vault.commit(&[call], &mut entropy).remove(0);
//! let Reply::Tokenized(tokens) = outcome.into_result()? else { unreachable!() };
//! let token = tokens.into_iter().next().ok_or("no token")??;
//!
//! let billing = Identity::dns("billing.shop.example")?;
//! let detokenize = Request::Detokenize {
//!     items: vec![Ok(token)],
//!     purpose: "settlement".into(),
//!     recipient: "acquirer".into(),
//!     reference: Some(CallerText::parse("order-1")?),
//! };
//! let call = vault.prepare(&billing, detokenize, now, &mut entropy);
//! let outcome = vault.commit(&[call], &mut entropy).remove(0);
//! let Reply::Detokenized(released) = outcome.into_result()? else { unreachable!() };
//! let released = released.into_iter().next().ok_or("no value")??;
//! assert_eq!(released.value.expose_digits(), b"4111111111111111");
//! // Log opened, four keys made, policy loaded, tokenized, detokenized.
//! assert_eq!(vault.tree_head().size, 8);
//! # Ok(()) }
//! ```

pub mod audit;
pub mod clock;
pub mod crypto;
pub mod data;
pub mod error;
pub mod keys;
pub mod limits;
pub mod policy;
pub mod store;
pub mod vault;
