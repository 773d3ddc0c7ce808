//! A test of a module as its author writes it: what comes in, in which steps, and what must come of it.
//!
//! ```toml
//! about = "A pause longer than the gap closes the session."
//! clock = "2026-01-31T12:00:00Z"     # the host's clock at the start; this is the default of the day: 2026-01-01
//! partitions = 1                     # of every topic; the default
//! topics = { clicks = 2 }            # of single topics
//! batch-records = 2                  # instead of the manifest's batch.max-records
//! config = { gap-ms = "60000" }      # instead of the manifest's
//!
//! [[step]]                           # what a step has happens in this order, and then the module comes to rest
//! advance = "31m"                    # the clock moves on; or clock = "2026-..." moves it there
//! records = [                        # appended together: one batch, unless a limit cuts it
//!   # those of a table's topic first, so that the others find them there
//!   { topic = "clicks", partition = 0, key = "ann", value = "...", timestamp = "+31m", headers = { h = "v" } },
//! ]
//! restart = true                     # the daemon is killed and started
//!
//! [expect]                           # a list that is not there is not checked; one that is there is complete
//! outputs = [{ topic = "sessions", key = "ann", json = { count = 2 } }]     # each topic's in its order; fields not given are not compared
//! state = [{ bucket = "open", key = "bob", json = { count = 1 } }]          # by task, bucket and key
//! dead-letters = [{ offset = 3, code = "late" }]                            # by the place that they came from
//! stopped = "part of the reason"     # the module must be paused; without this it must run
//! ```
//! Keys and values are `value` (text), `json` (compared as JSON), `hex`, or for values `i64` (a counter, little endian); a record
//! without a value is a tombstone, and an expected one says `tombstone = true`. Of one input or one output topic, `topic` may be left
//! out. A timestamp is a moment or a time after the fixture's clock; without one it is the clock's.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use tidemill_protocol::manifest::{Duration, Manifest, Moment};

/// 2026-01-01T00:00:00Z.
const CLOCK: Moment = Moment(1_767_225_600_000);
/// Bytes of a fixture.
const FIXTURE_BYTES_MAX: u64 = 16 << 20;

/// See the top of this file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Fixture {
    /// File name without its end.
    #[serde(skip)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) about: String,
    #[serde(default = "clock", deserialize_with = "moment")]
    pub(crate) clock: Moment,
    #[serde(default = "one")]
    pub(crate) partitions: u32,
    #[serde(default)]
    pub(crate) topics: BTreeMap<String, u32>,
    pub(crate) batch_records: Option<u32>,
    #[serde(default)]
    pub(crate) config: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) step: Vec<Step>,
    #[serde(default)]
    pub(crate) expect: Expect,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) advance: Option<Duration>,
    pub(crate) clock: Option<Time>,
    #[serde(default)]
    pub(crate) records: Vec<Record>,
    #[serde(default)]
    pub(crate) restart: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Record {
    topic: Option<String>,
    #[serde(default)]
    partition: u32,
    key: Option<String>,
    timestamp: Option<Time>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    value: Option<String>,
    json: Option<Json>,
    hex: Option<Hex>,
}

/// What must come of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) outputs: Option<Vec<Expected>>,
    pub(crate) state: Option<Vec<Expected>>,
    pub(crate) dead_letters: Option<Vec<Expected>>,
    pub(crate) stopped: Option<String>,
}

/// An output, an entry of the state or a dead letter: which fields make sense depends on which list it is in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Expected {
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<u32>,
    pub(crate) offset: Option<i64>,
    pub(crate) code: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) task: Option<u32>,
    pub(crate) bucket: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) timestamp: Option<Time>,
    pub(crate) headers: Option<BTreeMap<String, String>>,
    pub(crate) value: Option<String>,
    pub(crate) json: Option<Json>,
    pub(crate) hex: Option<Hex>,
    pub(crate) i64: Option<i64>,
    #[serde(default)]
    pub(crate) tombstone: bool,
}

/// A moment, or a time after the fixture's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    At(Moment),
    After(Duration),
}

impl Time {
    pub(crate) fn from(self, clock: Moment) -> i64 {
        match self {
            Time::At(at) => at.0,
            Time::After(after) => clock.0.saturating_add(after.as_millis_i64()),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let time = match text.strip_prefix('+') {
            Some(after) => Duration::parse(after).map(Time::After),
            None => Moment::parse(&text).map(Time::At),
        };
        time.ok_or_else(|| {
            de::Error::custom("a timestamp is \"2026-01-31T12:00:00Z\", or \"+31m\" after the fixture's clock")
        })
    }
}

/// JSON, as TOML or as text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Json(pub(crate) Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(text) => serde_json::from_str(&text).map(Json).map_err(de::Error::custom),
            value => Ok(Json(value)),
        }
    }
}

