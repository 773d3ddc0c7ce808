//! Fetch: reads record batches from partitions.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode, ids::Uuid, records::Records};

messages! {
    /// Request of [`Fetch`](super::ApiKey::Fetch).
    ///
    /// Version 4 adds IsolationLevel. Starting in version 4, the reqestor must be able to handle Kafka log
    /// message format version 2.
    ///
    /// Version 5 adds LogStartOffset to indicate the earliest available offset of partition data that can be
    /// consumed.
    ///
    /// Version 7 adds incremental fetch request support.
    ///
    /// Version 9 adds CurrentLeaderEpoch, as described in KIP-320.
    ///
    /// Version 10 indicates that we can use the ZStd compression algorithm, as described in KIP-110.
    ///
    /// Version 12 adds flexible versions support as well as epoch validation through the `LastFetchedEpoch`
    /// field.
    ///
    /// Version 13 replaces topic names with topic IDs (KIP-516). May return UNKNOWN_TOPIC_ID error code.
    ///
    /// Version 15 adds the ReplicaState which includes new field ReplicaEpoch and the ReplicaId. Also, deprecate
    /// the old ReplicaId field and set its default value to -1. (KIP-903)
    ///
    /// Version 17 adds directory id support from KIP-853.
    pub struct FetchRequest {
        /// The broker ID of the follower, of -1 if this request is from a consumer.
        replica_id: i32 = -1, in ..=14;
        /// The maximum time in milliseconds to wait for the response.
        max_wait_ms: i32;
        /// The minimum bytes to accumulate in the response.
        min_bytes: i32;
        /// The maximum bytes to fetch. See KIP-74 for cases where this limit may not be honored.
        max_bytes: i32 = i32::MAX;
        /// This setting controls the visibility of transactional records. Using READ_UNCOMMITTED (isolation_level
        /// = 0) makes all records visible. With READ_COMMITTED (isolation_level = 1), non-transactional and
        /// COMMITTED transactional records are visible. To be more concrete, READ_COMMITTED returns all data from
        /// offsets smaller than the current LSO (last stable offset), and enables the inclusion of the list of
        /// aborted transactions in the result, which allows consumers to discard ABORTED transactional records.
        isolation_level: i8;
        /// The fetch session ID.
        session_id: i32, in 7..;
        /// The fetch session epoch, which is used for ordering requests in a session.
        session_epoch: i32 = -1, in 7..;
        /// The topics to fetch.
        topics: Vec<FetchTopic>;
        /// In an incremental fetch request, the partitions to remove.
        forgotten_topics_data: Vec<ForgottenTopic>, in 7..;
        /// Rack ID of the consumer making this request.
        rack_id: String, in 11..;
        /// The clusterId if known. This is used to validate metadata fetches prior to broker registration.
        cluster_id: Option<String>, in 12.., tag 0;
        /// The follower that asks.
        replica_state: ReplicaState, in 15.., tag 1;
    }

    /// See [`FetchRequest::replica_state`].
    pub struct ReplicaState {
        /// The replica ID of the follower, or -1 if this request is from a consumer.
        replica_id: i32 = -1;
        /// The epoch of this follower, or -1 if not available.
        replica_epoch: i64 = -1;
    }

    /// One of [`FetchRequest::topics`].
    pub struct FetchTopic {
        /// The name of the topic to fetch.
        topic: String, in ..=12;
        /// The unique topic ID.
        topic_id: Uuid, in 13..;
        /// The partitions to fetch.
        partitions: Vec<FetchPartition>;
    }

    /// One of [`FetchTopic::partitions`].
    pub struct FetchPartition {
        /// The partition index.
        partition: i32;
        /// The current leader epoch of the partition.
        current_leader_epoch: i32 = -1, in 9..;
        /// The message offset.
        fetch_offset: i64;
        /// The epoch of the last fetched record or -1 if there is none.
        last_fetched_epoch: i32 = -1, in 12..;
        /// The earliest available offset of the follower replica. The field is only used when the request is sent
        /// by the follower.
        log_start_offset: i64 = -1, in 5..;
        /// The maximum bytes to fetch from this partition. See KIP-74 for cases where this limit may not be
        /// honored.
        partition_max_bytes: i32;
        /// The directory id of the follower fetching.
        replica_directory_id: Uuid, in 17.., tag 0;
    }

    /// One of [`FetchRequest::forgotten_topics_data`].
    pub struct ForgottenTopic {
        /// The topic name.
        topic: String, in ..=12;
        /// The unique topic ID.
        topic_id: Uuid, in 13..;
        /// The partitions indexes to forget.
        partitions: Vec<i32>;
    }

    /// Response of [`Fetch`](super::ApiKey::Fetch).
    ///
    /// Version 4 adds features for transactional consumption.
    ///
    /// Version 5 adds LogStartOffset to indicate the earliest available offset of partition data that can be
    /// consumed.
    ///
    /// Starting in version 6, we may return KAFKA_STORAGE_ERROR as an error code.
    ///
    /// Version 7 adds incremental fetch request support.
    ///
    /// Starting in version 8, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 10 indicates that the response data can use the ZStd compression algorithm, as described in
    /// KIP-110.
    ///
    /// Version 12 adds support for flexible versions, epoch detection through the `TruncationOffset` field, and
    /// leader discovery through the `CurrentLeader` field.
    ///
    /// Version 13 replaces the topic name field with topic ID (KIP-516).
    ///
    /// Version 16 adds the 'NodeEndpoints' field (KIP-951).
    pub struct FetchResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// The top level response error code.
        error_code: ErrorCode, in 7..;
        /// The fetch session ID, or 0 if this is not part of a fetch session.
        session_id: i32, in 7..;
        /// The response topics.
        responses: Vec<FetchableTopicResponse>;
        /// Endpoints for all current-leaders enumerated in PartitionData, with errors NOT_LEADER_OR_FOLLOWER &
        /// FENCED_LEADER_EPOCH.
        node_endpoints: Vec<NodeEndpoint>, in 16.., tag 0;
    }

    /// One of [`FetchResponse::responses`].
    pub struct FetchableTopicResponse {
        /// The topic name.
        topic: String, in ..=12;
        /// The unique topic ID.
        topic_id: Uuid, in 13..;
        /// The topic partitions.
        partitions: Vec<PartitionData>;
    }

    /// One of [`FetchableTopicResponse::partitions`].
    pub struct PartitionData {
        /// The partition index.
        partition_index: i32;
        /// The error code, or 0 if there was no fetch error.
        error_code: ErrorCode;
        /// The current high water mark.
        high_watermark: i64;
        /// The last stable offset (or LSO) of the partition. This is the last offset such that the state of all
        /// transactional records prior to this offset have been decided (ABORTED or COMMITTED)
        last_stable_offset: i64 = -1;
        /// The current log start offset.
        log_start_offset: i64 = -1, in 5..;
        /// The aborted transactions.
        aborted_transactions: Option<Vec<AbortedTransaction>> = Some(Vec::new());
        /// The preferred read replica for the consumer to use on its next fetch request.
        preferred_read_replica: i32 = -1, in 11..;
        /// The record data.
        records: Option<Records>;
        /// In case divergence is detected based on the `LastFetchedEpoch` and `FetchOffset` in the request, this
        /// field indicates the largest epoch and its end offset such that subsequent records are known to
        /// diverge.
        diverging_epoch: EpochEndOffset, in 12.., tag 0;
        /// The leader that the client should turn to, if it changed.
        current_leader: LeaderIdAndEpoch, in 12.., tag 1;
        /// In the case of fetching an offset less than the LogStartOffset, this is the end offset and epoch that
        /// should be used in the FetchSnapshot request.
        snapshot_id: SnapshotId, in 12.., tag 2;
    }

    /// See [`PartitionData::diverging_epoch`].
    pub struct EpochEndOffset {
        /// The epoch.
        epoch: i32 = -1;
        /// The end offset of the epoch.
        end_offset: i64 = -1;
    }

    /// See [`PartitionData::current_leader`].
    pub struct LeaderIdAndEpoch {
        /// The ID of the current leader or -1 if the leader is unknown.
        leader_id: i32 = -1;
        /// The latest known leader epoch.
        leader_epoch: i32 = -1;
    }

    /// See [`PartitionData::snapshot_id`].
    pub struct SnapshotId {
        /// The end offset of the epoch.
        end_offset: i64 = -1;
        /// The epoch.
        epoch: i32 = -1;
    }

    /// One of [`PartitionData::aborted_transactions`].
    pub struct AbortedTransaction {
        /// The producer id associated with the aborted transaction.
        producer_id: i64;
        /// The first offset in the aborted transaction.
        first_offset: i64;
    }

    /// One of [`FetchResponse::node_endpoints`].
    pub struct NodeEndpoint {
        /// The ID of the associated node.
        node_id: i32;
        /// The node's hostname.
        host: String;
        /// The node's port.
        port: i32;
        /// The rack of the node, or null if it has not been assigned to a rack.
        rack: Option<String>;
    }
}
