//! `tokenize`.

use vault_core::crypto::{Entropy as _, SystemEntropy};
use vault_proto::daemons::Repeat;
use vault_proto::v1::TokenizeRequest;
use vault_proto::v1::tokenization_client::TokenizationClient;

use crate::cli::Tokenize;
use crate::failure::Failure;
use crate::output::Record;
use crate::values::letters;

use super::{Session, ask, timed, wire};

const FRESH_KEY_BYTES: usize = 16;

/// Stores a value and shows its token.
pub(super) async fn run(session: &Session, options: Tokenize) -> Result<(), Failure> {
    let daemons = session.daemons()?;
    let value = options.source.value(options.class, options.details)?;
    let request = TokenizeRequest {
        value: Some(value),
        purposes: options.purpose,
        reference: options.reference,
        idempotency_key: or_fresh(options.idempotency_key)?,
    };
    let answer = ask(&daemons, Repeat::Freely, |channel| {
        let request = timed(request.clone());
        async { TokenizationClient::new(channel).tokenize(request).await }
    })
    .await?;
    let record = Record::new().text("token", answer.token);
    let record = wire::masked(record, answer.masked);
    session.output.write(&record.text("receipt", wire::receipt(answer.receipt.as_ref())))
}

/// The key that was given, or one of its own: a daemon that dies with the answer may be followed by another.
fn or_fresh(key: String) -> Result<String, Failure> {
    if !key.is_empty() {
        return Ok(key);
    }
    let mut bytes = [0; FRESH_KEY_BYTES];
    let drawn = SystemEntropy::new().fill(&mut bytes);
    drawn.map_err(|_| Failure::usage("the system gives no randomness"))?;
    Ok(format!("once-{}", letters(&bytes)))
}
