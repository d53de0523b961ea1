//! The log against a naive tree, against independent implementations and against damage.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

mod checkpoint;
mod damage;
mod documented;
mod entry;
mod export;
mod log;
mod proof;
mod rfc6962;
mod rows;
mod vectors;

use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::crypto::{Key32, SigningKey};
use crate::data::{CallerText, Class, PrincipalId, PurposeId, RecipientId, TenantId, Token};

use super::{Action, Actor, Entry, Origin, Outcome, VerifierKey};

fn origin() -> Origin {
    Origin::parse("vault.example/log/1").unwrap()
}

fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Key32::from_bytes(Zeroizing::new([seed; 32])))
}

fn verifier() -> VerifierKey {
    VerifierKey::new(origin(), signing_key(7).verifying_key())
}

/// An entry with every field in use, different for every number.
fn full_entry(number: u8) -> Entry {
    Entry {
        id: [number; 16],
        at: Timestamp::from_micros(1_790_000_000_000_000 + u64::from(number)),
        actor: Actor::Principal(PrincipalId::parse("billing-1").unwrap()),
        tenant: Some(TenantId::parse("acme").unwrap()),
        action: Action::Detokenize,
        class: Some(Class::Pan),
        token: Some(Token::from_parts(Class::Pan, [number; 16], [0xaa; 4])),
        record_version: 1,
        record_state: 1,
        key_version: 3,
        purpose: Some(PurposeId::parse("refund").unwrap()),
        recipient: Some(RecipientId::parse("bank").unwrap()),
        reference: Some(CallerText::parse("case/77-b").unwrap()),
        outcome: Outcome::Done,
        count: 1,
        policy: [1, 2, 3, 4, 5, 6, 7, 8],
        note: Some(CallerText::parse("by:hand").unwrap()),
    }
}

/// An entry with nothing that can be left out.
fn bare_entry(number: u8) -> Entry {
    Entry {
        actor: Actor::Vault,
        tenant: None,
        action: Action::LogOpened,
        class: None,
        token: None,
        record_version: 0,
        record_state: 0,
        key_version: 0,
        purpose: None,
        recipient: None,
        reference: None,
        note: None,
        ..full_entry(number)
    }
}
