//! `unseal`.

use vault_proto::v1::UnsealRequest;
use vault_proto::v1::custody_client::CustodyClient;

use crate::cli::Unseal;
use crate::failure::Failure;

use super::{Session, status, timed};

/// Gives the vault its passphrase, or has it ask its HSM, and shows its state then.
pub(super) async fn run(session: &Session, options: &Unseal) -> Result<(), Failure> {
    let connector = session.connector()?;
    let mut request = UnsealRequest { passphrase: Vec::new(), hsm: options.hsm };
    if !options.hsm {
        request.passphrase = options.source.line("Passphrase: ")?.to_vec();
    }
    let mut client = CustodyClient::new(connector.connect().await?);
    let answer = client.unseal(timed(request)).await?;
    session.output.write(&status::record(answer.into_inner()))
}
