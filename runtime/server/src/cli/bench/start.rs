//! `tidemill bench start`: how long from the start of a daemon until it is of use, on an empty directory and after a kill.
use clap::Args;
use serde_json::json;

use super::consume::fill;
use super::load::LoadArgs;
use super::produce::wire::request;
use super::report::Report;
use super::target::{Target, TargetArgs};
use super::wire::{check, topic};
use super::{Problem, settings};
use crate::clock;
use crate::config::Size;
use tidemill_protocol::batch::Builder;

/// Start a daemon, fill it, kill it, start it again.
#[derive(Debug, Args)]
pub(super) struct Start {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Bytes of values to write before the kill.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    fill_bytes: Size,
}

impl Start {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        let mut target = Target::prepare(&self.target).await?;
        let mut report = Report::new(
            "start",
            settings([
                target.settings(),
                self.load.settings(),
                vec![("fill_bytes", json!(self.fill_bytes.0))],
            ]),
        );
        let serving = target.daemon.as_ref().map(|daemon| daemon.startup);
        let serving = serving.ok_or("only a throw-away daemon can be started: leave --bootstrap out")?;
        let begun = clock::instant();
        let topic = target.create_topic(self.load.partitions).await?;
        one_record(&target).await?;
        let acknowledged = serving + begun.elapsed();
        let ms = |time: std::time::Duration| json!(time.as_secs_f64() * 1e3);
        report.more.insert("cold_start_to_serving_ms".to_owned(), ms(serving));
        report
            .more
            .insert("cold_start_to_acknowledged_ms".to_owned(), ms(acknowledged));
        let idle = target.before().await;
        if let Some(bytes) = idle.rss_bytes() {
            report
                .more
                .insert("idle_rss_mib".to_owned(), json!(bytes as f64 / 1048576.0));
        }

        fill(&target, &self.load, topic, self.fill_bytes.0).await?;
        let daemon = target.daemon.as_mut().ok_or("the daemon is gone")?;
        daemon.kill_and_restart()?;
        let serving = daemon.startup;
        target.locate()?;
        let begun = clock::instant();
        one_record(&target).await?;
        let acknowledged = serving + begun.elapsed();
        report.more.insert("killed_to_serving_ms".to_owned(), ms(serving));
        report
            .more
            .insert("killed_to_acknowledged_ms".to_owned(), ms(acknowledged));
        let before = target.before().await;
        target.after(before, 0, &mut report).await;
        report.journal = None;
        Ok(report)
    }
}

/// Writes one record and waits for its acknowledgement, from the connection on.
pub(super) async fn one_record(target: &Target) -> Result<(), Problem> {
    let mut connection = target.connect().await?;
    let topic = topic(&mut connection, &target.topic).await?;
    let mut builder = Builder::new();
    builder.append(clock::wall_ms(), None, Some(b"first"), []);
    let response = connection.call(request(&topic.name, 0, builder.finish(), -1)).await?;
    for answer in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
        check(answer.error_code, "the first record")?;
    }
    Ok(())
}
