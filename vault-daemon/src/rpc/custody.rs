//! `vault.v1.Custody`: the state of the vault, unsealing, ceremonies and sealing.

use tonic::{Request, Response, Status};
use vault_core::audit::Action;
use vault_core::data::CallerText;
use vault_core::error::{CeremonyFault, Error, Exhausted, Invalid, State};
use vault_core::keys::Share;
use vault_core::limits::{PASSPHRASE_BYTES_MAX, PASSPHRASE_BYTES_MIN};
use vault_core::policy::{Identity, Right};
use vault_core::vault::{CeremonyView, Closing, Forbidden, Neighbour, Request as Ask};
use vault_proto::DUTIES;
use vault_proto::v1 as wire;
use vault_proto::v1::ceremony;
use vault_proto::v1::custody_server::Custody as CustodyService;
use zeroize::Zeroizing;

use crate::custody::{Custody, Opens, Standing, UnsealRefused};

use super::apart::apart;
use super::calls::{Calls, caller};
use super::status::Refusal;
use super::values;

#[tonic::async_trait]
impl CustodyService for Calls {
    async fn get_status(
        &self,
        request: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::VaultStatus>, Status> {
        self.counted("GetStatus", self.told(request)).await
    }

    async fn unseal(
        &self,
        request: Request<wire::UnsealRequest>,
    ) -> Result<Response<wire::VaultStatus>, Status> {
        self.counted("Unseal", self.unsealed(request)).await
    }

    async fn begin_ceremony(
        &self,
        request: Request<wire::BeginCeremonyRequest>,
    ) -> Result<Response<wire::Ceremony>, Status> {
        let step = (Action::CeremonyBegun, CeremonyFault::Unsealed);
        let taken = self.step(request, step, |custody, who, _| {
            Ok(wire_ceremony(&custody.begin_ceremony(who)?, ceremony::State::Open))
        });
        self.counted("BeginCeremony", taken).await
    }

    async fn submit_share(
        &self,
        request: Request<wire::SubmitShareRequest>,
    ) -> Result<Response<wire::Ceremony>, Status> {
        let step = (Action::ShareGiven, CeremonyFault::NotOpen);
        let taken = self.step(request, step, |custody, who, message| {
            let share = accepted_share(message);
            let (view, complete) = custody.submit_share(&message.ceremony, share, who)?;
            let state = if complete { ceremony::State::Complete } else { ceremony::State::Open };
            Ok(wire_ceremony(&view, state))
        });
        self.counted("SubmitShare", taken).await
    }

    async fn cancel_ceremony(
        &self,
        request: Request<wire::CancelCeremonyRequest>,
    ) -> Result<Response<wire::Ceremony>, Status> {
        let step = (Action::CeremonyCancelled, CeremonyFault::NotOpen);
        let taken = self.step(request, step, |custody, who, message| {
            let view = custody.cancel_ceremony(&message.ceremony, who)?;
            Ok(wire_ceremony(&view, ceremony::State::Cancelled))
        });
        self.counted("CancelCeremony", taken).await
    }

    async fn seal(&self, request: Request<wire::SealRequest>) -> Result<Response<wire::VaultStatus>, Status> {
        self.counted("Seal", self.sealed(request)).await
    }
}

impl Calls {
    async fn told(&self, request: Request<wire::GetStatusRequest>) -> Result<wire::VaultStatus, Refusal> {
        let caller = caller(&request)?;
        let entered = match self.custody.standing() {
            Standing::Unsealed => self.entered(request, |_| Ok(Ask::Status)).await.map(drop),
            Standing::Sealed | Standing::Suspended => Err(Error::State(State::Sealed)),
        };
        match entered {
            // There is no log to write now: the status is told all the same, to whom it may be told.
            Err(Error::State(_) | Error::Unavailable(_)) => self.custody.decide(&caller, Right::Status)?,
            entered => entered?,
        }
        self.vault_status().await
    }

