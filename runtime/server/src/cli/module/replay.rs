//! `tidemill module replay`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use tidemill_client::management::{Hex, STATE_ENTRIES_MAX, StateQuery};
use tidemill_client::{Admin, Client, ConsumerConfig, OffsetReset, TopicPartition};
use tidemill_host::Metering;
use tidemill_protocol::manifest::{Manifest, Moment};
use tokio::time::timeout;

use super::project::Project;
use super::stage::{on_a_lane, subject};
use crate::cli::Failure;
use crate::cli::remote::{Remote, block_on, explained, print};
use crate::driver::compare::{lines, unified};
use crate::driver::play::Played;
use crate::driver::{Driver, Record, Setup, Stage};

/// Bytes of state, and of one partition, that are fetched for a replay.
const BYTES_MAX: usize = 256 << 20;
/// How long the daemon may take to give the next records.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Run records of a daemon's log through a component here; nothing of it reaches the daemon.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module replay --partition 3 --offset 81230 --records 1
  tidemill module replay --partition 0 --offset 4000 --state present --against old.wasm

Shown is what the component leaves behind: outputs, dead letters, state, and what it logs; with --against only what another component
leaves behind instead. The state begins empty, or as it is committed now (--state present): what it was at the offset is not kept.
Tables are what their topics say now.
The records are one batch unless --records is larger than the manifest's batch.max-records. Offsets in dead letters count from 0.")]
pub(super) struct Replay {
    /// Folder with a `module.toml`, or the manifest itself.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Partition of the input.
    #[arg(long, short)]
    partition: u32,
    /// First record.
    #[arg(long, short)]
    offset: i64,
    /// Input topic; without it the only one.
    #[arg(long, short)]
    topic: Option<String>,
    /// How many records; without it a batch of the manifest's size.
    #[arg(long, short = 'n')]
    records: Option<u32>,
    /// What the state is before.
    #[arg(long, value_enum, default_value_t = Before::Empty)]
    state: Before,
    /// Run this component; it is not built.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Run the component as it is.
    #[arg(long)]
    no_build: bool,
    /// Run this component too, and show the difference: - is its, + is the other's.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Before {
    /// Nothing.
    Empty,
    /// What the daemon has committed now, of the module of the manifest's name.
    Present,
}

/// Everything that a replay needs of the daemon.
struct Scene {
    manifest: Manifest,
    setup: Setup,
    records: Vec<Record>,
    /// Records of tables' topics.
    facts: Vec<Record>,
    state: Vec<(String, Vec<(Bytes, Bytes)>)>,
}

impl Replay {
    pub(super) fn run(self, remote: &Remote) -> Result<ExitCode, Failure> {
        let project = Project::read(&self.path)?;
        let component = subject(&project, self.component.as_deref(), self.no_build)?;
        let against = self.against.as_deref().map(read).transpose()?;
        let mut scene = None;
        block_on(async {
            let client = remote.connect().await?;
            let found = self.scene(&client, &project.manifest).await;
            client.close().await;
            scene = Some(found?);
            Ok(ExitCode::SUCCESS)
        })?;
        let scene = scene.ok_or("the daemon gave nothing")?;
        let played = on_a_lane(|| -> Result<_, String> {
            let played = self.play(&component, &scene)?;
            let against = against.map(|component| self.play(&component, &scene)).transpose()?;
            Ok((played, against))
        })??;
        self.show(&scene, &played.0, played.1.as_ref())?;
        Ok(ExitCode::SUCCESS)
    }

    async fn scene(&self, client: &Client, manifest: &Manifest) -> Result<Scene, Failure> {
        let admin = client.admin();
        let topic = match (&self.topic, manifest.input.as_slice()) {
            (Some(topic), _) => topic.clone(),
            (None, [only]) => only.topic.clone(),
            (None, _) => return Err("the module has several inputs: name one with --topic".into()),
        };
        let mut setup = Setup {
            manifest: manifest.clone(),
            partitions: self.partition + 1,
            topics: Default::default(),
            now: 0,
        };
        let inputs = manifest.input.iter().map(|input| input.topic.as_str());
        let tables: BTreeSet<&str> = manifest.tables.values().map(String::as_str).collect();
        for name in inputs.chain(manifest.writable_topics()).chain(tables.iter().copied()) {
            // A topic that is not there is made by the deployment.
            if let Ok(topic) = admin.describe_topic(name).await {
                let partitions = u32::try_from(topic.partition_count()).unwrap_or(1);
                setup.topics.insert(name.to_owned(), partitions);
            }
        }
        let count = self.records.unwrap_or(manifest.batch.max_records) as usize;
        let input = TopicPartition::new(topic, i32::try_from(self.partition)?);
        let records = fetch(client, &input, Some(self.offset), count.max(1)).await?;
        let mut facts = Vec::new();
        for topic in tables {
            for partition in 0..setup.topics.get(topic).copied().unwrap_or(0) {
                let place = TopicPartition::new(topic, i32::try_from(partition)?);
                facts.extend(fetch(client, &place, None, usize::MAX).await?);
            }
        }
        setup.now = records.iter().map(|record| record.timestamp).max().unwrap_or(0).max(0);
        let state = match self.state {
            Before::Empty => Vec::new(),
            Before::Present => present(&admin, manifest, self.partition).await?,
        };
        Ok(Scene {
            manifest: manifest.clone(),
            setup,
            records,
            facts,
            state,
        })
    }

