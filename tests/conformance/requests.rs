//! Requests, valid and nearly so.

use vault_proto::DUTIES;
use vault_proto::v1 as wire;

use crate::rpcs::Ask;
use crate::site::{OWN, PASSPHRASE, Stage};

pub(crate) fn card(pan: &str) -> wire::Value {
    whole_card(pan, None, None)
}

pub(crate) fn whole_card(pan: &str, month: Option<u32>, name: Option<&str>) -> wire::Value {
    let card = wire::Card {
        pan: pan.as_bytes().to_vec(),
        expiry: month.map(|month| wire::Expiry { month, year: 2030 }),
        cardholder_name: name.map(|name| name.as_bytes().to_vec()),
    };
    wire::Value { kind: Some(wire::value::Kind::Card(card)) }
}

pub(crate) fn ssn(number: &str) -> wire::Value {
    let ssn = wire::Ssn { number: number.as_bytes().to_vec() };
    wire::Value { kind: Some(wire::value::Kind::Ssn(ssn)) }
}

pub(crate) fn tokenize(value: wire::Value) -> wire::TokenizeRequest {
    wire::TokenizeRequest { value: Some(value), ..wire::TokenizeRequest::default() }
}

pub(crate) fn release(token: &str) -> wire::DetokenizeRequest {
    wire::DetokenizeRequest {
        token: token.to_owned(),
        purpose: "settlement".to_owned(),
        recipient: "acquirer".to_owned(),
        reference: "case-1".to_owned(),
    }
}

/// The batch that is the same as a single call.
pub(crate) fn batch_of(request: wire::DetokenizeRequest) -> Ask {
    let wire::DetokenizeRequest { token, purpose, recipient, reference } = request;
    let items = vec![wire::BatchDetokenizeItem { token }];
    Ask::BatchDetokenize(wire::BatchDetokenizeRequest { items, purpose, recipient, reference })
}

pub(crate) fn seal(reason: &str) -> Ask {
    Ask::Seal(wire::SealRequest { reason: reason.to_owned() })
}

pub(crate) fn unseal(passphrase: &str) -> Ask {
    Ask::Unseal(wire::UnsealRequest { passphrase: passphrase.as_bytes().to_vec(), hsm: false })
}

pub(crate) fn share(ceremony: &str, share: &str) -> Ask {
    let (ceremony, share) = (ceremony.to_owned(), share.as_bytes().to_vec());
    Ask::SubmitShare(wire::SubmitShareRequest { ceremony, share, duties: DUTIES.to_owned() })
}

/// A rotation that finds no such tenant: one of a tenant with records has the vault write entries of its own
/// in the background, for as long as it takes.
pub(crate) fn rotate(tenant: &str) -> wire::RotateKeysRequest {
    let (tenant, class) = (tenant.to_owned(), wire::Class::Pan.into());
    wire::RotateKeysRequest { tenant, class, reason: "case-1".to_owned() }
}

pub(crate) fn destroy(tenant: &str, version: u32) -> wire::DestroyKeysRequest {
    let wire::RotateKeysRequest { tenant, class, reason } = rotate(tenant);
    wire::DestroyKeysRequest { tenant, class, version, reason }
}

pub(crate) fn list(start_index: u64) -> Ask {
    Ask::ListEntries(wire::ListEntriesRequest { start_index, page_size: 1 })
}

pub(crate) fn prove(index: u64, leaf_hash: &[u8]) -> Ask {
    Ask::ProveInclusion(wire::ProveInclusionRequest { index, leaf_hash: leaf_hash.to_vec() })
}

pub(crate) fn consistency(from_size: u64, to_size: u64) -> Ask {
    Ask::ProveConsistency(wire::ProveConsistencyRequest { from_size, to_size })
}

/// A call of an RPC that takes a value.
pub(crate) fn with_value(rpc: &str, value: Option<wire::Value>) -> Ask {
    match rpc {
        "Tokenize" => Ask::Tokenize(wire::TokenizeRequest { value, ..wire::TokenizeRequest::default() }),
        "BatchTokenize" => {
            let item = wire::BatchTokenizeItem { value, ..wire::BatchTokenizeItem::default() };
            batch_tokenize(vec![item])
        }
        "FindByValue" => Ask::FindByValue(wire::FindByValueRequest { value, reference: String::new() }),
        _ => panic!("{rpc} takes no value"),
    }
}

pub(crate) fn batch_tokenize(items: Vec<wire::BatchTokenizeItem>) -> Ask {
    Ask::BatchTokenize(wire::BatchTokenizeRequest { items, idempotency_key: String::new() })
}

/// A call of an RPC that takes a token.
pub(crate) fn with_token(rpc: &str, token: &str) -> Ask {
    let (text, reference) = (token.to_owned(), String::new());
    match rpc {
        "Detokenize" => Ask::Detokenize(release(token)),
        "BatchDetokenize" => batch_of(release(token)),
        "GetToken" => Ask::GetToken(wire::GetTokenRequest { token: text, reference }),
        "CompareLastFour" => {
            let last_four = b"1111".to_vec();
            Ask::CompareLastFour(wire::CompareLastFourRequest { token: text, last_four, reference })
        }
        "EraseToken" => erase(token, "case-1"),
        _ => panic!("{rpc} takes no token"),
    }
}

pub(crate) fn erase(token: &str, reference: &str) -> Ask {
    Ask::EraseToken(wire::EraseTokenRequest { token: token.to_owned(), reference: reference.to_owned() })
}

