//! The two classes of value the vault protects.

use std::fmt;

/// What kind of value a token stands for. Keys, rights and purposes are given per class.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Class {
    /// A primary account number: the digits of a payment card.
    Pan = 1,
    /// A United States social security number.
    Ssn = 2,
}

impl Class {
    /// Every class, in the order of its codes.
    pub const ALL: [Self; 2] = [Self::Pan, Self::Ssn];

    /// The name used in policy files, messages and tokens: `pan` or `ssn`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pan => "pan",
            Self::Ssn => "ssn",
        }
    }

    /// The byte used in stored and authenticated formats. Never changes.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The class of a stored byte; `None` for a byte that no release ever wrote.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Pan),
            2 => Some(Self::Ssn),
            _ => None,
        }
    }

    /// The class of a name, exactly `pan` or `ssn`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_lead_back_to_their_class() {
        for class in Class::ALL {
            assert_eq!(Class::from_code(class.code()), Some(class));
            assert_eq!(Class::parse(class.as_str()), Some(class));
        }
        assert_eq!((Class::Pan.code(), Class::Ssn.code()), (1, 2), "stored codes never change");
    }

    #[test]
    fn nothing_else_is_a_class() {
        assert_eq!((3..=u8::MAX).chain([0]).find_map(Class::from_code), None);
        assert_eq!(["", "PAN", "pan ", "card"].into_iter().find_map(Class::parse), None);
    }
}
