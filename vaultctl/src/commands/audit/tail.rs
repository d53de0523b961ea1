//! `audit tail`.

use tonic::transport::Channel;
use vault_core::audit::leaf_hash;
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::entry::Actor;
use vault_proto::v1::{Entry, ListEntriesRequest, ListEntriesResponse};

use crate::cli::Tail;
use crate::commands::{Session, timed, wire};
use crate::failure::Failure;
use crate::output::{Format, Record};

use super::hex;

/// The most entries that the vault gives at once.
const PAGE_ENTRIES_MAX: u32 = 500;

/// Shows the newest entries, up to what the log held when first asked: every reading adds an entry of its
/// own.
pub(in crate::commands) async fn run(session: &Session, options: &Tail) -> Result<(), Failure> {
    let mut client = AuditClient::new(session.connector()?.connect().await?);
    let (mut next, mut end) = match options.start {
        Some(start) => (start, None),
        None => {
            let size = page(&mut client, 0, 1).await?.log_size;
            (size.saturating_sub(options.entries), Some(size))
        }
    };
    while end.is_none_or(|end| next < end) {
        let page = page(&mut client, next, PAGE_ENTRIES_MAX).await?;
        let end = *end.get_or_insert(page.log_size);
        for entry in page.entries.into_iter().filter(|entry| entry.index < end) {
            session.output.write_line(&record(entry, session.output))?;
        }
        if page.next_index <= next {
            break;
        }
        next = page.next_index;
    }
    Ok(())
}

async fn page(
    client: &mut AuditClient<Channel>,
    start_index: u64,
    page_size: u32,
) -> Result<ListEntriesResponse, Failure> {
    Ok(client.list_entries(timed(ListEntriesRequest { start_index, page_size })).await?.into_inner())
}

/// An entry as it is shown; programs get also what counts, its bytes.
fn record(entry: Entry, format: Format) -> Record {
    let class = wire::class(entry.class());
    let record = Record::new()
        .count("index", entry.index)
        .text("create_time", wire::time(entry.create_time))
        .text("actor", actor(entry.actor))
        .text("tenant", entry.tenant)
        .text("action", entry.action)
        .text("outcome", entry.outcome)
        .text("class", class)
        .text("token", entry.token)
        .text("purpose", entry.purpose)
        .text("recipient", entry.recipient)
        .text("reference", entry.reference)
        .text("note", entry.note);
    match format {
        Format::Text => record,
        Format::Json => record
            .flag("released", entry.released)
            .count("count", entry.count)
            .count("record_version", entry.record_version)
            .count("key_version", entry.key_version)
            .text("policy_hash", hex(&entry.policy_hash))
            .text("leaf_hash", hex(&leaf_hash(&entry.raw)))
            .text("raw", hex(&entry.raw)),
    }
}

fn actor(actor: Option<Actor>) -> String {
    match actor {
        Some(Actor::Principal(principal)) => principal,
        Some(Actor::UnknownIdentityHash(hash)) => format!("unknown:{}", hex(hash.get(..8).unwrap_or(&hash))),
        Some(Actor::Vault(_)) => "vault".to_owned(),
        None => String::new(),
    }
}
