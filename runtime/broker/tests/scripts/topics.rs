//! Commands of topics, configuration and the cluster, and how their responses print.
//!
//! `create TOPIC [partitions=N] [replicas=N] [validate=1] [KEY=VALUE...]`, `delete TOPIC... [id=1]`, `partitions TOPIC COUNT [validate=1]`
//! `metadata [TOPIC...] [version=N] [create=false]`, `cluster`, `api-versions`, `coordinator KEY... [type=N] [version=N]`
//! `configs topic|broker NAME [KEY...] [synonyms=1]`, `alter topic|broker NAME [KEY=VALUE...]`,
//! `set topic|broker NAME [KEY=VALUE...] [op=set|delete|append|subtract] [validate=1]`
use std::error::Error;

use goldenscript::Command;
use tidemill_protocol::{
    api::{
        Response,
        alter_configs::{self, AlterConfigsRequest},
        api_versions::ApiVersionsRequest,
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
        delete_topics::{DeleteTopicState, DeleteTopicsRequest},
        describe_cluster::DescribeClusterRequest,
        describe_configs::{DescribeConfigsRequest, DescribeConfigsResource},
        find_coordinator::FindCoordinatorRequest,
        incremental_alter_configs::{self, IncrementalAlterConfigsRequest},
        metadata::{MetadataRequest, MetadataRequestTopic},
    },
    ids::Uuid,
};

use crate::{Output, records::outcome, world::World};

impl World {
    /// Id of a topic; of none, one that nobody has.
    pub fn topic_id(&self, name: &str) -> Uuid {
        self.broker
            .state()
            .topics
            .get(name)
            .map_or(Uuid([7; 16]), |topic| topic.id)
    }
}

pub fn run(world: &mut World, command: &Command) -> Option<Output> {
    let run = match command.name.as_str() {
        "create" => create,
        "delete" => delete,
        "partitions" => partitions,
        "metadata" => metadata,
        "cluster" => cluster,
        "api-versions" => api_versions,
        "coordinator" => coordinator,
        "configs" => configs,
        "alter" => alter,
        "set" => set,
        _ => return None,
    };
    Some(run(world, command).map(|()| String::new()))
}

type Done = Result<(), Box<dyn Error>>;

fn create(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let validate_only = args.take_key("validate").is_some();
    let num_partitions = args.take_key("partitions").map_or(Ok(1), str::parse)?;
    let replication_factor = args.take_key("replicas").map_or(Ok(1), str::parse)?;
    let mut configs = Vec::new();
    while let Some((name, value)) = args.next_key() {
        configs.push(CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        });
    }
    let mut topics = Vec::new();
    while let Some(name) = args.next_pos() {
        topics.push(CreatableTopic {
            name: name.into(),
            num_partitions,
            replication_factor,
            configs: configs.clone(),
            ..CreatableTopic::default()
        });
    }
    world.request(
        7,
        CreateTopicsRequest {
            topics,
            validate_only,
            ..Default::default()
        },
    );
    Ok(())
}

fn delete(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let is_by_id = args.take_key("id").is_some();
    let mut topics = Vec::new();
    while let Some(name) = args.next_pos() {
        topics.push(if is_by_id {
            DeleteTopicState {
                name: None,
                topic_id: world.topic_id(name),
            }
        } else {
            DeleteTopicState {
                name: Some(name.into()),
                ..Default::default()
            }
        });
    }
    args.reject_next()?;
    world.request(
        6,
        DeleteTopicsRequest {
            topics,
            ..Default::default()
        },
    );
    Ok(())
}

fn partitions(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let validate_only = args.take_key("validate").is_some();
    let name = args.next_pos().ok_or("TOPIC?")?.into();
    let count = args.next_pos().ok_or("COUNT?")?.parse()?;
    args.reject_next()?;
    let topics = vec![CreatePartitionsTopic {
        name,
        count,
        assignments: None,
    }];
    world.request(
        3,
        CreatePartitionsRequest {
            topics,
            validate_only,
            ..Default::default()
        },
    );
    Ok(())
}

