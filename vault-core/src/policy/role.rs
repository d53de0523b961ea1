//! What kind of work a principal does, and which rights that work can need.

use super::right::{Right, Rights};

/// The work of a principal. A role permits; only the principal's own list of rights gives.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// A service that takes values from cardholders and keeps tokens.
    Checkout,
    /// A service that sends values on to those who must have them.
    Billing,
    /// Who answers cardholders: confirms what they read out, erases what they ask to have erased.
    CustomerService,
    /// Who reads the audit log and never a value.
    Auditor,
    /// Who opens and closes the vault and never sees a value.
    Custodian,
    /// The vault's own background work. No policy file can name it.
    Vault,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Checkout, Self::Billing, Self::CustomerService, Self::Auditor, Self::Custodian, Self::Vault];

    /// Its name in a policy file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checkout => "checkout",
            Self::Billing => "billing",
            Self::CustomerService => "customer-service",
            Self::Auditor => "auditor",
            Self::Custodian => "custodian",
            Self::Vault => "vault",
        }
    }

    /// The role that a policy file names; never [`Role::Vault`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role != Self::Vault && role.as_str() == text)
    }

    /// The rights that a principal of this role may list.
    pub const fn permits(self) -> Rights {
        let none = Rights::NONE;
        match self {
            Self::Checkout => none.with(Right::Tokenize).with(Right::FindByValue).with(Right::Prove),
            Self::Billing => none
                .with(Right::Detokenize)
                .with(Right::View)
                .with(Right::ViewBin)
                .with(Right::Compare)
                .with(Right::FindByValue)
                .with(Right::Prove),
            Self::CustomerService => {
                none.with(Right::View).with(Right::Compare).with(Right::Erase).with(Right::Prove)
            }
            Self::Auditor => none.with(Right::AuditRead).with(Right::Prove).with(Right::Status),
            Self::Custodian => none
                .with(Right::Status)
                .with(Right::Unseal)
                .with(Right::Seal)
                .with(Right::RotateKeys)
                .with(Right::DestroyKeys),
            Self::Vault => none.with(Right::Sweep).with(Right::Check).with(Right::Rewrap),
        }
    }

    /// Whether such a principal can act for all tenants (`tenant = "*"`): only those who never touch a value.
    pub const fn spans_tenants(self) -> bool {
        !self.permits().meets(Rights::OF_VALUES)
    }
}
