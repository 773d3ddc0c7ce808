//! One thing to measure, and the numbers that it gives.
use std::{fmt, process::Command};

use serde_json::Value;

use super::Context;
use crate::run::root;

/// One measurement of one subject at one work.
pub(super) struct Case {
    pub(super) work: &'static str,
    pub(super) subject: &'static str,
    /// What it is compared with: a limit of the machine under the same work.
    pub(super) limit: Option<&'static str>,
    pub(super) run: Box<dyn Fn(&mut Context) -> Result<Numbers, String>>,
}

/// What was found. What was not measured is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Numbers {
    pub(super) megabytes: Option<f64>,
    pub(super) records: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) cpu_per_gb: Option<f64>,
    pub(super) memory_mib: Option<f64>,
    /// A number of the work's own.
    pub(super) own: Option<f64>,
}

impl Numbers {
    /// From the JSON of `tidemill bench`.
    pub(super) fn of(report: &Value) -> Numbers {
        let at = |path: &str| report.pointer(path).and_then(Value::as_f64);
        Numbers {
            megabytes: at("/moved/megabytes_per_second"),
            records: at("/moved/records_per_second"),
            p50_ms: at("/latency_ms/p50"),
            p99_ms: at("/latency_ms/p99"),
            cpu_per_gb: at("/daemon/cpu_seconds_per_gb"),
            memory_mib: at("/daemon/rss_peak_mib"),
            own: None,
        }
    }

    /// Every number and how to reach it.
    pub(super) fn fields() -> [fn(&mut Numbers) -> &mut Option<f64>; 7] {
        [
            |n| &mut n.megabytes,
            |n| &mut n.records,
            |n| &mut n.p50_ms,
            |n| &mut n.p99_ms,
            |n| &mut n.cpu_per_gb,
            |n| &mut n.memory_mib,
            |n| &mut n.own,
        ]
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            (self.megabytes, "MB/s"),
            (self.records.map(|n| n / 1000.0), "k/s"),
            (self.p50_ms, "ms p50"),
            (self.p99_ms, "ms p99"),
            (self.cpu_per_gb, "cpu s/GB"),
            (self.memory_mib, "MiB"),
            (self.own, ""),
        ];
        for (number, unit) in named {
            if let Some(number) = number {
                write!(f, "{number:.2} {unit}  ")?;
            }
        }
        Ok(())
    }
}

/// Runs `tidemill bench` and gives its JSON.
pub(super) fn tidemill(context: &Context, words: &[&str]) -> Result<Value, String> {
    let output = Command::new(&context.tidemill)
        .arg("bench")
        .args(words)
        .arg("--json")
        .current_dir(root())
        .output()
        .map_err(|e| format!("{}: {e}", context.tidemill.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("not JSON: {e}"))
}
