//! Every served API: its key, versions and messages.
//!
//! One file per API holds its request and response, fielded as in Kafka's message specifications and trimmed to the versions served here.
//! This file is the table of them, and what is generic over them. What a broker advertises is [`ADVERTISED`].

use core::ops::RangeInclusive;

use crate::codec::{DecodeError, Form, Reader, Sink, Value};

pub mod alter_configs;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;

macro_rules! apis {
    (
        $(
            $(#[$doc:meta])*
            $name:ident = $key:literal: $module:ident::{$request:ident, $response:ident},
            versions $versions:expr $(, flexible $flexible:expr)?;
        )*
    ) => {
        /// Which API a request is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($(#[$doc])* $name = $key,)*
        }

        impl ApiKey {
            /// Every API of this table, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The API with this number, if it is in the table.
            pub fn from_number(number: i16) -> Option<Self> {
                match number {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Versions that can be encoded and decoded.
            pub fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $versions,)*
                }
            }

            /// Whether a version has compact lengths and tagged fields (KIP-482).
            pub fn is_flexible(self, version: i16) -> bool {
                match self {
                    $(Self::$name => false $(|| ($flexible).contains(&version))?,)*
                }
            }
        }

        /// A request to any API.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $($(#[$doc])* $name($module::$request),)*
        }

        impl Request {
            /// Which API it is for.
            pub fn key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            pub(crate) fn encode_body(&self, to: &mut impl Sink, form: Form) {
                match self {
                    $(Self::$name(body) => body.encode(to, form),)*
                }
            }

            pub(crate) fn decode_body(key: ApiKey, from: &mut Reader, form: Form) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$name => $module::$request::decode(from, form).map(Self::$name),)*
                }
            }

            #[cfg(test)]
            pub(crate) fn default_of(key: ApiKey) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name(Default::default()),)*
                }
            }

            #[cfg(test)]
            pub(crate) fn arbitrary(key: ApiKey, chance: &mut crate::arbitrary::Chance, version: i16) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name(Value::arbitrary(chance, key.form(version))),)*
                }
            }
        }

        /// A response of any API.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response {
            $($(#[$doc])* $name($module::$response),)*
        }

        impl Response {
            /// Which API it is from.
            pub fn key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            pub(crate) fn encode_body(&self, to: &mut impl Sink, form: Form) {
                match self {
                    $(Self::$name(body) => body.encode(to, form),)*
                }
            }

            pub(crate) fn decode_body(key: ApiKey, from: &mut Reader, form: Form) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$name => $module::$response::decode(from, form).map(Self::$name),)*
                }
            }

            #[cfg(test)]
            pub(crate) fn default_of(key: ApiKey) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name(Default::default()),)*
                }
            }

            #[cfg(test)]
            pub(crate) fn arbitrary(key: ApiKey, chance: &mut crate::arbitrary::Chance, version: i16) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name(Value::arbitrary(chance, key.form(version))),)*
                }
            }
        }

        $(
            impl Call for $module::$request {
                const KEY: ApiKey = ApiKey::$name;
                type Response = $module::$response;
            }

            impl From<$module::$request> for Request {
                fn from(body: $module::$request) -> Self {
                    Self::$name(body)
                }
            }

            impl From<$module::$response> for Response {
                fn from(body: $module::$response) -> Self {
                    Self::$name(body)
                }
            }

            impl TryFrom<Response> for $module::$response {
                type Error = Response;

                fn try_from(response: Response) -> Result<Self, Response> {
                    match response {
                        Response::$name(body) => Ok(body),
                        other => Err(other),
                    }
                }
            }
        )*
    };
}

