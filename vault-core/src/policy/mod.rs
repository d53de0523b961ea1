//! Who may do what, for which purpose, how often.
//!
//! One TOML file with a closed vocabulary says it all ([`Policy::load`]); a file with anything wrong in it is
//! refused as a whole. Its names are resolved once, so that a decision ([`Policy::decide`]) is a few
//! look-ups: a client certificate's [`Identity`] leads to a [`Principal`], and the principal's [`Right`]s,
//! classes, purposes and recipients either allow an [`Ask`] by name, which makes a [`Grant`], or they do not,
//! which makes a [`Denied`]. No operation of the vault begins without a `Grant`, and only `decide` makes one.
//!
//! Counting against a [`Quota`] is durable and therefore not done here, but where commits are made.

mod decide;
mod file;
mod identity;
mod principal;
mod problem;
mod purpose;
mod resolve;
mod right;
mod role;
mod tenant;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use decide::{Ask, Because, Denied, Grant};
pub use identity::{Identity, IdentityError, IdentityKind};
pub use principal::{Principal, Scope};
pub use problem::{PolicyError, Problem};
pub use purpose::{Purpose, Recipient};
pub use right::{Right, Rights};
pub use role::Role;
pub use tenant::{Classes, Quota, Tenant};

use crate::data::{PurposeId, RecipientId, TenantId};

/// A whole policy, checked. It never changes; a reload makes another.
#[derive(Debug)]
pub struct Policy {
    tenants: BTreeMap<TenantId, Arc<Tenant>>,
    purposes: BTreeMap<PurposeId, Purpose>,
    recipients: BTreeMap<RecipientId, Recipient>,
    /// In the order of the file.
    principals: Vec<Arc<Principal>>,
    uris: PrincipalsByName,
    dns_names: PrincipalsByName,
    vault: Arc<Principal>,
    quota: Quota,
    hash: [u8; 32],
}

/// More than one under a name only when each is bound to another CA.
type PrincipalsByName = HashMap<Box<str>, Vec<Arc<Principal>>>;

impl Policy {
    /// SHA-256 of the bytes of the file: which policy an entry of the audit log was decided by.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// The first eight bytes of the hash: what every entry names.
    pub fn short_hash(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.hash;
        [a, b, c, d, e, f, g, h]
    }

    /// All tenants, in order of name.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// The tenant of this name.
    pub fn tenant(&self, id: &TenantId) -> Option<&Tenant> {
        self.tenants.get(id).map(Arc::as_ref)
    }

    /// The purpose of this name.
    pub fn purpose(&self, name: &str) -> Option<&Purpose> {
        PurposeId::parse(name).ok().and_then(|id| self.purposes.get(&id))
    }

    /// The recipient of this name.
    pub fn recipient(&self, name: &str) -> Option<&Recipient> {
        RecipientId::parse(name).ok().and_then(|id| self.recipients.get(&id))
    }

    /// The limits on all calls to this vault together.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// All principals of the file, in its order; the vault's own is not among them.
    pub fn principals(&self) -> &[Arc<Principal>] {
        &self.principals
    }

    /// The principal of a client certificate's identity, if policy knows it under the CA that issued it. A
    /// principal whose table names no CA is found under any.
    pub fn principal(&self, identity: &Identity) -> Option<Arc<Principal>> {
        self.find(identity).cloned()
    }

    /// The vault itself as the principal of its background work: `sweep` and `check`, and nothing that
    /// returns a value. No certificate leads here.
    pub fn vault_itself(&self) -> &Arc<Principal> {
        &self.vault
    }

    /// Checks the `ca` keys against the names of the daemon's client CAs: each must be one of them, and with
    /// more than one CA none may be left out, because each of the CAs could vouch for that identity.
    ///
    /// # Errors
    /// [`PolicyError`] with the path of the first `ca` key that is wrong or missing.
    pub fn check_client_cas<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<(), PolicyError> {
        let names: Vec<&str> = names.into_iter().collect();
        for (index, principal) in self.principals.iter().enumerate() {
            let ca = principal.identity().and_then(|identity| identity.ca.as_deref());
            let problem = match ca {
                Some(ca) if !names.contains(&ca) => Problem::UnknownCa,
                None if names.len() > 1 => Problem::CaMissing,
                _ => continue,
            };
            return Err(problem::Place { table: "principal", index }.error("ca", problem));
        }
        Ok(())
    }

    fn find(&self, identity: &Identity) -> Option<&Arc<Principal>> {
        let by_name = match identity.kind {
            IdentityKind::Uri => &self.uris,
            IdentityKind::Dns => &self.dns_names,
        };
        let mut namesakes = by_name.get(identity.name.as_str())?.iter();
        namesakes.find(|principal| {
            let bound_to = principal.identity().and_then(|known| known.ca.as_ref());
            bound_to.is_none() || bound_to == identity.ca.as_ref()
        })
    }

    /// The principal as this policy knows it; one that an earlier policy made is looked up again.
    fn current<'p>(&'p self, principal: &'p Arc<Principal>) -> Option<&'p Arc<Principal>> {
        if principal.policy_hash == self.hash {
            return Some(principal);
        }
        match principal.identity() {
            Some(identity) => self.find(identity),
            None => Some(&self.vault),
        }
    }

    pub(crate) fn known_purpose(&self, name: &str) -> Option<PurposeId> {
        self.purpose(name).map(|purpose| purpose.id.clone())
    }

    pub(crate) fn known_recipient(&self, name: &str) -> Option<RecipientId> {
        self.recipient(name).map(|recipient| recipient.id.clone())
    }
}

#[cfg(test)]
mod tests;
