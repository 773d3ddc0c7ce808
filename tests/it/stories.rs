//! Stories told from the first event to the last number, with kill -9 in between: what comes out is what a plain computation makes of
//! the same records.
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tidemill_client::{Client, Delivery, Producer, ProducerConfig, Record};
use tidemill_protocol::partitioner::partition_of_key;

use crate::{
    daemon::{Daemon, PATIENCE, until},
    examples::{consume, create, header, values},
    migrate::{compact, layout},
    modules::{deploy, status},
    tables::until_built,
};

#[path = "../demo/flights.rs"]
#[allow(dead_code, reason = "the demo uses all of it")]
mod flights;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
pub const PARTITIONS: u32 = 3;

async fn client(daemon: &Daemon) -> Client {
    let builder = Client::builder().bootstrap(&daemon.address()).ca_file(daemon.ca_file());
    builder.connect().await.unwrap()
}

/// A producer that outlives restarts.
async fn producer(client: &Client) -> Producer {
    let config = ProducerConfig {
        delivery_timeout: Duration::from_secs(600),
        ..ProducerConfig::default()
    };
    client.producer(config).unwrap()
}

/// Moments and orders, from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// One key for each partition, so that event time can be moved on everywhere.
fn keys_of_all_partitions() -> Vec<String> {
    let lands = |partition| move |key: &String| partition_of_key(key.as_bytes(), PARTITIONS) == Some(partition);
    (0..PARTITIONS)
        .map(|partition| (0..).map(|n| format!("clock-{n}")).find(lands(partition)).unwrap())
        .collect()
}

pub async fn tick(producer: &Producer, topic: &str, at: i64) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for key in keys_of_all_partitions() {
        let record = Record::to(topic)
            .key(key)
            .value(r#"{"event":"tick","leg":"tick"}"#)
            .timestamp(at);
        deliveries.push(producer.enqueue(record).await.unwrap());
    }
    deliveries
}

const VISIT: [(&str, i64); 6] = [
    ("logged in", 0),
    ("opened messages", 2),
    ("opened one", 3),
    ("deleted it", 5),
    ("added a song to the playlist", 20),
    ("logged out", 41),
];

/// (user, moment, event) of every visit, in the order in which phones with bad networks send them.
fn clicks(random: &mut Random) -> Vec<(String, i64, &'static str)> {
    let mut clicks = Vec::new();
    for user in 0..8 {
        for visit in 0..12 {
            for (event, minute) in VISIT {
                let at = visit * 3 * HOUR + (user * 7 + minute) * MINUTE;
                // Up to 25 minutes late; the manifest allows for 30.
                clicks.push((at + random.below(25) as i64 * MINUTE, format!("user{user}"), at, event));
            }
        }
    }
    clicks.sort();
    clicks
        .into_iter()
        .map(|(_, user, at, event)| (user, at, event))
        .collect()
}

