//! The embedded engines by name.

use std::path::Path;

use vault_core::store::fjall::{FjallOptions, FjallStore};
use vault_core::store::sled::{SledOptions, SledStore};
use vault_core::store::{Fault, Store};

const MEBIBYTE: u64 = 1024 * 1024;

/// An engine under test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// fjall as the vault uses it.
    Fjall,
    /// sled as the vault uses it.
    Sled,
    /// sled as it comes, to show that the harness sees losses.
    SledWithoutBarrier,
}

impl Engine {
    const ALL: [Self; 3] = [Self::Fjall, Self::Sled, Self::SledWithoutBarrier];

    /// The name under which a child is told of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fjall => "fjall",
            Self::Sled => "sled",
            Self::SledWithoutBarrier => "sled-without-barrier",
        }
    }

    /// The engine of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|engine| engine.name() == name).expect("an engine's name")
    }

    /// Opens the store in this folder.
    ///
    /// # Errors
    /// As the engine says.
    pub fn open(self, folder: &Path) -> Result<Box<dyn Store>, Fault> {
        let sled = SledOptions { cache_bytes: MEBIBYTE, free_floor_bytes: MEBIBYTE };
        // Memtables so small that a few dozen commits flush and compact.
        let fjall = FjallOptions {
            cache_bytes: MEBIBYTE,
            journal_bytes_max: 64 * MEBIBYTE,
            memtable_bytes: 16 * 1024,
            worker_threads: 1,
            free_floor_bytes: MEBIBYTE,
        };
        Ok(match self {
            Self::Fjall => Box::new(FjallStore::open(folder, fjall)?),
            Self::Sled => Box::new(SledStore::open(folder, sled)?),
            Self::SledWithoutBarrier => Box::new(SledStore::danger_without_barrier(folder, sled)?),
        })
    }
}
