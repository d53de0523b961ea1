//! `vault.v1.Custody`: the state of the vault, unsealing and sealing.

use tonic::{Code, Request, Response, Status};
use vault_core::error::{Error, Exhausted, Invalid, State};
use vault_core::limits::{PASSPHRASE_BYTES_MAX, PASSPHRASE_BYTES_MIN};
use vault_core::policy::Right;
use vault_core::vault::Request as Ask;
use vault_proto::v1 as wire;
use vault_proto::v1::custody_server::Custody as CustodyService;
use zeroize::Zeroizing;

use crate::custody::{Standing, UnsealRefused};

use super::calls::{Calls, caller};
use super::status::{status, stays_sealed};
use super::values;

#[tonic::async_trait]
impl CustodyService for Calls {
    async fn get_status(
        &self,
        request: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::VaultStatus>, Status> {
        let caller = caller(&request).map_err(|error| status(&error))?;
        let entered = match self.custody.standing() {
            Standing::Unsealed => self.call("GetStatus", request, |_| Ok(Ask::Status)).await.map(drop),
            Standing::Sealed | Standing::Suspended => Err(status(&Error::State(State::Sealed))),
        };
        match entered {
            // There is no log to write now: the status is told all the same, to whom it may be told.
            Err(away) if matches!(away.code(), Code::FailedPrecondition | Code::Unavailable) => {
                self.custody.decide(&caller, Right::Status).map_err(|error| status(&error))?;
            }
            entered => entered?,
        }
        self.vault_status()
    }

    async fn unseal(
        &self,
        mut request: Request<wire::UnsealRequest>,
    ) -> Result<Response<wire::VaultStatus>, Status> {
        let caller = caller(&request).map_err(|error| status(&error))?;
        let passphrase = Zeroizing::new(std::mem::take(&mut request.get_mut().passphrase));
        if !(PASSPHRASE_BYTES_MIN..=PASSPHRASE_BYTES_MAX).contains(&passphrase.len()) {
            return Err(status(&Error::Invalid(Invalid::PassphraseLength)));
        }
        if self.custody.standing() == Standing::Unsealed {
            // There is a log: decided, counted and entered as any other call.
            match self.call("Unseal", request, |_| Ok(Ask::Unseal)).await {
                Err(sealed) if sealed.code() == Code::FailedPrecondition => {}
                entered => return entered.and_then(|_| self.vault_status()),
            }
        }
        let custody = self.custody.clone();
        // Argon2id takes a core's whole attention for a while: not this runtime's.
        let unsealed = tokio::task::spawn_blocking(move || custody.unseal(&passphrase, &caller));
        match unsealed.await {
            Ok(Ok(())) => self.vault_status(),
            Ok(Err(refused)) => Err(refused_status(&refused)),
            Err(_) => Err(status(&Error::Bug)),
        }
    }

    async fn seal(&self, request: Request<wire::SealRequest>) -> Result<Response<wire::VaultStatus>, Status> {
        self.call("Seal", request, |message| {
            let reason = values::text(&message.reason)?.ok_or(Invalid::FieldMissing)?;
            Ok(Ask::Seal { reason: Some(reason) })
        })
        .await?;
        let (custody, lane) = (self.custody.clone(), self.lane.clone());
        match tokio::task::spawn_blocking(move || custody.seal(&lane)).await {
            Ok(()) => self.vault_status(),
            Err(_) => Err(status(&Error::Bug)),
        }
    }
}

impl Calls {
    fn vault_status(&self) -> Result<Response<wire::VaultStatus>, Status> {
        let facts = self.custody.facts().map_err(|problem| refused_status(&UnsealRefused::Vault(problem)))?;
        let state = match facts.standing {
            Standing::Sealed => wire::vault_status::State::Sealed,
            Standing::Unsealed => wire::vault_status::State::Unsealed,
            Standing::Suspended => wire::vault_status::State::Suspended,
        };
        Ok(Response::new(wire::VaultStatus {
            state: state.into(),
            environment: facts.environment,
            vault_id: facts.vault_id,
            seal_kind: facts.seal_kind.to_owned(),
            seal_note: facts.seal_note.to_owned(),
            keyring_generation: facts.keyring_generation,
            log_origin: facts.log_origin.unwrap_or_default(),
            log_size: facts.log_size.unwrap_or_default(),
            log_verifier_key: facts.log_verifier_key.unwrap_or_default(),
            store_kind: facts.store_kind.to_owned(),
        }))
    }
}

fn refused_status(refused: &UnsealRefused) -> Status {
    match refused {
        UnsealRefused::Busy => status(&Error::Exhausted(Exhausted::Busy)),
        UnsealRefused::Denied(error) => status(error),
        UnsealRefused::Vault(error) => stays_sealed(error),
    }
}
