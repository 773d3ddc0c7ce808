//! AlterConfigs (all of a resource's configuration at once) and IncrementalAlterConfigs (single keys).
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use tidemill_protocol::{
    api::{
        alter_configs::{AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse},
        incremental_alter_configs::{
            self as incremental, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
        },
    },
    error_code::ErrorCode,
    ids::Uuid,
};

use super::{
    Pending,
    create_topics::{Refused, check_config, unknown_config},
    describe_configs::{BROKER, TOPIC, check_broker},
};
use crate::{
    config_keys::{Key, Kind, broker_key, topic_key},
    context::{Context, Requester, Waiter},
    entry::{Command, ConfigChange},
};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A resource that has configuration: a topic, or the broker-wide defaults.
type Resource = Option<Uuid>;

pub(crate) fn handle(ctx: &mut Context<'_>, from: Requester, request: AlterConfigsRequest) {
    let mut response = AlterConfigsResponse::default();
    let mut slots = Vec::new();
    let mut changes = Vec::new();
    for resource in request.resources {
        let values = resource
            .configs
            .into_iter()
            .map(|config| (config.name, config.value))
            .collect();
        let mut result = AlterConfigsResourceResponse {
            error_message: None,
            ..AlterConfigsResourceResponse::default()
        };
        match replace(ctx, resource.resource_type, &resource.resource_name, values) {
            Ok(_) if request.validate_only => {}
            Ok(change) => {
                slots.push(response.responses.len());
                changes.push(change);
            }
            Err((code, message)) => (result.error_code, result.error_message) = (code, Some(message)),
        }
        result.resource_type = resource.resource_type;
        result.resource_name = resource.resource_name;
        response.responses.push(result);
    }
    if changes.is_empty() {
        return ctx.respond(from, response.into());
    }
    ctx.propose(
        Command::AlterConfigs(changes),
        Waiter::Request(from, Pending::AlterConfigs(response, slots)),
    );
}

pub(crate) fn handle_incremental(ctx: &mut Context<'_>, from: Requester, request: IncrementalAlterConfigsRequest) {
    let mut response = IncrementalAlterConfigsResponse::default();
    let mut slots = Vec::new();
    let mut changes = Vec::new();
    for resource in request.resources {
        let mut result = incremental::AlterConfigsResourceResponse {
            error_message: None,
            ..incremental::AlterConfigsResourceResponse::default()
        };
        match increment(ctx, &resource) {
            Ok(_) if request.validate_only => {}
            Ok(change) => {
                slots.push(response.responses.len());
                changes.push(change);
            }
            Err((code, message)) => (result.error_code, result.error_message) = (code, Some(message)),
        }
        result.resource_type = resource.resource_type;
        result.resource_name = resource.resource_name;
        response.responses.push(result);
    }
    if changes.is_empty() {
        return ctx.respond(from, response.into());
    }
    let pending = Pending::IncrementalAlterConfigs(response, slots);
    ctx.propose(Command::AlterConfigs(changes), Waiter::Request(from, pending));
}

fn replace(
    ctx: &Context<'_>,
    resource_type: i8,
    name: &str,
    values: Vec<(String, Option<String>)>,
) -> Result<ConfigChange, Refused> {
    let topic = find(ctx, resource_type, name)?;
    let mut set = BTreeMap::new();
    for (name, value) in values {
        let value = value.ok_or_else(|| (ErrorCode::INVALID_REQUEST, format!("'{name}' has no value")))?;
        check_config(find_key(topic, &name)?, &name, &value)?;
        set.insert(name, Some(value));
    }
    Ok(ConfigChange {
        topic,
        set,
        replace: true,
    })
}

fn increment(ctx: &Context<'_>, resource: &incremental::AlterConfigsResource) -> Result<ConfigChange, Refused> {
    let topic = find(ctx, resource.resource_type, &resource.resource_name)?;
    let mut set = BTreeMap::new();
    for config in &resource.configs {
        let name = &config.name;
        let key = find_key(topic, name)?;
        let value = match config.config_operation {
            DELETE => None,
            SET => Some(given(config)?.into()),
            APPEND => Some(list(ctx, topic, key, given(config)?, |items, item| {
                if !items.contains(&item) {
                    items.push(item);
                }
            })?),
            SUBTRACT => Some(list(ctx, topic, key, given(config)?, |items, item| {
                items.retain(|known| *known != item)
            })?),
            other => return Err((ErrorCode::INVALID_REQUEST, format!("unknown operation {other}"))),
        };
        if let Some(value) = &value {
            check_config(key, name, value)?;
        }
        if set.insert(name.clone(), value).is_some() {
            return Err((ErrorCode::INVALID_REQUEST, format!("'{name}' is named twice")));
        }
    }
    Ok(ConfigChange {
        topic,
        set,
        replace: false,
    })
}

fn given(config: &incremental::AlterableConfig) -> Result<&str, Refused> {
    config
        .value
        .as_deref()
        .ok_or_else(|| (ErrorCode::INVALID_REQUEST, format!("'{}' has no value", config.name)))
}

fn find(ctx: &Context<'_>, resource_type: i8, name: &str) -> Result<Resource, Refused> {
    match resource_type {
        TOPIC => match ctx.state.topics.get(name) {
            Some(topic) => Ok(Some(topic.id)),
            None => Err((
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                format!("there is no topic '{name}'"),
            )),
        },
        BROKER => check_broker(ctx.config, name).map(|()| None),
        other => Err((
            ErrorCode::INVALID_REQUEST,
            format!("resources of type {other} have no configuration"),
        )),
    }
}

fn find_key(resource: Resource, name: &str) -> Result<&'static Key, Refused> {
    let key = if resource.is_some() {
        topic_key(name)
    } else {
        broker_key(name)
    };
    key.ok_or_else(|| unknown_config(name))
}

/// The value of a list with items added or taken away.
fn list(
    ctx: &Context<'_>,
    resource: Resource,
    key: &Key,
    change: &str,
    edit: impl for<'a> Fn(&mut Vec<&'a str>, &'a str),
) -> Result<String, Refused> {
    if !matches!(key.kind, Kind::SomeOf(_)) {
        return Err((ErrorCode::INVALID_CONFIG, format!("'{}' is not a list", key.name)));
    }
    let broker = ctx.state.configs.get(key.broker).map_or(key.default, String::as_str);
    let topic = resource.and_then(|id| ctx.state.topics.get_by_id(&id));
    let present = topic.map_or(broker, |topic| ctx.state.settings(topic).text(key));
    let mut items: Vec<&str> = present.split(',').filter(|item| !item.is_empty()).collect();
    for item in change.split(',') {
        edit(&mut items, item);
    }
    Ok(items.join(","))
}
