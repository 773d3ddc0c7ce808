//! CreateTopics.
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use tidemill_protocol::{
    api::create_topics::{
        CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
    },
    error_code::ErrorCode,
};

use super::{Pending, describe_configs};
use crate::{
    config_keys::{Key, Settings, TOPIC_KEYS, topic_key},
    context::{Context, Requester, Waiter},
    entry::{Command, NewTopic},
    limits::{PARTITIONS_MAX, TOPIC_PARTITIONS_MAX},
    topic::{is_internal, is_valid_name},
};

/// Why a topic, or a change of one, is refused: code and sentence.
pub(crate) type Refused = (ErrorCode, String);

pub(crate) fn handle(ctx: &mut Context<'_>, from: Requester, request: CreateTopicsRequest) {
    let mut response = CreateTopicsResponse::default();
    let mut slots = Vec::new();
    let mut new = Vec::new();
    let repeated = repeated(request.topics.iter().map(|topic| topic.name.as_str()));
    for topic in &request.topics {
        let mut result = CreatableTopicResult {
            name: topic.name.clone(),
            error_message: None,
            configs: None,
            ..CreatableTopicResult::default()
        };
        let checked = if repeated.contains(topic.name.as_str()) {
            Err((ErrorCode::INVALID_REQUEST, "the topic is named twice".into()))
        } else {
            check(ctx, topic)
        };
        match checked {
            Ok(creation) => {
                describe(ctx, &creation, &mut result);
                if !request.validate_only {
                    slots.push(response.topics.len());
                    new.push(creation);
                }
            }
            Err((code, message)) => (result.error_code, result.error_message) = (code, Some(message)),
        }
        response.topics.push(result);
    }
    if new.is_empty() {
        return ctx.respond(from, response.into());
    }
    ctx.propose(
        Command::CreateTopics(new),
        Waiter::Request(from, Pending::CreateTopics(response, slots)),
    );
}

/// Writes the outcome of one topic into its result.
pub(super) fn settle(result: &mut CreatableTopicResult, outcome: Result<(), ErrorCode>) {
    if let Err(error) = outcome {
        let name = core::mem::take(&mut result.name);
        *result = CreatableTopicResult {
            name,
            error_code: error,
            error_message: Some(error.sentence().into()),
            configs: None,
            ..CreatableTopicResult::default()
        };
    }
}

/// Values that come more than once.
pub(crate) fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

fn check(ctx: &mut Context<'_>, topic: &CreatableTopic) -> Result<NewTopic, Refused> {
    if !is_valid_name(&topic.name) {
        return Err((
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "a topic's name has 1 to 249 letters, digits, '.', '_' or '-', and is neither '.' nor '..'".into(),
        ));
    }
    if ctx.state.topics.get(&topic.name).is_some() {
        return Err((
            ErrorCode::TOPIC_ALREADY_EXISTS,
            format!("topic '{}' already exists", topic.name),
        ));
    }
    if is_internal(&topic.name) {
        return Err((
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            format!(
                "'{}' is the broker's own: the first commit of an offset makes it",
                topic.name
            ),
        ));
    }
    let partitions = partitions(ctx, topic)?;
    ctx.state
        .check_partitions(0, partitions)
        .map_err(|code| (code, wrong_partitions(partitions)))?;
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let value = config
            .value
            .as_deref()
            .ok_or((ErrorCode::INVALID_CONFIG, format!("'{}' has no value", config.name)))?;
        let key = topic_key(&config.name).ok_or_else(|| unknown_config(&config.name))?;
        check_config(key, &config.name, value)?;
        configs.insert(config.name.clone(), value.into());
    }
    Ok(NewTopic {
        name: topic.name.clone(),
        id: ctx.random_uuid(),
        partitions,
        configs,
    })
}

pub(super) fn wrong_partitions(wanted: u32) -> String {
    format!("{wanted} partitions: a topic has 1 to {TOPIC_PARTITIONS_MAX}, all together {PARTITIONS_MAX}")
}

pub(super) fn unknown_config(name: &str) -> Refused {
    (
        ErrorCode::INVALID_CONFIG,
        format!("'{name}' is no configuration that can be set: keys have the names that Kafka gives them"),
    )
}

/// Whether a key may have this value.
pub(super) fn check_config(key: &Key, name: &str, value: &str) -> Result<(), Refused> {
    if key.kind.accepts(value) {
        return Ok(());
    }
    Err((
        ErrorCode::INVALID_CONFIG,
        format!("'{value}' is not a value for '{name}', which takes {}", key.kind),
    ))
}

fn partitions(ctx: &Context<'_>, topic: &CreatableTopic) -> Result<u32, Refused> {
    if topic.assignments.is_empty() {
        if !matches!(topic.replication_factor, -1 | 1) {
            return Err((
                ErrorCode::INVALID_REPLICATION_FACTOR,
                format!(
                    "replication factor {} on a cluster of one node",
                    topic.replication_factor
                ),
            ));
        }
        return match topic.num_partitions {
            -1 => Ok(ctx.config.default_partitions),
            count => u32::try_from(count).map_err(|_| (ErrorCode::INVALID_PARTITIONS, format!("{count} partitions"))),
        };
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        return Err((
            ErrorCode::INVALID_REQUEST,
            "either an assignment or counts, not both".into(),
        ));
    }
    let mut numbers: Vec<i32> = topic
        .assignments
        .iter()
        .map(|assignment| assignment.partition_index)
        .collect();
    numbers.sort_unstable();
    let is_dense = (0..).zip(&numbers).all(|(expected, number)| expected == *number);
    if !is_dense
        || topic
            .assignments
            .iter()
            .any(|assignment| assignment.broker_ids != [ctx.config.node_id])
    {
        return Err((
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "partitions count up from 0, each on the only node".into(),
        ));
    }
    u32::try_from(numbers.len()).map_err(|_| (ErrorCode::INVALID_PARTITIONS, "too many partitions".into()))
}

fn describe(ctx: &Context<'_>, new: &NewTopic, result: &mut CreatableTopicResult) {
    let settings = Settings {
        topic: &new.configs,
        broker: &ctx.state.configs,
    };
    result.topic_id = new.id;
    result.num_partitions = i32::try_from(new.partitions).unwrap_or(i32::MAX);
    result.replication_factor = 1;
    let configs = TOPIC_KEYS.iter().map(|key| CreatableTopicConfigs {
        name: key.name.into(),
        value: Some(settings.text(key).into()),
        config_source: describe_configs::source(&settings, key),
        ..CreatableTopicConfigs::default()
    });
    result.configs = Some(configs.collect());
}
