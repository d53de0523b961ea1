//! `status`, and how the other commands of custodians answer.

use vault_proto::v1::custody_client::CustodyClient;
use vault_proto::v1::vault_status::State;
use vault_proto::v1::{GetStatusRequest, OtherDaemon, VaultStatus};

use crate::failure::Failure;
use crate::output::Record;

use super::{Session, custody, timed};

/// Shows in which state the vault is.
pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let mut client = CustodyClient::new(session.connector()?.connect().await?);
    let answer = client.get_status(timed(GetStatusRequest {})).await?;
    session.output.write(&record(answer.into_inner()))
}

/// The other daemons, each with its log's size, and whether it decides by another policy or has not confirmed
/// the keyring of now.
fn others(daemons: &[OtherDaemon]) -> String {
    let other = |daemon: &OtherDaemon| {
        let policy = if daemon.same_policy { "" } else { ", ANOTHER POLICY" };
        let keyring = if daemon.has_keyring { "" } else { ", ANOTHER KEYRING" };
        format!("{} ({} entries{policy}{keyring})", daemon.log_origin, daemon.log_size)
    };
    daemons.iter().map(other).collect::<Vec<_>>().join("; ")
}

/// A status as it is shown.
pub(super) fn record(status: VaultStatus) -> Record {
    let state = match status.state() {
        State::Unspecified => "unknown",
        State::Sealed => "sealed",
        State::Unsealed => "unsealed",
        State::Suspended => "suspended",
    };
    // A sealed vault has no log to count.
    let sealed = status.state() == State::Sealed;
    let anchored = Some(status.anchored_log_size).filter(|size| sealed && *size > 0);
    let needed = if status.shares_needed == 0 { String::new() } else { status.shares_needed.to_string() };
    let ceremony = status.ceremony.unwrap_or_default();
    Record::new()
        .text("state", state)
        .text("sealed_because", status.sealed_because)
        .text("environment", status.environment)
        .text("vault_id", status.vault_id)
        .text("seal_kind", status.seal_kind)
        .text("seal_note", status.seal_note)
        .text("shares_needed", needed)
        .text("custodians", status.custodians.join(", "))
        .text("ceremony", ceremony.name.as_str())
        .text("shares_given", custody::given(&ceremony))
        .count("keyring_generation", status.keyring_generation)
        .text("log_origin", status.log_origin)
        .known("log_size", Some(status.log_size).filter(|_| !sealed), "unknown (sealed)")
        .known("anchored_log_size", anchored, "")
        .text("log_verifier_key", status.log_verifier_key)
        .text("store_kind", status.store_kind)
        .text("other_daemons", others(&status.other_daemons))
}
