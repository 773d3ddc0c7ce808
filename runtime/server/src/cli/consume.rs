//! `tidemill consume`: records to lines.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tidemill_client::{Batch, Client, Consumer, ConsumerConfig, ConsumerRecord, OffsetReset, TopicPartition};
use tokio::time::Instant;

use super::Failure;
use super::place::Place;
use super::record_json;
use super::remote::{Remote, block_on, explained};
use super::stop::Stop;

/// How often it is looked whether the end is reached while nothing comes.
const LOOK: Duration = Duration::from_millis(100);

/// How long a member without partitions waits for some before `--until-end` is taken for reached.
const ASSIGNED_WITHIN: Duration = Duration::from_secs(30);

/// Read records and print them, one a line.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill consume clicks                                      what comes from now on
  tidemill consume clicks --from earliest --until-end          what there is
  tidemill consume clicks --from -10 --until-end               the last ten of each partition
  tidemill consume clicks --from @2013-01-31T12:00:00Z --json | jq .value
  tidemill consume orders refunds --group billing              as a member of a group, committing as it goes

FROM is earliest, latest, committed, an offset, -COUNT from the end, or @TIME.
A member of a group commits what it has printed; stopped by SIGINT or SIGTERM it commits and leaves.")]
pub(super) struct Consume {
    #[command(flatten)]
    remote: Remote,
    /// Topics.
    #[arg(required = true)]
    topics: Vec<String>,
    /// Read as a member of this group, from where the group is.
    #[arg(long, short, value_name = "ID")]
    group: Option<String>,
    /// Where to start; for a group only where it has nothing committed. Default latest, with --until-end earliest.
    #[arg(long, value_name = "FROM", allow_hyphen_values = true)]
    from: Option<Place>,
    /// Only this partition. May be repeated.
    #[arg(long, short, conflicts_with = "group")]
    partition: Vec<i32>,
    /// Stop at the records that are the last when it starts.
    #[arg(long, short = 'e')]
    until_end: bool,
    /// Stop after this many records.
    #[arg(long, short = 'n', value_name = "COUNT")]
    max: Option<u64>,
    /// Do not commit, although in a group.
    #[arg(long, requires = "group")]
    no_commit: bool,
    /// How partitions are shared in the group: uniform or range. Default: the daemon's choice.
    #[arg(long, requires = "group")]
    assignor: Option<String>,
    /// A JSON object for each record.
    #[arg(long)]
    json: bool,
    /// Print the key before the value, with this between.
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    /// Print headers before that, as name=value,name=value and a tab.
    #[arg(long)]
    headers: bool,
    /// Print partition, offset and timestamp before that, with tabs.
    #[arg(long)]
    positions: bool,
}

impl Consume {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let client = self.remote.connect().await?;
            let consumed = self.consume(&client).await;
            client.close().await;
            consumed.map(|()| ExitCode::SUCCESS)
        })
    }

    async fn consume(&self, client: &Client) -> Result<(), Failure> {
        let mut consumer = client.consumer(self.config()?)?;
        self.start(client, &mut consumer).await?;
        let mut reading = Reading {
            consume: self,
            out: BufWriter::with_capacity(256 * 1024, io::stdout().lock()),
            printed: 0,
            ends: BTreeMap::new(),
            started: Instant::now(),
        };
        let read = reading.run(&mut consumer).await;
        drop(reading);
        // In good order whatever happened: a member that is only dropped holds its partitions until its session is over.
        let closed = consumer.close().await.map_err(explained);
        read.and(closed)
    }

    fn config(&self) -> Result<ConsumerConfig, Failure> {
        let default = if self.until_end { Place::Earliest } else { Place::Latest };
        let auto_offset_reset = match self.from.unwrap_or(default) {
            Place::Earliest => OffsetReset::Earliest,
            Place::Latest => OffsetReset::Latest,
            Place::Committed => OffsetReset::None,
            _ if self.group.is_none() => OffsetReset::Earliest,
            _ => {
                return Err(
                    "a group starts where it is: move it with `tidemill group reset-offsets`, or read without --group"
                        .into(),
                );
            }
        };
        let max = self.max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
        Ok(ConsumerConfig {
            group_id: self.group.clone(),
            server_assignor: self.assignor.clone(),
            auto_offset_reset,
            auto_commit: Some(Duration::from_secs(1)).filter(|_| !self.no_commit),
            poll_records_max: max.clamp(1, 1000),
            fetch_wait_max: Duration::from_millis(500),
            ..ConsumerConfig::default()
        })
    }

    async fn start(&self, client: &Client, consumer: &mut Consumer) -> Result<(), Failure> {
        let admin = client.admin();
        let mut places = Vec::new();
        for name in &self.topics {
            let topic = admin.describe_topic(name).await.map_err(explained)?;
            if let Some(missing) = self
                .partition
                .iter()
                .find(|number| !(0..topic.partition_count()).contains(number))
            {
                return Err(format!("{name} has no partition {missing}, it has {}", topic.partition_count()).into());
            }
            let numbers = topic.partitions.iter().map(|partition| partition.partition);
            let wanted = numbers.filter(|number| self.partition.is_empty() || self.partition.contains(number));
            places.extend(wanted.map(|number| TopicPartition::new(name.clone(), number)));
        }
        if self.group.is_some() {
            return consumer.subscribe(self.topics.clone()).map_err(explained);
        }
        let default = if self.until_end { Place::Earliest } else { Place::Latest };
        let from = self.from.unwrap_or(default);
        let Some(offsets) = from.offsets(&admin, &places).await.map_err(explained)? else {
            return Err("--from committed needs --group: without a group nothing is committed".into());
        };
        consumer.assign(places).await.map_err(explained)?;
        for (place, offset) in offsets {
            consumer.seek(&place, offset).map_err(explained)?;
        }
        Ok(())
    }

    fn print(&self, out: &mut impl Write, record: &ConsumerRecord) -> io::Result<()> {
        if self.json {
            return writeln!(out, "{}", record_json::to_json(record));
        }
        if self.positions {
            write!(out, "{}\t{}\t{}\t", record.partition, record.offset, record.timestamp)?;
        }
        if self.headers {
            for (index, header) in record.headers.iter().enumerate() {
                write!(out, "{}{}=", if index == 0 { "" } else { "," }, header.key)?;
                out.write_all(header.value.as_deref().unwrap_or_default())?;
            }
            out.write_all(b"\t")?;
        }
        if let Some(separator) = &self.key_separator {
            out.write_all(record.key.as_deref().unwrap_or_default())?;
            out.write_all(separator.as_bytes())?;
        }
        out.write_all(record.value.as_deref().unwrap_or_default())?;
        out.write_all(b"\n")
    }
}

