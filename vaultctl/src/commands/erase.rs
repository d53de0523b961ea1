//! `erase`.

use vault_proto::v1::EraseTokenRequest;
use vault_proto::v1::tokenization_client::TokenizationClient;

use crate::cli::Erase;
use crate::failure::Failure;
use crate::output::Record;

use super::{Session, timed, wire};

/// Has a value erased, and shows the receipt of it.
pub(super) async fn run(session: &Session, options: Erase) -> Result<(), Failure> {
    let request = EraseTokenRequest { token: options.token, reference: options.reference };
    let mut client = TokenizationClient::new(session.connector()?.connect().await?);
    let answer = client.erase_token(timed(request)).await?.into_inner();
    let record = Record::new().flag("erased", true);
    session.output.write(&record.text("receipt", wire::receipt(answer.receipt.as_ref())))
}
