//! One node in this process, spoken to over real sockets.
#![allow(clippy::unwrap_used)]
use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tidemill::{
    Config, Node,
    config::{Address, Span},
};
use tidemill_client::{Client, ConsumerConfig, NewTopic, ProducerConfig, Record};

fn config(dir: &Path) -> Config {
    let mut config = Config {
        data_dir: dir.to_owned(),
        ..Config::default()
    };
    let free = Address(Some(([127, 0, 0, 1], 0).into()));
    (config.listen.tcp, config.listen.quic) = (free, free);
    config.tls.publish_ca = false;
    config.modules.compile_in_process = true;
    config.groups.initial_rebalance_delay = Span(10);
    config
}

async fn client(node: &Node, dir: &Path) -> Client {
    let address = node.addresses().quic.unwrap().to_string();
    Client::builder()
        .bootstrap(&address)
        .ca_file(dir.join("tls/ca.pem"))
        .connect()
        .await
        .unwrap()
}

fn tcp(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.addresses().tcp.unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

async fn values(client: &Client, topic: &str, count: usize) -> Vec<String> {
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_topic(topic).await.unwrap();
    consumer
        .handle()
        .seek_to_beginning(&consumer.handle().assignment())
        .unwrap();
    let mut seen = Vec::new();
    while seen.len() < count {
        for record in consumer.next().await.unwrap() {
            seen.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
    }
    seen
}

#[tokio::test]
async fn records_outlive_the_node_that_took_them() {
    let dir = TempDir::new().unwrap();
    let expected: Vec<String> = (0..500).map(|n| format!("value {n}")).collect();
    let node = Node::start(config(dir.path())).unwrap();
    let first = client(&node, dir.path()).await;
    first.admin().create_topic(NewTopic::new("t", 1)).await.unwrap();
    let producer = first.producer(ProducerConfig::default()).unwrap();
    for value in &expected {
        producer.enqueue(Record::to("t").value(value.clone())).await.unwrap();
    }
    producer.flush().await.unwrap();
    assert_eq!(values(&first, "t", 500).await, expected);
    // Dropped, not shut down: as near to a crash as one process allows.
    drop(node);

    let node = Node::start(config(dir.path())).unwrap();
    let second = client(&node, dir.path()).await;
    assert_eq!(values(&second, "t", 500).await, expected);
    let status = second.admin().node_status().await.unwrap();
    assert_eq!((status.topics, status.partitions), (1, 1));
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_is_asked_to_stop_does_not_wait_for_parked_requests() {
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config.shutdown.grace = Span::secs(60);
    let node = Node::start(config).unwrap();
    let client = client(&node, dir.path()).await;
    client.admin().create_topic(NewTopic::new("t", 1)).await.unwrap();
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_topic("t").await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(300), consumer.next()).await;
    assert!(waiting.is_err(), "there is nothing to read");
    let begun = Instant::now();
    node.shutdown().await;
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "stopped after {:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn one_data_directory_takes_one_node() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(config(dir.path())).unwrap();
    let Err(error) = Node::start(config(dir.path())) else {
        panic!("two nodes on one directory")
    };
    assert!(error.to_string().contains("uses the data directory"), "{error}");
    node.shutdown().await;
    Node::start(config(dir.path())).unwrap().shutdown().await;
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(config(dir.path())).unwrap();
    let mut stream = tcp(&node);
    // length 10 | api key 18 | version 99 | correlation id 7 | no client id
    stream
        .write_all(&[0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 7, 255, 255])
        .unwrap();
    let mut head = [0; 10];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(
        head[4..],
        [0, 0, 0, 7, 0, 35],
        "correlation id, then UNSUPPORTED_VERSION"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn a_stream_that_breaks_the_rules_is_closed_and_nobody_else_is() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(config(dir.path())).unwrap();
    let client = client(&node, dir.path()).await;
    let offences: [&[u8]; 4] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 4, 0x7f, 0, 0, 1],
        &[0, 0, 0, 10, 0, 3, 0, 12, 0, 0, 0, 7, 255, 255],
    ];
    for offence in offences {
        let mut stream = tcp(&node);
        stream.write_all(offence).unwrap();
        let mut rest = Vec::new();
        // Closed with or without a reset, but closed.
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"", "{offence:?}");
    }
    client.admin().create_topic(NewTopic::new("t", 1)).await.unwrap();
    node.shutdown().await;
}