/// Bytes in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) Bytes);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        match bytes.filter(|_| rest.is_empty()) {
            Some(bytes) => Ok(Hex(bytes.into())),
            None => Err(de::Error::custom("hexadecimal digits come in pairs")),
        }
    }
}

fn clock() -> Moment {
    CLOCK
}

fn moment<'de, D: Deserializer<'de>>(from: D) -> Result<Moment, D::Error> {
    let text = String::deserialize(from)?;
    Moment::parse(&text).ok_or_else(|| de::Error::custom("the clock is a moment, as \"2026-01-31T12:00:00Z\""))
}

fn one() -> u32 {
    1
}

impl Fixture {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let failed = |why: String| format!("{}: {}", path.display(), why.trim_end());
        let length = fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
        if FIXTURE_BYTES_MAX < length {
            return Err(failed(format!("{length} bytes are too many for a fixture")));
        }
        let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        let fixture: Fixture = toml::from_str(&text).map_err(|e| failed(e.to_string()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Fixture { name, ..fixture })
    }

    /// The manifest as this fixture wants it.
    pub(crate) fn manifest(&self, manifest: &Manifest) -> Manifest {
        let mut manifest = manifest.clone();
        if let Some(records) = self.batch_records {
            manifest.batch.max_records = records.max(1);
        }
        manifest.config.extend(self.config.clone());
        manifest
    }

    /// The records of a step; `now` is the timestamp of those that have none.
    pub(crate) fn records(&self, step: &Step, manifest: &Manifest, now: i64) -> Result<Vec<super::Record>, String> {
        let only = match manifest.input.as_slice() {
            [only] => Some(only.topic.as_str()),
            _ => None,
        };
        let record = |record: &Record| {
            let topic = record.topic.as_deref().or(only);
            let value = record.json.as_ref().map(|json| Bytes::from(json.0.to_string()));
            let value = value.or_else(|| record.hex.as_ref().map(|hex| hex.0.clone()));
            Ok(super::Record {
                topic: topic
                    .ok_or("a record needs `topic`: the module has several inputs")?
                    .to_owned(),
                partition: record.partition,
                timestamp: record.timestamp.map_or(now, |time| time.from(self.clock)),
                key: record.key.clone().map(Bytes::from),
                value: record.value.clone().map(Bytes::from).or(value),
                headers: record
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), Some(Bytes::from(value.clone()))))
                    .collect(),
            })
        };
        step.records.iter().map(record).collect()
    }
}

/// The fixtures of a module: `fixtures/*.toml` in its folder, in order of names, or those files that are named.
pub(crate) fn read_all(folder: &Path, named: &[std::path::PathBuf]) -> Result<Vec<Fixture>, String> {
    if !named.is_empty() {
        return named.iter().map(|path| Fixture::read(path)).collect();
    }
    let folder = folder.join("fixtures");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{}: {error}", folder.display())),
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    paths.sort();
    paths.iter().map(|path| Fixture::read(path)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_documented_form_is_read() {
        let fixture: Fixture = toml::from_str(
            r#"
            about = "x"
            clock = "2026-01-31T12:00:00Z"
            topics = { clicks = 2 }
            batch-records = 2
            [[step]]
            advance = "31m"
            records = [
              { key = "ann", json = { n = 1 }, timestamp = "+31m", headers = { h = "v" } },
              { key = "ann" },
              { hex = "00ff", timestamp = "2026-01-01" },
            ]
            restart = true
            [expect]
            outputs = [{ key = "ann", json = '{"n":null}' }, { tombstone = true }]
            dead-letters = []
            "#,
        )
        .unwrap();
        let manifest: Manifest = toml::from_str("module = { name = \"m\" }\ninput = [{ topic = \"clicks\" }]").unwrap();
        let records = fixture.records(&fixture.step[0], &manifest, 7).unwrap();
        assert_eq!(records[0].topic, "clicks");
        assert_eq!(records[0].timestamp, fixture.clock.0 + 31 * 60_000);
        assert_eq!(records[0].value.as_deref(), Some(&b"{\"n\":1}"[..]));
        assert_eq!((records[1].value.as_deref(), records[1].timestamp), (None, 7));
        assert_eq!(records[2].value.as_deref(), Some(&b"\x00\xff"[..]));
        assert_eq!(fixture.manifest(&manifest).batch.max_records, 2);
        assert!(fixture.expect.state.is_none() && fixture.expect.dead_letters.unwrap().is_empty());
        assert!(
            toml::from_str::<Fixture>("[[step]]\nrecord = []").is_err(),
            "a typing error is found"
        );
    }
}
