//! Files, TCP ports and signals, by Landlock.

use std::fmt;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope, make_bitflags,
};
use rustix::fs::{FileType, fstat};

use super::ConfineError;

/// The newest rules that the vault was tried with; a kernel that has fewer keeps those.
const KNOWN: ABI = ABI::V6;
/// The kernels' first rules for TCP ports.
const WITH_PORTS: u32 = 4;
/// And for signals and abstract Unix sockets.
const WITH_SCOPES: u32 = 6;

/// What may be done with a file, or with everything in a folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Reading. What is not there when the rules are made cannot be reached later.
    Read,
    /// Reading and changing files, making and removing files and folders.
    Write,
    /// As `Write`, and what else a program of others may do to its own: devices, links, sockets.
    Own,
    /// Making a socket and removing it.
    Socket,
    /// Removing folders.
    RemoveFolder,
}

impl Access {
    fn rights(self) -> BitFlags<AccessFs> {
        let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        let write = make_bitflags!(AccessFs::{
            WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir
        });
        match self {
            Self::Read => read,
            Self::Write => read | write,
            Self::Own => {
                read | write | make_bitflags!(AccessFs::{Refer | MakeSym | MakeSock | MakeFifo | IoctlDev})
            }
            Self::Socket => make_bitflags!(AccessFs::{MakeSock | RemoveFile}),
            Self::RemoveFolder => AccessFs::RemoveDir.into(),
        }
    }
}

/// Everything that stays within reach.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Files and folders.
    pub paths: Vec<(PathBuf, Access)>,
    /// The TCP ports that may be listened on; `None`: any.
    pub bind: Option<Vec<u16>>,
    /// The TCP ports that may be connected to, wherever; `None`: any.
    pub connect: Option<Vec<u16>>,
}

/// What the kernel keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileRules {
    /// The rules are in force, as far as this version of Landlock's interface goes.
    Kept(u32),
    /// The kernel has no Landlock, or does not use it: there are no rules.
    Absent,
}

impl fmt::Display for FileRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self {
            Self::Absent => return f.write_str("the kernel has no Landlock, or was started without it"),
            Self::Kept(version) => *version,
        };
        write!(f, "Landlock {version}: files")?;
        if version >= WITH_PORTS {
            f.write_str(", TCP ports")?;
        }
        if version >= WITH_SCOPES {
            f.write_str(", signals")?;
        }
        Ok(())
    }
}

/// Takes everything but this out of reach of the calling thread and of those it will start. No file can be
/// executed, no device driver asked for more than reading and writing, no signal sent to other processes.
///
/// # Errors
/// [`ConfineError`]: a path that is to be changed is not there, or the kernel refuses its own rules.
pub fn confine_files(reach: &Reach) -> Result<FileRules, ConfineError> {
    let mut rules = handled(reach).map_err(refused)?;
    for (path, access) in &reach.paths {
        if let Some(rule) = rule(path, *access)? {
            rules = rules.add_rule(rule).map_err(refused)?;
        }
    }
    for (ports, access) in [(&reach.bind, AccessNet::BindTcp), (&reach.connect, AccessNet::ConnectTcp)] {
        for port in ports.iter().flatten() {
            rules = rules.add_rule(NetPort::new(*port, access)).map_err(refused)?;
        }
    }
    match rules.restrict_self().map_err(refused)?.landlock {
        LandlockStatus::Available { effective_abi, .. } => {
            // It has no other way to be a number.
            let version = effective_abi.to_string().parse().unwrap_or_default();
            Ok(FileRules::Kept(version))
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Ok(FileRules::Absent),
    }
}

/// Rules that allow nothing yet, of everything that the kernel can forbid.
fn handled(reach: &Reach) -> Result<RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(KNOWN))?;
    if reach.bind.is_some() {
        rules = rules.handle_access(AccessNet::BindTcp)?;
    }
    if reach.connect.is_some() {
        rules = rules.handle_access(AccessNet::ConnectTcp)?;
    }
    rules.scope(Scope::from_all(KNOWN))?.create()
}

fn rule(path: &Path, access: Access) -> Result<Option<PathBeneath<PathFd>>, ConfineError> {
    let failed = |source| ConfineError::Path { path: path.to_owned(), source };
    if access == Access::Read && path.metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    let opened = PathFd::new(path).map_err(|error| match error {
        landlock::PathFdError::OpenCall { source, .. } => failed(source),
        _ => failed(ErrorKind::Other.into()),
    })?;
    let meta = fstat(opened.as_fd()).map_err(|errno| failed(errno.into()))?;
    let rights = match FileType::from_raw_mode(meta.st_mode) {
        FileType::Directory => access.rights(),
        _ => access.rights() & AccessFs::from_file(KNOWN),
    };
    Ok(Some(PathBeneath::new(opened, rights)))
}

fn refused(error: impl fmt::Display) -> ConfineError {
    ConfineError::Files(error.to_string())
}
