//! Reads a topic as a member of a group, committing after processing: each record at least once. Start it twice, and the
//! two share the partitions.
//!
//! ```console
//! $ cargo run --package tidemill-client --example consume -- numbers counters
//! ```

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example that prints and takes the time"
)]

use tidemill_client::{
    Callback, Client, ConsumerConfig, ConsumerHandle, OffsetReset, RebalanceListener, TopicPartition,
};

struct Told;

impl RebalanceListener for Told {
    fn assigned<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Callback<'a> {
        Box::pin(async move { println!("+ {}", listed(partitions)) })
    }

    fn revoked<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Callback<'a> {
        Box::pin(async move { println!("- {}", listed(partitions)) })
    }
}

fn listed(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or_else(|| "numbers".to_owned());
    let group = arguments.next().unwrap_or_else(|| "counters".to_owned());

    let client = Client::builder().connect().await?;
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        auto_commit: None,
        listener: Some(std::sync::Arc::new(Told)),
        ..ConsumerConfig::group(group)
    };
    let mut consumer = client.consumer(config)?;
    consumer.subscribe([topic])?;
    let mut count = 0;
    loop {
        let batch = tokio::select! {
            batch = consumer.next() => batch?,
            _ = tokio::signal::ctrl_c() => break,
        };
        count += batch.records.len();
        println!(
            "{count} records; {} of them now, from {}",
            batch.records.len(),
            batch.partition
        );
        consumer.commit().await?;
    }
    // Leaves the group: its partitions go to the others at once.
    consumer.close().await?;
    client.close().await;
    Ok(())
}
