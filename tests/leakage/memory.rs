//! The memory of another process, through `/proc`, as only an administrator can read it: the daemon makes
//! itself not dumpable, which keeps out everybody but root.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::scanner::Scanner;

const STEP: usize = 16 * 1024 * 1024;
/// A value across two steps is seen in the second.
const OVERLAP: usize = 32;

/// What was found in memory, by the kind of mapping.
pub(crate) struct Remains {
    found: BTreeMap<String, usize>,
    bytes: u64,
    unreadable: Option<io::ErrorKind>,
}

/// Looks through every private mapping that can be read.
pub(crate) fn scan(pid: u32, scanner: &Scanner) -> Remains {
    let mut remains = Remains { found: BTreeMap::new(), bytes: 0, unreadable: None };
    let opened = File::open(format!("/proc/{pid}/mem"))
        .and_then(|memory| Ok((memory, fs::read_to_string(format!("/proc/{pid}/maps"))?)));
    match opened {
        Ok((memory, maps)) => {
            for (from, to, name) in maps.lines().filter_map(private_mapping) {
                remains.scan_mapping(scanner, &memory, from, to, name);
            }
        }
        Err(error) => remains.unreadable = Some(error.kind()),
    }
    remains
}

/// Start, end and name of a line of `maps`, if the mapping can be read and is the process's own.
fn private_mapping(line: &str) -> Option<(u64, u64, &str)> {
    let mut fields = line.split_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let name = fields.nth(3).unwrap_or("anonymous");
    let own = rights.starts_with('r') && rights.ends_with('p') && name != "[vvar]" && name != "[vvar_vclock]";
    let address = |text| u64::from_str_radix(text, 16).ok();
    own.then_some((address(from)?, address(to)?, name))
}

impl Remains {
    fn scan_mapping(&mut self, scanner: &Scanner, memory: &File, from: u64, to: u64, name: &str) {
        let mut bytes = vec![0; STEP + OVERLAP];
        let mut at = from;
        while at < to {
            let wanted = usize::try_from(to - at).unwrap().min(bytes.len());
            // A mapping may go while it is read.
            let Ok(read @ 1..) = memory.read_at(&mut bytes[..wanted], at) else { break };
            let whole = at + read as u64 == to;
            // What begins in the overlap is counted in the next step.
            let end = if whole { read } else { read.saturating_sub(OVERLAP).max(1) };
            let found = scanner.find(&bytes[..read]).filter(|(start, ..)| *start < end).count();
            if found > 0 {
                *self.found.entry(name.to_owned()).or_default() += found;
            }
            self.bytes += end as u64;
            at += end as u64;
        }
    }

    /// Nothing was found.
    pub(crate) fn expect_none(&self) {
        assert!(self.found.is_empty(), "values in memory with every connection closed: {:?}", self.found);
    }
}

impl fmt::Display for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unreadable {
            Some(why) => write!(f, "could not be read: {why}"),
            None => {
                let count: usize = self.found.values().sum();
                write!(f, "{count} values in {} bytes {:?}", self.bytes, self.found)
            }
        }
    }
}
