//! Every RPC as a call about one record, and the word for what its caller saw.

use tonic::{Code, Status};
use vault_proto::DUTIES;
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::batches_client::BatchesClient;
use vault_proto::v1::custody_client::CustodyClient;
use vault_proto::v1::keys_client::KeysClient;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_proto::v1::{
    BatchDetokenizeItem, BatchDetokenizeRequest, BatchTokenizeItem, BatchTokenizeRequest,
    BeginCeremonyRequest, CancelCeremonyRequest, Class, CompareLastFourRequest, DestroyKeysRequest,
    DetokenizeRequest, EraseTokenRequest, FindByValueRequest, GetCheckpointRequest, GetStatusRequest,
    GetTokenRequest, ListEntriesRequest, ListKeysRequest, ProveConsistencyRequest, ProveInclusionRequest,
    Refusal, RotateKeysRequest, SealRequest, SubmitShareRequest, TokenizeRequest, Value,
    batch_detokenize_result, batch_tokenize_result, value,
};

use crate::site::{Site, Target, Whose, card};

/// Calls an RPC as a principal and says what that principal saw.
pub(crate) async fn seen(site: &Site, principal: &str, rpc: &str, of: Whose) -> String {
    let target = site.of(of);
    let answered = match rpc {
        "Tokenize" | "Detokenize" | "GetToken" | "CompareLastFour" | "FindByValue" => {
            one_value(site, principal, rpc, target).await
        }
        "EraseToken" => erase(site, principal, target, of).await,
        "BatchTokenize" | "BatchDetokenize" => batch(site, principal, rpc, target).await,
        "ListEntries" | "GetCheckpoint" | "ProveInclusion" | "ProveConsistency" => {
            log(site, principal, rpc, target).await
        }
        "ListKeys" | "RotateKeys" | "DestroyKeys" => keys(site, principal, rpc, of).await,
        "GetStatus" | "Unseal" | "Seal" => custody(site, principal, rpc).await,
        "BeginCeremony" | "SubmitShare" | "CancelCeremony" => ceremony(site, principal, rpc).await,
        _ => panic!("no call is written for {rpc}"),
    };
    match answered {
        Ok(true) => "served".to_owned(),
        Ok(false) => "nothing".to_owned(),
        Err(refused) => refused.word(),
    }
}

/// Why a call, or the one item of a batch, got no answer.
struct Refused {
    code: Code,
    reason: String,
}

impl Refused {
    fn word(&self) -> String {
        match (self.code, self.reason.as_str()) {
            (Code::PermissionDenied, "DENIED") => "denied".to_owned(),
            (Code::NotFound, "UNKNOWN_TOKEN") => "unknown".to_owned(),
            (Code::FailedPrecondition, "SEALED") => "sealed".to_owned(),
            (Code::FailedPrecondition, "UNSEALED" | "NO_CEREMONY" | "OTHER_SEAL" | "NO_SUCH_KEY") => {
                "unfit".to_owned()
            }
            (code, reason) => format!("{code:?} {reason}"),
        }
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let reason = vault_proto::reason(&status).unwrap_or_else(|| "without reason".to_owned());
        Self { code: status.code(), reason }
    }
}

impl From<&Refusal> for Refused {
    fn from(refusal: &Refusal) -> Self {
        Self { code: Code::from_i32(refusal.code), reason: refusal.reason.clone() }
    }
}

/// Whether the answer is about the target; an answer about something else holds nothing of it.
async fn one_value(site: &Site, principal: &str, rpc: &str, target: &Target) -> Result<bool, Refused> {
    let mut client = TokenizationClient::new(site.channel(principal));
    let (token, last_four) = (target.token.clone(), target.pan[12..].to_owned());
    Ok(match rpc {
        "Tokenize" => {
            let request = TokenizeRequest { value: Some(card(target.pan)), ..TokenizeRequest::default() };
            client.tokenize(request).await?.get_ref().token == token
        }
        "Detokenize" => {
            let answer = client.detokenize(release(token)).await?;
            holds(answer.get_ref().value.as_ref(), target)
        }
        "GetToken" => {
            let answer = client.get_token(GetTokenRequest { token, ..GetTokenRequest::default() }).await?;
            answer.get_ref().masked.as_ref().unwrap().last_four == last_four
        }
        "CompareLastFour" => {
            let last_four = last_four.into_bytes();
            let request = CompareLastFourRequest { token, last_four, reference: String::new() };
            client.compare_last_four(request).await?.get_ref().matches
        }
        _ => {
            let value = Some(card(target.pan));
            let request = FindByValueRequest { value, ..FindByValueRequest::default() };
            client.find_by_value(request).await?.get_ref().token == token
        }
    })
}

/// Erases a record of its own, since the others are asked about again.
async fn erase(site: &Site, principal: &str, target: &Target, of: Whose) -> Result<bool, Refused> {
    let spare = if of == Whose::Own { site.spare().await } else { None };
    let token = spare.unwrap_or_else(|| target.token.clone());
    let request = EraseTokenRequest { token, reference: "case-1".to_owned() };
    let answer = TokenizationClient::new(site.channel(principal)).erase_token(request).await?;
    Ok(answer.get_ref().receipt.is_some())
}

