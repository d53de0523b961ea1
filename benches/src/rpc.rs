//! `rpc`: everything in one run, in one layout of processes.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use vault_core::store::memory::MemoryStore;

use crate::calls::Kind;
use crate::cli::RpcOptions;
use crate::client::Clients;
use crate::load::{Load, Plan};
use crate::process::{Machine, Served, machine_cpu, own_cpu_in_all};
use crate::report::{Measured, Report, Surroundings};
use crate::{Done, core, disk};

/// Calls in flight, of single calls.
const IN_FLIGHT: [usize; 4] = [1, 16, 128, 1_024];
/// Calls in flight, of batches: one principal's share of the lane holds two a core.
const BATCHES_IN_FLIGHT: [usize; 2] = [1, 4];
const SINGLE: [Kind; 3] = [Kind::Echo, Kind::Tokenize, Kind::Detokenize];
const BATCH: [Kind; 3] = [Kind::BatchEcho, Kind::BatchTokenize, Kind::BatchDetokenize];
/// Part of a measurement's time that the same load runs before it, unmeasured.
const WARM_UP: u32 = 10;
/// Longest that the disk's syncs and each shape of core work are measured in a round.
const OTHERS_MAX: Duration = Duration::from_secs(1);

/// Measures and reports.
pub(crate) fn run(options: &RpcOptions) -> Done {
    let temporary = match &options.dir {
        Some(folder) => TempDir::new_in(folder)?,
        None => TempDir::new()?,
    };
    let folder = temporary.path().join("vault");
    let vault = Served::start("serve-vault", &folder, options.store, options.shape)?;
    let echo = Served::start("serve-echo", &folder, options.store, options.shape)?;
    let clients = Clients::connect(&folder, vault.address(), echo.address(), options.seed, options.shape)?;
    clients.fill(options.records())?;
    clients.fit_echoes()?;
    let bench = Bench { clients, vault, echo, lasting: options.duration() };
    let others = bench.lasting.min(OTHERS_MAX);

    let before = bench.account()?;
    let mut report = Report { measured: settings(options.in_flight), ..Report::default() };
    for round in 0..options.rounds() {
        let groups = report.measured.chunks_mut(SINGLE.len());
        let a_part = others.div_f64(groups.len() as f64);
        for (index, group) in groups.enumerate() {
            // A little before each, so that the disk is seen under what the measurements see.
            report.syncs.push(disk::syncs_per_second(temporary.path(), a_part)?);
            bench.measure(group, (round + index) % 2 == 1)?;
        }
    }
    let surroundings = Surroundings {
        in_memory: disk::is_in_memory(temporary.path())?,
        others: before.others_until(&bench.account()?),
        rounds: options.rounds(),
        lasting: bench.lasting,
        seed: options.seed,
        records: options.records(),
        store: options.store.engine().as_str(),
        shape: options.shape,
    };
    drop(bench);
    report.core = core::measure(Arc::new(MemoryStore::new()), options.seed, options.shape, others)?;
    report.print(&surroundings)?;
    match &options.json {
        Some(file) => report.write_json(file, &surroundings),
        None => Ok(()),
    }
}

/// Everything that is measured, an echo before what stands beside it; only so many in flight, if told so.
fn settings(only: Option<usize>) -> Vec<Measured> {
    let single = IN_FLIGHT.into_iter().map(|in_flight| (SINGLE, in_flight));
    let batch = BATCHES_IN_FLIGHT.into_iter().map(|in_flight| (BATCH, in_flight));
    let kinds = single.chain(batch).filter(|(_, in_flight)| only.is_none_or(|only| only == *in_flight));
    kinds.flat_map(|(kinds, in_flight)| kinds.map(|kind| Measured::new(kind, in_flight))).collect()
}

struct Bench {
    // Dropped first: a server that drains waits for connections whose client no longer listens.
    clients: Clients,
    vault: Served,
    echo: Served,
    lasting: Duration,
}

impl Bench {
    /// An echo and what stands beside it; the echo last if told so: neither always meets the warmer machine.
    fn measure(&self, group: &mut [Measured], echo_last: bool) -> Done {
        if echo_last {
            group.rotate_left(1);
        }
        for measured in group.iter_mut() {
            let plan = Plan { kind: measured.kind, in_flight: measured.in_flight, lasting: self.lasting };
            self.clients.load(Plan { lasting: self.lasting / WARM_UP, ..plan })?;
            let (vault, echo) = (self.vault.cpu()?, self.echo.cpu()?);
            let load = self.clients.load(plan)?;
            let vault = self.vault.cpu()?.saturating_sub(vault);
            let echo = self.echo.cpu()?.saturating_sub(echo);
            let (server_cpu, deferred_cpu) =
                if measured.kind.is_echo() { (echo, vault) } else { (vault, Duration::ZERO) };
            measured.rounds.push(Round { load, server_cpu, deferred_cpu });
        }
        if echo_last {
            group.rotate_right(1);
        }
        Ok(())
    }

    fn account(&self) -> Done<Account> {
        let own = own_cpu_in_all()? + self.vault.cpu_in_all()? + self.echo.cpu_in_all()?;
        Ok(Account { machine: machine_cpu()?, own })
    }
}

/// One measurement of one setting.
pub(crate) struct Round {
    pub(crate) load: Load,
    /// Processor time of the server that answered.
    pub(crate) server_cpu: Duration,
    /// What the vault worked meanwhile though nobody called it: what it had put off.
    pub(crate) deferred_cpu: Duration,
}

/// Processor time of the machine and of this bench.
struct Account {
    machine: Machine,
    own: Duration,
}

impl Account {
    /// The share of the machine that others used since.
    fn others_until(&self, now: &Self) -> f64 {
        let used = now.machine.used.saturating_sub(self.machine.used);
        let capacity = now.machine.capacity.saturating_sub(self.machine.capacity);
        let others = used.saturating_sub(now.own.saturating_sub(self.own));
        others.as_secs_f64() / capacity.as_secs_f64().max(f64::EPSILON)
    }
}
