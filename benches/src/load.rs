//! A closed loop: so many calls in flight, each followed by the next as soon as it has its answer.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::Done;
use crate::calls::Kind;
use crate::client::{Client, Clients, lock};
use crate::process::own_thread_cpu;

/// Digits that latencies keep.
const LATENCY_DIGITS: u8 = 3;

/// What to keep in flight, and how long.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) in_flight: usize,
    pub(crate) lasting: Duration,
}

/// What one client counts.
pub(crate) struct Tally {
    latencies: Histogram<u64>,
    first: u64,
}

impl Tally {
    pub(crate) fn new() -> Done<Self> {
        Ok(Self { latencies: Histogram::new(LATENCY_DIGITS)?, first: 0 })
    }

    /// Counts a call that was answered.
    pub(crate) fn took(&mut self, latency: Duration) -> Done {
        Ok(self.latencies.record(u64::try_from(latency.as_nanos())?)?)
    }

    /// Counts tokens that are detokenized for the first time.
    pub(crate) const fn first(&mut self) -> &mut u64 {
        &mut self.first
    }
}

/// What was measured: every call begun was answered rightly and is counted.
pub(crate) struct Load {
    /// Latencies of the calls, nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// From the first call's beginning to the last one's answer.
    pub(crate) elapsed: Duration,
    /// Processor time of the clients.
    pub(crate) client_cpu: Duration,
    /// Tokens detokenized for the first time on their day: each costs the vault a row more.
    pub(crate) first: u64,
}

impl Load {
    pub(crate) fn calls(&self) -> u64 {
        self.latencies.len()
    }

    pub(crate) fn over(clients: &Clients, plan: Plan) -> Done<Self> {
        let Plan { in_flight, .. } = plan;
        let count = clients.0.len();
        let begun = Instant::now();
        let parts = clients.each(|client| {
            let index = clients.0.iter().position(|other| std::ptr::eq(other, client)).unwrap_or(0);
            let own = in_flight / count + usize::from(index < in_flight % count);
            client.load(Plan { in_flight: own, ..plan })
        })?;
        let elapsed = begun.elapsed();
        let mut load =
            Self { latencies: Tally::new()?.latencies, elapsed, client_cpu: Duration::ZERO, first: 0 };
        for (tally, cpu) in parts {
            load.latencies.add(tally.latencies)?;
            load.first += tally.first;
            load.client_cpu += cpu;
        }
        Ok(load)
    }
}

impl Client {
    fn load(&self, plan: Plan) -> Done<(Tally, Duration)> {
        let cpu = own_thread_cpu()?;
        lock(&self.desk).tally = Tally::new()?;
        let mut connections = self.connections(plan.kind);
        let until = Instant::now() + plan.lasting;
        self.runtime.block_on(async {
            let mut loads = JoinSet::new();
            let count = connections.len();
            for (place, mut connection) in connections.drain(..).enumerate() {
                let own = plan.in_flight / count + usize::from(place < plan.in_flight % count);
                let desk = Arc::clone(&self.desk);
                loads.spawn(async move {
                    connection.load(plan.kind, own, &desk, until).await.map(|()| (place, connection))
                });
            }
            let mut ended = Vec::new();
            while let Some(load) = loads.join_next().await {
                ended.push(load??);
            }
            // Where a connection lives on the server goes by its place here.
            ended.sort_unstable_by_key(|(place, _)| *place);
            connections.extend(ended.into_iter().map(|(_, connection)| connection));
            Done::Ok(())
        })?;
        drop(connections);
        let tally = mem::replace(&mut lock(&self.desk).tally, Tally::new()?);
        Ok((tally, own_thread_cpu()?.saturating_sub(cpu)))
    }
}
