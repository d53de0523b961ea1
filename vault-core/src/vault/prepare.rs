//! Preparing: everything about a call that depends on no row and on no other call.

use std::sync::Arc;

use crate::audit::{Action, Actor, Entry, Outcome as Recorded};
use crate::clock::Timestamp;
use crate::crypto::{Entropy, sha256};
use crate::data::{CallerText, Class, TenantId};
use crate::error::Error;
use crate::policy::{Ask, Grant, Identity, Policy, Principal};

use super::compare::PreparedCompare;
use super::detokenize::PreparedDetokenize;
use super::erase::PreparedErase;
use super::find::PreparedFind;
use super::open::{Keys, Vault};
use super::quota::Account;
use super::request::Request;
use super::tokenize::PreparedTokenize;
use super::view::PreparedView;

/// A call that is decided and encrypted, and waits for its place in a batch.
pub struct Prepared {
    pub(super) at: Timestamp,
    pub(super) items: u32,
    pub(super) account: Arc<Account>,
    pub(super) draft: Entry,
    /// Generation of the keyring it was prepared under.
    pub(super) generation: u64,
    pub(super) work: Work,
}

/// What is left to be done in the batch.
pub(super) enum Work {
    Refused(Error),
    Tokenize(PreparedTokenize),
    Detokenize(PreparedDetokenize),
    View(PreparedView),
    Compare(PreparedCompare),
    Find(PreparedFind),
    Erase(PreparedErase),
    Granted(Arc<Grant>),
}

impl Prepared {
    /// The same call under the keys of now, where it depends on which key encrypts.
    pub(super) fn renewed(&self, keys: &Keys, entropy: &mut dyn Entropy) -> Option<Self> {
        let work = match &self.work {
            Work::Tokenize(call) => {
                call.renewed(keys, self.at, entropy).map_or_else(Work::Refused, Work::Tokenize)
            }
            Work::Find(call) => call.renewed(keys).map_or(Work::Refused(Error::Bug), Work::Find),
            _ => return None,
        };
        let (account, draft) = (Arc::clone(&self.account), self.draft.clone());
        Some(Self { account, draft, work, generation: keys.keyring.generation(), ..*self })
    }

    /// Items of the call: what it uses of the lane and of quotas.
    pub const fn items(&self) -> u32 {
        self.items
    }

    /// The principal, if the policy knows the caller.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.account.principal()
    }
}

impl Vault {
    /// Decides and prepares a call of the given caller.
    ///
    /// Never fails: a refusal is prepared like anything else, since it too becomes an entry.
    pub fn prepare(
        &self,
        caller: &Identity,
        request: Request,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Prepared {
        let keys = self.keys();
        let policy = Arc::clone(&keys.policy);
        let principal = policy.principal(caller);
        let account = keys.accounts.account(&policy, principal.as_ref(), caller);
        let items = u32::try_from(request.items()).unwrap_or(u32::MAX);
        let mut draft = draft(&policy, principal.as_ref(), caller, &request, now);
        let work = Preparing { keys: &keys, policy: &policy, principal, now, entropy }
            .work(request, &mut draft)
            .unwrap_or_else(Work::Refused);
        let generation = keys.keyring.generation();
        Prepared { at: now, items, account, draft, generation, work }
    }
}

/// The entry as far as it is known before anything is decided.
fn draft(
    policy: &Policy,
    principal: Option<&Arc<Principal>>,
    caller: &Identity,
    request: &Request,
    now: Timestamp,
) -> Entry {
    let actor = match principal {
        Some(principal) => Actor::Principal(principal.id().clone()),
        None => Actor::Unknown { identity_hash: identity_hash(caller) },
    };
    let mut entry = Entry::new(now, actor, Action::of(request.right()));
    entry.tenant = principal.and_then(|principal| principal.tenant().one().cloned());
    entry.policy = policy.short_hash();
    entry
}

/// What an entry keeps of a certificate that no principal has: its identity may be any text.
pub(super) fn identity_hash(caller: &Identity) -> [u8; 32] {
    sha256(&[caller.to_string().as_bytes(), &[0], caller.ca.as_deref().unwrap_or("").as_bytes()])
}

/// All that preparing one call needs.
pub(super) struct Preparing<'a> {
    pub(super) keys: &'a Keys,
    pub(super) policy: &'a Policy,
    pub(super) principal: Option<Arc<Principal>>,
    pub(super) now: Timestamp,
    pub(super) entropy: &'a mut dyn Entropy,
}