/// A valid call but for its reference, or for its reason.
pub(crate) fn with_text(rpc: &str, stage: &Stage, text: &str) -> Ask {
    let reference = text.to_owned();
    match valid(rpc, stage) {
        Ask::Tokenize(request) => Ask::Tokenize(wire::TokenizeRequest { reference, ..request }),
        Ask::Detokenize(request) => Ask::Detokenize(wire::DetokenizeRequest { reference, ..request }),
        Ask::GetToken(request) => Ask::GetToken(wire::GetTokenRequest { reference, ..request }),
        Ask::CompareLastFour(mut request) => {
            request.reference = reference;
            Ask::CompareLastFour(request)
        }
        Ask::FindByValue(request) => Ask::FindByValue(wire::FindByValueRequest { reference, ..request }),
        Ask::EraseToken(request) => Ask::EraseToken(wire::EraseTokenRequest { reference, ..request }),
        Ask::BatchTokenize(mut request) => {
            request.items[0].reference = reference;
            Ask::BatchTokenize(request)
        }
        Ask::BatchDetokenize(request) => {
            Ask::BatchDetokenize(wire::BatchDetokenizeRequest { reference, ..request })
        }
        Ask::Seal(_) => seal(text),
        Ask::RotateKeys(request) => Ask::RotateKeys(wire::RotateKeysRequest { reason: reference, ..request }),
        Ask::DestroyKeys(request) => {
            Ask::DestroyKeys(wire::DestroyKeysRequest { reason: reference, ..request })
        }
        _ => panic!("{rpc} takes no text"),
    }
}

/// A tokenize call, single or batch, with an idempotency key.
pub(crate) fn with_key(rpc: &str, pan: &str, key: &str) -> Ask {
    match with_value(rpc, Some(card(pan))) {
        Ask::Tokenize(request) => {
            Ask::Tokenize(wire::TokenizeRequest { idempotency_key: key.to_owned(), ..request })
        }
        Ask::BatchTokenize(request) => {
            Ask::BatchTokenize(wire::BatchTokenizeRequest { idempotency_key: key.to_owned(), ..request })
        }
        _ => panic!("{rpc} takes no idempotency key"),
    }
}

/// A call that is served to its [`caller`]; steps of ceremonies as far as an open vault serves them, changes
/// of keys as far as there are such keys.
pub(crate) fn valid(rpc: &str, stage: &Stage) -> Ask {
    match rpc {
        "Tokenize" | "BatchTokenize" | "FindByValue" => with_value(rpc, Some(card(OWN))),
        "Detokenize" | "BatchDetokenize" | "GetToken" | "CompareLastFour" => with_token(rpc, &stage.own),
        "EraseToken" => with_token(rpc, &stage.spare),
        "ListEntries" => list(0),
        "GetCheckpoint" => Ask::GetCheckpoint(wire::GetCheckpointRequest {}),
        "ProveInclusion" => prove(stage.receipt.index, &stage.receipt.leaf_hash),
        "ProveConsistency" => consistency(1, 2),
        "ListKeys" => Ask::ListKeys(wire::ListKeysRequest::default()),
        "RotateKeys" => Ask::RotateKeys(rotate("nobody")),
        "DestroyKeys" => Ask::DestroyKeys(destroy("nobody", 1)),
        "GetStatus" => Ask::GetStatus(wire::GetStatusRequest {}),
        "Unseal" => unseal(PASSPHRASE),
        "BeginCeremony" => Ask::BeginCeremony(wire::BeginCeremonyRequest {}),
        "SubmitShare" => share("abcdefghijkl", "vaultshare1_"),
        "CancelCeremony" => {
            Ask::CancelCeremony(wire::CancelCeremonyRequest { ceremony: "abcdefghijkl".to_owned() })
        }
        "Seal" => seal("drill"),
        _ => panic!("no request is written for {rpc}"),
    }
}

/// Whose work an RPC is.
pub(crate) fn caller(rpc: &str) -> &'static str {
    match rpc {
        "Tokenize" | "BatchTokenize" => "checkout",
        "Detokenize" | "BatchDetokenize" | "GetToken" | "CompareLastFour" | "FindByValue" => "billing",
        "EraseToken" => "care",
        "ListKeys" | "RotateKeys" | "DestroyKeys" => "custodian",
        "GetStatus" | "Unseal" | "Seal" | "BeginCeremony" | "SubmitShare" | "CancelCeremony" => "custodian",
        _ => "auditor",
    }
}

/// As which action an RPC of a principal is entered.
pub(crate) fn action(rpc: &str, by: &str) -> &'static str {
    match rpc {
        "Tokenize" | "BatchTokenize" => "tokenize",
        "Detokenize" | "BatchDetokenize" => "detokenize",
        // Of these, only billing sees the BIN.
        "GetToken" if by == "billing" => "view-bin",
        "GetToken" => "view",
        "CompareLastFour" => "compare",
        "FindByValue" => "find-by-value",
        "EraseToken" => "erase",
        "ListEntries" => "audit-read",
        "GetStatus" | "ListKeys" => "status",
        "RotateKeys" => "rotate-keys",
        "DestroyKeys" => "destroy-keys",
        "Unseal" => "unseal",
        "BeginCeremony" => "ceremony-begun",
        "SubmitShare" => "share-given",
        "CancelCeremony" => "ceremony-cancelled",
        "Seal" => "seal",
        _ => "prove",
    }
}