    async fn unsealed(
        &self,
        mut request: Request<wire::UnsealRequest>,
    ) -> Result<wire::VaultStatus, Refusal> {
        let caller = caller(&request)?;
        let passphrase = Zeroizing::new(std::mem::take(&mut request.get_mut().passphrase));
        let by_hsm = request.get_ref().hsm;
        let lengths = if by_hsm { 0..=0 } else { PASSPHRASE_BYTES_MIN..=PASSPHRASE_BYTES_MAX };
        if !lengths.contains(&passphrase.len()) {
            return Err(Invalid::PassphraseLength.into());
        }
        if self.custody.standing() == Standing::Unsealed {
            // There is a log: decided, counted and entered as any other call.
            match self.entered(request, |_| Ok(Ask::Unseal)).await {
                Err(Error::State(State::Sealed)) => {}
                entered => {
                    entered?;
                    return self.vault_status().await;
                }
            }
        }
        let unseal = move |custody: &Custody, who: &Identity| {
            custody.unseal(if by_hsm { Opens::Hsm } else { Opens::Passphrase(&passphrase) }, who)
        };
        self.changed(&caller, unseal).await?;
        self.vault_status().await
    }

    async fn sealed(&self, request: Request<wire::SealRequest>) -> Result<wire::VaultStatus, Refusal> {
        let closing = if self.custody.standing() == Standing::Suspended {
            self.asked_while_suspended(&request).await?
        } else {
            self.entered(request, |message| Ok(Ask::Seal { reason: Some(reason(&message)?) })).await?;
            Closing::Entered
        };
        let (custody, lane) = (self.custody.clone(), self.lane.clone());
        if !apart(move || custody.seal(&lane, &closing)).await? {
            self.metrics.alarm();
        }
        self.vault_status().await
    }

    /// The answer to a caller without the right, while there is no log to write: counted, and written to the
    /// journal where it is due.
    async fn denied(&self, what: Forbidden, caller: &Identity) -> Refusal {
        let call = self.custody.deny(what, caller);
        let answer = call.error.clone().into();
        if call.is_due() {
            let custody = self.custody.clone();
            let written = apart(move || custody.write_denied(&call)).await;
            if !matches!(written, Ok(Ok(()))) {
                self.metrics.alarm();
                tracing::error!(event = "journal_unwritten", "a denied call is not in the unseal journal");
            }
        }
        answer
    }

    /// Sealing a vault whose store is away: decided as ever; the log hears of it at the next unsealing.
    async fn asked_while_suspended(&self, request: &Request<wire::SealRequest>) -> Result<Closing, Refusal> {
        let who = caller(request)?;
        let reason = reason(request.get_ref())?;
        match self.custody.decide(&who, Right::Seal) {
            Ok(()) => Ok(Closing::Asked { who, reason }),
            Err(_) => Err(self.denied(Forbidden::Seal, &who).await),
        }
    }

    /// A step of a ceremony. On a vault that is not sealed it is decided, entered and refused as any other
    /// call; on a sealed one custody takes it, and writes to the journal and not to this runtime's time.
    async fn step<M: Default + Send + 'static>(
        &self,
        mut request: Request<M>,
        (step, refused): (Action, CeremonyFault),
        take: impl FnOnce(&Custody, &Identity, &M) -> Result<wire::Ceremony, UnsealRefused> + Send + 'static,
    ) -> Result<wire::Ceremony, Refusal> {
        let caller = caller(&request)?;
        let message = std::mem::take(request.get_mut());
        if self.custody.standing() != Standing::Sealed {
            match self.entered(request, |_| Ok(Ask::Ceremony { step, refused })).await {
                Err(Error::State(State::Sealed)) => {}
                entered => return Err(entered.err().unwrap_or(Error::Bug).into()),
            }
        }
        self.changed(&caller, move |custody, who| take(custody, who, &message)).await
    }