/// The state of one reading.
struct Reading<'a> {
    consume: &'a Consume,
    out: BufWriter<StdoutLock<'static>>,
    printed: u64,
    /// Where `--until-end` stops, for each partition that was assigned so far.
    ends: BTreeMap<TopicPartition, i64>,
    started: Instant,
}

impl Reading<'_> {
    /// Prints until there is a reason to stop.
    async fn run(&mut self, consumer: &mut Consumer) -> Result<(), Failure> {
        let mut stop = Stop::new()?;
        loop {
            if self.consume.until_end && self.is_at_end(consumer).await? {
                return Ok(());
            }
            if self.consume.max.is_some_and(|max| max <= self.printed) {
                return Ok(());
            }
            let batch = tokio::select! {
                batch = consumer.next() => batch.map_err(explained)?,
                () = tokio::time::sleep(LOOK), if self.consume.until_end => continue,
                _ = stop.wanted() => return Ok(()),
            };
            self.print(consumer, &batch)?;
        }
    }

    /// Prints a batch up to the bounds. The position goes back to what was not printed: it is what is committed.
    fn print(&mut self, consumer: &Consumer, batch: &Batch) -> Result<(), Failure> {
        let place = &batch.partition;
        let end = self.ends.get(place).copied().unwrap_or(i64::MAX);
        let written = self.write(&batch.records, end);
        let unprinted = match &written {
            Ok(count) => batch.records.get(*count),
            Err(_) => batch.records.first(),
        };
        if let Some(record) = unprinted {
            // A partition that is another member's by now is not ours to move.
            let _ = consumer.seek(place, record.offset);
            if end <= record.offset {
                // Behind the end that was seen at the start; this partition has nothing more to print.
                consumer.pause(std::slice::from_ref(place));
            }
        }
        written.map(drop)
    }

    /// How many were written before a bound was reached.
    fn write(&mut self, records: &[ConsumerRecord], end: i64) -> Result<usize, Failure> {
        let most = self.consume.max.map(|max| max.saturating_sub(self.printed));
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let wanted = records.iter().take(most).take_while(|record| record.offset < end);
        let mut written = 0;
        for record in wanted {
            self.consume.print(&mut self.out, record)?;
            self.printed += 1;
            written += 1;
        }
        self.out.flush()?;
        Ok(written)
    }

    async fn is_at_end(&mut self, consumer: &Consumer) -> Result<bool, Failure> {
        let assigned = consumer.assignment();
        let new: Vec<_> = assigned
            .iter()
            .filter(|place| !self.ends.contains_key(place))
            .cloned()
            .collect();
        if !new.is_empty() {
            self.ends.extend(consumer.end_offsets(&new).await.map_err(explained)?);
        }
        if assigned.is_empty() {
            return Ok(ASSIGNED_WITHIN < self.started.elapsed());
        }
        let is_done = |place: &TopicPartition| {
            consumer
                .position(place)
                .zip(self.ends.get(place))
                .is_some_and(|(position, end)| *end <= position)
        };
        Ok(assigned.iter().all(is_done))
    }
}