    fn play(&self, component: &[u8], scene: &Scene) -> Result<Played, String> {
        let stage = Stage::new(component, Metering::Instructions).map_err(|e| e.to_string())?;
        let mut driver = Driver::start(&stage, &scene.setup)?;
        for (bucket, entries) in &scene.state {
            driver.put_state(self.partition, bucket, entries.iter().cloned());
        }
        driver.append_all(&scene.facts)?;
        driver.append(&scene.records)?;
        driver.rest()?;
        driver.into_played()
    }

    fn show(&self, scene: &Scene, played: &Played, against: Option<&Played>) -> Result<(), Failure> {
        let before = match self.state {
            Before::Empty => "an empty state",
            Before::Present => "the state committed now",
        };
        print(format_args!(
            "{} records from {}@{} through {} {}, over {before}, clock {}",
            scene.records.len(),
            self.partition,
            self.offset,
            scene.manifest.module.name,
            scene.manifest.module.version,
            Moment(scene.setup.now),
        ))?;
        let text = |played: &Played| {
            let stopped = played
                .stopped
                .as_ref()
                .map_or(String::new(), |why| format!("stopped  {why}\n"));
            lines(&played.outputs, &played.dead_letters, &played.state) + &stopped
        };
        match against {
            Some(other) => match unified(&text(other), &text(played)) {
                Some(lines) => print(lines.trim_end()),
                None => print("no difference"),
            },
            None => {
                let logs = played
                    .logs
                    .iter()
                    .map(|line| format!("log  {:5} {}\n", line.level, line.message));
                print((text(played) + &logs.collect::<String>()).trim_end())
            }
        }
    }
}

/// Records of a partition from an offset on, or from its first.
async fn fetch(
    client: &Client,
    place: &TopicPartition,
    offset: Option<i64>,
    count: usize,
) -> Result<Vec<Record>, Failure> {
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        auto_commit: None,
        ..ConsumerConfig::default()
    };
    let (topic, partition) = (&place.topic, place.partition);
    let mut consumer = client.consumer(config)?;
    consumer.assign([place.clone()]).await.map_err(explained)?;
    let places = std::slice::from_ref(place);
    let (first, end) = (
        consumer.beginning_offsets(places).await.map_err(explained)?,
        consumer.end_offsets(places).await.map_err(explained)?,
    );
    let at = |offsets: &BTreeMap<TopicPartition, i64>| offsets.get(place).copied().unwrap_or(0);
    let (first, end) = (at(&first), at(&end));
    if let Some(offset) = offset.filter(|offset| *offset < 0 || end <= *offset) {
        return Err(format!("{topic}/{partition} has no offset {offset}: it ends at {end}").into());
    }
    let mut position = offset.unwrap_or(first);
    consumer.seek(place, position).map_err(explained)?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while records.len() < count && position < end {
        let batch = timeout(PATIENCE, consumer.next()).await;
        let batch = batch.map_err(|_| format!("{topic}/{partition} gave no records in time"))?;
        for record in batch.map_err(explained)?.records {
            bytes += record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len);
            records.push(Record {
                topic: topic.clone(),
                partition: u32::try_from(partition)?,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: record
                    .headers
                    .into_iter()
                    .map(|header| (header.key, header.value))
                    .collect(),
            });
        }
        if BYTES_MAX < bytes {
            return Err(format!("{topic}/{partition} has more than {} MiB", BYTES_MAX >> 20).into());
        }
        position = consumer.position(place).unwrap_or(position);
    }
    consumer.close().await.map_err(explained)?;
    records.truncate(count);
    Ok(records)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

/// The whole state of a task, bucket by bucket.
async fn present(admin: &Admin, manifest: &Manifest, task: u32) -> Result<Vec<(String, Vec<(Bytes, Bytes)>)>, Failure> {
    let mut state = Vec::new();
    let mut bytes = 0;
    for bucket in manifest.state.keys() {
        let (mut entries, mut after) = (Vec::new(), None);
        loop {
            let query = StateQuery {
                module: manifest.name().to_owned(),
                task,
                bucket: bucket.clone(),
                prefix: Hex::default(),
                after: after.take(),
                entries_max: STATE_ENTRIES_MAX,
            };
            let page = admin.module_state(query).await.map_err(explained)?;
            for entry in page.entries {
                bytes += entry.key.0.len() + entry.value.0.len();
                entries.push((entry.key.0.into(), entry.value.0.into()));
            }
            if BYTES_MAX < bytes {
                return Err(format!(
                    "the task keeps more than {} MiB: replay with an empty state",
                    BYTES_MAX >> 20
                )
                .into());
            }
            after = page.last;
            if after.is_none() {
                break;
            }
        }
        state.push((bucket.clone(), entries));
    }
    Ok(state)
}
