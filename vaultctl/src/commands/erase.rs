//! `erase`.

use vault_proto::daemons::Repeat;
use vault_proto::v1::EraseTokenRequest;
use vault_proto::v1::tokenization_client::TokenizationClient;

use crate::cli::Erase;
use crate::failure::Failure;
use crate::output::Record;

use super::{Session, ask, timed, wire};

/// Has a value erased, and shows the receipt of it.
pub(super) async fn run(session: &Session, options: Erase) -> Result<(), Failure> {
    let request = EraseTokenRequest { token: options.token, reference: options.reference };
    let daemons = session.daemons()?;
    let answer = ask(&daemons, Repeat::IfUndone, |channel| {
        let request = timed(request.clone());
        async { TokenizationClient::new(channel).erase_token(request).await }
    })
    .await?;
    let record = Record::new().flag("erased", true);
    session.output.write(&record.text("receipt", wire::receipt(answer.receipt.as_ref())))
}
