//! The one door: decide → act → audit → commit.
//!
//! [`SealedVault`] knows where its keys and rows are and nothing of what they say. [`SealedVault::unseal`]
//! makes a [`Vault`] of it, [`Vault::seal`] the reverse. A request passes an unsealed vault in two steps:
//!
//! 1. [`Vault::prepare`], on any thread: decides by policy, parses nothing any more (a [`Request`] holds
//!    checked values), mints, encrypts, and drafts the audit entry. Pure: it reads keys and policy, no row.
//! 2. [`Vault::commit`], one caller at a time: plans all prepared calls of a batch one after another over one
//!    snapshot and the pending writes of those before, appends their entries to the log, and commits
//!    everything in one durable transaction. Only then does an [`Outcome`] exist.
//!
//! A batch equals its calls one after another, in the order given. A refusal is one call's outcome, never the
//! batch's. On a conflict the same calls are planned again on fresh reads; on a fault the vault is suspended
//! and [`Vault::resume`] finds out what happened.

mod accept;
mod attempts;
mod batch;
mod ceremony;
mod check;
mod closing;
mod compare;
mod detokenize;
mod erase;
mod find;
mod idempotency;
mod keep;
mod key_change;
mod key_order;
mod lease;
mod moving;
mod open;
mod outcome;
mod overlay;
mod policy_load;
mod prepare;
mod quota;
mod read_log;
mod record;
mod registry;
mod request;
mod reseal;
mod rewrap;
#[cfg(test)]
mod scene;
mod sealed;
mod seen;
#[cfg(test)]
mod semantics;
#[cfg(test)]
mod several;
mod spread;
mod suspended;
mod sweep;
#[cfg(test)]
mod tests;
mod tokenize;
mod view;

pub use accept::{AcceptError, Accepted, AnchorGap, OtherLogGap};
pub use attempts::{DeniedCall, Forbidden};
pub use ceremony::{Ceremony, CeremonyView, Giver};
pub use check::{CheckReport, CheckedLog, Finding};
pub use closing::{Closing, Sealed};
pub use keep::AnchorUnwritten;
pub use key_order::{DestroyedKey, KeyListing};
pub use moving::{MoveError, Moved};
pub use open::{Health, Vault};
pub use outcome::{Outcome, Released, Reply, View};
pub use prepare::Prepared;
pub use read_log::{Inclusion, LogListing};
pub use registry::Neighbour;
pub use request::{KeyOrder, NewValue, Request};
pub use reseal::{BegunReseal, ResealError};
pub use rewrap::{RewrapPhase, RewrapProgress};
pub use sealed::{InitError, SealedVault, UnsealError};
