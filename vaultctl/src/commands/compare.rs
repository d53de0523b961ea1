//! `compare`.

use vault_proto::daemons::Repeat;
use vault_proto::v1::CompareLastFourRequest;
use vault_proto::v1::tokenization_client::TokenizationClient;

use crate::cli::Compare;
use crate::failure::Failure;
use crate::output::Record;

use super::{Session, ask, timed, wire};

/// Says whether a token's value ends in four digits.
pub(super) async fn run(session: &Session, options: Compare) -> Result<(), Failure> {
    let daemons = session.daemons()?;
    let last_four = options.source.line("Last four digits: ")?;
    let request = CompareLastFourRequest {
        token: options.token,
        last_four: last_four.trim_ascii().to_vec(),
        reference: options.reference,
    };
    let answer = ask(&daemons, Repeat::Freely, |channel| {
        let request = timed(request.clone());
        async { TokenizationClient::new(channel).compare_last_four(request).await }
    })
    .await?;
    let record = Record::new().flag("matches", answer.matches);
    session.output.write(&record.text("receipt", wire::receipt(answer.receipt.as_ref())))
}
