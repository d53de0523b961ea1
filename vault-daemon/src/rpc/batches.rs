//! `vault.v1.Batches`: up to 1,000 values a call, one verdict an item, one commit for all.

use tonic::{Request, Response, Status};
use vault_core::audit::Receipt;
use vault_core::data::Token;
use vault_core::error::{Error, Invalid};
use vault_core::limits::BATCH_ITEMS_MAX;
use vault_core::vault::{Released, Reply, Request as Ask};
use vault_proto::v1 as wire;
use vault_proto::v1::batches_server::Batches;

use super::calls::Calls;
use super::{status, values};

/// Items parsed or built before other calls of this core get their turn.
const SLICE: usize = 100;

#[tonic::async_trait]
impl Batches for Calls {
    async fn batch_tokenize(
        &self,
        request: Request<wire::BatchTokenizeRequest>,
    ) -> Result<Response<wire::BatchTokenizeResponse>, Status> {
        let (reply, receipts) = self
            .call("BatchTokenize", request, |message| {
                within_bounds(message.items.len())?;
                let idempotency_key = values::text(&message.idempotency_key)?;
                let item = |item: &wire::BatchTokenizeItem| {
                    values::new_value(item.value.as_ref(), &item.purposes, &item.reference)
                };
                let items = message.items.iter().map(item).collect();
                Ok(Ask::Tokenize { items, idempotency_key, batch: true })
            })
            .await?;
        let Reply::Tokenized(tokens) = reply else { return Err(status::status(&Error::Bug)) };
        let mut results = Vec::with_capacity(tokens.len());
        for (place, verdict) in tokens.into_iter().enumerate() {
            let verdict = match verdict {
                Ok(token) => wire::batch_tokenize_result::Verdict::Token(token.to_text()),
                Err(error) => wire::batch_tokenize_result::Verdict::Refusal(refusal(&error)),
            };
            let receipt = receipt_of(&receipts, place);
            results.push(wire::BatchTokenizeResult { verdict: Some(verdict), receipt });
            give_way(place).await;
        }
        Ok(Response::new(wire::BatchTokenizeResponse { results }))
    }

    async fn batch_detokenize(
        &self,
        request: Request<wire::BatchDetokenizeRequest>,
    ) -> Result<Response<wire::BatchDetokenizeResponse>, Status> {
        let (reply, receipts) = self
            .call("BatchDetokenize", request, |message| {
                within_bounds(message.items.len())?;
                let reference = values::text(&message.reference)?;
                let items = message.items.iter().map(|item| Token::parse(&item.token)).collect();
                Ok(Ask::Detokenize {
                    items,
                    purpose: message.purpose,
                    recipient: message.recipient,
                    reference,
                })
            })
            .await?;
        let Reply::Detokenized(released) = reply else { return Err(status::status(&Error::Bug)) };
        let mut results = Vec::with_capacity(released.len());
        for (place, verdict) in released.into_iter().enumerate() {
            let verdict = match verdict {
                Ok(released) => wire::batch_detokenize_result::Verdict::Record(record(&released)),
                Err(error) => wire::batch_detokenize_result::Verdict::Refusal(refusal(&error)),
            };
            let receipt = receipt_of(&receipts, place);
            results.push(wire::BatchDetokenizeResult { verdict: Some(verdict), receipt });
            give_way(place).await;
        }
        Ok(Response::new(wire::BatchDetokenizeResponse { results }))
    }
}

const fn within_bounds(items: usize) -> Result<(), Invalid> {
    match items {
        0 => Err(Invalid::BatchEmpty),
        1..=BATCH_ITEMS_MAX => Ok(()),
        _ => Err(Invalid::BatchTooLarge),
    }
}

/// Lets the other calls of this core run after every slice: a long batch is not their latency.
async fn give_way(place: usize) {
    if place % SLICE == SLICE - 1 {
        tokio::task::yield_now().await;
    }
}

fn record(released: &Released) -> wire::DetokenizedRecord {
    wire::DetokenizedRecord {
        value: Some(values::wire_value(&released.value)),
        record_version: released.record_version,
        create_time: Some(values::wire_time(released.created_at)),
    }
}

fn refusal(error: &Error) -> wire::Refusal {
    wire::Refusal {
        code: status::code(error).into(),
        reason: error.reason().to_owned(),
        message: error.to_string(),
    }
}

/// The receipt of one item; a replay has one for the whole call.
fn receipt_of(receipts: &[Receipt], place: usize) -> Option<wire::Receipt> {
    receipts.get(place).or_else(|| receipts.first().filter(|_| receipts.len() == 1)).map(values::wire_receipt)
}
