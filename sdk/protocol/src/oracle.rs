//! Every message against an implementation that we did not write: the crate kafka-protocol.
//!
//! What we write it must read, and write again as the same bytes; what it writes we must read as what we meant.
#![allow(clippy::unwrap_used)]

use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{self as theirs, RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, Message, StrBytes},
};

use crate::{
    api::{ApiKey, Request, Response},
    arbitrary::Chance,
    codec::{self, Form, Put, Sink},
    records::Records,
};

/// Messages made up for each API and version.
const ROUNDS: u32 = 60;

struct Body<'a, T>(&'a T, Form);

impl Put for Body<'_, Request> {
    fn put(&self, to: &mut impl Sink) {
        self.0.encode_body(to, self.1);
    }
}

impl Put for Body<'_, Response> {
    fn put(&self, to: &mut impl Sink) {
        self.0.encode_body(to, self.1);
    }
}

fn bytes_of(what: &impl Put) -> Bytes {
    codec::to_rope(what)
        .unwrap()
        .into_iter()
        .collect::<Records>()
        .to_bytes()
}

/// What the oracle writes when nothing was said.
fn default_of<T: Default + Encodable>(version: i16) -> Bytes {
    let mut written = BytesMut::new();
    T::default().encode(&mut written, version).unwrap();
    written.freeze()
}

/// What the oracle makes of our bytes.
fn through<T: Decodable + Encodable + Message>(ours: &Bytes, version: i16) -> Bytes {
    let mut rest = ours.clone();
    let value = T::decode(&mut rest, version).unwrap();
    assert!(rest.is_empty(), "the oracle left {} bytes", rest.len());
    let mut written = BytesMut::new();
    value.encode(&mut written, version).unwrap();
    written.freeze()
}

fn knows<T: Message>(version: i16) -> bool {
    (T::VERSIONS.min..=T::VERSIONS.max).contains(&version)
}

fn compare_requests<T: Decodable + Encodable + Message + Default>(key: ApiKey, chance: &mut Chance) -> Vec<i16> {
    let versions: Vec<_> = key.versions().filter(|&version| knows::<T>(version)).collect();
    for &version in &versions {
        let default = bytes_of(&Body(&Request::default_of(key), key.form(version)));
        assert_eq!(
            default,
            default_of::<T>(version),
            "default of {key:?} request version {version}"
        );
        for _ in 0..ROUNDS {
            let request = Request::arbitrary(key, chance, version);
            let ours = bytes_of(&Body(&request, key.form(version)));
            let written = through::<T>(&ours, version);
            assert_eq!(written, ours, "{request:?} version {version}");
            let mut reader = codec::Reader::new(written);
            assert_eq!(Request::decode_body(key, &mut reader, key.form(version)), Ok(request));
            assert_eq!(reader.remaining(), 0);
        }
    }
    versions
}

fn compare_responses<T: Decodable + Encodable + Message + Default>(key: ApiKey, chance: &mut Chance) -> Vec<i16> {
    let versions: Vec<_> = key.versions().filter(|&version| knows::<T>(version)).collect();
    for &version in &versions {
        let default = bytes_of(&Body(&Response::default_of(key), key.form(version)));
        assert_eq!(
            default,
            default_of::<T>(version),
            "default of {key:?} response version {version}"
        );
        for _ in 0..ROUNDS {
            let response = Response::arbitrary(key, chance, version);
            let ours = bytes_of(&Body(&response, key.form(version)));
            let written = through::<T>(&ours, version);
            assert_eq!(written, ours, "{response:?} version {version}");
            let mut reader = codec::Reader::new(written);
            assert_eq!(Response::decode_body(key, &mut reader, key.form(version)), Ok(response));
            assert_eq!(reader.remaining(), 0);
        }
    }
    versions
}