apis! {
    /// Appends record batches to partitions.
    Produce = 0: produce::{ProduceRequest, ProduceResponse}, versions 3..=11, flexible 9..;
    /// Reads record batches from partitions.
    Fetch = 1: fetch::{FetchRequest, FetchResponse}, versions 4..=17, flexible 12..;
    /// Finds offsets by timestamp, or the ends of a partition.
    ListOffsets = 2: list_offsets::{ListOffsetsRequest, ListOffsetsResponse}, versions 1..=10, flexible 6..;
    /// Tells which topics, partitions and brokers there are.
    Metadata = 3: metadata::{MetadataRequest, MetadataResponse}, versions 0..=13, flexible 9..;
    /// Stores a consumer group's positions.
    OffsetCommit = 8: offset_commit::{OffsetCommitRequest, OffsetCommitResponse}, versions 2..=9, flexible 8..;
    /// Reads a consumer group's positions.
    OffsetFetch = 9: offset_fetch::{OffsetFetchRequest, OffsetFetchResponse}, versions 1..=9, flexible 6..;
    /// Tells which broker coordinates a group or a transactional id.
    FindCoordinator = 10: find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse}, versions 0..=6, flexible 3..;
    /// Makes a client a member of a classic group and starts a rebalance.
    JoinGroup = 11: join_group::{JoinGroupRequest, JoinGroupResponse}, versions 0..=9, flexible 6..;
    /// Keeps a member's session in a classic group.
    Heartbeat = 12: heartbeat::{HeartbeatRequest, HeartbeatResponse}, versions 0..=4, flexible 4..;
    /// Takes members out of a classic group.
    LeaveGroup = 13: leave_group::{LeaveGroupRequest, LeaveGroupResponse}, versions 0..=5, flexible 4..;
    /// Hands the assignments of a classic group from its leader to its members.
    SyncGroup = 14: sync_group::{SyncGroupRequest, SyncGroupResponse}, versions 0..=5, flexible 4..;
    /// Shows classic groups and their members.
    DescribeGroups = 15: describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse}, versions 0..=6, flexible 5..;
    /// Lists groups.
    ListGroups = 16: list_groups::{ListGroupsRequest, ListGroupsResponse}, versions 0..=5, flexible 3..;
    /// Negotiates versions, and is the first thing a client sends.
    ApiVersions = 18: api_versions::{ApiVersionsRequest, ApiVersionsResponse}, versions 0..=4, flexible 3..;
    /// Creates topics.
    CreateTopics = 19: create_topics::{CreateTopicsRequest, CreateTopicsResponse}, versions 2..=7, flexible 5..;
    /// Deletes topics.
    DeleteTopics = 20: delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse}, versions 1..=6, flexible 4..;
    /// Moves the start of partitions up.
    DeleteRecords = 21: delete_records::{DeleteRecordsRequest, DeleteRecordsResponse}, versions 0..=2, flexible 2..;
    /// Gives an idempotent producer its id and epoch.
    InitProducerId = 22: init_producer_id::{InitProducerIdRequest, InitProducerIdResponse}, versions 0..=5, flexible 2..;
    /// Tells where a leader epoch ended, so that a client finds out that its log was cut.
    OffsetForLeaderEpoch = 23: offset_for_leader_epoch::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse}, versions 2..=4, flexible 4..;
    /// Shows configuration keys and values.
    DescribeConfigs = 32: describe_configs::{DescribeConfigsRequest, DescribeConfigsResponse}, versions 1..=4, flexible 4..;
    /// Replaces the whole configuration of resources.
    AlterConfigs = 33: alter_configs::{AlterConfigsRequest, AlterConfigsResponse}, versions 0..=2, flexible 2..;
    /// Adds partitions to topics.
    CreatePartitions = 37: create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse}, versions 0..=3, flexible 2..;
    /// Deletes groups that have no members.
    DeleteGroups = 42: delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse}, versions 0..=2, flexible 2..;
    /// Changes single configuration keys.
    IncrementalAlterConfigs = 44: incremental_alter_configs::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse}, versions 0..=1, flexible 1..;
    /// Deletes a group's positions for partitions.
    OffsetDelete = 47: offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse}, versions 0..=0;
    /// Shows the brokers of the cluster.
    DescribeCluster = 60: describe_cluster::{DescribeClusterRequest, DescribeClusterResponse}, versions 0..=2, flexible 0..;
    /// All that a member of a KIP-848 group says: join, stay, acknowledge, leave.
    ConsumerGroupHeartbeat = 68: consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse}, versions 0..=1, flexible 0..;
    /// Shows KIP-848 groups and their members.
    ConsumerGroupDescribe = 69: consumer_group_describe::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse}, versions 0..=1, flexible 0..;
}

/// A request whose response type is known, for clients.
pub trait Call: Into<Request> {
    /// Which API it is for.
    const KEY: ApiKey;
    /// What it is answered with.
    type Response: TryFrom<Response, Error = Response>;
}

impl ApiKey {
    /// The number on the wire.
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// How messages of a version are laid out.
    pub fn form(self, version: i16) -> Form {
        Form {
            version,
            flexible: self.is_flexible(version),
        }
    }
}

/// A range of versions that a broker offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Which API.
    pub key: ApiKey,
    /// Lowest version offered.
    pub min: i16,
    /// Highest version offered.
    pub max: i16,
}