fn metadata(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let version = args.take_key("version").map_or(Ok(12), str::parse)?;
    let allow_auto_topic_creation = args.take_key("create").map_or(Ok(true), str::parse)?;
    let mut topics = Vec::new();
    while let Some(name) = args.next_pos() {
        topics.push(match name.strip_prefix("id:") {
            Some(name) => MetadataRequestTopic {
                topic_id: world.topic_id(name),
                name: None,
            },
            None => MetadataRequestTopic {
                name: Some(name.into()),
                ..Default::default()
            },
        });
    }
    args.reject_next()?;
    let topics = (!topics.is_empty()).then_some(topics);
    world.request(
        version,
        MetadataRequest {
            topics,
            allow_auto_topic_creation,
            ..Default::default()
        },
    );
    Ok(())
}

fn cluster(world: &mut World, _: &Command) -> Done {
    world.request(2, DescribeClusterRequest::default());
    Ok(())
}

fn api_versions(world: &mut World, _: &Command) -> Done {
    world.request(4, ApiVersionsRequest::default());
    Ok(())
}

fn coordinator(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let key_type = args.take_key("type").map_or(Ok(0), str::parse)?;
    let version = args.take_key("version").map_or(Ok(4), str::parse)?;
    let mut coordinator_keys = Vec::new();
    while let Some(key) = args.next_pos() {
        coordinator_keys.push(key.to_owned());
    }
    args.reject_next()?;
    let key = coordinator_keys.first().cloned().unwrap_or_default();
    world.request(
        version,
        FindCoordinatorRequest {
            key,
            key_type,
            coordinator_keys,
        },
    );
    Ok(())
}

fn resource(args: &mut goldenscript::ArgumentConsumer<'_>) -> Result<(i8, String), Box<dyn Error>> {
    let resource_type = match args.next_pos() {
        Some("topic") => 2,
        Some("broker") => 4,
        _ => 8,
    };
    Ok((resource_type, args.next_pos().unwrap_or_default().into()))
}

fn configs(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let include_synonyms = args.take_key("synonyms").is_some();
    let (resource_type, resource_name) = resource(&mut args)?;
    let mut keys = Vec::new();
    while let Some(key) = args.next_pos() {
        keys.push(key.to_owned());
    }
    args.reject_next()?;
    let configuration_keys = (!keys.is_empty()).then_some(keys);
    let resources = vec![DescribeConfigsResource {
        resource_type,
        resource_name,
        configuration_keys,
    }];
    world.request(
        4,
        DescribeConfigsRequest {
            resources,
            include_synonyms,
            ..Default::default()
        },
    );
    Ok(())
}

fn alter(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let (resource_type, resource_name) = resource(&mut args)?;
    let mut configs = Vec::new();
    while let Some((name, value)) = args.next_key() {
        configs.push(alter_configs::AlterableConfig {
            name: name.into(),
            value: Some(value.into()),
        });
    }
    args.reject_next()?;
    let resources = vec![alter_configs::AlterConfigsResource {
        resource_type,
        resource_name,
        configs,
    }];
    world.request(
        2,
        AlterConfigsRequest {
            resources,
            ..Default::default()
        },
    );
    Ok(())
}

fn set(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let validate_only = args.take_key("validate").is_some();
    let config_operation = match args.take_key("op").unwrap_or("set") {
        "set" => 0,
        "delete" => 1,
        "append" => 2,
        "subtract" => 3,
        _ => 9,
    };
    let (resource_type, resource_name) = resource(&mut args)?;
    let mut configs = Vec::new();
    while let Some((name, value)) = args.next_key() {
        configs.push(incremental_alter_configs::AlterableConfig {
            name: name.into(),
            config_operation,
            value: Some(value.into()),
        });
    }
    args.reject_next()?;
    let resources = vec![incremental_alter_configs::AlterConfigsResource {
        resource_type,
        resource_name,
        configs,
    }];
    world.request(
        1,
        IncrementalAlterConfigsRequest {
            resources,
            validate_only,
        },
    );
    Ok(())
}

