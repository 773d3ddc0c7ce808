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
    let mut rows = table([
        "task",
        "phase",
        "input",
        "position",
        "end",
        "lag",
        "attempt",
        "last error",
    ]);
    for task in &module.tasks {
        for input in &task.inputs {
            rows.add_row(vec![
                task.number.to_string(),
                format!("{:?}", task.phase).to_lowercase(),
                input.topic.clone(),
                input.position.to_string(),
                input.high_watermark.to_string(),
                input.lag.to_string(),
                task.attempt.to_string(),
                task.last_error.clone().unwrap_or_default(),
            ]);
        }
    }
    print_table(&rows, "no tasks")
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
