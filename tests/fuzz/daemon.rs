//! Messages of every RPC, mutated, in sound gRPC over mutual TLS: each is answered, and with a reason that
//! the caller is to blame for.

use std::collections::BTreeSet;

use bytes::{Buf as _, BufMut as _};
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use vault_daemon::TestVault;
use vault_proto::{reason, v1};

use crate::mutation::{Random, mutated};
use crate::panics::Watch;
use crate::protobuf::changed;
use crate::{attempt, rounds, seed};

/// Calls under way at once.
const TOGETHER: usize = 16;
const PAN: &[u8] = b"4111111111111111";
const WORDS: [&[u8]; 5] = [PAN, b"tok_pan_", b"settlement", b"078-05-1120", &[0x0a, 0xff, 0xff, 0x7f]];

pub(crate) fn card(pan: &[u8]) -> v1::Value {
    let expiry = Some(v1::Expiry { month: 12, year: 2030 });
    let card = v1::Card { pan: pan.to_vec(), expiry, cardholder_name: Some(b"Test Card".to_vec()) };
    v1::Value { kind: Some(v1::value::Kind::Card(card)) }
}

/// An RPC's path and a request that it grants, to whom.
pub(crate) type Call = (&'static str, &'static str, Vec<u8>);

/// One sound call of each RPC but `Seal`, after which there would be nothing to call.
pub(crate) fn sound_calls(token: &str) -> Vec<Call> {
    let (purpose, recipient) = ("settlement".to_owned(), "acquirer".to_owned());
    let (token, reference) = (token.to_owned(), "case-1".to_owned());
    let single = v1::TokenizeRequest {
        value: Some(card(PAN)),
        purposes: vec![purpose.clone()],
        reference: reference.clone(),
        idempotency_key: "key-1".to_owned(),
    };
    let ssn = v1::value::Kind::Ssn(v1::Ssn { number: b"078-05-1120".to_vec() });
    let items = [card(PAN), v1::Value { kind: Some(ssn) }].map(|value| v1::BatchTokenizeItem {
        value: Some(value),
        purposes: vec![purpose.clone()],
        reference: reference.clone(),
    });
    let batch = v1::BatchTokenizeRequest { items: items.to_vec(), idempotency_key: "key-2".to_owned() };
    let detokenize = v1::DetokenizeRequest {
        token: token.clone(),
        purpose: purpose.clone(),
        recipient: recipient.clone(),
        reference: reference.clone(),
    };
    let items = vec![v1::BatchDetokenizeItem { token: token.clone() }; 3];
    let batch_detokenize =
        v1::BatchDetokenizeRequest { items, purpose, recipient, reference: reference.clone() };
    let bare = v1::Card { pan: PAN.to_vec(), expiry: None, cardholder_name: None };
    let last_four = PAN[12..].to_vec();
    let bare = Some(v1::Value { kind: Some(v1::value::Kind::Card(bare)) });
    let find = v1::FindByValueRequest { value: bare, reference: reference.clone() };
    let view = v1::GetTokenRequest { token: token.clone(), reference: reference.clone() };
    let compare = v1::CompareLastFourRequest { token, last_four, reference };
    // Another's, so that what the other calls ask for stays.
    let unknown = token_of_nobody(&compare.token);
    let erase = v1::EraseTokenRequest { token: unknown, reference: "case-1".to_owned() };
    let (tenant, class, reason) = ("nobody".to_owned(), v1::Class::Pan.into(), "case-1".to_owned());
    let rotate = v1::RotateKeysRequest { tenant: tenant.clone(), class, reason: reason.clone() };
    let destroy = v1::DestroyKeysRequest { tenant, class, version: 1, reason };
    let keys = v1::ListKeysRequest { page_size: 10, page_token: "1".to_owned() };
    let entries = v1::ListEntriesRequest { start_index: 1, page_size: 10 };
    let consistency = v1::ProveConsistencyRequest { from_size: 1, to_size: 2 };
    let inclusion = v1::ProveInclusionRequest { index: 1, leaf_hash: vec![7; 32] };
    vec![
        ("checkout", "/vault.v1.Tokenization/Tokenize", single.encode_to_vec()),
        ("checkout", "/vault.v1.Batches/BatchTokenize", batch.encode_to_vec()),
        ("billing", "/vault.v1.Tokenization/Detokenize", detokenize.encode_to_vec()),
        ("billing", "/vault.v1.Batches/BatchDetokenize", batch_detokenize.encode_to_vec()),
        ("billing", "/vault.v1.Tokenization/GetToken", view.encode_to_vec()),
        ("billing", "/vault.v1.Tokenization/CompareLastFour", compare.encode_to_vec()),
        ("billing", "/vault.v1.Tokenization/FindByValue", find.encode_to_vec()),
        ("care", "/vault.v1.Tokenization/EraseToken", erase.encode_to_vec()),
        ("auditor", "/vault.v1.Audit/ListEntries", entries.encode_to_vec()),
        ("auditor", "/vault.v1.Audit/GetCheckpoint", Vec::new()),
        ("auditor", "/vault.v1.Audit/ProveConsistency", consistency.encode_to_vec()),
        ("auditor", "/vault.v1.Audit/ProveInclusion", inclusion.encode_to_vec()),
        ("custodian", "/vault.v1.Custody/GetStatus", Vec::new()),
        ("custodian", "/vault.v1.Keys/ListKeys", keys.encode_to_vec()),
        ("custodian", "/vault.v1.Keys/RotateKeys", rotate.encode_to_vec()),
        ("custodian", "/vault.v1.Keys/DestroyKeys", destroy.encode_to_vec()),
        (
            "custodian",
            "/vault.v1.Custody/Unseal",
            v1::UnsealRequest { passphrase: vec![b'x'; 15], hsm: false }.encode_to_vec(),
        ),
    ]
}

