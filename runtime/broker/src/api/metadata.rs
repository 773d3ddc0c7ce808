//! Metadata: which topics there are and where they live. Asking for an unknown topic may create it.
use alloc::{collections::BTreeMap, string::String, vec, vec::Vec};
use tidemill_protocol::{
    api::metadata::{
        MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
        MetadataResponseTopic,
    },
    error_code::ErrorCode,
};

use crate::{
    context::{Context, Requester, Waiter},
    entry::{Command, NewTopic},
    topic::{Topic, is_valid_name},
};

/// Version from which an empty list means nothing instead of everything.
const EMPTY_IS_NONE: i16 = 1;

/// Version from which the client says whether a topic may be created.
const SAYS_CREATE: i16 = 4;

pub(crate) fn handle(ctx: &mut Context<'_>, from: Requester, version: i16, request: MetadataRequest) {
    let missing = missing(ctx, version, &request);
    if missing.is_empty() {
        let response = answer(ctx, version, &request);
        return ctx.respond(from, response.into());
    }
    let new = missing
        .into_iter()
        .map(|name| NewTopic {
            name,
            id: ctx.random_uuid(),
            partitions: ctx.config.default_partitions,
            configs: BTreeMap::new(),
        })
        .collect();
    ctx.propose(Command::CreateTopics(new), Waiter::Metadata(from, version, request));
}

/// Topics that are asked for by name, do not exist, and may be created.
fn missing(ctx: &Context<'_>, version: i16, request: &MetadataRequest) -> Vec<String> {
    let is_allowed = ctx.config.auto_create_topics && (version < SAYS_CREATE || request.allow_auto_topic_creation);
    if !is_allowed {
        return Vec::new();
    }
    let names = request
        .topics
        .iter()
        .flatten()
        .filter(|topic| topic.topic_id.is_zero())
        .filter_map(|topic| topic.name.clone());
    let mut missing: Vec<String> = names
        .filter(|name| is_valid_name(name) && !name.starts_with("__") && ctx.state.topics.get(name).is_none())
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

/// The answer from the state as it is.
pub(crate) fn answer(ctx: &Context<'_>, version: i16, request: &MetadataRequest) -> MetadataResponse {
    let topics = match &request.topics {
        Some(topics) if EMPTY_IS_NONE <= version || !topics.is_empty() => {
            topics.iter().map(|asked| find(ctx, asked)).collect()
        }
        _ => ctx.state.topics.iter().map(|topic| describe(ctx, topic)).collect(),
    };
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: ctx.config.node_id,
            host: ctx.config.advertised_host.clone(),
            port: i32::from(ctx.config.advertised_port),
            ..MetadataResponseBroker::default()
        }],
        cluster_id: Some(ctx.config.cluster_id.clone()),
        controller_id: ctx.config.node_id,
        topics,
        ..MetadataResponse::default()
    }
}

fn find(ctx: &Context<'_>, asked: &MetadataRequestTopic) -> MetadataResponseTopic {
    if !asked.topic_id.is_zero() {
        return match ctx.state.topics.get_by_id(&asked.topic_id) {
            Some(topic) => describe(ctx, topic),
            None => MetadataResponseTopic {
                error_code: ErrorCode::UNKNOWN_TOPIC_ID,
                name: asked.name.clone(),
                topic_id: asked.topic_id,
                ..MetadataResponseTopic::default()
            },
        };
    }
    let name = asked.name.as_deref().unwrap_or_default();
    match ctx.state.topics.get(name) {
        Some(topic) => describe(ctx, topic),
        None => MetadataResponseTopic {
            error_code: if is_valid_name(name) {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            } else {
                ErrorCode::INVALID_TOPIC_EXCEPTION
            },
            name: asked.name.clone(),
            ..MetadataResponseTopic::default()
        },
    }
}

fn describe(ctx: &Context<'_>, topic: &Topic) -> MetadataResponseTopic {
    let node = ctx.config.node_id;
    let partitions = topic.logs.iter().map(|log| {
        let log = &ctx.state.logs[log];
        MetadataResponsePartition {
            partition_index: log.partition,
            leader_id: node,
            leader_epoch: log.leader_epoch,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
            ..MetadataResponsePartition::default()
        }
    });
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    }
}