pub fn show(response: &Response) -> Option<String> {
    let lines: Vec<String> = match response {
        Response::CreateTopics(response) => response
            .topics
            .iter()
            .map(|topic| {
                let message = topic.error_message.as_deref().unwrap_or_default();
                let made = format!("created with {} partitions", topic.num_partitions);
                format!("{} {} {message}", topic.name, outcome(topic.error_code, made))
                    .trim_end()
                    .to_owned()
            })
            .collect(),
        Response::DeleteTopics(response) => response
            .responses
            .iter()
            .map(|topic| {
                let name = topic.name.as_deref().unwrap_or("(by id)");
                format!("{name} {}", outcome(topic.error_code, "deleted".into()))
            })
            .collect(),
        Response::CreatePartitions(response) => response
            .results
            .iter()
            .map(|topic| {
                let message = topic.error_message.as_deref().unwrap_or_default();
                format!("{} {} {message}", topic.name, outcome(topic.error_code, "ok".into()))
                    .trim_end()
                    .to_owned()
            })
            .collect(),
        Response::Metadata(response) => {
            let brokers = response
                .brokers
                .iter()
                .map(|node| format!("node {} {}:{}", node.node_id, node.host, node.port));
            let topics = response.topics.iter().map(|topic| {
                let name = topic.name.as_deref().unwrap_or("(by id)");
                let internal = if topic.is_internal { " internal" } else { "" };
                let made = format!("{} partitions{internal}", topic.partitions.len());
                format!("{name} {}", outcome(topic.error_code, made))
            });
            brokers.chain(topics).collect()
        }
        Response::DescribeCluster(response) => {
            vec![format!(
                "cluster {} controller {} brokers {}",
                response.cluster_id,
                response.controller_id,
                response.brokers.len()
            )]
        }
        Response::ApiVersions(response) => response
            .api_keys
            .iter()
            .map(|api| format!("{} {}..{}", api.api_key, api.min_version, api.max_version))
            .collect(),
        Response::FindCoordinator(response) if response.coordinators.is_empty() => {
            let message = response.error_message.as_deref().unwrap_or_default();
            let at = format!("node {} {}:{}", response.node_id, response.host, response.port);
            vec![
                format!("{} {message}", outcome(response.error_code, at))
                    .trim_end()
                    .to_owned(),
            ]
        }
        Response::FindCoordinator(response) => response
            .coordinators
            .iter()
            .map(|found| {
                let message = found.error_message.as_deref().unwrap_or_default();
                let at = format!("node {} {}:{}", found.node_id, found.host, found.port);
                format!("{} {} {message}", found.key, outcome(found.error_code, at))
                    .trim_end()
                    .to_owned()
            })
            .collect(),
        Response::DescribeConfigs(response) => response
            .results
            .iter()
            .flat_map(|result| {
                let message = result.error_message.as_deref().unwrap_or_default();
                let error = (!result.error_code.is_ok()).then(|| format!("{:?} {message}", result.error_code));
                let configs = result.configs.iter().map(|config| {
                    let synonyms: Vec<String> = config
                        .synonyms
                        .iter()
                        .map(|synonym| {
                            format!(
                                "{}={}@{}",
                                synonym.name,
                                synonym.value.as_deref().unwrap_or("null"),
                                synonym.source
                            )
                        })
                        .collect();
                    let read_only = if config.read_only { " read-only" } else { "" };
                    let value = config.value.as_deref().unwrap_or("null");
                    let line = format!(
                        "{}={value} source={}{read_only} {}",
                        config.name,
                        config.config_source,
                        synonyms.join(" ")
                    );
                    line.trim_end().to_owned()
                });
                error.into_iter().chain(configs).collect::<Vec<_>>()
            })
            .collect(),
        Response::AlterConfigs(response) => response
            .responses
            .iter()
            .map(|result| {
                let message = result.error_message.as_deref().unwrap_or_default();
                format!(
                    "{} {} {message}",
                    result.resource_name,
                    outcome(result.error_code, "altered".into())
                )
                .trim_end()
                .to_owned()
            })
            .collect(),
        Response::IncrementalAlterConfigs(response) => response
            .responses
            .iter()
            .map(|result| {
                let message = result.error_message.as_deref().unwrap_or_default();
                format!(
                    "{} {} {message}",
                    result.resource_name,
                    outcome(result.error_code, "altered".into())
                )
                .trim_end()
                .to_owned()
            })
            .collect(),
        _ => return None,
    };
    Some(lines.join("\n"))
}
