//! Medians, ratios, a table for people and one object of numbers for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use crate::Done;
use crate::calls::Kind;
use crate::cli::Shape;
use crate::core::CoreCost;
use crate::rpc::Round;

/// One setting with its rounds.
pub(crate) struct Measured {
    pub(crate) kind: Kind,
    pub(crate) in_flight: usize,
    pub(crate) rounds: Vec<Round>,
}

impl Measured {
    pub(crate) const fn new(kind: Kind, in_flight: usize) -> Self {
        Self { kind, in_flight, rounds: Vec::new() }
    }

    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    /// The median of what each round gave beside the echo of the same round.
    fn ratio(&self, echo: &Self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().zip(&echo.rounds).map(|(own, echo)| of(own) / of(echo)).collect())
    }
}

impl Round {
    fn per_second(&self) -> f64 {
        self.load.calls() as f64 / self.load.elapsed.as_secs_f64()
    }

    fn latency_us(&self, quantile: f64) -> f64 {
        self.load.latencies.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Processor time of the server for one call, microseconds.
    fn cpu_us(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / self.load.calls() as f64
    }

    fn client_cpu_us(&self) -> f64 {
        self.load.client_cpu.as_secs_f64() * 1e6 / self.load.calls() as f64
    }
}

/// Under what conditions it was measured.
pub(crate) struct Surroundings {
    /// Whether the store lies in memory, where nothing is durable.
    pub(crate) in_memory: bool,
    /// Share of the machine's processors that other processes used.
    pub(crate) others: f64,
    pub(crate) rounds: usize,
    pub(crate) lasting: Duration,
    pub(crate) seed: u64,
    pub(crate) records: usize,
    pub(crate) store: &'static str,
    pub(crate) shape: Shape,
}

/// Everything measured.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) measured: Vec<Measured>,
    /// Syncs a second, before each setting of each round.
    pub(crate) syncs: Vec<f64>,
    pub(crate) core: Vec<CoreCost>,
}

type Figures = BTreeMap<String, f64>;

impl Report {
    pub(crate) fn write_json(&self, file: &Path, surroundings: &Surroundings) -> Done {
        let mut text = serde_json::to_string_pretty(&self.figures(surroundings))?;
        text.push('\n');
        Ok(std::fs::write(file, text)?)
    }

    /// Every figure under its name: `tokenize.128.cpu_ratio`.
    fn figures(&self, surroundings: &Surroundings) -> Figures {
        let mut figures = Figures::new();
        for measured in &self.measured {
            self.add(&mut figures, measured);
        }
        figures.insert("fsync.per_second".into(), self.syncs());
        figures.insert("deferred.cpu_share".into(), self.deferred_share());
        for CoreCost { name, per_item } in &self.core {
            let us = |time: Duration| time.as_secs_f64() * 1e6;
            figures.insert(format!("core.{name}.prepare_us"), us(per_item.prepare));
            figures.insert(format!("core.{name}.commit_us"), us(per_item.commit));
            figures.insert(format!("core.{name}.us"), us(per_item.prepare + per_item.commit));
        }
        let Surroundings { in_memory, others, rounds, lasting, seed, records, shape, .. } = *surroundings;
        figures.insert("run.index".into(), f64::from(shape.index));
        figures.insert("run.idempotency".into(), f64::from(shape.idempotency));
        figures.insert("run.rounds".into(), rounds as f64);
        figures.insert("run.seconds".into(), lasting.as_secs_f64());
        figures.insert("run.seed".into(), seed as f64);
        figures.insert("run.records".into(), records as f64);
        figures.insert("run.cores".into(), cores() as f64);
        figures.insert("run.others_cpu_share".into(), others);
        figures.insert("run.store_in_memory".into(), f64::from(in_memory));
        figures
    }

    fn add(&self, figures: &mut Figures, measured: &Measured) {
        let Measured { kind, in_flight, .. } = *measured;
        let name = kind.as_str();
        let mut add = |figure: &str, value: f64| {
            figures.insert(format!("{name}.{in_flight}.{figure}"), value);
        };
        add("per_second", measured.median(Round::per_second));
        add("spread", spread(measured));
        add("p50_us", measured.median(|round| round.latency_us(0.50)));
        add("p99_us", measured.median(|round| round.latency_us(0.99)));
        add("cpu_us", measured.median(Round::cpu_us));
        add("client_cpu_us", measured.median(Round::client_cpu_us));
        let items = kind.items() as f64;
        if kind.is_batch() {
            add("items_per_second", measured.median(Round::per_second) * items);
            add("cpu_us_per_item", measured.median(Round::cpu_us) / items);
        }
        if let Some(echo) = self.echo_of(measured) {
            add("rate_ratio", measured.ratio(echo, Round::per_second));
            add("cpu_ratio", measured.ratio(echo, Round::cpu_us));
            add("p50_ratio", measured.ratio(echo, |round| round.latency_us(0.50)));
            add("of_fsync_bound", self.of_bound(measured));
        }
        if matches!(kind, Kind::Detokenize | Kind::BatchDetokenize) {
            let first = |round: &Round| round.load.first as f64 / (round.load.calls() as f64 * items);
            add("first_share", measured.median(first));
        }
        if kind.is_batch() {
            // Of the fuller setting, which is measured last.
            let cpu = measured.median(Round::cpu_us) / items;
            figures.insert(format!("{name}.cpu_us_per_item"), cpu);
            figures.insert(format!("{name}.items_per_second"), measured.median(Round::per_second) * items);
        }
    }

