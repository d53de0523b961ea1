//! The decision: the only maker of a [`Grant`].

use std::sync::Arc;

use thiserror::Error;

use super::Policy;
use super::principal::{Principal, Scope};
use super::right::Right;
use super::tenant::Tenant;
use crate::data::{CallerText, Class, PrincipalId, PurposeId, RecipientId, TenantId};
use crate::error;

/// What a caller wants. No tenant stands here: it is the principal's.
pub struct Ask<'a> {
    /// What to do.
    pub right: Right,
    /// Of which class the value is; required with the rights that concern values.
    pub class: Option<Class>,
    /// What for, as the caller wrote it; required to detokenize.
    pub purpose: Option<&'a str>,
    /// For whom, as the caller wrote it; required to detokenize, and only beside a purpose.
    pub recipient: Option<&'a str>,
    /// The caller's own reference; required to detokenize and to erase.
    pub reference: Option<CallerText>,
}

impl Ask<'_> {
    /// To do this and nothing more specific.
    pub fn to(right: Right) -> Self {
        Self { right, class: None, purpose: None, recipient: None, reference: None }
    }
}

/// Proof that policy allowed one request. Operations consume it; nothing outside this file can make one.
#[derive(Debug)]
pub struct Grant {
    principal: Arc<Principal>,
    right: Right,
    class: Option<Class>,
    purpose: Option<PurposeId>,
    recipient: Option<RecipientId>,
    reference: Option<CallerText>,
    policy_hash: [u8; 32],
}

impl Grant {
    /// Who may.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// What it may do.
    pub fn right(&self) -> Right {
        self.right
    }

    /// Whose data; `None` when the principal acts for all tenants.
    pub fn tenant(&self) -> Option<&TenantId> {
        tenant_of(&self.principal)
    }

    /// The rules of that tenant.
    pub fn tenant_rules(&self) -> Option<&Arc<Tenant>> {
        self.principal.tenant_rules()
    }

    /// Of which class.
    pub fn class(&self) -> Option<Class> {
        self.class
    }

    /// For which purpose.
    pub fn purpose(&self) -> Option<&PurposeId> {
        self.purpose.as_ref()
    }

    /// For whom.
    pub fn recipient(&self) -> Option<&RecipientId> {
        self.recipient.as_ref()
    }

    /// The caller's own reference.
    pub fn reference(&self) -> Option<&CallerText> {
        self.reference.as_ref()
    }

    /// SHA-256 of the policy file that allowed it.
    pub fn policy_hash(&self) -> &[u8; 32] {
        &self.policy_hash
    }
}

/// A refusal, with what its audit entry says. The caller learns none of it, and nothing in it is text that
/// the caller made up: a purpose or recipient stands here only when the policy knows it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("the policy does not allow this request")]
pub struct Denied {
    principal: Option<PrincipalId>,
    tenant: Option<TenantId>,
    right: Right,
    class: Option<Class>,
    purpose: Option<PurposeId>,
    recipient: Option<RecipientId>,
    because: Because,
    policy_hash: [u8; 32],
}

impl Denied {
    /// Who asked; `None` for an identity without a principal.
    pub fn principal(&self) -> Option<&PrincipalId> {
        self.principal.as_ref()
    }

    /// The tenant of who asked.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    /// What was asked for.
    pub fn right(&self) -> Right {
        self.right
    }

    /// For which class.
    pub fn class(&self) -> Option<Class> {
        self.class
    }

    /// The purpose asked for, when it is one of the policy's.
    pub fn purpose(&self) -> Option<&PurposeId> {
        self.purpose.as_ref()
    }

    /// The recipient asked for, when it is one of the policy's.
    pub fn recipient(&self) -> Option<&RecipientId> {
        self.recipient.as_ref()
    }

    /// The first rule that the request broke.
    pub fn because(&self) -> Because {
        self.because
    }

    /// SHA-256 of the policy file that refused it.
    pub fn policy_hash(&self) -> &[u8; 32] {
        &self.policy_hash
    }
}

impl From<Denied> for error::Error {
    fn from(_: Denied) -> Self {
        Self::Denied
    }
}

