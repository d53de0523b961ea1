//! The life of a key version.

/// Where a key version stands. It only ever moves on, in the order of [`KeyState::ALL`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum KeyState {
    /// In every keyring already, so that any backup of it opens what comes; decrypts, never encrypts.
    Introduced = 1,
    /// Where several daemons share a store: about to encrypt. Whoever knows it so enters new values in the
    /// blind index under it too, so that those for whom it encrypts already find them.
    Announced = 5,
    /// Encrypts and decrypts: at most one version of a tenant and class.
    Enabled = 2,
    /// Decrypts what it once encrypted.
    DecryptOnly = 3,
    /// Its key bytes are gone, and with them everything that only they could open.
    Destroyed = 4,
}

impl KeyState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 5] =
        [Self::Introduced, Self::Announced, Self::Enabled, Self::DecryptOnly, Self::Destroyed];

    /// The name shown in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Introduced => "introduced",
            Self::Announced => "announced",
            Self::Enabled => "enabled",
            Self::DecryptOnly => "decrypt-only",
            Self::Destroyed => "destroyed",
        }
    }

    /// The byte used in the keyring. Never changes.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The state of a stored byte.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Whether new records may be encrypted.
    pub const fn encrypts(self) -> bool {
        matches!(self, Self::Enabled)
    }

    /// Whether records may be decrypted.
    pub const fn decrypts(self) -> bool {
        !matches!(self, Self::Destroyed)
    }

    /// Whether it has not encrypted anything yet.
    pub const fn is_to_come(self) -> bool {
        matches!(self, Self::Introduced | Self::Announced)
    }

    /// Whether a version in this state may pass to `next`: one step at a time, never back. Only a vault that
    /// is alone has nobody to announce to.
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Introduced, Self::Announced | Self::Enabled)
                | (Self::Announced, Self::Enabled)
                | (Self::Enabled, Self::DecryptOnly)
                | (Self::DecryptOnly, Self::Destroyed)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lead_back_to_their_state() {
        for state in KeyState::ALL {
            assert_eq!(KeyState::from_code(state.code()), Some(state));
        }
        assert_eq!((6..=u8::MAX).chain([0]).find_map(KeyState::from_code), None);
    }

    #[test]
    fn only_enabled_encrypts_and_only_destroyed_does_not_decrypt() {
        let of = |predicate: fn(KeyState) -> bool| KeyState::ALL.map(predicate);
        assert_eq!(of(KeyState::encrypts), [false, false, true, false, false]);
        assert_eq!(of(KeyState::decrypts), [true, true, true, true, false]);
        assert_eq!(of(KeyState::is_to_come), [true, true, false, false, false]);
    }

    #[test]
    fn a_life_has_one_direction_and_one_short_cut() {
        let steps = KeyState::ALL.iter().flat_map(|from| KeyState::ALL.iter().map(move |to| (from, to)));
        let allowed: Vec<_> = steps.filter(|(from, to)| from.may_become(**to)).collect();
        assert_eq!(
            allowed,
            [
                (&KeyState::Introduced, &KeyState::Announced),
                (&KeyState::Introduced, &KeyState::Enabled),
                (&KeyState::Announced, &KeyState::Enabled),
                (&KeyState::Enabled, &KeyState::DecryptOnly),
                (&KeyState::DecryptOnly, &KeyState::Destroyed),
            ]
        );
    }
}
