//! Whose data it is: a tenant's choices, and the limits that policy sets.

use crate::data::{Class, TenantId, Truncation};

/// A set of classes, one bit each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Classes(u8);

impl Classes {
    /// No class.
    pub const NONE: Self = Self(0);
    /// Every class.
    pub const ALL: Self = Self::NONE.with(Class::Pan).with(Class::Ssn);

    /// This set and one class more.
    #[must_use]
    pub const fn with(self, class: Class) -> Self {
        Self(self.0 | Self::bit(class))
    }

    /// Whether the class is in the set.
    pub const fn contains(self, class: Class) -> bool {
        self.0 & Self::bit(class) != 0
    }

    /// The classes of the set, in the order of their codes.
    pub fn iter(self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().filter(move |class| self.contains(*class))
    }

    /// The classes that are in both sets.
    #[must_use]
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether no class is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn bit(class: Class) -> u8 {
        match class {
            Class::Pan => 1,
            Class::Ssn => 2,
        }
    }
}

impl FromIterator<Class> for Classes {
    fn from_iter<I: IntoIterator<Item = Class>>(classes: I) -> Self {
        classes.into_iter().fold(Self::NONE, Self::with)
    }
}

/// How often something may happen. `None` is no limit at this level; the other levels still count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quota {
    /// Requests that reach policy in one minute, refusals included.
    pub requests_per_minute: Option<u32>,
    /// Different tokens whose values are used in one UTC day.
    pub distinct_tokens_per_day: Option<u32>,
}

/// One tenant's choices.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tenant {
    pub(super) id: TenantId,
    pub(super) classes: Classes,
    pub(super) one_token_per_value: bool,
    pub(super) truncation: Truncation,
    pub(super) quota: Quota,
}

impl Tenant {
    /// Its name.
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    /// The classes it keeps.
    pub fn classes(&self) -> Classes {
        self.classes
    }

    /// Whether the same value always gets the same token, which costs a blind index.
    pub fn one_token_per_value(&self) -> bool {
        self.one_token_per_value
    }

    /// The one form in which its masked values are shown.
    pub fn truncation(&self) -> Truncation {
        self.truncation
    }

    /// The limits on all its principals together.
    pub fn quota(&self) -> Quota {
        self.quota
    }
}
