//! `tidemill module status`.

use clap::Args;
use tidemill_client::Admin;
use tidemill_client::management::ModuleStatus;
use tidemill_protocol::manifest::Moment;

use crate::cli::Failure;
use crate::cli::remote::{explained, print, print_table, table};

/// Show a module: what it is doing, how far it is, why it stopped.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill module status redact --json | jq .counters")]
pub(super) struct Status {
    /// Name.
    module: String,
    /// A JSON object.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let status = admin.module_status(&self.module).await.map_err(explained)?;
        if self.json {
            print(serde_json::to_string(&status)?)
        } else {
            show(&status)
        }
    }
}

fn show(module: &ModuleStatus) -> Result<(), Failure> {
    print(format_args!(
        "{} {}  {}, deployed {}, digest {}",
        module.module,
        module.version,
        state(module),
        Moment(module.deployed_at),
        module.digest,
    ))?;
    if let Some(reason) = &module.reason {
        print(format_args!("reason: {reason}"))?;
    }
    if let Some(rollout) = &module.rollout {
        let how = if rollout.canary.is_some() {
            "is on trial"
        } else {
            "takes over"
        };
        print(format_args!(
            "{} {how} since {}: on {} of {} tasks, {} failures",
            rollout.version,
            Moment(rollout.since),
            rollout.tasks,
            module.tasks.len(),
            rollout.failures,
        ))?;
    }
    let counters = &module.counters;
    print(format_args!(
        "records in {}, out {}, given up {}; batches {}; failed runs {}; refused commits {}",
        counters.records_in,
        counters.records_out,
        counters.given_up,
        counters.batches,
        counters.failures,
        counters.refused,
    ))?;
    let usage = &module.usage;
    print(format_args!(
        "{} records/s; {} runs, {} ns a record in the guest, {} ms of processor time, {} host calls; {} bytes in, {} out; \
         memory at most {} KiB; state {} bytes",
        usage.records_per_second,
        usage.runs,
        usage.ns_per_record(),
        usage.cpu_us / 1000,
        usage.host_calls,
        usage.bytes_in,
        usage.bytes_out,
        usage.memory_bytes_max >> 10,
        module.state_bytes,
    ))?;
    if let Some(error) = &usage.last_error {
        print(format_args!("last failure {}: {}", Moment(error.time), error.message))?;
    }
    for table in &module.tables {
        let behind = match (table.behind, table.behind_ms) {
            (0, _) => String::from("up to date"),
            (records, None) => format!("is built: {records} records to go"),
            (records, Some(ms)) => format!("{records} records, {ms} ms behind"),
        };
        let left_out = match table.left_out {
            0 => String::new(),
            records => format!("; {records} records without a key or too large left out"),
        };
        print(format_args!(
            "table {} of {}: {behind}{left_out}",
            table.name, table.topic
        ))?;
    }
    show_progress(module)?;
    show_usage(module)
}

/// How far each task is in each input.
fn show_progress(module: &ModuleStatus) -> Result<(), Failure> {
    let mut rows = table([
        "task",
        "version",
        "phase",
        "input",
        "position",
        "end",
        "lag",
        "records/s",
        "attempt",
        "last error",
    ]);
    for task in &module.tasks {
        for input in &task.inputs {
            rows.add_row(vec![
                task.number.to_string(),
                version_of(module, task.version),
                format!("{:?}", task.phase).to_lowercase(),
                input.topic.clone(),
                input.position.to_string(),
                input.high_watermark.to_string(),
                input.lag.to_string(),
                task.usage.records_per_second.to_string(),
                task.attempt.to_string(),
                task.last_error.clone().unwrap_or_default(),
            ]);
        }
    }
    print_table(&rows, "no tasks")
}

/// What each task took.
fn show_usage(module: &ModuleStatus) -> Result<(), Failure> {
    let mut rows = table([
        "task",
        "runs",
        "failed",
        "cpu ms",
        "ns a record",
        "host calls",
        "bytes in",
        "bytes out",
        "memory KiB",
        "state bytes",
    ]);
    for task in module.tasks.iter().filter(|task| task.usage.runs != 0) {
        let usage = &task.usage;
        rows.add_row(vec![
            task.number.to_string(),
            usage.runs.to_string(),
            usage.failures.to_string(),
            (usage.cpu_us / 1000).to_string(),
            usage.ns_per_record().to_string(),
            usage.host_calls.to_string(),
            usage.bytes_in.to_string(),
            usage.bytes_out.to_string(),
            (usage.memory_bytes_max >> 10).to_string(),
            task.state_bytes.to_string(),
        ]);
    }
    print_table(&rows, "no task has run on this node yet")
}

/// The label of what a task runs.
fn version_of(module: &ModuleStatus, number: u32) -> String {
    let taking_over = module.rollout.as_ref().filter(|rollout| rollout.number == number);
    match taking_over {
        Some(rollout) => rollout.version.clone(),
        None if number == module.number => module.version.clone(),
        // Taken with the release that runs by then.
        None => String::from("-"),
    }
}

/// In a word.
pub(super) fn state(module: &ModuleStatus) -> String {
    format!("{:?}", module.state).to_lowercase()
}

/// Records that all its tasks have before them.
pub(super) fn lag(module: &ModuleStatus) -> i64 {
    module
        .tasks
        .iter()
        .flat_map(|task| &task.inputs)
        .map(|input| input.lag)
        .sum()
}
