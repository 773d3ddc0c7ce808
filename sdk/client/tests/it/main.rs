//! The client against a broker of a few APIs, over real QUIC.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod fake;

use std::sync::Arc;
use std::time::Duration;

use fake::{Fake, PARTITIONS};
use tidemill_client::{
    ApiKey, Client, ClientBuilder, Compression, ConsumerConfig, Error, ErrorCode, LoseNth, OffsetReset, Producer,
    ProducerConfig, Record, TopicPartition,
};

fn builder(fake: &Fake) -> ClientBuilder {
    Client::builder()
        .bootstrap(&fake.address.to_string())
        .ca_pem(fake.ca.clone())
        .seed(1)
}

/// Small batches, so that there are several in flight.
fn small(config: ProducerConfig) -> ProducerConfig {
    ProducerConfig {
        batch_bytes_max: 1024,
        linger: Duration::ZERO,
        ..config
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{n:06}")).collect()
}

/// Sends to partition 0 and waits for every acknowledgement.
async fn produce(producer: &Producer, values: &[String]) -> Vec<tidemill_client::Result<Option<i64>>> {
    let mut deliveries = Vec::new();
    for value in values {
        deliveries.push(
            producer
                .enqueue(Record::to("t").partition(0).value(value.clone()))
                .await
                .unwrap(),
        );
    }
    // Failures are looked at record by record.
    let _ = producer.flush().await;
    let mut results = Vec::new();
    for delivery in deliveries {
        results.push(delivery.await.map(|metadata| metadata.offset));
    }
    results
}

#[tokio::test]
async fn records_are_acknowledged_with_their_offsets_and_read_back() {
    let fake = Fake::start();
    let client = builder(&fake).connect().await.unwrap();
    let values = numbers(5000);
    for compression in [Compression::None, Compression::Zstd] {
        let producer = client
            .producer(ProducerConfig {
                compression,
                ..ProducerConfig::default()
            })
            .unwrap();
        let results = produce(&producer, &values).await;
        assert!(results.iter().all(Result::is_ok));
        producer.close().await.unwrap();
    }
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config).unwrap();
    consumer.assign([TopicPartition::new("t", 0)]).await.unwrap();
    let mut offsets = Vec::new();
    while offsets.len() < 10_000 {
        let batch = consumer.next().await.unwrap();
        assert!(batch.records.len() <= 1000);
        offsets.extend(batch.into_iter().map(|record| record.offset));
    }
    assert_eq!(offsets, (0..10_000).collect::<Vec<i64>>());
    consumer.seek(&TopicPartition::new("t", 0), 777).unwrap();
    assert_eq!(consumer.next().await.unwrap().records[0].offset, 777);
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn each_partition_produced_to_has_one_stream() {
    let fake = Fake::start();
    let client = builder(&fake).connect().await.unwrap();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for n in 0..300 {
        producer
            .send(Record::to("t").partition(n % PARTITIONS).value("v"))
            .await
            .unwrap();
    }
    assert_eq!(fake.data.lock().unwrap().produce_streams, 3);
}

#[tokio::test]
async fn a_lost_response_repeats_nothing_with_idempotence_and_something_without() {
    for (config, is_exact) in [
        (ProducerConfig::exactly_once(), true),
        (ProducerConfig::at_least_once(), false),
    ] {
        let fake = Fake::start();
        let faults = Arc::new(LoseNth::responses(ApiKey::Produce, [2, 5, 6]));
        let client = builder(&fake).faults(faults.clone()).connect().await.unwrap();
        let producer = client.producer(small(config)).unwrap();
        let values = numbers(600);
        assert!(produce(&producer, &values).await.iter().all(Result::is_ok));
        let stored = fake.values("t", 0);
        let mut once = stored.clone();
        once.dedup();
        once.sort();
        once.dedup();
        assert_eq!(once, values, "nothing is lost");
        assert_eq!(stored == values, is_exact);
        assert!(6 <= faults.seen().1);
    }
}

#[tokio::test]
async fn a_lost_request_without_acknowledgements_is_lost_and_nothing_repeats() {
    let fake = Fake::start();
    let faults = Arc::new(LoseNth::requests(ApiKey::Produce, [3]));
    let client = builder(&fake).faults(faults).connect().await.unwrap();
    let producer = client.producer(small(ProducerConfig::at_most_once())).unwrap();
    let values = numbers(600);
    produce(&producer, &values).await;
    // A record that is known to be lost is told of.
    let _ = producer.close().await;
    // A request without an answer may still be on its way when the producer is closed.
    let last = values.last().cloned();
    wait_until(|| fake.values("t", 0).last().cloned() == last).await;
    let stored = fake.values("t", 0);
    assert!(
        stored.len() < values.len(),
        "{} of {} arrived",
        stored.len(),
        values.len()
    );
    assert!(stored.is_sorted_by(|a, b| a < b), "in order and none twice");
}

async fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the condition was not met in time"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_refused_batch_fails_alone_and_a_passing_error_fails_none() {
    let fake = Fake::start();
    let client = builder(&fake).connect().await.unwrap();
    let producer = client.producer(small(ProducerConfig::default())).unwrap();
    let values = numbers(600);
    fake.data.lock().unwrap().refuse = vec![ErrorCode::KAFKA_STORAGE_ERROR];
    assert!(produce(&producer, &values[..300]).await.iter().all(Result::is_ok));
    assert_eq!(fake.values("t", 0), values[..300]);
    fake.data.lock().unwrap().refuse = vec![ErrorCode::INVALID_RECORD];
    let results = produce(&producer, &values[300..]).await;
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert!(0 < failed && failed < 100, "{failed} failed");
    let first = results.iter().find_map(|result| result.as_ref().err()).unwrap();
    assert_eq!(first.code(), Some(ErrorCode::INVALID_RECORD));
    assert!(!first.is_retriable() && first.has_no_side_effects());
    let mut expected = values[..300].to_vec();
    expected.extend(
        values[300..]
            .iter()
            .zip(&results)
            .filter(|(_, result)| result.is_ok())
            .map(|(value, _)| value.clone()),
    );
    assert_eq!(fake.values("t", 0), expected);
}

