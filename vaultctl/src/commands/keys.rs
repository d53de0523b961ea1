//! `custody keys`, `rotate` and `destroy-keys`: the life of the keys that protect values.

use std::fs;

use vault_proto::Connector;
use vault_proto::v1::keys_client::KeysClient;
use vault_proto::v1::{
    DestroyKeysRequest, DestroyKeysResponse, KeyVersion, ListKeysRequest, ProveInclusionResponse,
    RotateKeysRequest, key_version, rewrap,
};

use crate::cli::{DestroyKeys, Rotate};
use crate::failure::Failure;
use crate::output::{Format, Record};

use super::audit::proof::Proof;
use super::audit::prove;
use super::{Session, timed, wire};

/// Shows every key version, one a line.
pub(super) async fn list(session: &Session) -> Result<(), Failure> {
    let mut client = KeysClient::new(session.connector()?.connect().await?);
    let mut page_token = String::new();
    loop {
        let request = ListKeysRequest { page_size: 0, page_token: page_token.clone() };
        let page = client.list_keys(timed(request)).await?.into_inner();
        for key in page.keys {
            session.output.write_line(&listed(&key, session.output))?;
        }
        if page.next_page_token.is_empty() || page.next_page_token == page_token {
            return Ok(());
        }
        page_token = page.next_page_token;
    }
}

/// Has keys rotated, and shows which version encrypts now, or will.
pub(super) async fn rotate(session: &Session, options: Rotate) -> Result<(), Failure> {
    let Rotate { tenant, class, reason } = options;
    let mut client = KeysClient::new(session.connector()?.connect().await?);
    let request = RotateKeysRequest { tenant: tenant.clone(), class: wire::class_of(class).into(), reason };
    let rotated = client.rotate_keys(timed(request)).await?.into_inner();
    let class = wire::class(wire::class_of(class));
    let record = Record::new().text("tenant", tenant).text("class", class).count("version", rotated.version);
    session.output.write(&record.text("state", state(rotated.state())))
}

/// Has a version destroyed, and keeps the certificate.
pub(super) async fn destroy(session: &Session, options: DestroyKeys) -> Result<(), Failure> {
    let DestroyKeys { whose: Rotate { tenant, class, reason }, version, certificate, .. } = options;
    let connector = session.connector()?;
    // Before anything is destroyed: there is a place for the certificate.
    let file = prove::new_file(&certificate)?;
    let request = DestroyKeysRequest { tenant, class: wire::class_of(class).into(), version, reason };
    let destroyed = ask(&connector, request).await.inspect_err(|_| {
        let _ = fs::remove_file(&certificate); // empty
    });
    let answer = destroyed?;
    let receipt = answer.receipt.as_ref().and_then(wire::checked_receipt);
    let receipt = receipt.ok_or_else(|| Failure::Unproven("the vault's receipt is malformed".to_owned()))?;
    let inclusion = ProveInclusionResponse { hashes: answer.hashes, checkpoint: answer.checkpoint };
    let proof = Proof::new(&receipt, inclusion).with_entry(&answer.entry);
    prove::write(file, &certificate, &[proof])?;
    let record = Record::new().flag("destroyed", true).text("receipt", receipt.to_string());
    session.output.write(&record.text("certificate", certificate.display().to_string()))
}

async fn ask(connector: &Connector, request: DestroyKeysRequest) -> Result<DestroyKeysResponse, Failure> {
    let mut client = KeysClient::new(connector.connect().await?);
    Ok(client.destroy_keys(timed(request)).await?.into_inner())
}

fn listed(key: &KeyVersion, format: Format) -> Record {
    let rewrap = key.rewrap.unwrap_or_default();
    let record = Record::new()
        .text("tenant", key.tenant.as_str())
        .text("class", wire::class(key.class()))
        .count("version", key.version)
        .text("state", state(key.state()))
        .text("create_time", wire::time(key.create_time))
        .text("enable_time", wire::time(key.enable_time))
        .text("encrypt_end_time", wire::time(key.encrypt_end_time))
        .text("decrypt_end_time", wire::time(key.decrypt_end_time))
        .text("rewrap", phase(rewrap.phase()));
    match (format, &key.rewrap) {
        (Format::Json, Some(rewrap)) => record
            .count("rewrapped", rewrap.rewrapped)
            .count("left", rewrap.left)
            .text("rewrap_begin_time", wire::time(rewrap.begin_time))
            .text("rewrap_step_time", wire::time(rewrap.step_time)),
        (Format::Text, Some(rewrap)) => {
            record.text("progress", format!("{} rewrapped, {} left", rewrap.rewrapped, rewrap.left))
        }
        (_, None) => record,
    }
}

const fn state(state: key_version::State) -> &'static str {
    match state {
        key_version::State::Unspecified => "",
        key_version::State::Introduced => "introduced",
        key_version::State::Announced => "announced",
        key_version::State::Enabled => "enabled",
        key_version::State::DecryptOnly => "decrypt-only",
        key_version::State::Destroyed => "destroyed",
    }
}

const fn phase(phase: rewrap::Phase) -> &'static str {
    match phase {
        rewrap::Phase::Unspecified => "",
        rewrap::Phase::Rewrapping => "rewrapping",
        rewrap::Phase::ProvingRecords => "proving-records",
        rewrap::Phase::ProvingIndex => "proving-index",
        rewrap::Phase::Done => "done",
    }
}
