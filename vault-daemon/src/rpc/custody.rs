//! `vault.v1.Custody`: the state of the vault, unsealing, ceremonies and sealing.

use tonic::{Code, Request, Response, Status};
use vault_core::audit::Action;
use vault_core::error::{CeremonyFault, Error, Exhausted, Invalid, State};
use vault_core::keys::Share;
use vault_core::limits::{PASSPHRASE_BYTES_MAX, PASSPHRASE_BYTES_MIN};
use vault_core::policy::{Identity, Right};
use vault_core::vault::{CeremonyView, Request as Ask};
use vault_proto::v1 as wire;
use vault_proto::v1::ceremony;
use vault_proto::v1::custody_server::Custody as CustodyService;
use zeroize::Zeroizing;

use crate::custody::{Custody, Standing, UnsealRefused};

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

    async fn begin_ceremony(
        &self,
        request: Request<wire::BeginCeremonyRequest>,
    ) -> Result<Response<wire::Ceremony>, Status> {
        let refused = ("BeginCeremony", Action::CeremonyBegun, CeremonyFault::Unsealed);
        self.step(request, refused, |custody, who, _| {
            Ok(wire_ceremony(&custody.begin_ceremony(who)?, ceremony::State::Open))
        })
        .await
    }

    async fn submit_share(
        &self,
        request: Request<wire::SubmitShareRequest>,
    ) -> Result<Response<wire::Ceremony>, Status> {
        let refused = ("SubmitShare", Action::ShareGiven, CeremonyFault::NotOpen);
        self.step(request, refused, |custody, who, message| {
            let share = Share::parse(&message.share).map_err(|_| CeremonyFault::ShareMalformed);
            let (view, complete) = custody.submit_share(&message.ceremony, share, who)?;
            let state = if complete { ceremony::State::Complete } else { ceremony::State::Open };
            Ok(wire_ceremony(&view, state))
        })
        .await
    }

    async fn cancel_ceremony(
        &self,
        request: Request<wire::CancelCeremonyRequest>,
    ) -> Result<Response<wire::Ceremony>, Status> {
        let refused = ("CancelCeremony", Action::CeremonyCancelled, CeremonyFault::NotOpen);
        self.step(request, refused, |custody, who, message| {
            let view = custody.cancel_ceremony(&message.ceremony, who)?;
            Ok(wire_ceremony(&view, ceremony::State::Cancelled))
        })
        .await
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
    /// A step of a ceremony. On a vault that is not sealed it is decided, entered and refused as any other
    /// call; on a sealed one custody takes it, and writes to the journal and not to this runtime's time.
    async fn step<M: Default + Send + 'static>(
        &self,
        mut request: Request<M>,
        (rpc, step, refused): (&'static str, Action, CeremonyFault),
        take: impl FnOnce(&Custody, &Identity, &M) -> Result<wire::Ceremony, UnsealRefused> + Send + 'static,
    ) -> Result<Response<wire::Ceremony>, Status> {
        let caller = caller(&request).map_err(|error| status(&error))?;
        let message = std::mem::take(request.get_mut());
        if self.custody.standing() != Standing::Sealed {
            match self.call(rpc, request, |_| Ok(Ask::Ceremony { step, refused })).await {
                Err(sealed) if is_sealed(&sealed) => {}
                entered => return Err(entered.err().unwrap_or_else(|| status(&Error::Bug))),
            }
        }
        let custody = self.custody.clone();
        let taken = tokio::task::spawn_blocking(move || take(&custody, &caller, &message));
        match taken.await {
            Ok(Ok(view)) => Ok(Response::new(view)),
            Ok(Err(refused)) => Err(refused_status(&refused)),
            Err(_) => Err(status(&Error::Bug)),
        }
    }

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
            shares_needed: facts.shares_needed.into(),
            custodians: facts.custodians.iter().map(ToString::to_string).collect(),
            ceremony: facts.ceremony.map(|view| wire_ceremony(&view, ceremony::State::Open)),
        }))
    }
}

/// Whether the vault was sealed between two looks at it.
fn is_sealed(refused: &Status) -> bool {
    vault_proto::reason(refused).as_deref() == Some(Error::State(State::Sealed).reason())
}

fn wire_ceremony(view: &CeremonyView, state: ceremony::State) -> wire::Ceremony {
    let given = view.given.iter();
    let given =
        given.map(|(by, number)| wire::GivenShare { custodian: by.to_string(), number: u32::from(*number) });
    wire::Ceremony {
        name: view.id.to_string(),
        state: state.into(),
        begun_by: view.begun_by.to_string(),
        end_time: Some(values::wire_time(view.ends_at)),
        shares_needed: view.needed.into(),
        given: given.collect(),
    }
}

fn refused_status(refused: &UnsealRefused) -> Status {
    match refused {
        UnsealRefused::Busy => status(&Error::Exhausted(Exhausted::Busy)),
        UnsealRefused::Denied(error) => status(error),
        UnsealRefused::Ceremony(fault) => status(&Error::Ceremony(*fault)),
        UnsealRefused::Entropy(_) => status(&Error::Bug),
        UnsealRefused::Vault(error) => stays_sealed(error),
    }
}