#[tokio::test]
async fn a_killed_broker_is_found_again_and_nothing_is_lost_or_repeated() {
    let mut fake = Fake::start();
    let client = builder(&fake).connect().await.unwrap();
    let producer = Arc::new(client.producer(small(ProducerConfig::default())).unwrap());
    let values = numbers(2000);
    assert!(produce(&producer, &values[..1000]).await.iter().all(Result::is_ok));
    fake.kill();
    let (rest, sender) = (values[1000..].to_vec(), producer.clone());
    let sending = tokio::spawn(async move { produce(&sender, &rest).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    fake.listen();
    let started = tokio::time::Instant::now();
    assert!(sending.await.unwrap().iter().all(Result::is_ok));
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "found again after {:?}",
        started.elapsed()
    );
    assert_eq!(fake.values("t", 0), values);
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let mut fake = Fake::start();
    fake.kill();
    let started = tokio::time::Instant::now();
    let error = loop {
        // The socket closes a moment after the kill.
        match builder(&fake).connect_timeout(Duration::from_secs(3)).connect().await {
            Err(error) => break error,
            Ok(client) => drop(client),
        }
    };
    assert!(
        matches!(&error, Error::Unreachable { reason, .. } if reason.contains("refused")),
        "{error}"
    );
    assert!(error.is_retriable() && error.has_no_side_effects());
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_full_buffer_waits_and_goes_on() {
    let fake = Fake::start();
    let client = builder(&fake).connect().await.unwrap();
    let config = ProducerConfig {
        batch_bytes_max: 1024,
        buffer_bytes_max: 4096,
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).unwrap();
    let deliveries: Vec<_> = (0..500)
        .map(|n| producer.send(Record::to("t").partition(0).value(format!("{n:03}"))))
        .collect();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_eq!(fake.values("t", 0).len(), 500);
    let too_large = producer.send(Record::to("t").value(vec![0; 5000])).await;
    assert!(matches!(too_large, Err(Error::RecordTooLarge { .. })));
}

#[tokio::test]
async fn partitions_are_read_in_turn() {
    let fake = Fake::start();
    let client = builder(&fake).connect().await.unwrap();
    let producer = client.producer(small(ProducerConfig::default())).unwrap();
    for n in 0..3000 {
        producer
            .enqueue(Record::to("t").partition(n % PARTITIONS).value("value of some length"))
            .await
            .unwrap();
    }
    producer.close().await.unwrap();
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config).unwrap();
    consumer.assign_topic("t").await.unwrap();
    let mut counts = [0usize; 3];
    while counts.iter().sum::<usize>() < 3000 {
        let batch = consumer.next().await.unwrap();
        counts[usize::try_from(batch.partition.partition).unwrap()] += batch.records.len();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 400, "one partition runs ahead: {counts:?}");
    }
    assert_eq!(counts, [1000; 3]);
}
