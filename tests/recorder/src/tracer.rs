//! Follows a child process call by call and writes the record.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use libc::pid_t;

use crate::calls::{Call, HERE, PathAt, call};
use crate::image::{Content, Image, Place};
use crate::names::{Names, Slot};
use crate::process::{self, Step, Stop};
use crate::record::{Event, NodeId, Record, Renaming};

const PATH_BYTES_MAX: u64 = 4096;

/// A child that ran to its end.
#[derive(Debug)]
pub struct Traced {
    /// What it did to the folder.
    pub record: Record,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
}

/// Runs a program and records what it does to `folder`. What it writes into the file `marks`, which lies
/// elsewhere, stands in the record as [`Event::Mark`].
///
/// # Errors
/// What tracing meets, and calls that the record could not hold.
pub fn trace(command: &mut Command, folder: &Path, marks: &Path) -> io::Result<Traced> {
    let folder = folder.canonicalize()?;
    let image = Image::load(&folder)?;
    let record = Record::start(image);
    let mut tracer = Tracer {
        live: record.names.clone(),
        known: HashMap::from([(identity(&fs::metadata(&folder)?), NodeId::ROOT)]),
        sizes: HashMap::new(),
        record,
        folder,
        marks: marks.to_owned(),
    };
    tracer.know_what_is_there()?;
    let pid = process::spawn(command)?;
    let ended = Threads::new(pid).and_then(|threads| threads.run(&mut tracer));
    match ended {
        Ok(code) => Ok(Traced { record: tracer.record, code }),
        Err(error) => {
            process::kill(pid);
            Err(error)
        }
    }
}

/// The threads of a child, of which at most one is in a call that matters.
struct Threads {
    pid: pid_t,
    memory: File,
    started: HashSet<pid_t>,
    /// The thread whose turn it is, with its call and what was learnt when it entered.
    turn: Option<(pid_t, Entered)>,
    /// Threads that stand before such a call.
    waiting: VecDeque<(pid_t, Call)>,
}

/// A call on its way.
struct Entered {
    call: Call,
    /// The paths it names, where they lie in the recorded folder.
    first: Option<PathBuf>,
    second: Option<PathBuf>,
}

impl Threads {
    fn new(pid: pid_t) -> io::Result<Self> {
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let started = HashSet::from([pid]);
        Ok(Self { pid, memory, started, turn: None, waiting: VecDeque::new() })
    }

    fn run(mut self, tracer: &mut Tracer) -> io::Result<Option<i32>> {
        process::resume(self.pid, 0)?;
        loop {
            let (thread, stop) = process::wait()?;
            match stop {
                Stop::Gone(code) if thread == self.pid => return Ok(code),
                Stop::Gone(_) => self.gone(thread, tracer)?,
                Stop::Call => self.call(thread, tracer)?,
                Stop::Cloned => process::resume(thread, 0)?,
                Stop::Left => return Err(io::Error::other("the child started another program")),
                // How a new thread begins.
                Stop::Signal(libc::SIGSTOP) if self.started.insert(thread) => process::resume(thread, 0)?,
                Stop::Signal(signal) => process::resume(thread, signal)?,
            }
        }
    }

    fn gone(&mut self, thread: pid_t, tracer: &mut Tracer) -> io::Result<()> {
        self.started.remove(&thread);
        self.waiting.retain(|(waiting, _)| *waiting != thread);
        if self.turn.as_ref().is_some_and(|(turn, _)| *turn == thread) {
            self.turn = None;
            self.next(tracer)?;
        }
        Ok(())
    }

    fn call(&mut self, thread: pid_t, tracer: &mut Tracer) -> io::Result<()> {
        match process::step(thread)? {
            Some(Step::Enter { number, arguments }) => match call(number, arguments) {
                Some(call) => {
                    self.waiting.push_back((thread, call));
                    self.next(tracer)
                }
                None => process::resume(thread, 0),
            },
            Some(Step::Leave { result }) => {
                if let Some((_, entered)) = self.turn.take_if(|(turn, _)| *turn == thread) {
                    if let Ok(result) = u64::try_from(result) {
                        tracer.done(&self.child(thread), &entered, result)?;
                    }
                    process::resume(thread, 0)?;
                    return self.next(tracer);
                }
                process::resume(thread, 0)
            }
            None => Ok(()),
        }
    }

    /// Lets the next waiting thread into its call, if nobody is in one.
    fn next(&mut self, tracer: &Tracer) -> io::Result<()> {
        if self.turn.is_some() {
            return Ok(());
        }
        let Some((thread, call)) = self.waiting.pop_front() else { return Ok(()) };
        let entered = tracer.entered(&self.child(thread), call)?;
        self.turn = Some((thread, entered));
        process::resume(thread, 0)
    }

