//! The demo, `cargo xtask demo`: a month of real flights through a Wasm module, with a kill -9 in the middle.
//!
//! A daemon starts on a fresh directory; flights keyed by aircraft are produced over QUIC; the module turns them into rotations; in the
//! middle the daemon is killed and started again; in the end the rotations are compared with a plain computation of the same thing.
#![allow(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a program of one crate that talks to a person"
)]

mod daemon;
mod flights;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tidemill_client::{
    Admin, Client, ConsumerConfig, NewTopic, OffsetReset, Producer, ProducerConfig, Record, TopicPartition,
};

use crate::{
    daemon::Daemon,
    flights::{Expected, Flight, Rotation},
};

type Error = Box<dyn std::error::Error>;

const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let keep = std::env::args().any(|arg| arg == "--keep");
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the project")
        .to_path_buf();
    let flights = flights::read(&root.join("tests/data/flights-2013-01.csv.gz"))?;
    let expected = flights::compute(&flights);
    println!(
        "{} flights left New York in January 2013; a plain computation makes {} rotations of them.\n",
        flights.len(),
        expected.rotations.len()
    );

    let mut daemon = Daemon::start()?;
    println!(
        "1. A daemon on a fresh directory: {} (ready after {:.0?})",
        daemon.address, daemon.startup
    );
    let client = daemon.client().await?;
    let admin = client.admin();
    for topic in ["flights", "rotations", "flights.dlq"] {
        admin.create_topic(NewTopic::new(topic, PARTITIONS)).await?;
    }
    let started = Instant::now();
    daemon.deploy(&root.join("tests/demo/module.toml"))?;
    println!(
        "2. Topics made, the module `rotations` deployed and running ({:.0?})",
        started.elapsed()
    );

    let producer = client.producer(ProducerConfig::default())?;
    let half = flights.len() / 2;
    let bar = ProgressBar::new(flights.len() as u64).with_style(style());
    println!("3. Producing over QUIC, keyed by aircraft; kill -9 at a half");
    let started = Instant::now();
    let first = produce(&producer, &flights[..half], &bar).await?;
    // Not flushed: batches are on their way, the module is in the middle of some, and nobody is warned.
    daemon.kill()?;
    bar.suspend(|| println!("   SIGKILL at record {half}"));
    let recovery = daemon.restart()?;
    bar.suspend(|| println!("   serving again {recovery:.0?} after it was started"));
    let second = produce(&producer, &flights[half..], &bar).await?;
    let ends = finish_rotations(&producer, &flights).await?;
    producer.flush().await?;
    let acknowledged = first.into_iter().chain(second);
    for delivery in acknowledged.chain(ends) {
        delivery.await?;
    }
    bar.finish_and_clear();
    let took = started.elapsed();
    #[allow(clippy::cast_precision_loss, reason = "a rate for a person")]
    let rate = flights.len() as f64 / took.as_secs_f64();
    println!("   all acknowledged in {took:.2?}, the crash included: {rate:.0} records/s, each on stable storage");

    let found = consume(&client, "rotations", expected.rotations.len()).await?;
    let dead = consume(&client, "flights.dlq", expected.dead_letters).await?;
    println!("4. Read {} rotations and {} dead letters\n", found.len(), dead.len());
    verdict(&flights, &expected, &found, dead.len(), &admin).await?;
    client.close().await;
    farewell(daemon, keep)
}

type Deliveries = Vec<tidemill_client::Delivery>;

async fn produce(producer: &Producer, flights: &[Flight], bar: &ProgressBar) -> Result<Deliveries, Error> {
    let mut deliveries = Vec::with_capacity(flights.len());
    for flight in flights {
        let mut record = Record::to("flights").value(flight.value.clone()).timestamp(flight.at);
        if let Some(tail) = &flight.tail {
            record = record.key(tail.clone());
        }
        deliveries.push(producer.enqueue(record).await?);
        bar.inc(1);
    }
    Ok(deliveries)
}

/// A tombstone ends an aircraft's last rotation.
async fn finish_rotations(producer: &Producer, flights: &[Flight]) -> Result<Deliveries, Error> {
    let tails: BTreeSet<&str> = flights.iter().filter_map(|flight| flight.tail.as_deref()).collect();
    let mut deliveries = Vec::with_capacity(tails.len());
    for tail in tails {
        deliveries.push(producer.enqueue(Record::to("flights").key(tail.to_owned())).await?);
    }
    Ok(deliveries)
}

/// Reads a topic from its beginning until `wanted` values are there, and a little longer: one too many would be a fault, too.
async fn consume(client: &Client, topic: &str, wanted: usize) -> Result<Vec<Vec<u8>>, Error> {
    const QUIET: Duration = Duration::from_secs(1);
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config)?;
    let partitions = (0..PARTITIONS).map(|p| TopicPartition::new(topic, p));
    consumer.assign(partitions).await?;
    let (mut values, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while Instant::now() < deadline {
        match tokio::time::timeout(QUIET, consumer.next()).await {
            Ok(batch) => values.extend(batch?.into_iter().map(|r| r.value.unwrap_or_default().to_vec())),
            Err(_) if values.len() >= wanted => break,
            Err(_) => {}
        }
    }
    consumer.close().await?;
    Ok(values)
}

async fn verdict(
    flights: &[Flight],
    expected: &Expected,
    found: &[Vec<u8>],
    dead: usize,
    admin: &Admin,
) -> Result<(), Error> {
    let mut rotations = found
        .iter()
        .map(|v| serde_json::from_slice(v))
        .collect::<Result<Vec<Rotation>, _>>()?;
    let mut wanted = expected.rotations.clone();
    rotations.sort();
    wanted.sort();
    for rotation in rotations.iter().filter(|r| r.count > 3).take(3) {
        println!("   {}: {}", rotation.key, rotation.events.join(", "));
    }
    let legs: u64 = rotations.iter().map(|r| r.count).sum();
    println!(
        "\n   {} flights = {legs} legs in {} rotations + {dead} dead letters (no aircraft, or late)",
        flights.len(),
        rotations.len()
    );
    if rotations != wanted || dead != expected.dead_letters {
        let status = admin.module_status("rotations").await?;
        return Err(format!(
            "VERDICT: they differ from the plain computation ({} rotations, {} dead letters)\n{status:#?}",
            wanted.len(),
            expected.dead_letters
        )
        .into());
    }
    println!("   VERDICT: equal to the plain computation, record by record. Nothing lost, nothing twice.");
    Ok(())
}

fn farewell(mut daemon: Daemon, keep: bool) -> Result<(), Error> {
    println!("\nTry next:");
    if keep {
        println!("   the daemon still runs; point the command line at it:");
        println!("   export {}", daemon.exports());
        println!("   tidemill module status rotations");
        println!("   tidemill consume rotations --from earliest --until-end | head");
        println!("   kcat -b {} -L", daemon.address);
        println!("   kill {}    # drains and exits", daemon.leave());
    } else {
        daemon.terminate()?;
        println!("   cargo xtask demo --keep      leaves the daemon running, to look around with `tidemill` and kcat");
        println!("   guest-examples/              modules to start from");
        println!("   target/release/tidemill serve");
    }
    Ok(())
}

fn style() -> ProgressStyle {
    let template = "   {bar:40} {pos}/{len} records, {per_sec}, {elapsed}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
