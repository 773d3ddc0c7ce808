//! `tidemill module list`.

use clap::Args;
use serde_json::Value;
use tidemill_client::Admin;

use super::status::{lag, state};
use crate::cli::Failure;
use crate::cli::remote::{explained, print, print_table, table};

/// List modules.
#[derive(Debug, Args)]
pub(super) struct List {
    /// A JSON array.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let modules = admin.list_modules().await.map_err(explained)?;
        if self.json {
            let rows: Result<Vec<Value>, _> = modules.iter().map(serde_json::to_value).collect();
            return print(Value::Array(rows?));
        }
        let mut rows = table(["module", "version", "state", "in", "out", "given up", "lag", "reason"]);
        for module in &modules {
            rows.add_row(vec![
                module.module.clone(),
                module.version.clone(),
                state(module),
                module.counters.records_in.to_string(),
                module.counters.records_out.to_string(),
                module.counters.given_up.to_string(),
                lag(module).to_string(),
                module.reason.clone().unwrap_or_default(),
            ]);
        }
        print_table(&rows, "no modules: deploy one with `tidemill module deploy FOLDER`")
    }
}
