//! The memory of another process, through `/proc`, as only an administrator can read it: the daemon makes
//! itself not dumpable, which keeps out everybody but root.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use vault_tests::values::{Seeded, seed};

use crate::scanner::Scanner;

const STEP: usize = 16 * 1024 * 1024;
/// A value across two steps is seen in the second.
const OVERLAP: usize = 32;
/// So many remains are told with so many bytes on either side.
const TOLD: usize = 16;
const AROUND: usize = 96;
/// A daemon that serves has more than this; less is a scan of nothing.
const BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Says that no memory is to be looked at, for whoever may not: any value.
const LEFT_OUT: &str = "VAULT_TESTS_NO_MEMORY";

/// What was found in memory, by the kind of mapping.
pub(crate) struct Remains {
    found: BTreeMap<String, usize>,
    /// Of the first ones, what stands around them: it says who forgot them.
    surroundings: Vec<String>,
    bytes: u64,
}

/// Looks through every private mapping that can be read; `None` where that was left out on purpose.
pub(crate) fn scan(pid: u32, scanner: &Scanner) -> Option<Remains> {
    if env::var_os(LEFT_OUT).is_some() {
        return None;
    }
    let mut remains = Remains { found: BTreeMap::new(), surroundings: Vec::new(), bytes: 0 };
    let stacks = stacks(pid);
    let opened = File::open(format!("/proc/{pid}/mem"))
        .and_then(|memory| Ok((memory, fs::read_to_string(format!("/proc/{pid}/maps"))?)));
    let (memory, maps) = opened.unwrap_or_else(|error| panic!("the daemon's memory: {error}; {ADVICE}"));
    for (from, to, name) in maps.lines().filter_map(private_mapping) {
        let stack = stacks.iter().find(|(pointer, _)| (from..to).contains(pointer));
        let name = stack.map_or(name, |(_, thread)| thread);
        remains.scan_mapping(scanner, &memory, from, to, name);
    }
    assert!(remains.bytes > BYTES_MIN, "{} bytes of memory could be read; {ADVICE}", remains.bytes);
    Some(remains)
}

const ADVICE: &str =
    "this takes root, in a container with CAP_SYS_PTRACE; VAULT_TESTS_NO_MEMORY=1 leaves it out";

/// The stack pointer of every thread that waits in the kernel, and whose stack it is.
fn stacks(pid: u32) -> Vec<(u64, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stack = |task: fs::DirEntry| {
        let call = fs::read_to_string(task.path().join("syscall")).ok()?;
        let pointer = call.split_whitespace().rev().nth(1)?.strip_prefix("0x")?;
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        Some((u64::from_str_radix(pointer, 16).ok()?, format!("stack of {}", name.trim())))
    };
    tasks.filter_map(stack).collect()
}

/// Start, end and name of a line of `maps`, if the mapping can be read and is the process's own.
fn private_mapping(line: &str) -> Option<(u64, u64, &str)> {
    let mut fields = line.split_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let name = fields.nth(3).unwrap_or("anonymous");
    // What is mapped from a file and cannot be written is that file's content: code, in which a short number
    // turns up by chance.
    let constant = name.starts_with('/') && !rights.contains('w');
    let kernel = name == "[vvar]" || name == "[vvar_vclock]";
    let own = rights.starts_with('r') && rights.ends_with('p') && !constant && !kernel;
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
            for (start, _, length) in scanner.find(&bytes[..read]).filter(|(start, ..)| *start < end) {
                *self.found.entry(name.to_owned()).or_default() += 1;
                if self.surroundings.len() < TOLD {
                    let around = around(&bytes[..read], start, length);
                    let offset = at + start as u64 - from;
                    self.surroundings.push(format!("{name} +{offset:#x} of {:#x}: {around}", to - from));
                }
            }
            self.bytes += end as u64;
            at += end as u64;
        }
    }

    /// Nothing was found.
    pub(crate) fn expect_none(&self) {
        let told = self.surroundings.join("\n");
        assert!(self.found.is_empty(), "values in memory with every connection closed: {self}\n{told}");
    }
}

/// The bytes before and after a value, with `#` for each of its digits.
fn around(bytes: &[u8], start: usize, length: usize) -> String {
    let before = &bytes[start.saturating_sub(AROUND)..start];
    let after = &bytes[start + length..bytes.len().min(start + length + AROUND)];
    format!("{}{}{}", before.escape_ascii(), "#".repeat(length), after.escape_ascii())
}

impl fmt::Display for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: usize = self.found.values().sum();
        write!(f, "{count} values in {} bytes {:?}", self.bytes, self.found)
    }
}

#[test]
fn a_value_in_memory_is_found() {
    // Made up now, so that no constant of this program is mistaken for it.
    let planted = Seeded::new(seed()).pan(16);
    let Some(remains) = scan(std::process::id(), &Scanner::of_digits(&[&planted])) else { return };
    assert!(!remains.found.is_empty(), "{remains}, and one was planted");
}
