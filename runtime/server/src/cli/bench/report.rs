//! What a measurement found: a table for people, one JSON object for programs.
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::Failure;
use super::super::remote::{print, table};
use super::usage::Used;

/// Nanoseconds, three digits.
pub(super) type Latencies = Histogram<u64>;

/// A latency beyond this is counted as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// An empty histogram.
pub(super) fn latencies() -> Latencies {
    Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("the bounds are constants that fit")
}

/// One measurement.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) workload: &'static str,
    pub(super) version: &'static str,
    /// What was measured, and how.
    pub(super) settings: Map<String, Value>,
    /// Records, bytes and time; absent where the workload has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) moved: Option<Moved>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency_ms: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) journal: Option<Journal>,
    /// The broker.
    pub(super) daemon: Option<Used>,
    /// This process: the load, and everything measured in it.
    pub(super) client: Option<Used>,
    /// Further numbers.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) more: Map<String, Value>,
    /// What could not be measured and why, and what weakens the numbers.
    pub(super) notes: Vec<String>,
}

/// Records that were moved. Bytes are those of their values.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Moved {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) records_per_second: f64,
    pub(super) megabytes_per_second: f64,
}

/// A histogram in a few numbers.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Spread {
    pub(super) count: u64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

/// What the daemon's journal did meanwhile.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Journal {
    pub(super) commits: u64,
    pub(super) bytes: u64,
    pub(super) bytes_per_commit: Option<u64>,
}

impl Moved {
    pub(super) fn new(records: u64, bytes: u64, seconds: f64) -> Moved {
        let seconds = seconds.max(1e-9);
        Moved {
            records,
            bytes,
            seconds,
            records_per_second: records as f64 / seconds,
            megabytes_per_second: bytes as f64 / seconds / 1e6,
        }
    }
}

impl Spread {
    /// `None` of nothing.
    pub(super) fn of(latencies: &Latencies) -> Option<Spread> {
        let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e6;
        (!latencies.is_empty()).then(|| Spread {
            count: latencies.len(),
            mean: latencies.mean() / 1e6,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: latencies.max() as f64 / 1e6,
        })
    }
}

impl Report {
    pub(super) fn new(workload: &'static str, settings: Value) -> Report {
        let settings = match settings {
            Value::Object(settings) => settings,
            other => Map::from_iter([("settings".to_owned(), other)]),
        };
        Report {
            workload,
            version: env!("CARGO_PKG_VERSION"),
            settings,
            moved: None,
            latency_ms: None,
            journal: None,
            daemon: None,
            client: None,
            more: Map::new(),
            notes: Vec::new(),
        }
    }

    /// Writes it to standard output.
    pub(super) fn print(&self, as_json: bool) -> Result<(), Failure> {
        if as_json {
            return print(json!(self));
        }
        let mut rows = table(["", ""]);
        let mut row = |name: &str, value: String| {
            rows.add_row(vec![name.to_owned(), value]);
        };
        row("workload", self.workload.to_owned());
        for (name, value) in &self.settings {
            row(name, plain(value));
        }
        if let Some(moved) = &self.moved {
            row("records", format!("{} in {:.2} s", moved.records, moved.seconds));
            row("records/s", format!("{:.0}", moved.records_per_second));
            row("MB/s", format!("{:.1}", moved.megabytes_per_second));
        }
        if let Some(spread) = &self.latency_ms {
            let Spread {
                p50,
                p90,
                p99,
                p99_9,
                max,
                ..
            } = spread;
            let line = format!("{p50:.3}  {p90:.3}  {p99:.3}  {p99_9:.3}  {max:.3}");
            row("latency ms: p50 p90 p99 p99.9 max", line);
        }
        if let Some(journal) = &self.journal {
            let size = journal.bytes_per_commit.unwrap_or(0) / 1024;
            row("journal", format!("{} commits of {size} KiB", journal.commits));
        }
        for (name, used) in [("daemon", &self.daemon), ("client", &self.client)] {
            let Some(used) = used else {
                row(name, "not measured".to_owned());
                continue;
            };
            let per_gb = used
                .cpu_seconds_per_gb
                .map_or(String::new(), |n| format!(", {n:.2} s/GB"));
            let memory = format!("{:.0} MiB, at most {:.0}", used.rss_mib, used.rss_peak_mib);
            row(name, format!("{:.2} s processor{per_gb}; {memory}", used.cpu_seconds));
        }
        for (name, value) in &self.more {
            row(name, plain(value));
        }
        for note in &self.notes {
            row("note", note.clone());
        }
        print(rows)
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.3}", number.as_f64().unwrap_or(0.0)),
        other => other.to_string(),
    }
}
