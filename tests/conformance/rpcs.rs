//! Every RPC as a value: which it is, its bytes, and how to send it.

use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};
use vault_proto::v1 as wire;
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::batches_client::BatchesClient;
use vault_proto::v1::custody_client::CustodyClient;
use vault_proto::v1::keys_client::KeysClient;
use vault_proto::v1::tokenization_client::TokenizationClient;

/// What the tests look at in an answer.
#[derive(Default)]
pub(crate) struct Answer {
    /// The token, single or of the last item.
    pub(crate) token: String,
    /// Why the last item of a batch has no answer.
    pub(crate) refusal: Option<wire::Refusal>,
    /// The state of the vault.
    pub(crate) state: i32,
}

macro_rules! rpcs {
    ($($service:ident $rpc:ident($request:ident) by $client:ident.$method:ident, $look:expr;)*) => {
        /// A call that can be made.
        #[derive(Clone)]
        pub(crate) enum Ask {
            $($rpc(wire::$request),)*
        }

        impl Ask {
            /// The RPC's name.
            pub(crate) const fn rpc(&self) -> &'static str {
                match self {
                    $(Self::$rpc(_) => stringify!($rpc),)*
                }
            }

            /// The path of the RPC in HTTP/2.
            pub(crate) const fn path(&self) -> &'static str {
                match self {
                    $(Self::$rpc(_) => concat!("/vault.v1.", stringify!($service), "/", stringify!($rpc)),)*
                }
            }

            /// The request as it goes over the wire.
            pub(crate) fn bytes(&self) -> Vec<u8> {
                match self {
                    $(Self::$rpc(request) => request.encode_to_vec(),)*
                }
            }

            pub(crate) async fn send(self, channel: Channel) -> Result<Answer, Status> {
                match self {
                    $(Self::$rpc(request) => {
                        let answer = $client::new(channel).$method(request).await?.into_inner();
                        Ok($look(&answer))
                    })*
                }
            }
        }
    };
}

rpcs! {
    Tokenization Tokenize(TokenizeRequest) by TokenizationClient.tokenize,
        |answer: &wire::TokenizeResponse| Answer { token: answer.token.clone(), ..Answer::default() };
    Tokenization Detokenize(DetokenizeRequest) by TokenizationClient.detokenize, |_| Answer::default();
    Tokenization GetToken(GetTokenRequest) by TokenizationClient.get_token, |_| Answer::default();
    Tokenization CompareLastFour(CompareLastFourRequest) by TokenizationClient.compare_last_four,
        |_| Answer::default();
    Tokenization FindByValue(FindByValueRequest) by TokenizationClient.find_by_value,
        |answer: &wire::FindByValueResponse| Answer { token: answer.token.clone(), ..Answer::default() };
    Tokenization EraseToken(EraseTokenRequest) by TokenizationClient.erase_token, |_| Answer::default();
    Batches BatchTokenize(BatchTokenizeRequest) by BatchesClient.batch_tokenize, tokenized;
    Batches BatchDetokenize(BatchDetokenizeRequest) by BatchesClient.batch_detokenize, detokenized;
    Audit ListEntries(ListEntriesRequest) by AuditClient.list_entries, |_| Answer::default();
    Audit GetCheckpoint(GetCheckpointRequest) by AuditClient.get_checkpoint, |_| Answer::default();
    Audit ProveInclusion(ProveInclusionRequest) by AuditClient.prove_inclusion, |_| Answer::default();
    Audit ProveConsistency(ProveConsistencyRequest) by AuditClient.prove_consistency, |_| Answer::default();
    Keys ListKeys(ListKeysRequest) by KeysClient.list_keys, |_| Answer::default();
    Keys RotateKeys(RotateKeysRequest) by KeysClient.rotate_keys, |_| Answer::default();
    Keys DestroyKeys(DestroyKeysRequest) by KeysClient.destroy_keys, |_| Answer::default();
    Custody GetStatus(GetStatusRequest) by CustodyClient.get_status, status;
    Custody Unseal(UnsealRequest) by CustodyClient.unseal, status;
    Custody BeginCeremony(BeginCeremonyRequest) by CustodyClient.begin_ceremony, |_| Answer::default();
    Custody SubmitShare(SubmitShareRequest) by CustodyClient.submit_share, |_| Answer::default();
    Custody CancelCeremony(CancelCeremonyRequest) by CustodyClient.cancel_ceremony, |_| Answer::default();
    Custody Seal(SealRequest) by CustodyClient.seal, status;
}

fn tokenized(answer: &wire::BatchTokenizeResponse) -> Answer {
    use wire::batch_tokenize_result::Verdict;
    match answer.results.last().and_then(|result| result.verdict.as_ref()).unwrap() {
        Verdict::Token(token) => Answer { token: token.clone(), ..Answer::default() },
        Verdict::Refusal(refusal) => Answer { refusal: Some(refusal.clone()), ..Answer::default() },
    }
}

fn detokenized(answer: &wire::BatchDetokenizeResponse) -> Answer {
    use wire::batch_detokenize_result::Verdict;
    match answer.results.last().and_then(|result| result.verdict.as_ref()).unwrap() {
        Verdict::Record(_) => Answer::default(),
        Verdict::Refusal(refusal) => Answer { refusal: Some(refusal.clone()), ..Answer::default() },
    }
}

const fn status(answer: &wire::VaultStatus) -> Answer {
    Answer { token: String::new(), refusal: None, state: answer.state }
}

/// Why a call, or the last item of a batch, got no answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    /// `None` for statuses of gRPC itself.
    pub(crate) reason: Option<String>,
    pub(crate) message: String,
    pub(crate) details: Vec<u8>,
    pub(crate) retry_after_seconds: Option<f64>,
}

impl Refused {
    /// The refusal in an answer, if it is one.
    pub(crate) fn of(answered: Result<Answer, Status>) -> Option<Self> {
        match answered {
            Err(status) => Some(Self::from(&status)),
            Ok(answer) => answer.refusal.as_ref().map(Self::from),
        }
    }
}

impl From<&Status> for Refused {
    fn from(status: &Status) -> Self {
        Self {
            code: status.code(),
            reason: vault_proto::reason(status),
            message: status.message().to_owned(),
            details: status.details().to_vec(),
            retry_after_seconds: vault_proto::retry_after(status).map(|delay| delay.as_secs_f64()),
        }
    }
}

impl From<&wire::Refusal> for Refused {
    fn from(refusal: &wire::Refusal) -> Self {
        Self {
            code: Code::from_i32(refusal.code),
            reason: Some(refusal.reason.clone()),
            message: refusal.message.clone(),
            details: Vec::new(),
            retry_after_seconds: None,
        }
    }
}