macro_rules! compare {
    ($($name:ident: $request:ident, $response:ident),* $(,)?) => {
        /// APIs that are compared.
        const COMPARED: &[ApiKey] = &[$(ApiKey::$name),*];

        fn compare(key: ApiKey, chance: &mut Chance) -> (Vec<i16>, Vec<i16>) {
            match key {
                $(
                    ApiKey::$name => (
                        compare_requests::<theirs::$request>(key, chance),
                        compare_responses::<theirs::$response>(key, chance),
                    ),
                )*
            }
        }
    };
}

compare! {
    Produce: ProduceRequest, ProduceResponse,
    Fetch: FetchRequest, FetchResponse,
    ListOffsets: ListOffsetsRequest, ListOffsetsResponse,
    Metadata: MetadataRequest, MetadataResponse,
    OffsetCommit: OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetch: OffsetFetchRequest, OffsetFetchResponse,
    FindCoordinator: FindCoordinatorRequest, FindCoordinatorResponse,
    JoinGroup: JoinGroupRequest, JoinGroupResponse,
    Heartbeat: HeartbeatRequest, HeartbeatResponse,
    LeaveGroup: LeaveGroupRequest, LeaveGroupResponse,
    SyncGroup: SyncGroupRequest, SyncGroupResponse,
    DescribeGroups: DescribeGroupsRequest, DescribeGroupsResponse,
    ListGroups: ListGroupsRequest, ListGroupsResponse,
    ApiVersions: ApiVersionsRequest, ApiVersionsResponse,
    CreateTopics: CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopics: DeleteTopicsRequest, DeleteTopicsResponse,
    DeleteRecords: DeleteRecordsRequest, DeleteRecordsResponse,
    InitProducerId: InitProducerIdRequest, InitProducerIdResponse,
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    DescribeConfigs: DescribeConfigsRequest, DescribeConfigsResponse,
    AlterConfigs: AlterConfigsRequest, AlterConfigsResponse,
    CreatePartitions: CreatePartitionsRequest, CreatePartitionsResponse,
    DeleteGroups: DeleteGroupsRequest, DeleteGroupsResponse,
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    OffsetDelete: OffsetDeleteRequest, OffsetDeleteResponse,
    DescribeCluster: DescribeClusterRequest, DescribeClusterResponse,
    ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    ConsumerGroupDescribe: ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
}

#[test]
fn every_message_is_what_the_oracle_reads_and_writes() {
    assert_eq!(COMPARED, ApiKey::ALL);
    let mut chance = Chance(4);
    for &key in COMPARED {
        let (requests, responses) = compare(key, &mut chance);
        let all: Vec<_> = key.versions().collect();
        assert_eq!(
            (&requests, &responses),
            (&all, &all),
            "the oracle lacks versions of {key:?}"
        );
    }
}

#[test]
fn every_header_is_what_the_oracle_reads_and_writes() {
    let mut chance = Chance(5);
    for &key in ApiKey::ALL {
        let their_key = theirs::ApiKey::try_from(key.number()).unwrap();
        for version in key.versions() {
            let request = Request::arbitrary(key, &mut chance, version);
            let frame: Records = request
                .encode_frame(version, 99, Some("client"))
                .unwrap()
                .into_iter()
                .collect();
            let mut frame = frame.to_bytes().slice(4..);
            let header = RequestHeader::decode(&mut frame, their_key.request_header_version(version)).unwrap();
            let expected = RequestHeader::default()
                .with_request_api_key(key.number())
                .with_request_api_version(version)
                .with_correlation_id(99)
                .with_client_id(Some(StrBytes::from_static_str("client")));
            assert_eq!(header, expected);
            assert_eq!(frame, bytes_of(&Body(&request, key.form(version))));

            let response = Response::arbitrary(key, &mut chance, version);
            let frame: Records = response.encode_frame(version, 99).unwrap().into_iter().collect();
            let mut frame = frame.to_bytes().slice(4..);
            let header = ResponseHeader::decode(&mut frame, their_key.response_header_version(version)).unwrap();
            assert_eq!(header, ResponseHeader::default().with_correlation_id(99));
            assert_eq!(frame, bytes_of(&Body(&response, key.form(version))));
        }
    }
}
