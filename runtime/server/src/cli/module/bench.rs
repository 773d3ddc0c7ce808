//! `tidemill module bench`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use tidemill_host::Metering;
use tidemill_protocol::manifest::Manifest;

use super::project::Project;
use super::stage::{on_a_lane, subject};
use crate::cli::Failure;
use crate::cli::remote::print;
use crate::clock;
use crate::driver::fixture::{self, Fixture};
use crate::driver::play::origin;
use crate::driver::{Driver, Record, Setup, Spent, Stage};

/// Keys of records that no fixture gives.
const KEYS: u64 = 1000;
/// Records that are tried at once before the measurement.
const SOUNDED_AT_ONCE: usize = 50;
/// Batches that are appended at once.
const BATCHES_AT_ONCE: u64 = 4;

/// Measure what a module costs a record: host and guest, without storage, on one core.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module bench --records 1000000
  tidemill module bench --records 100000 --record-bytes 1024

The records are those of the fixtures, over and over; with --record-bytes they are so many bytes of text under one of 1,000 keys.
Offsets, state and outputs go to memory. A development build of tidemill itself is slow: compare figures of release builds.")]
pub(super) struct Bench {
    /// Folder with a `module.toml`, or the manifest itself.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// How many records.
    #[arg(long, short = 'n', default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Made-up records with values of so many bytes, instead of those of the fixtures.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    record_bytes: Option<u32>,
    /// Run this component; it is not built.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Run the component as it is.
    #[arg(long)]
    no_build: bool,
    /// A JSON object.
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let project = Project::read(&self.path)?;
        let component = subject(&project, self.component.as_deref(), self.no_build)?;
        let fixtures = match self.record_bytes {
            Some(_) => Vec::new(),
            None => fixture::read_all(project.folder(), &[])?,
        };
        let records = samples(&fixtures, &project.manifest, self.record_bytes.unwrap_or(100))?;
        let spent = on_a_lane(|| -> Result<_, String> {
            let stage = Stage::new(&component, Metering::Time).map_err(|e| e.to_string())?;
            let records = accepted(&stage, &project.manifest, records)?;
            // The first tenth warms up.
            measure(&stage, &project.manifest, &records, self.records.div_ceil(10))?;
            measure(&stage, &project.manifest, &records, self.records)
        })??;
        self.show(&spent)?;
        Ok(ExitCode::SUCCESS)
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn show(&self, spent: &Spent) -> Result<(), Failure> {
        let records = spent.records.max(1) as f64;
        let of_each = |time: std::time::Duration| time.as_secs_f64() * 1e9 / records;
        let (all, guest) = (of_each(spent.sandbox), of_each(spent.guest.min(spent.sandbox)));
        let per_second = 1e9 / all.max(f64::MIN_POSITIVE);
        if self.json {
            return print(json!({
                "records": spent.records,
                "batches": spent.runs,
                "records_per_second": per_second.round(),
                "ns_per_record": all,
                "guest_ns_per_record": guest,
                "host_ns_per_record": all - guest,
                "memory_bytes": spent.memory_bytes,
            }));
        }
        print(format_args!(
            "{} records in {} batches: {per_second:.0} records/s, {all:.0} ns a record",
            spent.records, spent.runs
        ))?;
        print(format_args!(
            "of it {guest:.0} ns in the call (guest and what it asks of the host), {:.0} ns around it (reading the batch, building outputs)",
            all - guest
        ))?;
        print(format_args!("memory at most {} KiB", spent.memory_bytes / 1024))
    }
}

/// Records to feed over and over.
fn samples(fixtures: &[Fixture], manifest: &Manifest, bytes: u32) -> Result<Vec<Record>, Failure> {
    let mut records = Vec::new();
    for fixture in fixtures {
        for step in &fixture.step {
            records.extend(fixture.records(step, manifest, fixture.clock.0)?);
        }
    }
    // One task is measured: one core's worth.
    records.iter_mut().for_each(|record| record.partition = 0);
    if records.is_empty() {
        let topics: Vec<&String> = manifest.input.iter().map(|input| &input.topic).collect();
        let made_up = (0..KEYS).zip(topics.iter().cycle()).map(|(number, topic)| Record {
            topic: (*topic).clone(),
            key: Some(format!("key.{number}").into()),
            value: Some(Bytes::from(vec![b'v'; bytes as usize])),
            ..Record::default()
        });
        records.extend(made_up);
    }
    Ok(records)
}

/// Those of the records that the module does not give up on: what is measured is its work, not the search for what it cannot do.
fn accepted(stage: &Stage, manifest: &Manifest, records: Vec<Record>) -> Result<Vec<Record>, String> {
    let setup = setup(manifest);
    let (mut kept, mut refused) = (Vec::new(), 0);
    for some in records.chunks(SOUNDED_AT_ONCE) {
        let mut driver = Driver::start(stage, &setup)?;
        driver.append(some)?;
        driver.rest()?;
        let played = driver.into_played()?;
        if let Some(why) = played.stopped {
            return Err(format!("the module stops: {why}"));
        }
        let given_up: Vec<(String, i64)> = played.dead_letters.iter().filter_map(origin).collect();
        refused += given_up.len();
        let mut offsets: BTreeMap<&str, i64> = BTreeMap::new();
        for record in some {
            let offset = offsets.entry(&record.topic).or_default();
            if !given_up.contains(&(record.topic.clone(), *offset)) {
                kept.push(record.clone());
            }
            *offset += 1;
        }
        if kept.is_empty() {
            return Err(format!(
                "the module gives up on all of the first {refused} records: write a fixture with some that it takes"
            ));
        }
    }
    Ok(kept)
}

/// One partition of every topic: one task, one core's worth.
fn setup(manifest: &Manifest) -> Setup {
    Setup {
        manifest: manifest.clone(),
        partitions: 1,
        topics: Default::default(),
        now: clock::wall_ms(),
    }
}

fn measure(stage: &Stage, manifest: &Manifest, records: &[Record], count: u64) -> Result<Spent, String> {
    let setup = setup(manifest);
    let mut driver = Driver::start(stage, &setup)?;
    let mut timestamp = setup.now;
    let mut source = records.iter().cycle();
    let mut left = count;
    while left != 0 {
        let some = left.min(u64::from(manifest.batch.max_records) * BATCHES_AT_ONCE);
        let some = usize::try_from(some).unwrap_or(usize::MAX);
        let batch = source.by_ref().take(some).map(|record| {
            timestamp += 1;
            Record {
                timestamp,
                ..record.clone()
            }
        });
        driver.append(&batch.collect::<Vec<_>>())?;
        driver.rest()?;
        if let Some(status) = driver.status().filter(|status| status.reason.is_some()) {
            return Err(format!("the module stopped: {}", status.reason.unwrap_or_default()));
        }
        driver.forget_records();
        left -= some as u64;
    }
    Ok(driver.spent)
}