#[tokio::test(flavor = "current_thread")]
async fn a_visit_becomes_one_session_whatever_happens_meanwhile() {
    let mut random = Random(0x7669_7369);
    let mut daemon = Daemon::start();
    create(
        &daemon,
        &["clicks", "sessions", "sessions.dlq", "funnel", "funnel.dlq"],
        PARTITIONS as i32,
    );
    let sessionize = |version: &str, daemon: &Daemon| {
        deploy(daemon, "sessionize", |manifest| {
            input(manifest, "clicks", "30m");
            set(manifest, "module", &[("version", version)]);
        });
    };
    sessionize("1.0.0", &daemon);
    deploy(&daemon, "funnel", |manifest| {
        let path = VISIT.map(|(event, _)| event).join(" > ");
        manifest["config"]
            .as_table_mut()
            .unwrap()
            .insert("steps".into(), path.into());
    });
    let client = client(&daemon).await;
    let producer = producer(&client).await;
    let clicks = clicks(&mut random);
    let mut deliveries = Vec::new();
    for (n, (user, at, event)) in clicks.iter().enumerate() {
        let record = Record::to("clicks")
            .key(user.clone())
            .value(json!({ "event": event }).to_string())
            .timestamp(*at);
        deliveries.push(producer.enqueue(record).await.unwrap());
        if n % 120 == 119 {
            // Batches are on their way, sessions are open, timers are set, and nobody is warned.
            daemon.kill();
            daemon.restart();
        }
        if n == 199 {
            sessionize("1.1.0", &daemon);
        }
        if n == 299 {
            // Another layout of what is open: killed in the middle of it, or before, or after.
            let path = compact(&daemon, "2.0.0", "30m");
            daemon.run(&["module", "deploy", &path, "--no-wait"]);
            std::thread::park_timeout(Duration::from_millis(random.below(60)));
            daemon.kill();
            daemon.restart();
        }
        if n == 399 {
            until("the state is migrated", || layout(&daemon) == 1);
            daemon.run(&["module", "deploy", &compact(&daemon, "2.1.0", "30m")]);
        }
    }
    deliveries.extend(tick(&producer, "clicks", 10 * DAY).await);
    deliveries.extend(tick(&producer, "clicks", 20 * DAY).await);
    producer.flush().await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let visits = 8 * 12;
    // The first tick of each partition is a session of its own, closed by the second.
    until("every visit is told", || {
        values(&daemon, "sessions").len() == visits + PARTITIONS as usize
    });
    for text in values(&daemon, "sessions") {
        let session: Value = serde_json::from_str(&text).unwrap();
        if session["key"].as_str().unwrap().starts_with("clock") {
            continue;
        }
        assert_eq!(session["events"], json!(VISIT.map(|(event, _)| event)), "{text}");
        let length = session["end"].as_i64().unwrap() - session["start"].as_i64().unwrap();
        assert_eq!(length, 41 * MINUTE, "{text}");
    }
    assert_eq!(values(&daemon, "sessions.dlq").len(), 0);

    // What comes when its visit is told already is a dead letter, and changes nothing.
    let late = Record::to("clicks")
        .key("user1")
        .value(r#"{"event":"opened one"}"#)
        .timestamp(5 * MINUTE);
    producer.enqueue(late).await.unwrap().await.unwrap();
    until("the late event is given up", || {
        values(&daemon, "sessions.dlq").len() == 1
    });
    assert_eq!(header(&consume(&daemon, "sessions.dlq")[0], "tidemill.code"), "late");

    // Windows of a day over the sessions: every visit took every step.
    until("the windows are told", || {
        windows(&daemon).values().map(|numbers| numbers.sessions).sum::<u64>() == visits as u64
    });
    for numbers in windows(&daemon).values() {
        assert_eq!(numbers.steps, vec![numbers.sessions; VISIT.len()]);
        assert_eq!(numbers.events, numbers.sessions * VISIT.len() as u64);
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Numbers {
    sessions: u64,
    events: u64,
    #[serde(default)]
    steps: Vec<u64>,
}

/// What funnel has sent, over all partitions: by window and group.
fn windows(daemon: &Daemon) -> BTreeMap<(i64, String), Numbers> {
    let mut sums: BTreeMap<(i64, String), Numbers> = BTreeMap::new();
    for text in values(daemon, "funnel") {
        let window: Value = serde_json::from_str(&text).unwrap();
        let numbers: Numbers = serde_json::from_str(&text).unwrap();
        let key = (
            window["start"].as_i64().unwrap(),
            window["group"].as_str().unwrap().to_owned(),
        );
        let sum = sums.entry(key).or_default();
        sum.sessions += numbers.sessions;
        sum.events += numbers.events;
        sum.steps.resize(numbers.steps.len(), 0);
        sum.steps.iter_mut().zip(&numbers.steps).for_each(|(sum, n)| *sum += n);
    }
    sums
}

/// Rotations (legs of an aircraft with pauses of at most nine hours) by day of their end and carrier of their first leg.
fn plain_totals(flights: &[flights::Flight]) -> BTreeMap<(i64, String), Numbers> {
    let mut by_tail: BTreeMap<&str, Vec<&flights::Flight>> = BTreeMap::new();
    for flight in flights {
        if let Some(tail) = &flight.tail {
            by_tail.entry(tail).or_default().push(flight);
        }
    }
    let mut totals: BTreeMap<(i64, String), Numbers> = BTreeMap::new();
    for legs in by_tail.values_mut() {
        legs.sort_by_key(|flight| flight.at);
        for rotation in legs.chunk_by(|before, after| after.at - before.at <= flights::GAP_MS) {
            let end = rotation.last().unwrap().at;
            let numbers = totals
                .entry((end / DAY * DAY, rotation[0].carrier.clone()))
                .or_default();
            numbers.sessions += 1;
            numbers.events += rotation.len() as u64;
        }
    }
    totals
}

/// Where the flights are: January from the tree, or what `TIDEMILL_FLIGHTS` names (`cargo xtask year` brings the whole year).
fn flights_file() -> PathBuf {
    let january = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/flights-2013-01.csv.gz");
    std::env::var_os("TIDEMILL_FLIGHTS").map_or(january, PathBuf::from)
}

/// Aircraft by registration, as JSON: model, manufacturer and seats.
fn planes() -> BTreeMap<String, Value> {
    let file = std::fs::File::open(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/planes.csv.gz")).unwrap();
    let mut lines = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
    let plane = |line: BTreeMap<String, String>| {
        let facts = json!({ "model": line["model"], "manufacturer": line["manufacturer"], "seats": line["seats"] });
        (line["tailnum"].clone(), facts)
    };
    lines.deserialize().map(|line| plane(line.unwrap())).collect()
}

/// The chain: enrich puts the aircraft into each flight, sessionize makes rotations of the flights, funnel adds them up. A version is a label and
/// so many members: each upgrade is a rebalance, too.
fn deploy_chain(daemon: &Daemon, version: u32) {
    let versioned = |manifest: &mut toml::Table| {
        let module = manifest["module"].as_table_mut().unwrap();
        module.insert("version".into(), format!("1.{version}.0").into());
        module.insert("members".into(), i64::from(1 + version % 3).into());
    };
    deploy(daemon, "enrich", versioned);
    deploy(daemon, "sessionize", |manifest| {
        versioned(manifest);
        set(
            manifest,
            "config",
            &[
                ("output", "rotations"),
                ("gap-ms", "32400000"),
                ("label", "leg"),
                ("carry", "carrier, plane"),
            ],
        );
        set(manifest, "dead-letter", &[("topic", "flights.dlq")]);
        input(manifest, "flights.enriched", "2d");
        manifest["output"][0]
            .as_table_mut()
            .unwrap()
            .insert("topic".into(), "rotations".into());
    });
    deploy(daemon, "funnel", |manifest| {
        versioned(manifest);
        set(manifest, "config", &[("by", "/carrier"), ("steps", "")]);
        input(manifest, "rotations", "4d");
    });
}

pub fn set(manifest: &mut toml::Table, table: &str, values: &[(&str, &str)]) {
    let table = manifest[table].as_table_mut().unwrap();
    for (key, value) in values {
        table.insert((*key).to_owned(), (*value).into());
    }
}

pub fn input(manifest: &mut toml::Table, topic: &str, max_out_of_order: &str) {
    let input = manifest["input"][0].as_table_mut().unwrap();
    input.insert("topic".into(), topic.into());
    input.insert("max-out-of-order".into(), max_out_of_order.into());
}

#[tokio::test(flavor = "current_thread")]
async fn daily_totals_per_carrier_survive_kills_upgrades_and_rebalances() {
    let (mut flights, planes) = (flights::read(&flights_file()).unwrap(), planes());
    // Day by day; within a day they stay as they are, which is not in order of time.
    flights.sort_by_key(|flight| flight.at / DAY);
    let expected = plain_totals(&flights);
    let unkeyed = flights.iter().filter(|flight| flight.tail.is_none()).count();
    let mut random = Random(0x666c_7974);
    let mut daemon = Daemon::start();
    let topics = [
        "planes",
        "flights",
        "flights.enriched",
        "rotations",
        "flights.dlq",
        "funnel",
        "funnel.dlq",
    ];
    create(&daemon, &topics, PARTITIONS as i32);
    deploy_chain(&daemon, 0);
    let client = client(&daemon).await;
    let producer = producer(&client).await;
    for (tail, facts) in &planes {
        let record = Record::to("planes")
            .key(tail.clone())
            .value(facts.to_string())
            .timestamp(0);
        drop(producer.enqueue(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    until_built(&daemon, "enrich");
    let mut deliveries = Vec::new();
    let (mut kills, mut upgrades, piece) = (0, 0, flights.len() / 12 + 1);
    for part in flights.chunks(piece) {
        for flight in part {
            let mut record = Record::to("flights").value(flight.value.clone()).timestamp(flight.at);
            if let Some(tail) = &flight.tail {
                record = record.key(tail.clone());
            }
            deliveries.push(producer.enqueue(record).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(random.below(300))).await;
        match random.below(3) {
            0 => {
                daemon.kill();
                daemon.restart();
                kills += 1;
            }
            1 => {
                upgrades += 1;
                deploy_chain(&daemon, upgrades);
            }
            _ => {}
        }
    }
    deliveries.extend(tick(&producer, "flights", flights.last().unwrap().at + 60 * DAY).await);
    deliveries.extend(tick(&producer, "flights", flights.last().unwrap().at + 120 * DAY).await);
    producer.flush().await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let all: u64 = expected.values().map(|numbers| numbers.events).sum();
    let told = |daemon: &Daemon| windows(daemon).values().map(|numbers| numbers.events).sum::<u64>();
    let deadline = std::time::Instant::now() + PATIENCE * 5;
    while told(&daemon) < all && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut found = windows(&daemon);
    found.retain(|(_, group), _| group != "?");
    for (key, numbers) in &expected {
        assert_eq!(
            found.get(key),
            Some(numbers),
            "{key:?}\n{}",
            status(&daemon, "sessionize")
        );
    }
    assert_eq!(found.len(), expected.len());
    for text in values(&daemon, "rotations") {
        let rotation: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            rotation.get("plane"),
            planes.get(rotation["key"].as_str().unwrap()),
            "{text}"
        );
    }
    assert_eq!(values(&daemon, "flights.dlq").len(), unkeyed);
    assert_eq!(values(&daemon, "funnel.dlq").len(), 0);
    eprintln!(
        "  {} flights, {} totals of {all} legs, {kills} kills, {upgrades} upgrades of the chain",
        flights.len(),
        expected.len()
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_payment_without_shipment_is_overdue_once() {
    let mut daemon = Daemon::start();
    let topics = [
        "payments",
        "shipments",
        "orders.complete",
        "orders.overdue",
        "orders.dlq",
    ];
    create(&daemon, &topics, PARTITIONS as i32);
    deploy(&daemon, "join", |_| {});
    let client = client(&daemon).await;
    let producer = producer(&client).await;
    let mut deliveries = Vec::new();
    for n in 0..30 {
        let order = |topic: &str, at: i64| Record::to(topic).key(format!("order-{n}")).value("{}").timestamp(at);
        deliveries.push(producer.enqueue(order("payments", n * MINUTE)).await.unwrap());
        // Every third is not shipped.
        if n % 3 != 0 {
            deliveries.push(producer.enqueue(order("shipments", n * MINUTE + HOUR)).await.unwrap());
        }
        if n == 15 {
            daemon.kill();
            daemon.restart();
        }
    }
    for topic in ["payments", "shipments"] {
        deliveries.extend(tick(&producer, topic, 3 * DAY).await);
    }
    producer.flush().await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    until("ten are overdue", || values(&daemon, "orders.overdue").len() == 10);
    let ticks = PARTITIONS as usize;
    until("the others are complete", || {
        values(&daemon, "orders.complete").len() == 20 + ticks
    });
    let late = Record::to("shipments").key("order-3").value("{}").timestamp(3 * DAY);
    producer.enqueue(late).await.unwrap().await.unwrap();
    until("it completes late", || {
        values(&daemon, "orders.complete").len() == 21 + ticks
    });
    assert_eq!(values(&daemon, "orders.overdue").len(), 10, "told once");
}
