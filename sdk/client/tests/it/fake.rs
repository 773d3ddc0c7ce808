//! A broker of a few APIs over real QUIC on loopback: one node, partitions in memory, idempotence as Kafka checks it.
//!
//! It knows no groups and keeps nothing; stopping it drops the socket without a goodbye, as a killed process does.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tidemill_client::ErrorCode;
use tidemill_protocol::api::api_versions::{ApiVersion, ApiVersionsResponse};
use tidemill_protocol::api::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use tidemill_protocol::api::init_producer_id::InitProducerIdResponse;
use tidemill_protocol::api::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use tidemill_protocol::api::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use tidemill_protocol::api::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use tidemill_protocol::api::{ApiKey, Request, Response};
use tidemill_protocol::batch::{batches, patch};
use tidemill_protocol::ids::Uuid;
use tidemill_protocol::records::Records;

pub(crate) const PARTITIONS: i32 = 3;

/// What a partition holds: whole batches with their next offsets, and the last sequence of each producer.
#[derive(Default)]
struct Log {
    batches: Vec<(i64, i64, Vec<Bytes>)>,
    end: i64,
    sequences: BTreeMap<i64, Vec<(i32, i32, i64)>>,
}

#[derive(Default)]
pub(crate) struct Data {
    logs: BTreeMap<(String, i32), Log>,
    producers: i64,
    /// Answers to produce requests to be made with this error instead of an append, in order.
    pub(crate) refuse: Vec<ErrorCode>,
    /// How many streams were opened for produce requests.
    pub(crate) produce_streams: usize,
}

impl Data {
    /// The values of a partition, in order.
    pub(crate) fn values(&self, topic: &str, partition: i32) -> Vec<String> {
        let Some(log) = self.logs.get(&(topic.to_owned(), partition)) else {
            return Vec::new();
        };
        let mut values = Vec::new();
        for (_, _, bytes) in &log.batches {
            let records: Records = bytes.iter().cloned().collect();
            for batch in batches(&records) {
                let payload = batch.unwrap().payload(1 << 24).unwrap();
                for record in payload.records() {
                    values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
                }
            }
        }
        values
    }

    fn append(&mut self, topic: &str, partition: i32, records: &Records) -> Result<i64, ErrorCode> {
        if !self.refuse.is_empty() {
            return Err(self.refuse.remove(0));
        }
        let batch = batches(records).next().unwrap().map_err(|e| e.error_code())?;
        let header = *batch.header();
        let log = self.logs.entry((topic.to_owned(), partition)).or_default();
        if 0 <= header.producer_id {
            let known = log.sequences.entry(header.producer_id).or_default();
            let last = header.last_sequence().unwrap();
            if let Some((_, _, offset)) = known.iter().find(|(f, l, _)| *f == header.base_sequence && *l == last) {
                return Ok(*offset);
            }
            let expected = known.last().map_or(0, |(_, last, _)| last.wrapping_add(1) & i32::MAX);
            if header.base_sequence != expected {
                return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
            known.push((header.base_sequence, last, log.end));
            if 5 < known.len() {
                known.remove(0);
            }
        }
        let base = log.end;
        log.end += i64::from(header.record_count);
        log.batches
            .push((base, log.end, patch(&records.to_bytes(), base, 0).unwrap().to_vec()));
        Ok(base)
    }
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
    pub(crate) data: Arc<Mutex<Data>>,
    key: Vec<u8>,
    certificate: Vec<u8>,
    endpoint: Option<quinn::Endpoint>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Fake {
    pub(crate) fn start() -> Fake {
        let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let mut fake = Fake {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            ca: certified.cert.pem(),
            data: Arc::default(),
            key: certified.signing_key.serialize_der(),
            certificate: certified.cert.der().to_vec(),
            endpoint: None,
            runtime: None,
        };
        fake.listen();
        fake
    }

    /// Listens, on the same port as before if there was one.
    pub(crate) fn listen(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone().into()], key)
            .unwrap();
        tls.alpn_protocols = vec![b"kafka".to_vec()];
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let socket = UdpSocket::bind(self.address).unwrap();
        self.address = socket.local_addr().unwrap();
        let endpoint = quinn::Endpoint::new(
            quinn::EndpointConfig::default(),
            Some(config),
            socket,
            Arc::new(quinn::TokioRuntime),
        )
        .unwrap();
        runtime.spawn(accept(endpoint.clone(), self.data.clone(), self.address));
        self.endpoint = Some(endpoint);
        drop(_inside);
        self.runtime = Some(runtime);
    }

