//! `find`.

use vault_proto::daemons::Repeat;
use vault_proto::v1::FindByValueRequest;
use vault_proto::v1::tokenization_client::TokenizationClient;

use crate::cli::Find;
use crate::failure::Failure;
use crate::output::Record;

use super::{Session, ask, timed, wire};

/// Shows the token of a value, if there is one.
pub(super) async fn run(session: &Session, options: Find) -> Result<(), Failure> {
    let daemons = session.daemons()?;
    let value = options.source.number(options.class)?;
    let request = FindByValueRequest { value: Some(value), reference: options.reference };
    let answer = ask(&daemons, Repeat::Freely, |channel| {
        let request = timed(request.clone());
        async { TokenizationClient::new(channel).find_by_value(request).await }
    })
    .await?;
    let record = Record::new().flag("found", answer.found).text("token", answer.token);
    session.output.write(&record.text("receipt", wire::receipt(answer.receipt.as_ref())))
}
