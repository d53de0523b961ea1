//! A checkout service's tests against a real vault: `cargo run --example checkout`.
//!
//! Everything is real but the certificates: mutual TLS, policy, store, audit log. Your own test starts the
//! same [`TestVault`] and gives its connectors to the code under test.

use std::error::Error;
use std::io::{Write, stdout};

use vault_daemon::TestVault;
use vault_proto::reason;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_proto::v1::{Card, DetokenizeRequest, TokenizeRequest, Value, value};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let vault = TestVault::start()?;

    // The checkout keeps the token and forgets the number.
    let mut checkout = TokenizationClient::new(vault.connector("checkout")?.connect().await?);
    let pan = b"4111 1111 1111 1111".to_vec();
    let number = Card { pan, expiry: None, cardholder_name: None };
    let value = Value { kind: Some(value::Kind::Card(number)) };
    let tokenize = TokenizeRequest {
        value: Some(value),
        purposes: Vec::new(),
        reference: "order-1".into(),
        idempotency_key: "order-1".into(),
    };
    let token = checkout.tokenize(tokenize).await?.into_inner().token;
    writeln!(stdout(), "checkout keeps {token}")?;

    // Billing gets the number back, for a purpose and a recipient that the policy allows.
    let mut billing = TokenizationClient::new(vault.connector("billing")?.connect().await?);
    let detokenize = DetokenizeRequest {
        token,
        purpose: "settlement".into(),
        recipient: "acquirer".into(),
        reference: "order-1".into(),
    };
    let released = billing.detokenize(detokenize.clone()).await?.into_inner();
    let has_it = match released.value.as_ref().and_then(|value| value.kind.as_ref()) {
        Some(value::Kind::Card(card)) => card.pan == b"4111111111111111",
        _ => false,
    };
    writeln!(stdout(), "billing has the number: {has_it}")?;

    // The checkout does not: a test of your own can rely on the refusal and its reason.
    let refused = checkout.detokenize(detokenize).await.err().ok_or("the checkout was not refused")?;
    writeln!(stdout(), "checkout is refused: {:?}, {:?}", refused.code(), reason(&refused))?;
    Ok(())
}
