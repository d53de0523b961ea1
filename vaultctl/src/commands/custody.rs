//! `custody`: ceremonies of custodians.

use vault_proto::v1::custody_client::CustodyClient;
use vault_proto::v1::{BeginCeremonyRequest, CancelCeremonyRequest, Ceremony, SubmitShareRequest, ceremony};
use vault_proto::{DUTIES, DUTIES_TEXT};

use crate::cli::{Cancel, Share};
use crate::failure::{Failure, complain};
use crate::output::Record;

use super::wire::time;
use super::{Session, timed};

/// Begins a ceremony, and shows the name under which others join it.
pub(super) async fn begin(session: &Session) -> Result<(), Failure> {
    let mut client = CustodyClient::new(session.connector()?.connect().await?);
    let answer = client.begin_ceremony(timed(BeginCeremonyRequest {})).await?;
    session.output.write(&record(&answer.into_inner()))
}

/// Gives a share.
pub(super) async fn share(session: &Session, options: Share) -> Result<(), Failure> {
    let connector = session.connector()?;
    if !options.accept_duties {
        DUTIES_TEXT.lines().for_each(complain);
        return Err(Failure::usage("by --accept-duties you accept these; nothing was given"));
    }
    let share = options.source.line("Share: ")?;
    let mut client = CustodyClient::new(connector.connect().await?);
    let request =
        SubmitShareRequest { ceremony: options.ceremony, share: share.to_vec(), duties: DUTIES.to_owned() };
    let answer = client.submit_share(timed(request)).await?;
    session.output.write(&record(&answer.into_inner()))
}

/// Ends a ceremony.
pub(super) async fn cancel(session: &Session, options: Cancel) -> Result<(), Failure> {
    let mut client = CustodyClient::new(session.connector()?.connect().await?);
    let answer = client.cancel_ceremony(timed(CancelCeremonyRequest { ceremony: options.ceremony })).await?;
    session.output.write(&record(&answer.into_inner()))
}

fn record(ceremony: &Ceremony) -> Record {
    let state = match ceremony.state() {
        ceremony::State::Unspecified => "unknown",
        ceremony::State::Open => "open",
        ceremony::State::Complete => "complete",
        ceremony::State::Cancelled => "cancelled",
    };
    Record::new()
        .text("ceremony", ceremony.name.as_str())
        .text("state", state)
        .text("begun_by", ceremony.begun_by.as_str())
        .text("end_time", time(ceremony.end_time))
        .count("shares_needed", ceremony.shares_needed)
        .text("given", given(ceremony))
}

/// Who gave which share: `ann 1, bob 3`.
pub(super) fn given(ceremony: &Ceremony) -> String {
    let given = ceremony.given.iter().map(|share| format!("{} {}", share.custodian, share.number));
    given.collect::<Vec<_>>().join(", ")
}
