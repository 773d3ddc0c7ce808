//! DescribeConfigs: every key of a topic or of the broker, with its value and where that comes from.
use alloc::{format, string::String, string::ToString, vec, vec::Vec};
use tidemill_protocol::{
    api::describe_configs::{
        DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
        DescribeConfigsResult, DescribeConfigsSynonym,
    },
    error_code::ErrorCode,
};

use super::create_topics::Refused;
use crate::{
    config::Config,
    config_keys::{Key, Kind, Settings, TOPIC_KEYS},
    context::Context,
    limits::OFFSETS_PARTITIONS,
};

/// Types of resources.
pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;

/// Where a value comes from.
const DYNAMIC_TOPIC: i8 = 1;
const DYNAMIC_DEFAULT_BROKER: i8 = 3;
const STATIC_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

pub(crate) fn handle(ctx: &Context<'_>, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let described = match resource.resource_type {
            TOPIC => describe_topic(ctx, resource, request),
            BROKER => describe_broker(ctx, resource, request),
            other => Err((
                ErrorCode::INVALID_REQUEST,
                format!("resources of type {other} have no configuration"),
            )),
        };
        let mut result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            error_message: None,
            ..DescribeConfigsResult::default()
        };
        match described {
            Ok(configs) => result.configs = configs,
            Err((code, message)) => (result.error_code, result.error_message) = (code, Some(message)),
        }
        result
    });
    DescribeConfigsResponse {
        results: results.collect(),
        ..DescribeConfigsResponse::default()
    }
}

/// Where a topic's value of a key comes from.
pub(crate) fn source(settings: &Settings<'_>, key: &Key) -> i8 {
    if settings.topic.contains_key(key.name) {
        DYNAMIC_TOPIC
    } else if settings.broker.contains_key(key.broker) {
        DYNAMIC_DEFAULT_BROKER
    } else {
        DEFAULT
    }
}

/// Whether a broker resource is this node or all of them.
pub(crate) fn check_broker(config: &Config, name: &str) -> Result<(), Refused> {
    if name.is_empty() || name == config.node_id.to_string() {
        return Ok(());
    }
    Err((ErrorCode::INVALID_REQUEST, format!("there is no broker '{name}'")))
}

type Described = Result<Vec<DescribeConfigsResourceResult>, Refused>;

fn describe_topic(
    ctx: &Context<'_>,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Described {
    let topic = ctx.state.topics.get(&resource.resource_name).ok_or_else(|| {
        (
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            format!("there is no topic '{}'", resource.resource_name),
        )
    })?;
    let settings = ctx.state.settings(topic);
    let keys = TOPIC_KEYS.iter().filter(|key| is_asked_for(resource, key.name));
    Ok(keys
        .map(|key| {
            let mut synonyms = Vec::new();
            if let Some(value) = topic.configs.get(key.name) {
                synonyms.push(synonym(key.name, value, DYNAMIC_TOPIC));
            }
            if let Some(value) = ctx.state.configs.get(key.broker) {
                synonyms.push(synonym(key.broker, value, DYNAMIC_DEFAULT_BROKER));
            }
            synonyms.push(synonym(key.broker, key.default, DEFAULT));
            result(
                request,
                key.name,
                settings.text(key),
                source(&settings, key),
                key.kind,
                key.documentation,
                synonyms,
            )
        })
        .collect())
}

fn describe_broker(
    ctx: &Context<'_>,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Described {
    check_broker(ctx.config, &resource.resource_name)?;
    let mut results = Vec::new();
    for key in TOPIC_KEYS.iter().filter(|key| is_asked_for(resource, key.broker)) {
        let set = ctx.state.configs.get(key.broker);
        let (value, source) = set.map_or((key.default, DEFAULT), |value| (value.as_str(), DYNAMIC_DEFAULT_BROKER));
        let mut synonyms: Vec<_> = set
            .map(|value| synonym(key.broker, value, DYNAMIC_DEFAULT_BROKER))
            .into_iter()
            .collect();
        synonyms.push(synonym(key.broker, key.default, DEFAULT));
        results.push(result(
            request,
            key.broker,
            value,
            source,
            key.kind,
            key.documentation,
            synonyms,
        ));
    }
    for (name, value, kind, documentation) in fixed(ctx.config) {
        if is_asked_for(resource, name) {
            let synonyms = vec![synonym(name, &value, STATIC_BROKER)];
            let mut fixed = result(request, name, &value, STATIC_BROKER, kind, documentation, synonyms);
            fixed.read_only = true;
            results.push(fixed);
        }
    }
    Ok(results)
}

/// What the broker was started with and cannot be changed by a client.
fn fixed(config: &Config) -> Vec<(&'static str, String, Kind, &'static str)> {
    vec![
        (
            "node.id",
            config.node_id.to_string(),
            Kind::Int(0),
            "Number of this node.",
        ),
        (
            "advertised.listeners",
            format!("PLAINTEXT://{}:{}", config.advertised_host, config.advertised_port),
            Kind::Text,
            "Where clients are told to connect.",
        ),
        (
            "auto.create.topics.enable",
            config.auto_create_topics.to_string(),
            Kind::Boolean,
            "Whether asking for an unknown topic creates it.",
        ),
        (
            "num.partitions",
            config.default_partitions.to_string(),
            Kind::Int(1),
            "Partitions of a topic when nobody says.",
        ),
        (
            "default.replication.factor",
            "1".into(),
            Kind::Int(1),
            "Copies of a partition.",
        ),
        (
            "offsets.topic.num.partitions",
            OFFSETS_PARTITIONS.to_string(),
            Kind::Int(1),
            "Partitions of the topic that holds committed offsets.",
        ),
        (
            "group.initial.rebalance.delay.ms",
            config.group_initial_rebalance_delay_ms.to_string(),
            Kind::Int(0),
            "How long the first rebalance of a group waits for more members.",
        ),
        (
            "group.min.session.timeout.ms",
            config.group_session_timeout_ms.0.to_string(),
            Kind::Int(0),
            "Shortest session timeout of a classic member.",
        ),
        (
            "group.max.session.timeout.ms",
            config.group_session_timeout_ms.1.to_string(),
            Kind::Int(0),
            "Longest session timeout of a classic member.",
        ),
        (
            "group.consumer.heartbeat.interval.ms",
            config.group_heartbeat_interval_ms.to_string(),
            Kind::Int(1),
            "How often a KIP-848 member must be heard.",
        ),
        (
            "group.consumer.session.timeout.ms",
            config.group_consumer_session_timeout_ms.to_string(),
            Kind::Int(1),
            "How long a silent KIP-848 member stays.",
        ),
    ]
}

fn is_asked_for(resource: &DescribeConfigsResource, name: &str) -> bool {
    resource
        .configuration_keys
        .as_ref()
        .is_none_or(|keys| keys.iter().any(|key| key == name))
}

fn result(
    request: &DescribeConfigsRequest,
    name: &str,
    value: &str,
    config_source: i8,
    kind: Kind,
    documentation: &str,
    synonyms: Vec<DescribeConfigsSynonym>,
) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: name.into(),
        value: Some(value.into()),
        config_source,
        synonyms: if request.include_synonyms { synonyms } else { Vec::new() },
        config_type: kind.number(),
        documentation: request.include_documentation.then(|| documentation.into()),
        ..DescribeConfigsResourceResult::default()
    }
}

fn synonym(name: &str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym {
        name: name.into(),
        value: Some(value.into()),
        source,
    }
}