    /// The echo that a call stands beside; none for an echo.
    fn echo_of(&self, measured: &Measured) -> Option<&Measured> {
        if measured.kind.is_echo() {
            return None;
        }
        let beside =
            |echo: &&Measured| echo.kind == measured.kind.echo() && echo.in_flight == measured.in_flight;
        self.measured.iter().find(beside)
    }

    fn syncs(&self) -> f64 {
        median(self.syncs.clone())
    }

    /// How much of the bound that holds for every durable design: in flight times syncs a second.
    fn of_bound(&self, measured: &Measured) -> f64 {
        measured.median(Round::per_second) / (measured.in_flight as f64 * self.syncs())
    }

    /// What the vault worked while only the echo was called, in processors.
    fn deferred_share(&self) -> f64 {
        let rounds =
            || self.measured.iter().filter(|measured| measured.kind.is_echo()).flat_map(|echo| &echo.rounds);
        let worked: Duration = rounds().map(|round| round.deferred_cpu).sum();
        let lasted: Duration = rounds().map(|round| round.load.elapsed).sum();
        worked.as_secs_f64() / lasted.as_secs_f64()
    }

    /// The table.
    pub(crate) fn print(&self, surroundings: &Surroundings) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let Surroundings { in_memory, others, rounds, lasting, seed, records, store, shape } = *surroundings;
        writeln!(
            out,
            "{} processors, others used {:.0} % of them; {rounds} rounds of {:.2} s, medians",
            cores(),
            others * 100.0,
            lasting.as_secs_f64(),
        )?;
        writeln!(out, "{store}, {records} records at first, seed {seed}{}", described(shape))?;
        writeln!(
            out,
            "the disk: {:.0} appends of 4 KiB with fdatasync a second{}",
            self.syncs(),
            if in_memory { " — IN MEMORY: nothing here is durable" } else { "" }
        )?;
        print_headings(&mut out)?;
        for measured in &self.measured {
            self.print_row(&mut out, measured)?;
        }
        writeln!(
            out,
            "\nwhile only the echo was called, the vault worked {:.3} of a processor",
            self.deferred_share()
        )?;
        writeln!(out)?;
        print_core(&mut out, &self.core)
    }

    fn print_row(&self, out: &mut impl Write, measured: &Measured) -> io::Result<()> {
        let Measured { kind, in_flight, .. } = *measured;
        if kind.is_echo() && in_flight == 1 && kind.is_batch() {
            writeln!(out)?;
        }
        write!(
            out,
            "{:<17}{in_flight:>6}{:>11.0}{:>6.0}{:>11.0}{:>11.0}{:>11.2}{:>11.2}",
            kind.as_str(),
            measured.median(Round::per_second) * kind.items() as f64,
            spread(measured) * 100.0,
            measured.median(|round| round.latency_us(0.50)),
            measured.median(|round| round.latency_us(0.99)),
            measured.median(Round::cpu_us) / kind.items() as f64,
            measured.median(Round::client_cpu_us) / kind.items() as f64,
        )?;
        match self.echo_of(measured) {
            Some(echo) => writeln!(
                out,
                "{:>10.2}{:>10.2}{:>11.2}",
                measured.ratio(echo, Round::per_second),
                measured.ratio(echo, Round::cpu_us),
                self.of_bound(measured),
            ),
            None => writeln!(out),
        }
    }
}

/// The table of the core alone.
pub(crate) fn print_core(out: &mut impl Write, costs: &[CoreCost]) -> io::Result<()> {
    writeln!(out, "{:<24}{:>12}{:>12}", "core alone, an item", "prepare µs", "commit µs")?;
    for CoreCost { name, per_item } in costs {
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        writeln!(out, "{name:<24}{:>12.2}{:>12.2}", us(per_item.prepare), us(per_item.commit))?;
    }
    Ok(())
}

/// What of the calls is not as the aims have it.
fn described(shape: Shape) -> String {
    let told = [(shape.index, ", one token per value"), (shape.idempotency, ", idempotency keys")];
    told.into_iter().filter_map(|(is_so, text)| is_so.then_some(text)).collect()
}

/// The columns' headings, two lines, and their widths.
const COLUMNS: [(&str, &str, usize); 10] = [
    ("in", "flight", 6),
    ("items", "a second", 11),
    ("from", "± %", 6),
    ("p50 µs", "a call", 11),
    ("p99 µs", "a call", 11),
    ("server µs", "an item", 11),
    ("client µs", "an item", 11),
    ("rate", "to echo", 10),
    ("cpu", "to echo", 10),
    ("of fsync", "bound", 11),
];

fn print_headings(out: &mut impl Write) -> io::Result<()> {
    let line = |part: fn(&(&'static str, &'static str, usize)) -> &'static str| {
        COLUMNS.iter().map(|column| format!("{:>1$}", part(column), column.2)).collect::<String>()
    };
    writeln!(out, "\n{:17}{}", "", line(|column| column.0))?;
    writeln!(out, "{:17}{}", "", line(|column| column.1))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How far the rounds' rates lie apart: half of the distance from least to most, of the median.
fn spread(measured: &Measured) -> f64 {
    let rates: Vec<f64> = measured.rounds.iter().map(Round::per_second).collect();
    let most = rates.iter().copied().fold(f64::MIN, f64::max);
    let least = rates.iter().copied().fold(f64::MAX, f64::min);
    (most - least) / 2.0 / median(rates)
}

/// The middle, or what lies between the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => at(odd / 2),
        even => f64::midpoint(at(even / 2 - 1), at(even / 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }
}
