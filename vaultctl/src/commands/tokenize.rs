//! `tokenize`.

use vault_proto::v1::TokenizeRequest;
use vault_proto::v1::tokenization_client::TokenizationClient;

use crate::cli::Tokenize;
use crate::failure::Failure;
use crate::output::Record;

use super::{Session, timed, wire};

/// Stores a value and shows its token.
pub(super) async fn run(session: &Session, options: Tokenize) -> Result<(), Failure> {
    let connector = session.connector()?;
    let value = options.source.value(options.class, options.details)?;
    let request = TokenizeRequest {
        value: Some(value),
        purposes: options.purpose,
        reference: options.reference,
        idempotency_key: options.idempotency_key,
    };
    let mut client = TokenizationClient::new(connector.connect().await?);
    let answer = client.tokenize(timed(request)).await?.into_inner();
    let record = Record::new().text("token", answer.token);
    let record = wire::masked(record, answer.masked);
    session.output.write(&record.text("receipt", wire::receipt(answer.receipt.as_ref())))
}