/// What the broker tells clients that it serves. An API that is not here is not served, whatever the codec can do.
///
/// Produce is offered from 0, and 0 to 2 are refused when they come: librdkafka before 2.11.1 silently drops compression otherwise
/// (KAFKA-18659). It is offered up to 11 only: 12 and above belong together with the feature `transaction.version=2`, which is not offered.
pub const ADVERTISED: &[Advertised] = &[
    Advertised {
        key: ApiKey::Produce,
        min: 0,
        max: 11,
    },
    Advertised {
        key: ApiKey::Fetch,
        min: 4,
        max: 17,
    },
    Advertised {
        key: ApiKey::ListOffsets,
        min: 1,
        max: 10,
    },
    Advertised {
        key: ApiKey::Metadata,
        min: 0,
        max: 13,
    },
    Advertised {
        key: ApiKey::OffsetCommit,
        min: 2,
        max: 9,
    },
    Advertised {
        key: ApiKey::OffsetFetch,
        min: 1,
        max: 9,
    },
    Advertised {
        key: ApiKey::FindCoordinator,
        min: 0,
        max: 6,
    },
    Advertised {
        key: ApiKey::JoinGroup,
        min: 0,
        max: 9,
    },
    Advertised {
        key: ApiKey::Heartbeat,
        min: 0,
        max: 4,
    },
    Advertised {
        key: ApiKey::LeaveGroup,
        min: 0,
        max: 5,
    },
    Advertised {
        key: ApiKey::SyncGroup,
        min: 0,
        max: 5,
    },
    Advertised {
        key: ApiKey::DescribeGroups,
        min: 0,
        max: 6,
    },
    Advertised {
        key: ApiKey::ListGroups,
        min: 0,
        max: 5,
    },
    Advertised {
        key: ApiKey::ApiVersions,
        min: 0,
        max: 4,
    },
    Advertised {
        key: ApiKey::CreateTopics,
        min: 2,
        max: 7,
    },
    Advertised {
        key: ApiKey::DeleteTopics,
        min: 1,
        max: 6,
    },
    Advertised {
        key: ApiKey::DeleteRecords,
        min: 0,
        max: 2,
    },
    Advertised {
        key: ApiKey::InitProducerId,
        min: 0,
        max: 5,
    },
    Advertised {
        key: ApiKey::OffsetForLeaderEpoch,
        min: 2,
        max: 4,
    },
    Advertised {
        key: ApiKey::DescribeConfigs,
        min: 1,
        max: 4,
    },
    Advertised {
        key: ApiKey::AlterConfigs,
        min: 0,
        max: 2,
    },
    Advertised {
        key: ApiKey::CreatePartitions,
        min: 0,
        max: 3,
    },
    Advertised {
        key: ApiKey::DeleteGroups,
        min: 0,
        max: 2,
    },
    Advertised {
        key: ApiKey::IncrementalAlterConfigs,
        min: 0,
        max: 1,
    },
    Advertised {
        key: ApiKey::OffsetDelete,
        min: 0,
        max: 0,
    },
    Advertised {
        key: ApiKey::DescribeCluster,
        min: 0,
        max: 2,
    },
    Advertised {
        key: ApiKey::ConsumerGroupHeartbeat,
        min: 0,
        max: 1,
    },
    Advertised {
        key: ApiKey::ConsumerGroupDescribe,
        min: 0,
        max: 1,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{arbitrary::Chance, records::Records};

    #[test]
    fn every_message_of_every_version_comes_back_as_it_was() {
        let mut chance = Chance(1);
        for &key in ApiKey::ALL {
            for version in key.versions() {
                for _ in 0..50 {
                    let request = Request::arbitrary(key, &mut chance, version);
                    let frame: Records = request
                        .encode_frame(version, 7, Some("me"))
                        .unwrap()
                        .into_iter()
                        .collect();
                    let (header, again) = Request::decode_frame(frame.to_bytes().slice(4..)).unwrap();
                    assert_eq!(
                        (header.api_key, header.api_version, header.correlation_id),
                        (key, version, 7)
                    );
                    assert_eq!(again, request, "{key:?} {version}");

                    let response = Response::arbitrary(key, &mut chance, version);
                    let frame: Records = response.encode_frame(version, -1).unwrap().into_iter().collect();
                    let again = Response::decode_frame(key, version, frame.to_bytes().slice(4..)).unwrap();
                    assert_eq!(again, (-1, response), "{key:?} {version}");
                }
            }
        }
    }

    #[test]
    fn only_what_can_be_decoded_is_advertised_but_for_old_produce() {
        for Advertised { key, min, max } in ADVERTISED {
            assert!(key.versions().contains(max), "{key:?}");
            assert!(key.versions().contains(min) || *key == ApiKey::Produce, "{key:?}");
        }
    }
}