    /// Goes without a word.
    pub(crate) fn kill(&mut self) {
        self.endpoint = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn values(&self, topic: &str, partition: i32) -> Vec<String> {
        self.data.lock().unwrap().values(topic, partition)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(endpoint: quinn::Endpoint, data: Arc<Mutex<Data>>, address: SocketAddr) {
    while let Some(incoming) = endpoint.accept().await {
        let data = data.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((send, receive)) = connection.accept_bi().await {
                tokio::spawn(serve(send, receive, data.clone(), address));
            }
        });
    }
}

async fn serve(
    mut send: quinn::SendStream,
    mut receive: quinn::RecvStream,
    data: Arc<Mutex<Data>>,
    address: SocketAddr,
) {
    let mut is_produce = false;
    loop {
        let mut length = [0; 4];
        if receive.read_exact(&mut length).await.is_err() {
            return;
        }
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        if receive.read_exact(&mut frame).await.is_err() {
            return;
        }
        let (header, request) = Request::decode_frame(Bytes::from(frame)).unwrap();
        let is_silent = matches!(&request, Request::Produce(produce) if produce.acks == 0);
        if matches!(request, Request::Produce(_)) && !is_produce {
            is_produce = true;
            data.lock().unwrap().produce_streams += 1;
        }
        let response = loop {
            let response = answer(&request, &data, address);
            match (&request, &response) {
                // A long poll, in the simplest way.
                (Request::Fetch(_), Response::Fetch(fetched)) if is_empty(fetched) => {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                _ => break response,
            }
        };
        if is_silent {
            continue;
        }
        let mut chunks = response
            .encode_frame(header.api_version, header.correlation_id)
            .unwrap();
        if send.write_all_chunks(&mut chunks).await.is_err() {
            return;
        }
    }
}

fn is_empty(fetched: &FetchResponse) -> bool {
    fetched
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .all(|partition| partition.records.is_none())
}

fn answer(request: &Request, data: &Mutex<Data>, address: SocketAddr) -> Response {
    let mut data = data.lock().unwrap();
    match request {
        Request::ApiVersions(_) => api_versions().into(),
        Request::Metadata(request) => metadata(request, address).into(),
        Request::InitProducerId(_) => {
            data.producers += 1;
            InitProducerIdResponse {
                producer_id: data.producers,
                producer_epoch: 0,
                ..Default::default()
            }
            .into()
        }
        Request::Produce(request) => produce(request, &mut data).into(),
        Request::ListOffsets(request) => list_offsets(request, &data).into(),
        Request::Fetch(request) => fetch(request, &data).into(),
        other => panic!("{:?} is not served", other.key()),
    }
}

fn api_versions() -> ApiVersionsResponse {
    let served = [
        ApiKey::ApiVersions,
        ApiKey::Metadata,
        ApiKey::InitProducerId,
        ApiKey::Produce,
        ApiKey::ListOffsets,
        ApiKey::Fetch,
    ];
    let versions = served.map(|key| ApiVersion {
        api_key: key.number(),
        min_version: *key.versions().start(),
        max_version: *key.versions().end(),
    });
    ApiVersionsResponse {
        api_keys: versions.to_vec(),
        ..Default::default()
    }
}

fn metadata(request: &MetadataRequest, address: SocketAddr) -> MetadataResponse {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        ..Default::default()
    };
    let topics = request.topics.iter().flatten().map(|topic| MetadataResponseTopic {
        name: topic.name.clone(),
        topic_id: id_of(topic.name.as_deref().unwrap_or_default()),
        partitions: (0..PARTITIONS).map(partition).collect(),
        ..Default::default()
    });
    let broker = MetadataResponseBroker {
        node_id: 1,
        host: address.ip().to_string(),
        port: i32::from(address.port()),
        ..Default::default()
    };
    MetadataResponse {
        brokers: vec![broker],
        controller_id: 1,
        topics: topics.collect(),
        ..Default::default()
    }
}

fn id_of(name: &str) -> Uuid {
    let mut id = [0; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    Uuid(id)
}

fn name_of(id: Uuid) -> String {
    String::from_utf8(id.0.into_iter().take_while(|byte| *byte != 0).collect()).unwrap()
}

fn produce(request: &ProduceRequest, data: &mut Data) -> ProduceResponse {
    let responses = request.topic_data.iter().map(|topic| TopicProduceResponse {
        name: topic.name.clone(),
        partition_responses: topic
            .partition_data
            .iter()
            .map(|partition| {
                let appended = data.append(&topic.name, partition.index, partition.records.as_ref().unwrap());
                PartitionProduceResponse {
                    index: partition.index,
                    error_code: appended.err().unwrap_or(ErrorCode::NONE),
                    base_offset: appended.unwrap_or(-1),
                    ..Default::default()
                }
            })
            .collect(),
    });
    ProduceResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

fn list_offsets(request: &ListOffsetsRequest, data: &Data) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| {
                let log = data.logs.get(&(topic.name.clone(), partition.partition_index));
                let offset = if partition.timestamp == -1 {
                    log.map_or(0, |log| log.end)
                } else {
                    0
                };
                ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    offset,
                    ..Default::default()
                }
            })
            .collect(),
    });
    ListOffsetsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn fetch(request: &FetchRequest, data: &Data) -> FetchResponse {
    let responses = request.topics.iter().map(|topic| FetchableTopicResponse {
        topic_id: topic.topic_id,
        topic: topic.topic.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| {
                let empty = Log::default();
                let log = data
                    .logs
                    .get(&(name_of(topic.topic_id), partition.partition))
                    .unwrap_or(&empty);
                // One batch at a time, whole, also when the offset lies inside it.
                let batch = log.batches.iter().find(|(_, next, _)| partition.fetch_offset < *next);
                PartitionData {
                    partition_index: partition.partition,
                    high_watermark: log.end,
                    log_start_offset: 0,
                    records: batch.map(|(_, _, bytes)| bytes.iter().cloned().collect()),
                    ..Default::default()
                }
            })
            .collect(),
    });
    FetchResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}
