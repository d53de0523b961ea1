//! `seal`.

use vault_proto::v1::SealRequest;
use vault_proto::v1::custody_client::CustodyClient;

use crate::cli::Seal;
use crate::failure::Failure;

use super::{Session, status, timed};

/// Closes the vault, and shows its state then.
pub(super) async fn run(session: &Session, options: Seal) -> Result<(), Failure> {
    let mut client = CustodyClient::new(session.connector()?.connect().await?);
    let answer = client.seal(timed(SealRequest { reason: options.reason })).await?;
    session.output.write(&status::record(answer.into_inner()))
}
