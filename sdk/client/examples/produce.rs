//! Writes numbered records to a topic and tells where they went.
//!
//! ```console
//! $ tidemill serve &
//! $ cargo run --package tidemill-client --example produce -- numbers 100000
//! ```

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example that prints and takes the time"
)]

use std::time::Instant;

use tidemill_client::{Client, ProducerConfig, Record};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or_else(|| "numbers".to_owned());
    let count: u64 = arguments.next().map_or(Ok(100_000), |count| count.parse())?;

    let client = Client::builder().connect().await?;
    let producer = client.producer(ProducerConfig::default())?;
    let started = Instant::now();
    let mut last = None;
    for n in 0..count {
        // Waits while the buffer is full; the acknowledgement comes later.
        let record = Record::to(topic.as_str())
            .key(format!("key-{}", n % 1000))
            .value(n.to_string());
        last = Some(producer.enqueue(record).await?);
    }
    // Everything is stored, or this says what is not.
    producer.flush().await?;
    let rate = count as f64 / started.elapsed().as_secs_f64();
    println!("{count} records stored, {rate:.0} a second");
    if let Some(last) = last {
        let place = last.await?;
        println!(
            "the last is in partition {} at offset {:?}",
            place.partition, place.offset
        );
    }
    producer.close().await?;
    client.close().await;
    Ok(())
}