impl Preparing<'_> {
    fn work(&mut self, request: Request, draft: &mut Entry) -> Result<Work, Error> {
        self.entropy.fill(&mut draft.id).map_err(|_| Error::Bug)?;
        match request {
            Request::Tokenize { items, idempotency_key, batch } => {
                self.tokenize(items, idempotency_key, batch, draft).map(Work::Tokenize)
            }
            Request::Detokenize { items, purpose, recipient, reference } => {
                draft.reference.clone_from(&reference);
                // Whatever is decided: every entry of the call says what for, if the policy has the name.
                draft.purpose = self.policy.known_purpose(&purpose);
                draft.recipient = self.policy.known_recipient(&recipient);
                self.detokenize(items, &purpose, &recipient, reference.as_ref(), draft).map(Work::Detokenize)
            }
            Request::View { token, reference } => {
                draft.reference = reference;
                self.view(token, draft).map(Work::View)
            }
            Request::Compare { token, last_four, reference } => {
                draft.reference = reference;
                self.compare(token, last_four, draft).map(Work::Compare)
            }
            Request::FindByValue { value, reference } => {
                draft.reference = reference;
                self.find(value, draft).map(Work::Find)
            }
            Request::Erase { token, reference } => {
                draft.reference = reference;
                self.erase(token, draft).map(Work::Erase)
            }
            Request::Seal { ref reason } => {
                draft.note.clone_from(reason);
                self.plain(&request).map(Work::Granted)
            }
            Request::Keys(ref order) => {
                draft.note = Some(order.reason.clone());
                let granted = self.plain(&request)?;
                // A custodian of one tenant has no say over another's keys, and is told nothing of them.
                if granted.tenant().is_some_and(|own| *own != order.tenant) {
                    return Err(Error::Denied);
                }
                draft.tenant = Some(order.tenant.clone());
                draft.class = Some(order.class);
                draft.key_version = order.destroy.unwrap_or_default();
                Ok(Work::Granted(granted))
            }
            Request::Ceremony { step, refused } => {
                draft.action = step;
                self.plain(&request)?;
                Err(refused.into())
            }
            Request::Prove | Request::ReadLog | Request::Status | Request::Unseal => {
                self.plain(&request).map(Work::Granted)
            }
        }
    }

    /// Rights that concern no record.
    fn plain(&self, request: &Request) -> Result<Arc<Grant>, Error> {
        self.decide(Ask::to(request.right())).map(Arc::new)
    }

    pub(super) fn decide(&self, ask: Ask<'_>) -> Result<Grant, Error> {
        self.policy.decide(self.principal.as_ref(), ask).map_err(|_| Error::Denied)
    }

    /// A grant over one class of the principal's tenant.
    pub(super) fn decide_class(
        &self,
        right: crate::policy::Right,
        class: Class,
        reference: Option<CallerText>,
    ) -> Result<Grant, Error> {
        self.decide(Ask { right, class: Some(class), purpose: None, recipient: None, reference })
    }

    /// The tenant of a value's grant. Only grants without a class can lack one.
    pub(super) fn tenant(grant: &Grant) -> Result<TenantId, Error> {
        grant.tenant().cloned().ok_or(Error::Denied)
    }
}

/// How a refusal stands in the log. Refusals that never reach a batch do not come here.
pub(super) fn refusal(error: &Error) -> Recorded {
    Recorded::of_refusal(error).unwrap_or(Recorded::Bug)
}
