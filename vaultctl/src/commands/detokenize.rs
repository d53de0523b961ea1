//! `detokenize`.

use vault_proto::daemons::Repeat;
use vault_proto::v1::DetokenizeRequest;
use vault_proto::v1::tokenization_client::TokenizationClient;

use crate::cli::Detokenize;
use crate::failure::Failure;
use crate::output::Record;

use super::{Session, ask, timed, wire};

/// Shows the value that a token stands for, masked unless revealed.
pub(super) async fn run(session: &Session, options: Detokenize) -> Result<(), Failure> {
    // Before the vault is asked: an answer that may not be shown is not fetched.
    let reveal = options.reveal.on_stdout()?;
    let request = DetokenizeRequest {
        token: options.token,
        purpose: options.release.purpose,
        recipient: options.release.recipient,
        reference: options.release.reference,
    };
    let daemons = session.daemons()?;
    let answer = ask(&daemons, Repeat::Freely, |channel| {
        let request = timed(request.clone());
        async { TokenizationClient::new(channel).detokenize(request).await }
    })
    .await?;
    let shown = wire::Shown::of(answer.value.as_ref(), reveal);
    let record = Record::new()
        .text("value", shown.value.as_str())
        .text("expiry", shown.expiry.as_str())
        .text("cardholder_name", shown.cardholder_name.as_str())
        .count("record_version", answer.record_version)
        .text("create_time", wire::time(answer.create_time))
        .text("receipt", wire::receipt(answer.receipt.as_ref()));
    session.output.write(&record)
}
