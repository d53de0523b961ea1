//! From a module on disk to a session in which the token's user is logged in, and back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::RawAuthPin;
use vault_core::error::HsmFault;

use super::Use;
use super::fault::{of, of_module, tell};
use crate::file::only_trusted_write;
use crate::limits::HSM_SLOTS_MAX;

/// What a session is for.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Access {
    Read,
    Write,
}

/// A module between its start and its end.
struct Started(Option<Pkcs11>);

impl Started {
    fn new(module: Pkcs11) -> Result<Self, HsmFault> {
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(of_module)?;
        Ok(Self(Some(module)))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // What it says at its end changes nothing any more.
        let _ = self.0.take().map(Pkcs11::finalize);
    }
}

/// Where a module really is, if only root and this process's user could have put it there.
fn trusted(module: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(module).ok()?;
    let closed = |path: &Path| fs::metadata(path).ok().filter(only_trusted_write);
    closed(path.parent()?)?;
    closed(&path)?.is_file().then_some(path)
}

impl Use {
    /// Does something in a session of its own.
    pub(super) fn with_session<T>(
        &self,
        access: Access,
        work: impl FnOnce(&Session) -> Result<T, HsmFault>,
    ) -> Result<T, HsmFault> {
        let _one = self.token.one.lock().unwrap_or_else(PoisonError::into_inner);
        self.with_slot(|module, slot| {
            let session = match access {
                Access::Read => module.open_ro_session(slot),
                Access::Write => module.open_rw_session(slot),
            };
            let session = session.map_err(of)?;
            session.login_with_raw(UserType::User, &self.pin()?).map_err(of)?;
            let done = work(&session);
            // A session that is closed is logged out; some modules want to hear it.
            let _ = session.logout();
            done
        })
    }

    /// Does something with the started module and the slot of the token.
    pub(super) fn with_slot<T>(
        &self,
        work: impl FnOnce(&Pkcs11, Slot) -> Result<T, HsmFault>,
    ) -> Result<T, HsmFault> {
        let module = self.module()?;
        let started = Started::new(module.clone())?;
        let (slot, token) = self.slot(&module)?;
        self.check_pin_count(&token)?;
        let done = work(&module, slot);
        drop(started);
        done
    }

    /// The module, loaded the first time.
    fn module(&self) -> Result<Pkcs11, HsmFault> {
        if let Some(loaded) = self.token.module.get() {
            return Ok(loaded.clone());
        }
        // Its code runs in this process: whoever can change it has the keys.
        let Some(path) = trusted(&self.token.config.module) else {
            tell(&"the module is missing, or others than root and vaultd can change it or its folder");
            return Err(HsmFault::Module);
        };
        let loaded = Pkcs11::new(path).map_err(of_module)?;
        Ok(self.token.module.get_or_init(|| loaded).clone())
    }

    fn slot(&self, module: &Pkcs11) -> Result<(Slot, TokenInfo), HsmFault> {
        let slots = module.get_slots_with_initialized_token().map_err(of)?;
        // One that goes away meanwhile is none of those that are there.
        let present = slots.into_iter().take(HSM_SLOTS_MAX);
        let present = present.filter_map(|slot| Some((slot, module.get_token_info(slot).ok()?)));
        let mut fitting = present.filter(|(_, token)| self.is_named(token));
        match (fitting.next(), fitting.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => Err(HsmFault::Ambiguous),
            (None, _) => Err(HsmFault::Away),
        }
    }

    fn is_named(&self, token: &TokenInfo) -> bool {
        let same = |asked: &Option<String>, told: &str| asked.as_ref().is_none_or(|asked| asked == told);
        let config = &self.token.config;
        same(&config.token_label, token.label()) && same(&config.token_serial, token.serial_number())
    }

    fn check_pin_count(&self, token: &TokenInfo) -> Result<(), HsmFault> {
        if token.user_pin_locked() || token.user_pin_final_try() {
            return Err(HsmFault::PinLocked);
        }
        if token.user_pin_count_low() && !self.asked_for {
            return Err(HsmFault::PinSpared);
        }
        Ok(())
    }

    /// The PIN, wiped when dropped.
    fn pin(&self) -> Result<RawAuthPin, HsmFault> {
        let mut pin = self.token.config.read_pin().map_err(|error| {
            tell(&error);
            HsmFault::PinFile
        })?;
        Ok(RawAuthPin::new(Box::new(std::mem::take(&mut *pin))))
    }
}