    const fn child(&self, thread: pid_t) -> Child<'_> {
        Child { thread, memory: &self.memory }
    }
}

/// A thread that stands still, with its memory and descriptors.
struct Child<'a> {
    thread: pid_t,
    memory: &'a File,
}

impl Child<'_> {
    fn bytes(&self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.memory.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// The first bytes of several runs, as many as were written.
    fn gathered(&self, runs: u64, count: u64, length: u64) -> io::Result<Vec<u8>> {
        let table = self.bytes(runs, count.saturating_mul(16))?;
        let words: Vec<u64> = table.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let mut gathered = Vec::new();
        for run in words.as_chunks::<2>().0 {
            let [at, size] = *run;
            let missing = length.saturating_sub(gathered.len() as u64);
            gathered.extend(self.bytes(at, size.min(missing))?);
        }
        Ok(gathered)
    }

    fn text(&self, at: u64) -> io::Result<PathBuf> {
        let mut text = Vec::new();
        while (text.len() as u64) < PATH_BYTES_MAX {
            let next = at + text.len() as u64;
            // Never over the end of a page, behind which there may be nothing.
            let piece = self.bytes(next, 64 - next % 64)?;
            match piece.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend(piece.into_iter().take(end));
                    return Ok(PathBuf::from(std::ffi::OsString::from_vec(text)));
                }
                None => text.extend(piece),
            }
        }
        Err(io::Error::other("a path without an end"))
    }

    /// A path as the kernel will see it, with its folders resolved.
    fn path(&self, path: PathAt) -> io::Result<PathBuf> {
        let text = self.text(path.text)?;
        let base = match path.folder {
            _ if text.is_absolute() => PathBuf::new(),
            HERE => fs::read_link(format!("/proc/{}/cwd", self.thread))?,
            folder => fs::read_link(self.descriptor(folder))?,
        };
        let full = base.join(text);
        match (full.parent().map(Path::canonicalize), full.file_name()) {
            (Some(Ok(folder)), Some(name)) => Ok(folder.join(name)),
            // The call fails, or the path ends in a dot.
            _ => Ok(full.canonicalize().unwrap_or(full)),
        }
    }

    fn descriptor(&self, file: i32) -> String {
        format!("/proc/{}/fd/{file}", self.thread)
    }

    /// Where a descriptor stands now.
    fn position(&self, file: i32) -> io::Result<u64> {
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{file}", self.thread))?;
        let position = info.lines().find_map(|line| line.strip_prefix("pos:"));
        position.and_then(|text| text.trim().parse().ok()).ok_or_else(|| io::Error::other("no position"))
    }
}

/// Device and number of a file: what stays the same under every name and descriptor.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Writes the record.
struct Tracer {
    folder: PathBuf,
    marks: PathBuf,
    record: Record,
    live: Names,
    known: HashMap<Identity, NodeId>,
    sizes: HashMap<NodeId, u64>,
}

impl Tracer {
    fn know_what_is_there(&mut self) -> io::Result<()> {
        for path in Image::load(&self.folder)?.0.into_keys() {
            let metadata = fs::metadata(self.folder.join(&path))?;
            if let Some(node) = self.live.find(&path) {
                self.known.insert(identity(&metadata), node);
                self.sizes.insert(node, metadata.len());
            }
        }
        Ok(())
    }

    fn entered(&self, child: &Child<'_>, call: Call) -> io::Result<Entered> {
        let below = |path| Ok::<_, io::Error>(self.below(&child.path(path)?));
        let (first, second) = match call {
            Call::Open { path, .. } | Call::Remove { path } | Call::MakeFolder { path } => {
                (below(path)?, None)
            }
            Call::Rename { from, to } => (below(from)?, below(to)?),
            Call::RefusedAt { path } if below(path)?.is_some() => return refused(call),
            Call::RefusedOn { file } if self.node(child, file).is_some() => return refused(call),
            Call::Refused => return refused(call),
            _ => (None, None),
        };
        if let Call::Open { flags, .. } = call
            && first.is_some()
            && flags & libc::O_TMPFILE == libc::O_TMPFILE
        {
            return refused(call);
        }
        Ok(Entered { call, first, second })
    }

