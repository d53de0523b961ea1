//! Processes of one's own, and how much processor time they took.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Done;
use crate::cli::{Shape, Store};

/// A server in a process of its own; it ends when this is dropped, or the bench in any way.
pub(crate) struct Served {
    child: Child,
    address: SocketAddr,
}

impl Served {
    /// Starts this program again as a server, and waits until it listens.
    pub(crate) fn start(command: &str, folder: &Path, store: Store, shape: Shape) -> Done<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(command)
            .arg(folder)
            .arg(store.engine().as_str())
            .args(shape.index.then_some("--index"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        match line.trim().parse() {
            Ok(address) => Ok(Self { child, address }),
            Err(_) => Err(format!("{command} did not start: {}", child.wait()?).into()),
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time until now, of threads that live.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        cpu_of_threads(self.child.id())
    }

    /// Processor time until now, coarser, of all threads that ever were.
    pub(crate) fn cpu_in_all(&self) -> io::Result<Duration> {
        cpu_of_process(&self.child.id().to_string())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Its standard input ends, and so does it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What a serving process does: says where it listens, then waits for the end of its standard input.
pub(crate) fn serve_until_told(address: SocketAddr) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{address}")?;
    io::stdin().lock().read_to_end(&mut Vec::new()).map(drop)
}

/// Processor time of this process, coarse.
pub(crate) fn own_cpu_in_all() -> io::Result<Duration> {
    cpu_of_process("self")
}

/// Processor time of the calling thread.
pub(crate) fn own_thread_cpu() -> io::Result<Duration> {
    scheduled(Path::new("/proc/thread-self/schedstat"))
}

/// Nanoseconds each thread ran, as the scheduler keeps them: `/proc/PID/stat` counts hundredths of a second.
fn cpu_of_threads(process: u32) -> io::Result<Duration> {
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        sum += scheduled(&thread?.path().join("schedstat"))?;
    }
    Ok(sum)
}

fn scheduled(path: &Path) -> io::Result<Duration> {
    let text = fs::read_to_string(path)?;
    let first = text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
    first.map(Duration::from_nanos).ok_or_else(|| io::Error::other("schedstat in an unknown form"))
}

/// Fields 14 and 15 of proc_pid_stat(5): time in user and in kernel mode, in ticks.
fn cpu_of_process(process: &str) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The program's name, field 2, may hold anything but ends with the last parenthesis.
    let after_name = text.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks_lasted(ticks))
}

/// Processor time of the whole machine: what was used, and what there was.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) used: Duration,
    pub(crate) capacity: Duration,
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
pub(crate) fn machine_cpu() -> io::Result<Machine> {
    let text = fs::read_to_string("/proc/stat")?;
    let fields: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let capacity = fields.iter().sum();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    Ok(Machine { used: ticks_lasted(capacity - idle), capacity: ticks_lasted(capacity) })
}

fn ticks_lasted(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks.saturating_mul(1_000) / per_second)
}
