//! kill -9 at random moments under produce + module + consume. Afterwards: every acknowledged record once, outputs and state equal to
//! the fold of the inputs. `TIDEMILL_KILL_ROUNDS` says how often; `cargo xtask kill` runs two hundred.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;
use tidemill_client::{Client, ConsumerConfig, OffsetReset, ProducerConfig, Record, TopicPartition};

use crate::{
    daemon::{Daemon, PATIENCE},
    modules::deploy,
};

pub const PARTITIONS: i32 = 3;
const KEYS: u64 = 12;
const MINUTE: i64 = 60_000;

pub async fn client(daemon: &Daemon) -> Client {
    Client::builder()
        .bootstrap(&daemon.address())
        .ca_file(daemon.ca_file())
        .connect()
        .await
        .unwrap()
}

/// Record `n`: a key, and an event time that leaves a pause of an hour every seventh time.
fn key(n: u64) -> String {
    format!("user{}", n % KEYS)
}

fn time(n: u64) -> i64 {
    let turn = (n / KEYS) as i64;
    (turn + turn / 7 * 60) * MINUTE
}

/// A session, as sessionize sends it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Session {
    key: String,
    start: i64,
    end: i64,
    count: u64,
    events: Vec<String>,
}

/// Every session that must have been sent once a tombstone has closed the last one of each key.
pub fn fold(records: &[(String, i64, String)]) -> Vec<Session> {
    let mut open: BTreeMap<&str, Session> = BTreeMap::new();
    let mut closed = Vec::new();
    for (key, at, event) in records {
        match open.get_mut(key.as_str()) {
            Some(session) if *at <= session.end + 30 * MINUTE => {
                session.end = *at;
                session.count += 1;
                session.events.push(event.clone());
            }
            _ => {
                let fresh = Session {
                    key: key.clone(),
                    start: *at,
                    end: *at,
                    count: 1,
                    events: vec![event.clone()],
                };
                closed.extend(open.insert(key, fresh));
            }
        }
    }
    closed.extend(open.into_values());
    closed.sort();
    closed
}

pub fn rounds() -> u32 {
    std::env::var("TIDEMILL_KILL_ROUNDS").map_or(5, |text| text.parse().expect("a number of rounds"))
}

/// Small, and enough: the moments of the kills, from a seed that the failure prints.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[tokio::test(flavor = "current_thread")]
async fn kill_nine_at_random_moments_loses_and_repeats_nothing() {
    let seed = std::env::var("TIDEMILL_KILL_SEED").map_or(0x7449_6445, |text| text.parse().expect("a number"));
    eprintln!("TIDEMILL_KILL_SEED={seed} TIDEMILL_KILL_ROUNDS={}", rounds());
    let mut random = Random(seed);
    let mut daemon = Daemon::start();
    for topic in ["clicks", "sessions", "sessions.dlq"] {
        daemon.run(&["topic", "create", topic, "--partitions", &PARTITIONS.to_string()]);
    }
    deploy(&daemon, "sessionize", |_| {});

    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(client(&daemon).await, stop.clone()));
    let read = Arc::new(Mutex::new(BTreeMap::new()));
    let reader = tokio::spawn(follow(client(&daemon).await, read.clone()));
    for round in 0..rounds() {
        tokio::time::sleep(Duration::from_millis(20 + random.below(400))).await;
        daemon.kill();
        // Now and then the recovery is killed, too.
        if random.below(4) == 0 {
            daemon.restart();
            daemon.kill();
        }
        daemon.restart();
        if round % 20 == 19 {
            eprintln!("  {} kills", round + 1);
        }
    }
    stop.store(true, Ordering::Relaxed);
    let sent = tokio::time::timeout(PATIENCE, writer)
        .await
        .expect("the writer ends")
        .unwrap();

    let expected = holds(&daemon, sent).await;

    // The consumer that was there all the time has seen every output, and offsets without a hole.
    let deadline = Instant::now() + PATIENCE;
    while read.lock().unwrap().len() < expected.len() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    reader.abort();
    let read = read.lock().unwrap();
    let mut seen: Vec<Session> = read.values().cloned().collect();
    seen.sort();
    assert_eq!(seen, expected);
    eprintln!("  {} records, {} sessions, {} kills", sent, expected.len(), rounds());
}