    /// A call has succeeded.
    fn done(&mut self, child: &Child<'_>, entered: &Entered, result: u64) -> io::Result<()> {
        match entered.call {
            Call::Write { file, bytes, at } => {
                self.wrote(child, file, at, result, || child.bytes(bytes, result))
            }
            Call::WriteMany { file, runs, count, at } => {
                self.wrote(child, file, at, result, || child.gathered(runs, count, result))
            }
            Call::Resize { file, size } => {
                self.node(child, file).into_iter().for_each(|node| self.resized(node, size));
                Ok(())
            }
            Call::Grow { file, to } => {
                let node = self.node(child, file).filter(|node| to > self.size(*node));
                node.into_iter().for_each(|node| self.resized(node, to));
                Ok(())
            }
            Call::Sync { file } => {
                self.record.events.extend(self.node(child, file).map(Event::Sync));
                Ok(())
            }
            Call::Open { flags, .. } => self.opened(child, entered, flags, result),
            Call::Rename { .. } => self.renamed(entered),
            Call::Remove { .. } => match &entered.first {
                Some(path) => {
                    let slot = self.slot(path, None)?;
                    self.name(vec![slot]);
                    Ok(())
                }
                None => Ok(()),
            },
            Call::MakeFolder { .. } => match &entered.first {
                Some(path) => {
                    let metadata = fs::metadata(self.folder.join(path))?;
                    self.made(path, &metadata, Place::Folder)
                }
                None => Ok(()),
            },
            Call::RefusedAt { .. } | Call::RefusedOn { .. } | Call::Refused | Call::End => Ok(()),
        }
    }

    fn wrote(
        &mut self,
        child: &Child<'_>,
        file: i32,
        at: Option<u64>,
        length: u64,
        bytes: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        let Some(node) = self.node(child, file) else {
            if fs::read_link(child.descriptor(file)).is_ok_and(|path| path == self.marks) {
                self.record.events.push(Event::Mark(bytes()?));
            }
            return Ok(());
        };
        let at = match at {
            Some(at) => at,
            None => child.position(file)?.saturating_sub(length),
        };
        let bytes = bytes()?;
        if !bytes.is_empty() {
            let size = self.size(node).max(at + bytes.len() as u64);
            self.sizes.insert(node, size);
            self.record.events.push(Event::Write { file: node, at, bytes });
        }
        Ok(())
    }

    fn opened(&mut self, child: &Child<'_>, entered: &Entered, flags: i32, file: u64) -> io::Result<()> {
        let Some(path) = &entered.first else { return Ok(()) };
        let descriptor = child.descriptor(i32::try_from(file).map_err(io::Error::other)?);
        let metadata = fs::metadata(descriptor)?;
        match self.live.find(path) {
            Some(node) if self.known.get(&identity(&metadata)) == Some(&node) => {
                if flags & libc::O_TRUNC != 0 && self.size(node) > 0 {
                    self.resized(node, 0);
                }
                Ok(())
            }
            None if flags & libc::O_CREAT != 0 => self.made(path, &metadata, Place::File(Content::default())),
            _ => Err(io::Error::other(format!("{} is not what the record says", path.display()))),
        }
    }

    fn made(&mut self, path: &Path, metadata: &Metadata, place: Place) -> io::Result<()> {
        let node = self.record.add(place);
        self.known.insert(identity(metadata), node);
        let slot = self.slot(path, Some(node))?;
        self.name(vec![slot]);
        Ok(())
    }

    fn renamed(&mut self, entered: &Entered) -> io::Result<()> {
        match (&entered.first, &entered.second) {
            (Some(from), Some(to)) => {
                let node = self.live.find(from);
                let slots = vec![self.slot(from, None)?, self.slot(to, node)?];
                // Two names of one file: nothing is renamed.
                if node != self.live.find(to) {
                    self.name(slots);
                }
                Ok(())
            }
            (None, None) => Ok(()),
            _ => Err(io::Error::other("a renaming into or out of the recorded folder")),
        }
    }

    fn name(&mut self, slots: Vec<Slot>) {
        slots.iter().for_each(|slot| self.live.apply(slot));
        self.record.events.push(Event::Name(Renaming(slots)));
    }

    fn slot(&self, path: &Path, node: Option<NodeId>) -> io::Result<Slot> {
        let unknown = || io::Error::other(format!("the folder of {} is unknown", path.display()));
        self.live.slot(path, node).ok_or_else(unknown)
    }

    fn resized(&mut self, file: NodeId, size: u64) {
        self.sizes.insert(file, size);
        self.record.events.push(Event::Resize { file, size });
    }

    fn size(&self, node: NodeId) -> u64 {
        self.sizes.get(&node).copied().unwrap_or_default()
    }

    /// The path from the recorded folder on, if it leads there.
    fn below(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.folder).ok().map(Path::to_owned)
    }

    /// What a descriptor stands for, if it is in the record.
    fn node(&self, child: &Child<'_>, file: i32) -> Option<NodeId> {
        // A descriptor that is none, on which the call fails, leads nowhere.
        let metadata = fs::metadata(child.descriptor(file)).ok()?;
        self.known.get(&identity(&metadata)).copied()
    }
}

fn refused<T>(call: Call) -> io::Result<T> {
    Err(io::Error::other(format!("the record cannot hold {call:?}")))
}