/// The first rule that a request broke. For the audit log; never for the caller.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Because {
    /// The identity belongs to no principal.
    Stranger = 1,
    /// The principal does not hold the right.
    Right = 2,
    /// The class is missing, not the principal's, or has no place beside this right.
    Class = 3,
    /// The purpose is missing, not the principal's, or not for this class.
    Purpose = 4,
    /// The recipient is missing, not the principal's, or not for this purpose.
    Recipient = 5,
    /// The reference is missing.
    Reference = 6,
}

impl Because {
    /// Its name in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Right => "right",
            Self::Class => "class",
            Self::Purpose => "purpose",
            Self::Recipient => "recipient",
            Self::Reference => "reference",
        }
    }
}

impl Policy {
    /// Decides one request. Everything not allowed by name is refused; nothing is looked up in a store, and a
    /// grant costs no allocation, so that this can stand before every call.
    ///
    /// A principal resolved under an earlier policy is resolved anew: what it may do is always this policy's
    /// word.
    ///
    /// # Errors
    /// [`Denied`], naming the first rule that the request broke.
    pub fn decide(&self, principal: Option<&Arc<Principal>>, ask: Ask<'_>) -> Result<Grant, Denied> {
        let Some(principal) = principal.and_then(|principal| self.current(principal)) else {
            return Err(self.denied(None, &ask, Because::Stranger));
        };
        let (purpose, recipient) = match allowed(principal, &ask) {
            Ok(names) => names,
            Err(because) => return Err(self.denied(Some(principal), &ask, because)),
        };
        Ok(Grant {
            principal: Arc::clone(principal),
            right: ask.right,
            class: ask.class,
            purpose: purpose.cloned(),
            recipient: recipient.cloned(),
            reference: ask.reference,
            policy_hash: self.hash,
        })
    }

    fn denied(&self, principal: Option<&Arc<Principal>>, ask: &Ask<'_>, because: Because) -> Denied {
        Denied {
            principal: principal.map(|principal| principal.id().clone()),
            tenant: principal.and_then(|principal| tenant_of(principal)).cloned(),
            right: ask.right,
            class: ask.class,
            purpose: ask.purpose.and_then(|name| self.known_purpose(name)),
            recipient: ask.recipient.and_then(|name| self.known_recipient(name)),
            because,
            policy_hash: self.hash,
        }
    }
}

type Names<'p> = (Option<&'p PurposeId>, Option<&'p RecipientId>);

fn allowed<'p>(principal: &'p Principal, ask: &Ask<'_>) -> Result<Names<'p>, Because> {
    if !principal.rights.contains(ask.right) {
        return Err(Because::Right);
    }
    class_allowed(principal, ask)?;
    let names = names_allowed(principal, ask)?;
    if matches!(ask.right, Right::Detokenize | Right::Erase) && ask.reference.is_none() {
        return Err(Because::Reference);
    }
    Ok(names)
}

fn class_allowed(principal: &Principal, ask: &Ask<'_>) -> Result<(), Because> {
    let allowed = match ask.class {
        Some(class) => principal.classes.contains(class),
        None => !ask.right.concerns_values(),
    };
    if allowed { Ok(()) } else { Err(Because::Class) }
}

/// A purpose or recipient that is named must be allowed even where none is needed: what stands in an entry
/// was true.
fn names_allowed<'p>(principal: &'p Principal, ask: &Ask<'_>) -> Result<Names<'p>, Because> {
    let needed = ask.right == Right::Detokenize;
    let allowance = match ask.purpose {
        Some(name) => Some(principal.allowance(name).ok_or(Because::Purpose)?),
        None if needed || ask.recipient.is_some() => return Err(Because::Purpose),
        None => None,
    };
    if let (Some(allowance), Some(class)) = (allowance, ask.class)
        && !allowance.classes.contains(class)
    {
        return Err(Because::Purpose);
    }
    let recipient = match (allowance, ask.recipient) {
        (Some(allowance), Some(name)) => Some(allowance.recipient(name).ok_or(Because::Recipient)?),
        _ if needed => return Err(Because::Recipient),
        _ => None,
    };
    Ok((allowance.map(|allowance| &allowance.purpose), recipient))
}

fn tenant_of(principal: &Principal) -> Option<&TenantId> {
    match &principal.scope {
        Scope::One(tenant) => Some(tenant),
        Scope::All => None,
    }
}
