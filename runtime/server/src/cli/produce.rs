//! `tidemill produce`: lines to records.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tidemill_client::{Compression, Delivery, Header, Producer, ProducerConfig, Record, RecordMetadata};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::time::Instant;

use super::Failure;
use super::record_json;
use super::remote::{Remote, block_on, explained, parse_pair, print};
use super::stop::Stop;

/// Longest line.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

const READ_BUFFER_BYTES: usize = 1024 * 1024;

/// Write records, one for each line of standard input or of a file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo hello | tidemill produce greetings
  printf 'ann=1\\nbob=2\\n' | tidemill produce scores --key-separator =
  tidemill produce flights --file flights.csv --compression zstd
  tidemill consume a --from earliest --until-end --json | tidemill produce b --format json

It ends when everything is acknowledged, with 0 only if all of it was stored.")]
pub(super) struct Produce {
    #[command(flatten)]
    remote: Remote,
    /// Topic; it is created if the daemon may do that.
    topic: String,
    /// Read this file instead of standard input.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How lines are read.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// What stands before this is the key, what follows the value.
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    /// Key of every record that has no other.
    #[arg(
        id = "record-key",
        long = "record-key",
        short = 'k',
        value_name = "TEXT",
        conflicts_with = "key_separator"
    )]
    key: Option<String>,
    /// Header of every record. May be repeated.
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = parse_pair)]
    header: Vec<(String, String)>,
    /// A value that is this text is null: a tombstone on a compacted topic.
    #[arg(long, value_name = "TEXT")]
    null_value: Option<String>,
    /// Partition, instead of by key.
    #[arg(long, short)]
    partition: Option<i32>,
    /// Compression of batches.
    #[arg(long, short = 'z', value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// What the daemon has to say: nothing (at most once), or that records are stored, with or without recognising
    /// repetitions.
    #[arg(long, value_enum, default_value_t = Guarantee::ExactlyOnce)]
    guarantee: Guarantee,
    /// Print where each record went, a JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line is a value, with --key-separator a key and a value.
    Text,
    /// A line is a JSON object as `consume --json` prints it.
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[expect(clippy::enum_variant_names, reason = "the three guarantees are called so")]
enum Guarantee {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

impl Produce {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            if let Some(file) = &self.file {
                // Before a daemon is looked for: a wrong name is the likelier mistake.
                std::fs::metadata(file).map_err(|e| format!("{}: {e}", file.display()))?;
            }
            let client = self.remote.connect().await?;
            let producer = client.producer(self.config())?;
            let sent = self.send(&producer).await;
            let closed = producer.close().await;
            client.close().await;
            sent?;
            closed.map_err(explained)?;
            Ok(ExitCode::SUCCESS)
        })
    }

    fn config(&self) -> ProducerConfig {
        let config = match self.guarantee {
            Guarantee::AtMostOnce => ProducerConfig::at_most_once(),
            Guarantee::AtLeastOnce => ProducerConfig::at_least_once(),
            Guarantee::ExactlyOnce => ProducerConfig::exactly_once(),
        };
        let compression = match self.compression {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        };
        ProducerConfig {
            compression,
            linger: Duration::from_millis(20),
            delivery_timeout: self.remote.timeout,
            ..config
        }
    }

    async fn send(&self, producer: &Producer) -> Result<(), Failure> {
        let (input, bytes): (Box<dyn AsyncRead + Unpin>, Option<u64>) = match &self.file {
            None => (Box::new(tokio::io::stdin()), None),
            Some(path) => {
                let file = tokio::fs::File::open(path)
                    .await
                    .map_err(|e| format!("{}: {e}", path.display()))?;
                let bytes = file.metadata().await?.len();
                (Box::new(file), Some(bytes))
            }
        };
        let progress = Progress::new(bytes);
        let mut lines = BufReader::with_capacity(READ_BUFFER_BYTES, input);
        let mut waiting = VecDeque::new();
        let mut line = Vec::new();
        let mut number = 0u64;
        let mut stop = Stop::new()?;
        loop {
            line.clear();
            let mut bounded = (&mut lines).take(LINE_BYTES_MAX);
            let read = tokio::select! {
                read = bounded.read_until(b'\n', &mut line) => read?,
                // What was accepted is still acknowledged.
                _ = stop.wanted() => break,
            };
            if read == 0 {
                break;
            }
            number += 1;
            if line.last() != Some(&b'\n') && LINE_BYTES_MAX <= line.len() as u64 {
                return Err(format!("line {number} is longer than {LINE_BYTES_MAX} bytes").into());
            }
            let record = self
                .record(trimmed(&line))
                .map_err(|why| format!("line {number}: {why}"))?;
            waiting.push_back((number, producer.enqueue(record).await.map_err(explained)?));
            self.acknowledged(&mut waiting)?;
            progress.advance(read, number);
        }
        producer.flush().await.map_err(explained)?;
        self.acknowledged(&mut waiting)?;
        progress.finish(number);
        Ok(())
    }

    fn record(&self, line: &[u8]) -> Result<Record, String> {
        let mut record = match self.format {
            Format::Json => record_json::from_json(&self.topic, line)?,
            Format::Text => self.text_record(line)?,
        };
        record.key = record.key.or_else(|| self.key.clone().map(Bytes::from));
        record.partition = self.partition.or(record.partition);
        let headers = self.header.iter().cloned();
        record.headers.extend(headers.map(|(key, value)| Header {
            key,
            value: Some(Bytes::from(value)),
        }));
        if self
            .null_value
            .as_ref()
            .is_some_and(|null| record.value.as_deref() == Some(null.as_bytes()))
        {
            record.value = None;
        }
        Ok(record)
    }

    fn text_record(&self, line: &[u8]) -> Result<Record, String> {
        let record = Record::to(self.topic.clone());
        let Some(separator) = self.key_separator.as_ref().filter(|separator| !separator.is_empty()) else {
            return Ok(record.value(Bytes::copy_from_slice(line)));
        };
        let at = line
            .windows(separator.len())
            .position(|window| window == separator.as_bytes());
        let at = at.ok_or_else(|| format!("there is no {separator:?} between key and value"))?;
        let (key, rest) = line.split_at(at);
        Ok(record
            .key(Bytes::copy_from_slice(key))
            .value(Bytes::copy_from_slice(&rest[separator.len()..])))
    }

    /// Takes the acknowledgements that are there, in order; the first failure ends the command.
    fn acknowledged(&self, waiting: &mut VecDeque<(u64, Delivery)>) -> Result<(), Failure> {
        while let Some((number, delivery)) = waiting.front_mut() {
            let Some(result) = delivery.now_or_never() else { break };
            let metadata = result.map_err(|error| format!("line {number} is not stored: {error}"))?;
            if self.json {
                print(placed(&metadata))?;
            }
            waiting.pop_front();
        }
        Ok(())
    }
}

