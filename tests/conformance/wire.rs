//! What gRPC itself refuses, without a reason of the vault's, and what it lets pass unseen.

use bytes::{Buf, BufMut};
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use vault_core::limits::{BATCH_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX};
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::{BatchTokenizeItem, ListEntriesRequest};

use crate::complete::rpcs;
use crate::requests::{batch_tokenize, caller, card, valid};
use crate::site::{EVERY_ENGINE, FOREIGN, OWN, Site};
use crate::{holds, logs};

/// Messages as bytes, whatever they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

async fn call(site: &Site, principal: &str, path: &'static str, message: Vec<u8>) -> Result<(), Status> {
    let mut client = Grpc::new(site.channel(principal));
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static(path);
    client.unary(Request::new(message), path, Raw).await.map(drop)
}

/// Field 1,000 of any message, of which no message knows.
fn unknown_field(content: &[u8]) -> Vec<u8> {
    let mut field = varint(1_000 << 3 | 2);
    field.extend(varint(content.len() as u64));
    field.extend_from_slice(content);
    field
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(number, &mut bytes);
    bytes
}

fn bound(rpc: &str) -> usize {
    if rpc.starts_with("Batch") { BATCH_MESSAGE_BYTES_MAX } else { MESSAGE_BYTES_MAX }
}

/// A valid call is served; a step of a ceremony is understood, and refused since the vault is open.
#[track_caller]
fn understood(rpc: &str, answered: &Result<(), Status>) {
    let reason = answered.as_ref().err().and_then(vault_proto::reason);
    let finds_nothing = matches!(reason.as_deref(), Some("UNSEALED" | "NO_CEREMONY" | "NO_SUCH_KEY"));
    assert!(answered.is_ok() || finds_nothing, "{rpc}: {answered:?}");
}

/// A status of gRPC's own, which repeats nothing.
fn check_bare(rpc: &str, answered: Result<(), Status>, code: Code) {
    let status = answered.unwrap_err();
    assert_eq!(status.code(), code, "{rpc}: {}", status.message());
    assert_eq!(vault_proto::reason(&status), None, "{rpc}");
    assert!(!holds(status.message().as_bytes(), FOREIGN.as_bytes()), "{rpc}: {}", status.message());
}

#[tokio::test]
async fn an_unknown_field_is_dropped_and_neither_logged_nor_kept() {
    for engine in EVERY_ENGINE {
        let site = Site::start_on(engine).await;
        let log = logs::mark();
        for rpc in rpcs() {
            let ask = valid(&rpc, &site.stage);
            let message = [ask.bytes(), unknown_field(FOREIGN.as_bytes())].concat();
            understood(&rpc, &call(&site, caller(&rpc), ask.path(), message).await);
            if rpc == "Seal" {
                site.unseal().await;
            }
        }
        assert!(!logs::holds_since(log, FOREIGN.as_bytes()), "a PAN in an unknown field was logged");
        let rows = site.store.image();
        assert!(!rows.values().any(|row| holds(&row.value, FOREIGN.as_bytes())), "it was kept");
    }
}

#[tokio::test]
async fn a_message_beyond_its_bound_is_refused_and_one_of_exactly_its_bound_is_not() {
    for engine in EVERY_ENGINE {
        let site = Site::start_on(engine).await;
        for rpc in rpcs() {
            let ask = valid(&rpc, &site.stage);
            let message = |bytes: usize| {
                let valid = ask.bytes();
                // A tag of two bytes and a length of three.
                let content = FOREIGN.bytes().cycle().take(bytes - valid.len() - 5).collect::<Vec<u8>>();
                [valid, unknown_field(&content)].concat()
            };
            let (fits, exceeds) = (message(bound(&rpc)), message(bound(&rpc) + 1));
            assert_eq!((fits.len(), exceeds.len()), (bound(&rpc), bound(&rpc) + 1));
            understood(&rpc, &call(&site, caller(&rpc), ask.path(), fits).await);
            if rpc == "Seal" {
                site.unseal().await;
            }
            let size = site.log_size().await;
            check_bare(&rpc, call(&site, caller(&rpc), ask.path(), exceeds).await, Code::OutOfRange);
            assert_eq!(site.log_size().await, size + 1, "{rpc}: it never reached policy");
        }
    }
}

#[tokio::test]
async fn a_page_of_the_log_ends_where_its_message_would_be_too_long() {
    for engine in EVERY_ENGINE {
        let site = Site::start_on(engine).await;
        let mark = site.log_size().await;
        let items = vec![BatchTokenizeItem { value: Some(card(OWN)), ..BatchTokenizeItem::default() }; 500];
        site.ask("checkout", batch_tokenize(items)).await.unwrap();
        let mut client = AuditClient::new(site.channel("watch"));
        let (mut next, mut tokenized) = (mark, Vec::new());
        for _ in 0..2 {
            let request = ListEntriesRequest { start_index: next, page_size: 500 };
            let page = client.list_entries(request).await.unwrap().into_inner();
            assert!(page.encoded_len() <= MESSAGE_BYTES_MAX && page.entries.len() < 500);
            assert_eq!(page.entries.last().unwrap().index + 1, page.next_index);
            next = page.next_index;
            tokenized.extend(page.entries.iter().map(|entry| entry.index));
        }
        assert!(tokenized.iter().copied().eq(mark..next), "no entry is passed over or told twice");
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused() {
    for engine in EVERY_ENGINE {
        let site = Site::start_on(engine).await;
        for rpc in rpcs() {
            let path = valid(&rpc, &site.stage).path();
            for junk in [FOREIGN.as_bytes().to_vec(), vec![0x0a, 0x7f, b'4'], vec![0xff; 16]] {
                let size = site.log_size().await;
                check_bare(&rpc, call(&site, caller(&rpc), path, junk).await, Code::Internal);
                assert_eq!(site.log_size().await, size + 1, "{rpc}: it never reached policy");
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_offered_is_unimplemented() {
    let site = Site::start().await;
    let paths = [
        "/vault.v1.Tokenization/Nothing",
        "/vault.v1.Nothing/Tokenize",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/",
    ];
    for path in paths {
        check_bare(path, call(&site, "checkout", path, Vec::new()).await, Code::Unimplemented);
    }
}