/// Every acknowledged record is in the log once, and outputs are the fold of the inputs; which they must be.
pub async fn holds(daemon: &Daemon, sent: u64) -> Vec<Session> {
    // The log holds every acknowledged record once.
    let log = read_all(daemon, "clicks").await;
    let values: Vec<&String> = log.iter().filter_map(|(_, _, value)| value.as_ref()).collect();
    let distinct: BTreeSet<&String> = values.iter().copied().collect();
    assert_eq!(values.len(), distinct.len(), "a record is in the log twice");
    assert_eq!(values.len() as u64, sent, "an acknowledged record is missing");

    // Outputs, and the state that the tombstones brought to light, are the fold of the inputs.
    let inputs: Vec<(String, i64, String)> = log
        .into_iter()
        .filter_map(|(key, at, value)| {
            value.map(|v| {
                (
                    key,
                    at,
                    v.trim_start_matches("{\"event\":\"").trim_end_matches("\"}").to_owned(),
                )
            })
        })
        .collect();
    let expected = fold(&inputs);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sessions = read_all(daemon, "sessions").await;
        let mut found: Vec<Session> = sessions
            .iter()
            .map(|(_, _, v)| serde_json::from_str(v.as_ref().unwrap()).unwrap())
            .collect();
        found.sort();
        if found == expected {
            break;
        }
        assert!(
            found.len() < expected.len() && Instant::now() < deadline,
            "{} sessions, expected {}",
            found.len(),
            expected.len()
        );
    }
    expected
}

/// Produces numbered records until told to stop, then a tombstone for each key; how many were acknowledged: all of them.
pub async fn write(client: Client, stop: Arc<AtomicBool>) -> u64 {
    let config = ProducerConfig {
        delivery_timeout: Duration::from_secs(600),
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).unwrap();
    let mut n = 0;
    let mut deliveries = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..20 {
            let record = Record::to("clicks")
                .key(key(n))
                .value(format!("{{\"event\":\"{n}\"}}"))
                .timestamp(time(n));
            deliveries.push(producer.enqueue(record).await.unwrap());
            n += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for user in 0..KEYS {
        deliveries.push(producer.enqueue(Record::to("clicks").key(key(user))).await.unwrap());
    }
    producer.flush().await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    n
}

/// Reads the sessions as they come, as a member of a group that commits after processing.
async fn follow(client: Client, read: Arc<Mutex<BTreeMap<(i32, i64), Session>>>) {
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        auto_commit: None,
        ..ConsumerConfig::group("followers")
    };
    let mut consumer = client.consumer(config).unwrap();
    consumer.subscribe(["sessions"]).unwrap();
    loop {
        let Ok(batch) = consumer.next().await else { continue };
        for record in batch {
            let session: Session = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            let again = read
                .lock()
                .unwrap()
                .insert((record.partition, record.offset), session.clone());
            assert!(
                again.is_none_or(|before| before == session),
                "an offset changed its record"
            );
        }
        let _ = consumer.commit().await;
    }
}

/// (key, timestamp, value) of everything in a topic now, in order within each partition.
pub async fn read_all(daemon: &Daemon, topic: &str) -> Vec<(String, i64, Option<String>)> {
    let client = client(daemon).await;
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config).unwrap();
    let partitions: Vec<TopicPartition> = (0..PARTITIONS).map(|p| TopicPartition::new(topic, p)).collect();
    let ends = consumer.end_offsets(&partitions).await.unwrap();
    consumer.assign(partitions).await.unwrap();
    let mut records = Vec::new();
    let mut next: BTreeMap<TopicPartition, i64> = ends.keys().map(|p| (p.clone(), 0)).collect();
    while next.iter().any(|(partition, at)| *at < ends[partition]) {
        let batch = tokio::time::timeout(PATIENCE, consumer.next())
            .await
            .expect("records come")
            .unwrap();
        let partition = batch.partition.clone();
        for record in batch {
            assert_eq!(record.offset, next[&partition], "{partition}: a hole or a repeat");
            *next.get_mut(&partition).unwrap() += 1;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            records.push((
                text(record.key.as_deref().unwrap()),
                record.timestamp,
                record.value.as_deref().map(text),
            ));
        }
    }
    records
}