fn placed(metadata: &RecordMetadata) -> serde_json::Value {
    json!({
        "topic": metadata.topic,
        "partition": metadata.partition,
        "offset": metadata.offset,
        "timestamp": metadata.timestamp,
    })
}

/// A line without its end, which may be `\n` or `\r\n`.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What a person at a terminal sees: a bar for a file, and a line at the end.
struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Progress {
    fn new(bytes: Option<u64>) -> Progress {
        let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {msg}  eta {eta}");
        let bar = bytes.filter(|_| io::stderr().is_terminal()).map(|bytes| match style {
            Ok(style) => ProgressBar::new(bytes).with_style(style),
            Err(_) => ProgressBar::new(bytes),
        });
        Progress {
            bar,
            started: Instant::now(),
        }
    }

    fn advance(&self, bytes: usize, records: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes as u64);
            if records.is_multiple_of(1024) {
                bar.set_message(format!("{records} records"));
            }
        }
    }

    fn finish(&self, records: u64) {
        let Some(bar) = &self.bar else { return };
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        bar.finish_and_clear();
        eprint_line(&format!(
            "{records} records stored in {seconds:.1} s, {:.0}/s",
            records as f64 / seconds
        ));
    }
}

fn eprint_line(line: &str) {
    use std::io::Write;
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        produce: Produce,
    }

    fn produce(args: &[&str]) -> Produce {
        Cli::parse_from(["produce", "t"].iter().chain(args)).produce
    }

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        let record = produce(&["-K", "=>"]).record(b"ann=>1=>2").expect("it has a key");
        assert_eq!(
            (record.key.as_deref(), record.value.as_deref()),
            (Some(b"ann".as_slice()), Some(b"1=>2".as_slice()))
        );
        assert!(produce(&["-K", "=>"]).record(b"ann").is_err());
    }

    #[test]
    fn headers_keys_and_nulls_apply_to_every_record() {
        let produce = produce(&["-H", "a=1", "-H", "a=2", "--record-key", "k", "--null-value", "NULL"]);
        let record = produce.record(b"NULL").expect("it is a record");
        assert_eq!(
            (record.key.as_deref(), record.value, record.headers.len()),
            (Some(b"k".as_slice()), None, 2)
        );
    }

    #[test]
    fn both_line_ends_are_cut_off_once() {
        assert_eq!(trimmed(b"a\r\n"), b"a");
        assert_eq!(trimmed(b"a\n"), b"a");
        assert_eq!(trimmed(b"a"), b"a");
    }
}
