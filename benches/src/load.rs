//! A closed loop: so many calls in flight, each followed by the next as soon as it has its answer.

use std::mem;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::transport::Channel;

use crate::Done;
use crate::calls::Kind;
use crate::client::{Client, Clients, Desk, lock};
use crate::process::own_thread_cpu;
use crate::raw;

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
        self.runtime.block_on(async {
            let until = Instant::now() + plan.lasting;
            let mut loops = JoinSet::new();
            for place in 0..plan.in_flight {
                let connection = self.connection(plan.kind, place).ok_or("no connection")?;
                loops.spawn(repeat(connection, plan.kind, Arc::clone(&self.desk), until));
            }
            while let Some(ended) = loops.join_next().await {
                ended??;
            }
            Done::Ok(())
        })?;
        let tally = mem::replace(&mut lock(&self.desk).tally, Tally::new()?);
        Ok((tally, own_thread_cpu()?.saturating_sub(cpu)))
    }
}

async fn repeat(mut connection: Grpc<Channel>, kind: Kind, desk: Arc<Mutex<Desk>>, until: Instant) -> Done {
    loop {
        let (request, expected) = {
            let mut desk = lock(&desk);
            let Desk { stock, tally } = &mut *desk;
            stock.request(kind, &mut tally.first)
        };
        let begun = Instant::now();
        let answer = raw::call(&mut connection, kind.path(), request).await;
        let ended = Instant::now();
        let answer = answer.map_err(|status| format!("{}: {status}", kind.as_str()))?;
        let nanoseconds = u64::try_from((ended - begun).as_nanos())?;
        let mut desk = lock(&desk);
        desk.tally.latencies.record(nanoseconds)?;
        desk.stock.check(expected, &answer)?;
        drop(desk);
        if ended >= until {
            return Ok(());
        }
    }
}