fn release(token: String) -> DetokenizeRequest {
    DetokenizeRequest {
        token,
        purpose: "settlement".to_owned(),
        recipient: "acquirer".to_owned(),
        reference: "case-1".to_owned(),
    }
}

fn holds(value: Option<&Value>, target: &Target) -> bool {
    let Some(value::Kind::Card(card)) = value.and_then(|value| value.kind.as_ref()) else { return false };
    card.pan == target.pan.as_bytes()
}

async fn batch(site: &Site, principal: &str, rpc: &str, target: &Target) -> Result<bool, Refused> {
    let mut client = BatchesClient::new(site.channel(principal));
    if rpc == "BatchTokenize" {
        let item = BatchTokenizeItem { value: Some(card(target.pan)), ..BatchTokenizeItem::default() };
        let request = BatchTokenizeRequest { items: vec![item], ..BatchTokenizeRequest::default() };
        let answer = client.batch_tokenize(request).await?.into_inner();
        return match answer.results[0].verdict.as_ref().unwrap() {
            batch_tokenize_result::Verdict::Token(token) => Ok(*token == target.token),
            batch_tokenize_result::Verdict::Refusal(refusal) => Err(Refused::from(refusal)),
        };
    }
    let DetokenizeRequest { token, purpose, recipient, reference } = release(target.token.clone());
    let items = vec![BatchDetokenizeItem { token }];
    let request = BatchDetokenizeRequest { items, purpose, recipient, reference };
    let answer = client.batch_detokenize(request).await?.into_inner();
    match answer.results[0].verdict.as_ref().unwrap() {
        batch_detokenize_result::Verdict::Record(record) => Ok(holds(record.value.as_ref(), target)),
        batch_detokenize_result::Verdict::Refusal(refusal) => Err(Refused::from(refusal)),
    }
}

async fn log(site: &Site, principal: &str, rpc: &str, target: &Target) -> Result<bool, Refused> {
    let mut client = AuditClient::new(site.channel(principal));
    let index = target.receipt.index;
    Ok(match rpc {
        "ListEntries" => {
            let request = ListEntriesRequest { start_index: index, page_size: 1 };
            client.list_entries(request).await?.get_ref().entries.iter().any(|entry| entry.index == index)
        }
        "GetCheckpoint" => {
            let answer = client.get_checkpoint(GetCheckpointRequest {}).await?;
            answer.get_ref().checkpoint.starts_with(&target.receipt.origin)
        }
        "ProveInclusion" => {
            let request = ProveInclusionRequest { index, leaf_hash: target.receipt.leaf_hash.clone() };
            !client.prove_inclusion(request).await?.get_ref().hashes.is_empty()
        }
        _ => {
            let request = ProveConsistencyRequest { from_size: 1, to_size: 2 };
            !client.prove_consistency(request).await?.get_ref().hashes.is_empty()
        }
    })
}

async fn keys(site: &Site, principal: &str, rpc: &str, of: Whose) -> Result<bool, Refused> {
    let mut client = KeysClient::new(site.channel(principal));
    let (tenant, class, reason) = ("shop".to_owned(), Class::Pan.into(), "table".to_owned());
    Ok(match rpc {
        "ListKeys" => {
            let listed = client.list_keys(ListKeysRequest::default()).await?.into_inner().keys;
            let whose = if of == Whose::Own { "shop" } else { "rival" };
            listed.iter().any(|key| key.tenant == whose)
        }
        "RotateKeys" => {
            client.rotate_keys(RotateKeysRequest { tenant, class, reason }).await?.get_ref().version == 2
        }
        _ => {
            let request = DestroyKeysRequest { tenant, class, version: 9, reason };
            client.destroy_keys(request).await?.get_ref().receipt.is_some()
        }
    })
}

async fn custody(site: &Site, principal: &str, rpc: &str) -> Result<bool, Refused> {
    let mut client = CustodyClient::new(site.channel(principal));
    let answer = match rpc {
        "GetStatus" => client.get_status(GetStatusRequest {}).await?,
        "Unseal" => client.unseal(site.unseal_request()).await?,
        _ => client.seal(SealRequest { reason: "table".to_owned() }).await?,
    };
    Ok(answer.get_ref().environment == "dev")
}

/// A step that is let in and finds nothing to do: this vault is sealed by a passphrase.
async fn ceremony(site: &Site, principal: &str, rpc: &str) -> Result<bool, Refused> {
    let mut client = CustodyClient::new(site.channel(principal));
    let ceremony = "abcdefghijkl".to_owned();
    match rpc {
        "BeginCeremony" => client.begin_ceremony(BeginCeremonyRequest {}).await?,
        "SubmitShare" => {
            let (share, duties) = (b"vaultshare1_".to_vec(), DUTIES.to_owned());
            client.submit_share(SubmitShareRequest { ceremony, share, duties }).await?
        }
        _ => client.cancel_ceremony(CancelCeremonyRequest { ceremony }).await?,
    };
    Ok(true)
}
