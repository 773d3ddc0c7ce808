//! Kafka's APIs as this broker answers them, a file each; groups answer theirs in [`crate::group`].
//!
//! A handler checks what is surely wrong, answers what the state can answer, and proposes the rest. [`Pending`] is a response that waits for
//! its entry: complete but for the slots whose outcome only `apply` knows.
pub(crate) mod alter_configs;
pub mod cluster;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_configs;
pub(crate) mod fetch;
pub(crate) mod init_producer_id;
pub mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod produce;

use alloc::vec::Vec;
use tidemill_protocol::{
    api::{
        Response, alter_configs::AlterConfigsResponse, create_partitions::CreatePartitionsResponse,
        create_topics::CreateTopicsResponse, delete_records::DeleteRecordsResponse,
        delete_topics::DeleteTopicsResponse, incremental_alter_configs::IncrementalAlterConfigsResponse,
        init_producer_id::InitProducerIdResponse, offset_commit::OffsetCommitResponse,
        offset_delete::OffsetDeleteResponse, produce::ProduceResponse,
    },
    error_code::ErrorCode,
};

use crate::{context::Refusal, state::Outcome};

/// A response that waits for an entry. The numbers say which parts of it the entry decides, in the order of the command.
#[derive(Debug)]
pub enum Pending {
    /// Topic and partition of each batch.
    Produce(ProduceResponse, Vec<(usize, usize)>),
    /// Each topic.
    CreateTopics(CreateTopicsResponse, Vec<usize>),
    /// Each topic.
    DeleteTopics(DeleteTopicsResponse, Vec<usize>),
    /// Each topic.
    CreatePartitions(CreatePartitionsResponse, Vec<usize>),
    /// Each resource.
    AlterConfigs(AlterConfigsResponse, Vec<usize>),
    /// Each resource.
    IncrementalAlterConfigs(IncrementalAlterConfigsResponse, Vec<usize>),
    /// Topic and partition of each log.
    DeleteRecords(DeleteRecordsResponse, Vec<(usize, usize)>),
    /// All of it.
    InitProducerId(InitProducerIdResponse),
    /// Every partition that has no error yet.
    OffsetCommit(OffsetCommitResponse),
    /// Every partition that has no error yet.
    OffsetDelete(OffsetDeleteResponse),
}

impl Pending {
    /// The response, now that the outcome is known.
    pub(crate) fn finish(self, outcome: Outcome) -> Response {
        match (self, outcome) {
            (Pending::Produce(response, slots), Outcome::Produced(results)) => {
                produce::finish(response, &slots, &results).into()
            }
            (Pending::CreateTopics(mut response, slots), Outcome::Topics(results)) => {
                for (slot, result) in slots.into_iter().zip(results) {
                    create_topics::settle(&mut response.topics[slot], result);
                }
                response.into()
            }
            (Pending::DeleteTopics(mut response, slots), Outcome::Topics(results)) => {
                for (slot, result) in slots.into_iter().zip(results) {
                    response.responses[slot].error_code = code(result);
                }
                response.into()
            }
            (Pending::CreatePartitions(mut response, slots), Outcome::Topics(results)) => {
                for (slot, result) in slots.into_iter().zip(results) {
                    response.results[slot].error_code = code(result);
                }
                response.into()
            }
            (Pending::AlterConfigs(mut response, slots), Outcome::Topics(results)) => {
                for (slot, result) in slots.into_iter().zip(results) {
                    response.responses[slot].error_code = code(result);
                }
                response.into()
            }
            (Pending::IncrementalAlterConfigs(mut response, slots), Outcome::Topics(results)) => {
                for (slot, result) in slots.into_iter().zip(results) {
                    response.responses[slot].error_code = code(result);
                }
                response.into()
            }
            (Pending::DeleteRecords(response, slots), Outcome::Trimmed(results)) => {
                delete_records::finish(response, &slots, &results).into()
            }
            (Pending::InitProducerId(mut response), Outcome::ProducerId(result)) => {
                match result {
                    Ok((id, epoch)) => (response.producer_id, response.producer_epoch) = (id, epoch),
                    Err(error) => response.error_code = error,
                }
                response.into()
            }
            (Pending::OffsetCommit(response), Outcome::Offsets(result)) => {
                offset_commit::finish(response, result).into()
            }
            (Pending::OffsetDelete(response), Outcome::Offsets(result)) => {
                offset_delete::finish(response, result).into()
            }
            (pending, outcome) => unreachable!("the command of {pending:?} never comes to {outcome:?}"),
        }
    }

    /// The response, now that nothing of the command will happen: an error that a client retries.
    pub(crate) fn refuse(self, refusal: Refusal) -> Response {
        let error = match refusal {
            Refusal::DiskFull | Refusal::Stopping => ErrorCode::KAFKA_STORAGE_ERROR,
            Refusal::Overloaded => ErrorCode::NOT_ENOUGH_REPLICAS,
            Refusal::TooLarge => ErrorCode::MESSAGE_TOO_LARGE,
        };
        let outcome = match &self {
            Pending::Produce(_, slots) => Outcome::Produced(slots.iter().map(|_| Err(error)).collect()),
            Pending::DeleteRecords(_, slots) => Outcome::Trimmed(slots.iter().map(|_| Err(error)).collect()),
            Pending::CreateTopics(_, slots)
            | Pending::DeleteTopics(_, slots)
            | Pending::CreatePartitions(_, slots)
            | Pending::AlterConfigs(_, slots)
            | Pending::IncrementalAlterConfigs(_, slots) => Outcome::Topics(slots.iter().map(|_| Err(error)).collect()),
            Pending::InitProducerId(_) => Outcome::ProducerId(Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)),
            Pending::OffsetCommit(_) | Pending::OffsetDelete(_) => {
                Outcome::Offsets(Err(ErrorCode::COORDINATOR_NOT_AVAILABLE))
            }
        };
        self.finish(outcome)
    }
}

/// The code of a result.
pub(crate) fn code(result: Result<(), ErrorCode>) -> ErrorCode {
    result.err().unwrap_or(ErrorCode::NONE)
}
