//! Produce: appends record batches to partitions.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode, records::Records};

messages! {
    /// Request of [`Produce`](super::ApiKey::Produce).
    ///
    /// Version 3 adds the transactional ID, which is used for authorization when attempting to write
    /// transactional data. Version 3 also adds support for Kafka Message Format v2.
    ///
    /// Starting in version 7, records can be produced using ZStandard compression. See KIP-110.
    ///
    /// Starting in Version 8, response has RecordErrors and ErrorMessage. See KIP-467.
    ///
    /// Version 9 enables flexible versions.
    ///
    /// Version 11 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
    pub struct ProduceRequest {
        /// The transactional ID, or null if the producer is not transactional.
        transactional_id: Option<String>;
        /// The number of acknowledgments the producer requires the leader to have received before considering a
        /// request complete. Allowed values: 0 for no acknowledgments, 1 for only the leader and -1 for the full
        /// ISR.
        acks: i16;
        /// The timeout to await a response in milliseconds.
        timeout_ms: i32;
        /// Each topic to produce to.
        topic_data: Vec<TopicProduceData>;
    }

    /// One of [`ProduceRequest::topic_data`].
    pub struct TopicProduceData {
        /// The topic name.
        name: String;
        /// Each partition to produce to.
        partition_data: Vec<PartitionProduceData>;
    }

    /// One of [`TopicProduceData::partition_data`].
    pub struct PartitionProduceData {
        /// The partition index.
        index: i32;
        /// The record data to be produced.
        records: Option<Records>;
    }

    /// Response of [`Produce`](super::ApiKey::Produce).
    ///
    /// Version 4 added KAFKA_STORAGE_ERROR as a possible error code.
    ///
    /// Version 5 added LogStartOffset to filter out spurious OutOfOrderSequenceExceptions on the client.
    ///
    /// Version 8 added RecordErrors and ErrorMessage to include information about records that cause the whole
    /// batch to be dropped. See KIP-467 for details.
    ///
    /// Version 9 enables flexible versions.
    ///
    /// Version 10 adds 'CurrentLeader' and 'NodeEndpoints' as tagged fields (KIP-951)
    ///
    /// Version 11 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
    pub struct ProduceResponse {
        /// Each produce response.
        responses: Vec<TopicProduceResponse>;
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// Endpoints for all current-leaders enumerated in PartitionProduceResponses, with errors
        /// NOT_LEADER_OR_FOLLOWER.
        node_endpoints: Vec<NodeEndpoint>, in 10.., tag 0;
    }

    /// One of [`ProduceResponse::responses`].
    pub struct TopicProduceResponse {
        /// The topic name.
        name: String;
        /// Each partition that we produced to within the topic.
        partition_responses: Vec<PartitionProduceResponse>;
    }

    /// One of [`TopicProduceResponse::partition_responses`].
    pub struct PartitionProduceResponse {
        /// The partition index.
        index: i32;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
        /// The base offset.
        base_offset: i64;
        /// The timestamp returned by broker after appending the messages. If CreateTime is used for the topic,
        /// the timestamp will be -1. If LogAppendTime is used for the topic, the timestamp will be the broker
        /// local time when the messages are appended.
        log_append_time_ms: i64 = -1;
        /// The log start offset.
        log_start_offset: i64 = -1, in 5..;
        /// The batch indices of records that caused the batch to be dropped.
        record_errors: Vec<BatchIndexAndErrorMessage>, in 8..;
        /// The global error message summarizing the common root cause of the records that caused the batch to be
        /// dropped.
        error_message: Option<String>, in 8..;
        /// The leader that the client should turn to, if it changed.
        current_leader: LeaderIdAndEpoch, in 10.., tag 0;
    }

    /// One of [`PartitionProduceResponse::record_errors`].
    pub struct BatchIndexAndErrorMessage {
        /// The batch index of the record that cause the batch to be dropped.
        batch_index: i32;
        /// The error message of the record that caused the batch to be dropped.
        batch_index_error_message: Option<String>;
    }

    /// See [`PartitionProduceResponse::current_leader`].
    pub struct LeaderIdAndEpoch {
        /// The ID of the current leader or -1 if the leader is unknown.
        leader_id: i32 = -1;
        /// The latest known leader epoch.
        leader_epoch: i32 = -1;
    }

    /// One of [`ProduceResponse::node_endpoints`].
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
