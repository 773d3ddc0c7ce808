//! `tidemill module dead-letters`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use tidemill_broker::module::run::dead_letter;
use tidemill_client::{Client, ConsumerConfig, ConsumerRecord, OffsetReset, TopicPartition};
use tidemill_protocol::manifest::Moment;

use crate::cli::Failure;
use crate::cli::record_json;
use crate::cli::remote::{Remote, block_on, explained, print};

/// Print what a module gave up on: where the record came from, why, and the record.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module dead-letters sessions --tail 5
  tidemill module dead-letters sessions --where code=no-user --json | jq .value")]
pub(super) struct DeadLetters {
    /// Name.
    module: String,
    /// Only the last so many.
    #[arg(long, value_name = "COUNT")]
    tail: Option<usize>,
    /// Only letters with this code.
    #[arg(long = "where", value_name = "code=CODE", value_parser = code)]
    code: Option<String>,
    /// JSON objects, one a line: the record with its place in the dead-letter topic, and `origin`.
    #[arg(long)]
    json: bool,
}

impl DeadLetters {
    pub(super) fn run(self, remote: &Remote) -> Result<ExitCode, Failure> {
        block_on(async {
            let client = remote.connect().await?;
            let done = self.print(&client).await;
            client.close().await;
            done.map(|()| ExitCode::SUCCESS)
        })
    }

    async fn print(&self, client: &Client) -> Result<(), Failure> {
        let admin = client.admin();
        let status = admin.module_status(&self.module).await.map_err(explained)?;
        let Some(topic) = status.dead_letter else {
            return Err(format!("{} has no dead-letter topic: name one in its manifest", self.module).into());
        };
        let count = admin.describe_topic(&topic).await.map_err(explained)?.partition_count();
        let places: Vec<_> = (0..count)
            .map(|number| TopicPartition::new(topic.clone(), number))
            .collect();
        let mut letters = self.read(client, places).await?;
        letters.sort_by_key(|record| (record.timestamp, record.partition, record.offset));
        let skip = self.tail.map_or(0, |tail| letters.len().saturating_sub(tail));
        for record in letters.iter().skip(skip) {
            if self.json {
                let mut object = record_json::to_json(record);
                object["origin"] = origin(record);
                print(object)?;
            } else {
                print(line(record))?;
            }
        }
        Ok(())
    }

    /// Reads the letters that are there now. With `tail`, no more than that many of each partition are held.
    async fn read(&self, client: &Client, places: Vec<TopicPartition>) -> Result<Vec<ConsumerRecord>, Failure> {
        let config = ConsumerConfig {
            auto_offset_reset: OffsetReset::Earliest,
            ..ConsumerConfig::default()
        };
        let mut consumer = client.consumer(config)?;
        let ends = consumer.end_offsets(&places).await.map_err(explained)?;
        consumer.assign(places).await.map_err(explained)?;
        let mut letters: BTreeMap<i32, Vec<ConsumerRecord>> = BTreeMap::new();
        let is_at_end = |consumer: &tidemill_client::Consumer| {
            ends.iter()
                .all(|(place, end)| *end <= consumer.position(place).unwrap_or(0) || *end == 0)
        };
        while !is_at_end(&consumer) {
            let batch = tokio::select! {
                batch = consumer.next() => batch.map_err(explained)?,
                // A log whose first records are gone begins where it begins: look again at the position.
                () = tokio::time::sleep(std::time::Duration::from_millis(100)) => continue,
            };
            let end = ends.get(&batch.partition).copied().unwrap_or(0);
            for record in batch.records {
                if record.offset < end && self.is_wanted(&record) {
                    let held = letters.entry(record.partition).or_default();
                    held.push(record);
                    if self.tail.is_some_and(|tail| tail < held.len()) {
                        held.remove(0);
                    }
                }
            }
        }
        Ok(letters.into_values().flatten().collect())
    }

    fn is_wanted(&self, record: &ConsumerRecord) -> bool {
        header(record, dead_letter::MODULE).is_some_and(|module| module == self.module)
            && self
                .code
                .as_ref()
                .is_none_or(|wanted| header(record, dead_letter::CODE).as_ref() == Some(wanted))
    }
}

/// One of the headers that say where a letter came from; the last, if it was given up more than once.
fn header(record: &ConsumerRecord, name: &str) -> Option<String> {
    let mut headers = record.headers.iter().rev();
    let found = headers.find(|header| header.key == name)?;
    found
        .value
        .as_ref()
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

fn origin(record: &ConsumerRecord) -> Value {
    let text = |name| header(record, name);
    let number = |name| header(record, name).and_then(|text| text.parse::<i64>().ok());
    json!({
        "topic": text(dead_letter::TOPIC),
        "partition": number(dead_letter::PARTITION),
        "offset": number(dead_letter::OFFSET),
        "code": text(dead_letter::CODE),
        "reason": text(dead_letter::REASON),
        "attempt": number(dead_letter::ATTEMPT),
        "version": text(dead_letter::VERSION),
    })
}

fn line(record: &ConsumerRecord) -> String {
    let text = |name| header(record, name).unwrap_or_default();
    let show =
        |bytes: Option<&bytes::Bytes>| bytes.map_or("null".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
    format!(
        "{} {}/{}@{} {} by {} on attempt {}: {}\n    {} = {}",
        Moment(record.timestamp),
        text(dead_letter::TOPIC),
        text(dead_letter::PARTITION),
        text(dead_letter::OFFSET),
        text(dead_letter::CODE),
        text(dead_letter::VERSION),
        text(dead_letter::ATTEMPT),
        text(dead_letter::REASON).lines().next().unwrap_or_default(),
        show(record.key.as_ref()),
        show(record.value.as_ref()),
    )
}

/// Reads `code=CODE`.
pub(super) fn code(text: &str) -> Result<String, String> {
    text.strip_prefix("code=")
        .filter(|code| !code.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| "must be code=CODE, such as code=bad-json".to_owned())
}
