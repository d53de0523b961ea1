//! `vault.v1.Tokenization`: one value a call.

use tonic::{Request, Response, Status};
use vault_core::data::{Secret, Token, Truncation, Value, parse_last_four};
use vault_core::error::Error;
use vault_core::vault::{Reply, Request as Ask};
use vault_proto::v1 as wire;
use vault_proto::v1::tokenization_server::Tokenization;

use super::calls::{Calls, one};
use super::values;

#[tonic::async_trait]
impl Tokenization for Calls {
    async fn tokenize(
        &self,
        request: Request<wire::TokenizeRequest>,
    ) -> Result<Response<wire::TokenizeResponse>, Status> {
        let mut masked = None;
        let (reply, receipts) = self
            .call("Tokenize", request, |message| {
                let item = values::new_value(message.value.as_ref(), &message.purposes, &message.reference)?;
                masked = Some(masked_input(&item.value));
                let idempotency_key = values::text(&message.idempotency_key)?;
                Ok(Ask::Tokenize { items: vec![Ok(item)], idempotency_key, batch: false })
            })
            .await?;
        let Reply::Tokenized(tokens) = reply else { return Err(bug()) };
        let token = one(tokens)?;
        Ok(Response::new(wire::TokenizeResponse {
            token: token.to_text(),
            masked,
            receipt: receipts.first().map(values::wire_receipt),
        }))
    }

    async fn detokenize(
        &self,
        request: Request<wire::DetokenizeRequest>,
    ) -> Result<Response<wire::DetokenizeResponse>, Status> {
        let (reply, receipts) = self
            .call("Detokenize", request, |message| {
                let token = Token::parse(&message.token)?;
                let reference = values::text(&message.reference)?;
                let (purpose, recipient) = (message.purpose, message.recipient);
                Ok(Ask::Detokenize { items: vec![Ok(token)], purpose, recipient, reference })
            })
            .await?;
        let Reply::Detokenized(released) = reply else { return Err(bug()) };
        let released = one(released)?;
        Ok(Response::new(wire::DetokenizeResponse {
            value: Some(values::wire_value(&released.value)),
            receipt: receipts.first().map(values::wire_receipt),
            record_version: released.record_version,
            create_time: Some(values::wire_time(released.created_at)),
        }))
    }

    async fn get_token(
        &self,
        request: Request<wire::GetTokenRequest>,
    ) -> Result<Response<wire::GetTokenResponse>, Status> {
        let (reply, receipts) = self
            .call("GetToken", request, |message| {
                let token = Token::parse(&message.token)?;
                Ok(Ask::View { token, reference: values::text(&message.reference)? })
            })
            .await?;
        let Reply::Viewed(view) = reply else { return Err(bug()) };
        Ok(Response::new(wire::GetTokenResponse {
            masked: Some(values::wire_masked(view.class, view.brand, &view.masked)),
            state: values::wire_state(view.state).into(),
            record_version: view.record_version,
            create_time: Some(values::wire_time(view.created_at)),
            receipt: receipts.first().map(values::wire_receipt),
        }))
    }

    async fn compare_last_four(
        &self,
        request: Request<wire::CompareLastFourRequest>,
    ) -> Result<Response<wire::CompareLastFourResponse>, Status> {
        let (reply, receipts) = self
            .call("CompareLastFour", request, |message| {
                let token = Token::parse(&message.token)?;
                let last_four = Secret::new(Box::new(parse_last_four(&message.last_four)?));
                Ok(Ask::Compare { token, last_four, reference: values::text(&message.reference)? })
            })
            .await?;
        let Reply::Compared(matches) = reply else { return Err(bug()) };
        let receipt = receipts.first().map(values::wire_receipt);
        Ok(Response::new(wire::CompareLastFourResponse { matches, receipt }))
    }

    async fn find_by_value(
        &self,
        request: Request<wire::FindByValueRequest>,
    ) -> Result<Response<wire::FindByValueResponse>, Status> {
        let (reply, receipts) = self
            .call("FindByValue", request, |message| {
                let value = values::bare_value(message.value.as_ref())?;
                Ok(Ask::FindByValue { value, reference: values::text(&message.reference)? })
            })
            .await?;
        let Reply::Found(found) = reply else { return Err(bug()) };
        Ok(Response::new(wire::FindByValueResponse {
            found: found.is_some(),
            token: found.map(|token| token.to_text()).unwrap_or_default(),
            receipt: receipts.first().map(values::wire_receipt),
        }))
    }

    async fn erase_token(
        &self,
        request: Request<wire::EraseTokenRequest>,
    ) -> Result<Response<wire::EraseTokenResponse>, Status> {
        let (reply, receipts) = self
            .call("EraseToken", request, |message| {
                let token = Token::parse(&message.token)?;
                Ok(Ask::Erase { token, reference: values::text(&message.reference)? })
            })
            .await?;
        let Reply::Erased = reply else { return Err(bug()) };
        let receipt = receipts.first().map(values::wire_receipt);
        Ok(Response::new(wire::EraseTokenResponse { receipt }))
    }
}

/// The masked view of what the caller itself sent: it tells nothing about what the vault knew.
fn masked_input(value: &Value) -> wire::MaskedValue {
    let brand = match value {
        Value::Pan(card) => Some(card.pan.brand()),
        Value::Ssn(_) => None,
    };
    values::wire_masked(value.class(), brand, &value.mask(Truncation::LastFour))
}

/// A reply of another kind than the request: a defect.
fn bug() -> Status {
    super::status::status(&Error::Bug)
}
