//! `tidemill module state`.

use clap::Args;
use serde_json::json;
use tidemill_client::Admin;
use tidemill_client::management::{Hex, STATE_ENTRIES_MAX, StateEntry, StateQuery};

use crate::cli::Failure;
use crate::cli::remote::{explained, print};
use crate::driver::compare::{content, text};

/// Look into a module's state.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module state sessionize --bucket open --prefix user-42
  tidemill module state counts --bucket counts --task 3 --limit 10 --json

What is shown is committed. It can change between two pages of a long list.")]
pub(super) struct State {
    /// Name.
    module: String,
    /// Bucket, as the manifest names it; without it the only one.
    #[arg(long)]
    bucket: Option<String>,
    /// Only keys that begin with this text.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Only of this task; without it of all, one after the other.
    #[arg(long)]
    task: Option<u32>,
    /// How many entries at most.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// JSON objects, one a line; bytes in hexadecimal.
    #[arg(long)]
    json: bool,
}

impl State {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let tasks = match self.task {
            Some(task) => vec![task],
            None => {
                let status = admin.module_status(&self.module).await.map_err(explained)?;
                status.tasks.iter().map(|task| task.number).collect()
            }
        };
        let mut left = self.limit;
        for task in tasks {
            let mut after = None;
            while 0 < left {
                let query = StateQuery {
                    module: self.module.clone(),
                    task,
                    bucket: self.bucket.clone().unwrap_or_default(),
                    prefix: Hex(self.prefix.clone().into_bytes()),
                    after: after.take(),
                    entries_max: left.min(STATE_ENTRIES_MAX),
                };
                let page = admin.module_state(query).await.map_err(explained)?;
                for entry in &page.entries {
                    self.show(task, entry)?;
                }
                left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
                after = page.last;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn show(&self, task: u32, entry: &StateEntry) -> Result<(), Failure> {
        if self.json {
            return print(json!({ "task": task, "key": entry.key, "value": entry.value }));
        }
        print(format_args!(
            "task {task}  {}  {}",
            text(&entry.key.0),
            content(Some(&entry.value.0))
        ))
    }
}
