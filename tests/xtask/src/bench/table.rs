//! Medians over the rounds, and the page that shows them.
use std::fmt::Write;

use super::{
    Context,
    case::{Case, Numbers},
};

/// Everything that was found, in the order of the cases.
#[derive(Default)]
pub(super) struct Results {
    rows: Vec<Row>,
    failed: usize,
}

struct Row {
    work: &'static str,
    subject: &'static str,
    limit: Option<&'static str>,
    found: Vec<Numbers>,
    failure: Option<String>,
}

impl Results {
    pub(super) fn add(&mut self, case: &Case, numbers: Result<Numbers, String>) {
        let same = |row: &Row| row.work == case.work && row.subject == case.subject;
        if !self.rows.iter().any(same) {
            self.rows.push(Row {
                work: case.work,
                subject: case.subject,
                limit: case.limit,
                found: Vec::new(),
                failure: None,
            });
        }
        let Some(row) = self.rows.iter_mut().find(|row| same(row)) else {
            return;
        };
        match numbers {
            Ok(numbers) => row.found.push(numbers),
            Err(why) => {
                self.failed += 1;
                row.failure = Some(why);
            }
        }
    }

    pub(super) fn failed(&self) -> usize {
        self.failed
    }
}

/// The median of each number by itself.
fn median(found: &[Numbers]) -> Numbers {
    let mut result = Numbers::default();
    for field in Numbers::fields() {
        let mut values: Vec<f64> = found
            .iter()
            .filter_map(|numbers| *field(&mut numbers.clone()))
            .collect();
        values.sort_by(f64::total_cmp);
        *field(&mut result) = match values.len() {
            0 => None,
            count if count % 2 == 1 => Some(values[count / 2]),
            count => Some((values[count / 2 - 1] + values[count / 2]) / 2.0),
        };
    }
    result
}

/// Markdown.
pub(super) fn page(results: &Results, context: &Context, rounds: usize) -> String {
    let mut page = String::new();
    let _ = writeln!(
        page,
        "Medians of {rounds} rounds, {} seconds a measurement, interleaved. {}\n",
        context.seconds,
        machine()
    );
    let mut works: Vec<&str> = Vec::new();
    for row in &results.rows {
        if !works.contains(&row.work) {
            works.push(row.work);
        }
    }
    for work in works {
        let rows: Vec<&Row> = results.rows.iter().filter(|row| row.work == work).collect();
        section(&mut page, work, &rows);
    }
    for missing in &context.peers.missing {
        let _ = writeln!(page, "Left out: {missing}.\n");
    }
    page.trim_end().to_owned() + "\n"
}

fn section(page: &mut String, work: &str, rows: &[&Row]) {
    let medians: Vec<Numbers> = rows.iter().map(|row| median(&row.found)).collect();
    let is_own = medians.iter().any(|numbers| numbers.own.is_some());
    let is_latency = medians.iter().all(|numbers| numbers.own.is_none()) && work.starts_with("end to end");
    let _ = writeln!(page, "### {work}\n");
    let header = match (is_own, is_latency) {
        (true, _) => "| | result | memory, MiB |\n|---|---|---|",
        (_, true) => "| | p50, ms | p99, ms | memory, MiB |\n|---|---|---|---|",
        _ => {
            "| | MB/s | thousand records/s | of its limit | server CPU, s/GB | memory, MiB |\n|---|---|---|---|---|---|"
        }
    };
    let _ = writeln!(page, "{header}");
    for (row, numbers) in rows.iter().zip(&medians) {
        let subject = row.subject;
        if let (true, Some(why)) = (row.found.is_empty(), &row.failure) {
            let first = why.lines().next().unwrap_or("failed");
            let _ = writeln!(page, "| {subject} | failed: {first} |");
            continue;
        }
        let memory = shown(numbers.memory_mib, 0);
        let _ = match (is_own, is_latency) {
            (true, _) => writeln!(page, "| {subject} | {} | {memory} |", shown(numbers.own, 1)),
            (_, true) => writeln!(
                page,
                "| {subject} | {} | {} | {memory} |",
                shown(numbers.p50_ms, 2),
                shown(numbers.p99_ms, 2)
            ),
            _ => {
                let limit = row
                    .limit
                    .and_then(|limit| rows.iter().position(|row| row.subject == limit));
                let limit = limit.and_then(|at| medians[at].megabytes);
                let ratio = numbers.megabytes.zip(limit).map(|(own, limit)| own / limit);
                writeln!(
                    page,
                    "| {subject} | {} | {} | {} | {} | {memory} |",
                    shown(numbers.megabytes, 0),
                    shown(
                        numbers
                            .records
                            .filter(|_| !subject.starts_with("limit"))
                            .map(|n| n / 1000.0),
                        0
                    ),
                    shown(ratio, 2),
                    shown(numbers.cpu_per_gb, 2),
                )
            }
        };
    }
    page.push('\n');
}

/// Empty where nothing was measured.
fn shown(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(String::new, |number| format!("{number:.digits$}"))
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, |count| count.get());
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model
        .and_then(|line| line.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({model}), Linux {}; both ends on this machine.",
        kernel.trim()
    )
}
