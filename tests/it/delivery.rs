//! Delivery semantics, with messages lost on purpose: what each setting of the SDK loses and repeats, and what a crash of a reader does.
use std::{collections::BTreeMap, sync::Arc};

use tidemill_client::{
    ApiKey, Client, Consumer, ConsumerConfig, Faults, LoseNth, OffsetReset, ProducerConfig, Record, TopicPartition,
};

use crate::daemon::{Daemon, PATIENCE};

const RECORDS: u32 = 40;

async fn client(daemon: &Daemon, faults: Option<Arc<dyn Faults>>) -> Client {
    let builder = Client::builder().bootstrap(&daemon.address()).ca_file(daemon.ca_file());
    let builder = match faults {
        Some(faults) => builder.faults(faults),
        None => builder,
    };
    builder.connect().await.unwrap()
}

/// Sends records one after the other, each a batch of its own; then how often each is in the log.
async fn send(daemon: &Daemon, config: ProducerConfig, faults: Arc<LoseNth>) -> BTreeMap<u32, usize> {
    daemon.run(&["topic", "create", "t", "--partitions", "1"]);
    let producer = client(daemon, Some(faults)).await.producer(config).unwrap();
    for n in 0..RECORDS {
        // An unacknowledged record is the application's business: with acks=0 nothing is ever told.
        let _ = producer.send(Record::to("t").value(n.to_string())).await;
    }
    let _ = producer.close().await;
    counts(daemon).await
}

async fn counts(daemon: &Daemon) -> BTreeMap<u32, usize> {
    let text = daemon.run(&["consume", "t", "--from", "earliest", "--until-end"]);
    let mut counts: BTreeMap<u32, usize> = (0..RECORDS).map(|n| (n, 0)).collect();
    for line in text.lines() {
        *counts.get_mut(&line.parse().unwrap()).unwrap() += 1;
    }
    counts
}

fn each_batch_alone(config: ProducerConfig) -> ProducerConfig {
    ProducerConfig {
        linger: std::time::Duration::ZERO,
        in_flight_max: 1,
        ..config
    }
}

#[tokio::test]
async fn acks_none_loses_and_never_repeats() {
    let daemon = Daemon::start();
    let faults = Arc::new(LoseNth::requests(ApiKey::Produce, [3, 7, 20]));
    let counts = send(&daemon, each_batch_alone(ProducerConfig::at_most_once()), faults).await;
    assert!(counts.values().all(|n| *n <= 1), "never twice: {counts:?}");
    assert!(counts.values().any(|n| *n == 0), "some lost: {counts:?}");
}

#[tokio::test]
async fn retries_without_idempotence_repeat_and_never_lose() {
    let daemon = Daemon::start();
    let faults = Arc::new(LoseNth::new(ApiKey::Produce, [5], [3, 7, 20]));
    let counts = send(&daemon, each_batch_alone(ProducerConfig::at_least_once()), faults).await;
    assert!(counts.values().all(|n| *n >= 1), "none lost: {counts:?}");
    assert_eq!(
        counts.values().filter(|n| **n == 2).count(),
        3,
        "repeated where the response was lost: {counts:?}"
    );
}

#[tokio::test]
async fn the_default_neither_loses_nor_repeats() {
    let daemon = Daemon::start();
    let faults = Arc::new(LoseNth::new(ApiKey::Produce, [5, 6], [3, 7, 20, 21]));
    let counts = send(&daemon, each_batch_alone(ProducerConfig::default()), faults).await;
    assert!(counts.values().all(|n| *n == 1), "{counts:?}");
}

#[tokio::test]
async fn the_default_keeps_order_with_five_batches_in_flight_over_a_restart() {
    let mut daemon = Daemon::start();
    daemon.run(&["topic", "create", "t", "--partitions", "1"]);
    let producer = client(&daemon, None).await.producer(ProducerConfig::default()).unwrap();
    let mut deliveries = Vec::new();
    for n in 0..RECORDS {
        deliveries.push(producer.enqueue(Record::to("t").value(n.to_string())).await.unwrap());
        if n % 10 == 9 {
            daemon.kill();
            daemon.restart();
        }
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let text = daemon.run(&["consume", "t", "--from", "earliest", "--until-end"]);
    assert_eq!(
        text.lines().map(|l| l.parse().unwrap()).collect::<Vec<u32>>(),
        (0..RECORDS).collect::<Vec<_>>()
    );
}

/// When a reader commits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    BeforeProcessing,
    AfterProcessing,
}

async fn reader(daemon: &Daemon) -> Consumer {
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        auto_commit: None,
        poll_records_max: 10,
        ..ConsumerConfig::group("readers")
    };
    let mut consumer = client(daemon, None).await.consumer(config).unwrap();
    consumer.assign([TopicPartition::new("t", 0)]).await.unwrap();
    consumer
}

/// Reads everything, but crashes in the middle of its second batch; how often each record was processed.
async fn read_with_a_crash(daemon: &Daemon, commit: Commit) -> BTreeMap<u32, usize> {
    let mut processed: BTreeMap<u32, usize> = (0..RECORDS).map(|n| (n, 0)).collect();
    let mut crash_at = Some(15);
    let mut consumer = reader(daemon).await;
    let mut position = 0;
    while position < i64::from(RECORDS) {
        let batch = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        if commit == Commit::BeforeProcessing {
            consumer.commit().await.unwrap();
        }
        let mut crashed = false;
        for record in batch {
            let n: u32 = String::from_utf8_lossy(record.value.as_deref().unwrap())
                .parse()
                .unwrap();
            if crash_at == Some(n) {
                crashed = true;
                break;
            }
            *processed.get_mut(&n).unwrap() += 1;
            position = record.offset + 1;
        }
        if crashed {
            // Gone without a word, as after a power cut: what it had in memory is lost.
            crash_at = None;
            drop(consumer);
            consumer = reader(daemon).await;
        } else if commit == Commit::AfterProcessing {
            consumer.commit().await.unwrap();
        }
    }
    processed
}

async fn readable(daemon: &Daemon) {
    daemon.run(&["topic", "create", "t", "--partitions", "1"]);
    let producer = client(daemon, None).await.producer(ProducerConfig::default()).unwrap();
    for n in 0..RECORDS {
        drop(producer.enqueue(Record::to("t").value(n.to_string())).await.unwrap());
    }
    producer.close().await.unwrap();
}

#[tokio::test]
async fn commit_before_processing_loses_on_a_crash() {
    let daemon = Daemon::start();
    readable(&daemon).await;
    let processed = read_with_a_crash(&daemon, Commit::BeforeProcessing).await;
    assert!(processed.values().all(|n| *n <= 1), "{processed:?}");
    assert_eq!(
        processed
            .iter()
            .filter(|(_, n)| **n == 0)
            .map(|(k, _)| *k)
            .collect::<Vec<_>>(),
        [15, 16, 17, 18, 19]
    );
}

#[tokio::test]
async fn commit_after_processing_repeats_on_a_crash() {
    let daemon = Daemon::start();
    readable(&daemon).await;
    let processed = read_with_a_crash(&daemon, Commit::AfterProcessing).await;
    assert!(processed.values().all(|n| *n >= 1), "{processed:?}");
    assert_eq!(
        processed
            .iter()
            .filter(|(_, n)| **n == 2)
            .map(|(k, _)| *k)
            .collect::<Vec<_>>(),
        [10, 11, 12, 13, 14]
    );
}
