//! A run over a batch of 1,000 records of 100 bytes, for every bench of the host.
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use bytes::Bytes;
use tidemill_broker::module::{
    Version,
    run::{Input, Kind, Limits, OutputTopic, Run, StateReader, StateScan, TaskKey},
    view::ViewId,
};
use tidemill_host::digest;
use tidemill_protocol::{batch::Builder, records::Records};

/// Records of a batch.
pub(crate) const RECORDS: usize = 1_000;
const VALUE_BYTES: usize = 100;

/// A record batch of payments whose keys name three teams in turn.
pub(crate) fn input() -> Bytes {
    let mut builder = Builder::new();
    for (n, timestamp) in (0..RECORDS).zip(1_700_000_000_000..) {
        let key = format!("{}.{}", ["orders", "users", "weather"][n / 10 % 3], n % 97);
        let currency = ["EUR", "USD"][n % 2];
        let mut value = format!(
            r#"{{"payment":{n},"amount":{},"currency":"{currency}","note":""#,
            n * 7 % 1_000 + 1
        );
        value.extend(std::iter::repeat_n('n', VALUE_BYTES - value.len() - 2));
        value.push_str("\"}");
        builder.append(timestamp, Some(key.as_bytes()), Some(value.as_bytes()), []);
    }
    builder.finish()
}

/// A guest example as `cargo xtask guests` built it.
pub(crate) fn component(name: &str) -> Option<Vec<u8>> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-examples/target/wasm32-wasip2/release");
    fs::read(guests.join(format!("{name}.wasm"))).ok()
}

/// A run of a guest over [`input`]; `work` is what it is asked to do, if it asks.
pub(crate) fn run(name: &str, component: &[u8], work: &str) -> Run {
    let output = OutputTopic {
        partitions: 4,
        batch_bytes_max: 1 << 20,
    };
    let topics = ["tame", "team.orders", "team.users", "team.rest"];
    let config = [
        ("orders", "team.orders"),
        ("users", "team.users"),
        ("otherwise", "team.rest"),
        ("act", "none"),
        ("work", work),
    ];
    let records = Records::from(input());
    Run {
        task: TaskKey {
            module: name.into(),
            deployment: 1,
            number: 0,
        },
        version: Version {
            module: name.into(),
            number: 1,
            label: "1".into(),
            digest: digest(component),
        },
        generation: 1,
        attempt: 1,
        now: 1_700_000_000_000,
        is_fresh: false,
        firings: 0,
        event_time: None,
        state_bytes: 0,
        kind: Kind::Records,
        inputs: vec![Input {
            topic: "in".into(),
            partition: 0,
            from: 0,
            until: i64::MAX,
            give_up: Vec::new(),
            has_more: false,
            records,
        }],
        outputs: Arc::new(
            topics
                .iter()
                .map(|topic| ((*topic).to_owned(), output.clone()))
                .collect(),
        ),
        dead_letter: None,
        buckets: Arc::default(),
        config: Arc::new(
            config
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>(),
        ),
        tables: Arc::default(),
        metrics: Arc::default(),
        limits: Limits {
            records_max: 10_000,
            bytes_max: 16 << 20,
            timeout_ms: 2_000,
            memory_bytes_max: 64 << 20,
            output_bytes_max: 8 << 20,
            state_write_bytes_max: 1 << 20,
            state_bytes_max: 1 << 30,
            log_lines_per_second: 50,
        },
    }
}

/// No state at all.
pub(crate) struct NoState;

impl StateReader for NoState {
    fn get(&self, _: &TaskKey, _: &str, _: &[u8]) -> Option<Bytes> {
        None
    }

    fn scan(&self, _: StateScan<'_>) -> Vec<(Bytes, Bytes)> {
        Vec::new()
    }

    fn rows(&self, _: &TaskKey, _: &[u8], _: usize) -> Vec<(Bytes, Bytes)> {
        Vec::new()
    }

    fn look_up(&self, _: ViewId, _: &[u8]) -> Option<Bytes> {
        None
    }
}
