//! The only home of plaintext.

use secrecy::{ExposeSecret, SecretBox};
use zeroize::Zeroize;

/// A secret on the heap, wiped when dropped. It can neither be printed, cloned, compared nor serialised: the
/// only way in is [`Secret::expose`], so that a search for that word finds every reader.
pub struct Secret<T: Zeroize>(SecretBox<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes a secret that is on the heap already.
    pub fn new(secret: Box<T>) -> Self {
        Self(SecretBox::new(secret))
    }

    /// Lends the secret out for reading.
    pub fn expose(&self) -> &T {
        self.0.expose_secret()
    }
}

impl<T: Zeroize + Default> Secret<T> {
    /// Writes a secret in place, so that no copy of it ever stands on the stack.
    pub fn init_with(write: impl FnOnce(&mut T)) -> Self {
        Self(SecretBox::init_with_mut(write))
    }
}
