//! `show`.

use vault_proto::daemons::Repeat;
use vault_proto::v1::GetTokenRequest;
use vault_proto::v1::tokenization_client::TokenizationClient;

use crate::cli::Show;
use crate::failure::Failure;
use crate::output::Record;

use super::{Session, ask, timed, wire};

/// Shows what is known of a token.
pub(super) async fn run(session: &Session, options: Show) -> Result<(), Failure> {
    let request = GetTokenRequest { token: options.token, reference: options.reference };
    let daemons = session.daemons()?;
    let answer = ask(&daemons, Repeat::Freely, |channel| {
        let request = timed(request.clone());
        async { TokenizationClient::new(channel).get_token(request).await }
    })
    .await?;
    let state = wire::state(answer.state());
    let record = wire::masked(Record::new(), answer.masked)
        .text("state", state)
        .count("record_version", answer.record_version)
        .text("create_time", wire::time(answer.create_time))
        .text("receipt", wire::receipt(answer.receipt.as_ref()));
    session.output.write(&record)
}