    /// Changes the state of a vault that is sealed, for whom policy lets. Whoever it does not let comes
    /// neither to the lock of custodians nor to a thread of its own.
    async fn changed<T: Send + 'static>(
        &self,
        caller: &Identity,
        change: impl FnOnce(&Custody, &Identity) -> Result<T, UnsealRefused> + Send + 'static,
    ) -> Result<T, Refusal> {
        let changed = match self.custody.decide(caller, Right::Unseal) {
            Err(_) => Err(UnsealRefused::Denied),
            Ok(()) => {
                let (custody, who) = (self.custody.clone(), caller.clone());
                // Argon2id takes a core's whole attention for a while: not this runtime's.
                let changed = apart(move || change(&custody, &who)).await;
                changed.unwrap_or(Err(UnsealRefused::Bug))
            }
        };
        match changed {
            Ok(changed) => Ok(changed),
            Err(UnsealRefused::Denied) => Err(self.denied(Forbidden::Unseal, caller).await),
            Err(refused) => Err(refused.into()),
        }
    }

    /// Reads keyring and anchor, and may wait for whoever takes a step of a ceremony: not on this runtime's
    /// time.
    async fn vault_status(&self) -> Result<wire::VaultStatus, Refusal> {
        let custody = self.custody.clone();
        let facts = apart(move || custody.facts()).await??;
        let state = match facts.standing {
            Standing::Sealed => wire::vault_status::State::Sealed,
            Standing::Unsealed => wire::vault_status::State::Unsealed,
            Standing::Suspended => wire::vault_status::State::Suspended,
        };
        Ok(wire::VaultStatus {
            state: state.into(),
            environment: facts.environment,
            vault_id: facts.vault_id,
            seal_kind: facts.seal_kind.to_owned(),
            seal_note: facts.seal_note.to_owned(),
            keyring_generation: facts.keyring_generation,
            log_origin: facts.log_origin,
            log_size: facts.log_size.unwrap_or_default(),
            anchored_log_size: facts.anchored_log_size.unwrap_or_default(),
            log_verifier_key: facts.log_verifier_key.unwrap_or_default(),
            store_kind: facts.store_kind.to_owned(),
            shares_needed: facts.shares_needed.into(),
            custodians: facts.custodians.iter().map(ToString::to_string).collect(),
            sealed_because: facts.sealed_because.unwrap_or_default().to_owned(),
            ceremony: facts.ceremony.map(|view| wire_ceremony(&view, ceremony::State::Open)),
            other_daemons: facts.other_daemons.iter().map(wire_daemon).collect(),
        })
    }
}

fn wire_daemon((other, same_policy): &(Neighbour, bool)) -> wire::OtherDaemon {
    wire::OtherDaemon {
        log_origin: other.origin.as_str().to_owned(),
        log_size: other.log_size,
        register_time: Some(values::wire_time(other.registered_at)),
        policy_hash: other.policy.to_vec(),
        same_policy: *same_policy,
        has_keyring: other.has_keyring,
    }
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

impl From<UnsealRefused> for Refusal {
    fn from(refused: UnsealRefused) -> Self {
        match refused {
            UnsealRefused::Busy => Error::Exhausted(Exhausted::Busy).into(),
            UnsealRefused::Denied => Error::Denied.into(),
            UnsealRefused::Ceremony(fault) => Error::Ceremony(fault).into(),
            UnsealRefused::Entropy(_) | UnsealRefused::Bug => Error::Bug.into(),
            UnsealRefused::Vault(error) => error.into(),
        }
    }
}

/// A share, from somebody who accepts the duties of custodians, and their name.
fn accepted_share(message: &wire::SubmitShareRequest) -> Result<(Share, CallerText), CeremonyFault> {
    let duties = Some(&message.duties).filter(|duties| *duties == DUTIES);
    let duties = duties.and_then(|duties| CallerText::parse(duties).ok());
    let duties = duties.ok_or(CeremonyFault::DutiesNotAccepted)?;
    let share = Share::parse(&message.share).map_err(|_| CeremonyFault::ShareMalformed)?;
    Ok((share, duties))
}

fn reason(message: &wire::SealRequest) -> Result<CallerText, Invalid> {
    values::text(&message.reason)?.ok_or(Invalid::FieldMissing)
}
