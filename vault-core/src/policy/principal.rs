//! Who calls: one client certificate identity with everything policy says about it, names already resolved.

use std::sync::Arc;

use super::identity::Identity;
use super::right::Rights;
use super::role::Role;
use super::tenant::{Classes, Quota, Tenant};
use crate::data::{PrincipalId, PurposeId, RecipientId, TenantId};

/// Whose data a principal acts on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scope {
    /// One tenant's. No request names a tenant: the principal's is the only one it can reach.
    One(TenantId),
    /// All tenants', for roles that never touch a value.
    All,
}

impl Scope {
    /// The one tenant; `None` for all.
    pub const fn one(&self) -> Option<&TenantId> {
        match self {
            Self::One(tenant) => Some(tenant),
            Self::All => None,
        }
    }
}

/// One caller. Only a [`Policy`](super::Policy) makes principals.
#[derive(Debug)]
pub struct Principal {
    pub(super) id: PrincipalId,
    /// `None` for the vault itself, which no certificate can claim to be.
    pub(super) identity: Option<Identity>,
    pub(super) scope: Scope,
    /// The rules of the tenant in `scope`.
    pub(super) tenant: Option<Arc<Tenant>>,
    pub(super) role: Role,
    pub(super) rights: Rights,
    pub(super) classes: Classes,
    /// In order of name, so that a decision finds one by binary search.
    pub(super) purposes: Vec<Allowance>,
    /// In order of name.
    pub(super) recipients: Vec<RecipientId>,
    pub(super) quota: Quota,
    /// The policy it was made from; another policy looks it up anew.
    pub(super) policy_hash: [u8; 32],
}

/// A purpose as one principal may use it.
#[derive(Debug)]
pub(super) struct Allowance {
    pub(super) purpose: PurposeId,
    /// The principal's classes that the purpose allows.
    pub(super) classes: Classes,
    /// The principal's recipients that accept the purpose, in order of name.
    pub(super) recipients: Vec<RecipientId>,
}

impl Principal {
    /// Its name in the audit log.
    pub fn id(&self) -> &PrincipalId {
        &self.id
    }

    /// The identity that policy gives it; `None` for the vault itself. Its `ca` is the one that the policy
    /// names.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Whose data it acts on.
    pub fn tenant(&self) -> &Scope {
        &self.scope
    }

    /// The rules of its one tenant; `None` when it acts for all.
    pub fn tenant_rules(&self) -> Option<&Arc<Tenant>> {
        self.tenant.as_ref()
    }

    /// What work it does.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What it may do.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// The classes it may touch.
    pub fn classes(&self) -> Classes {
        self.classes
    }

    /// The purposes it may name, in order of name.
    pub fn purposes(&self) -> impl Iterator<Item = &PurposeId> {
        self.purposes.iter().map(|allowance| &allowance.purpose)
    }

    /// The recipients it may name, in order of name.
    pub fn recipients(&self) -> &[RecipientId] {
        &self.recipients
    }

    /// The limits on this principal alone.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Its limit of requests in one minute.
    pub fn requests_per_minute(&self) -> Option<u32> {
        self.quota.requests_per_minute
    }

    /// Its limit of different tokens in one UTC day.
    pub fn distinct_tokens_per_day(&self) -> Option<u32> {
        self.quota.distinct_tokens_per_day
    }

    pub(super) fn allowance(&self, purpose: &str) -> Option<&Allowance> {
        let found = self.purposes.binary_search_by(|allowance| allowance.purpose.as_str().cmp(purpose));
        found.ok().and_then(|place| self.purposes.get(place))
    }
}

impl Allowance {
    pub(super) fn recipient(&self, name: &str) -> Option<&RecipientId> {
        let found = self.recipients.binary_search_by(|id| id.as_str().cmp(name));
        found.ok().and_then(|place| self.recipients.get(place))
    }
}