fn token_of_nobody(token: &str) -> String {
    token.replace("tok_pan_", "tok_ssn_")
}

#[test]
fn every_message_is_answered_and_what_is_refused_is_the_callers_fault() {
    let watch = Watch::begin();
    let vault = TestVault::start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let token = serves(&vault).await;
        let calls = sound_calls(&token);
        let mut clients = Vec::new();
        for (principal, path, message) in &calls {
            let client = vault.connector(principal).unwrap().connect().await.unwrap();
            let answer = call(client.clone(), path, message.clone()).await;
            let expected = match *path {
                // The hash of the proof is nobody's, nor is the token.
                "/vault.v1.Audit/ProveInclusion" => Code::InvalidArgument,
                "/vault.v1.Tokenization/EraseToken" => Code::NotFound,
                // Nor has nobody keys.
                "/vault.v1.Keys/RotateKeys" | "/vault.v1.Keys/DestroyKeys" => Code::FailedPrecondition,
                _ => Code::Ok,
            };
            assert_eq!(code(&answer), expected, "{path}");
            clients.push(client);
        }
        let whole: Vec<Vec<u8>> = calls.iter().map(|(_, _, message)| message.clone()).collect();
        let (mut random, mut met) = (Random::of("messages"), BTreeSet::new());
        for _ in 0..rounds(2_500) {
            let mut asked = tokio::task::JoinSet::new();
            for _ in 0..TOGETHER {
                let at = random.below(calls.len());
                let (client, path) = (clients[at].clone(), calls[at].1);
                let message = match random.below(4) {
                    0 => mutated(&mut random, &whole, &WORDS),
                    _ => changed(&mut random, &whole[at], &WORDS),
                };
                asked.spawn(async move { (path, message.clone(), call(client, path, message).await) });
            }
            while let Some(answered) = asked.join_next().await {
                let (path, message, answer) = answered.unwrap();
                attempt(path, &message, || judge(&answer));
                met.extend(answer.err().and_then(|status| reason(&status)));
            }
        }
        assert!(met.len() >= 12, "no more checks than these were reached: {met:?}");
        serves(&vault).await;
    });
    watch.end();
}

fn code(answer: &Result<Vec<u8>, Status>) -> Code {
    answer.as_ref().err().map_or(Code::Ok, Status::code)
}

/// What no caller should be able to bring about, however wrong the request.
fn judge(answer: &Result<Vec<u8>, Status>) {
    let Err(status) = answer else { return };
    assert!(!status.message().contains("411111111111"), "a refusal repeats what was sent");
    match reason(status).as_deref() {
        Some("BUG" | "CORRUPT" | "STORE" | "OUTCOME_UNKNOWN" | "SEALED") => panic!("{status:?}"),
        Some(_) => {}
        // Without a reason gRPC itself refuses: what is no protobuf, or too large.
        None => assert!(matches!(status.code(), Code::Internal | Code::OutOfRange | Code::ResourceExhausted)),
    }
}

/// That the vault does what it is for; gives a token.
pub(crate) async fn serves(vault: &TestVault) -> String {
    use v1::tokenization_client::TokenizationClient;
    let connect = async |principal| vault.connector(principal).unwrap().connect().await.unwrap();
    let request = v1::TokenizeRequest { value: Some(card(PAN)), ..v1::TokenizeRequest::default() };
    let stored = TokenizationClient::new(connect("checkout").await).tokenize(request).await;
    let token = stored.unwrap().into_inner().token;
    let request = v1::DetokenizeRequest {
        token: token.clone(),
        purpose: "settlement".to_owned(),
        recipient: "acquirer".to_owned(),
        reference: "case-1".to_owned(),
    };
    let released = TokenizationClient::new(connect("billing").await).detokenize(request).await;
    let value = released.unwrap().into_inner().value.unwrap();
    let Some(v1::value::Kind::Card(card)) = &value.kind else { panic!("no card with seed {}", seed()) };
    assert_eq!(card.pan, PAN);
    token
}

/// Calls with a message of any bytes.
async fn call(channel: Channel, path: &'static str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let answer = grpc.unary(Request::new(message), PathAndQuery::from_static(path), AnyBytes).await;
    answer.map(tonic::Response::into_inner)
}

/// Messages as they are on the wire.
#[derive(Clone, Copy)]
struct AnyBytes;

impl Codec for AnyBytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for AnyBytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for AnyBytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; from.remaining()];
        from.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}
