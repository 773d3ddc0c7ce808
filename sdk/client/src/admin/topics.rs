//! Topics and their configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_protocol::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use tidemill_protocol::api::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use tidemill_protocol::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidemill_protocol::api::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use tidemill_protocol::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use tidemill_protocol::api::metadata::MetadataRequest;

use super::Admin;
use crate::error::{Error, Result, check};
use crate::metadata::{Topic, topic_of};

/// Kafka's number for topics among the things that have a configuration.
const RESOURCE_TOPIC: i8 = 2;

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Name: 1 to 249 of letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Number of partitions; the broker's default when `None`.
    pub partitions: Option<i32>,
    /// Copies of each partition; the broker's default when `None`.
    pub replication_factor: Option<i16>,
    /// Configuration, by Kafka's keys.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with this many partitions and the broker's defaults.
    pub fn new(name: impl Into<String>, partitions: i32) -> NewTopic {
        NewTopic {
            partitions: Some(partitions),
            ..NewTopic::with_defaults(name)
        }
    }

    /// A topic with the broker's defaults.
    pub fn with_defaults(name: impl Into<String>) -> NewTopic {
        NewTopic {
            name: name.into(),
            partitions: None,
            replication_factor: None,
            configs: BTreeMap::new(),
        }
    }

    /// Sets a key of its configuration.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> NewTopic {
        self.configs.insert(key.into(), value.into());
        self
    }
}

/// A key of a topic's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's key.
    pub name: String,
    /// Its value; none if it is secret.
    pub value: Option<String>,
    /// Whether it is the default, or set by somebody for this topic.
    pub is_default: bool,
    /// Whether it cannot be changed.
    pub is_read_only: bool,
    /// What it means, if the broker says.
    pub documentation: Option<String>,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets a key to a value.
    Set(String, String),
    /// Back to the default.
    Reset(String),
}

impl Admin {
    /// Creates a topic. Gives it as the broker then tells it.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<Arc<Topic>> {
        let config = |(name, value)| CreatableTopicConfig {
            name,
            value: Some(value),
        };
        let name = topic.name.clone();
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.name,
                num_partitions: topic.partitions.unwrap_or(-1),
                replication_factor: topic.replication_factor.unwrap_or(-1),
                configs: topic.configs.into_iter().map(config).collect(),
                ..Default::default()
            }],
            timeout_ms: self.timeout_ms(),
            ..Default::default()
        };
        let response = self.client.call_controller(request).await?;
        for result in &response.topics {
            check(result.error_code, result.error_message.as_deref(), || {
                format!("topic {}", result.name)
            })?;
        }
        self.describe_topic(&name).await
    }

    /// All topics, those the broker keeps for itself included.
    pub async fn list_topics(&self) -> Result<Vec<Topic>> {
        let request = MetadataRequest {
            topics: None,
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.client.retry(|| self.client.call_any(request.clone())).await?;
        check(response.error_code, None, || "topics".to_owned())?;
        let whole = response.topics.into_iter().filter(|topic| topic.error_code.is_ok());
        let mut topics: Vec<Topic> = whole.map(topic_of).collect::<Result<_>>()?;
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic and its partitions, as the broker tells now.
    pub async fn describe_topic(&self, name: &str) -> Result<Arc<Topic>> {
        self.client.forget_topic(name);
        self.client.topic(name, crate::client::AutoCreate::Denied).await
    }

    /// Deletes a topic with its records and its committed offsets.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(name.to_owned()),
                ..Default::default()
            }],
            topic_names: vec![name.to_owned()],
            timeout_ms: self.timeout_ms(),
        };
        let response = self.client.call_controller(request).await?;
        self.client.forget_topic(name);
        for result in response.responses {
            check(result.error_code, result.error_message.as_deref(), || {
                format!("topic {name}")
            })?;
        }
        Ok(())
    }

    /// Raises the number of a topic's partitions. Keys then go to other partitions than before.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<()> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: topic.to_owned(),
                count,
                assignments: None,
            }],
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        let response = self.client.call_controller(request).await?;
        self.client.forget_topic(topic);
        for result in response.results {
            check(result.error_code, result.error_message.as_deref(), || {
                format!("topic {topic}")
            })?;
        }
        Ok(())
    }

    /// Every key of a topic's configuration, with defaults.
    pub async fn topic_configs(&self, topic: &str) -> Result<Vec<ConfigEntry>> {
        /// Kafka's number for a value set for this very topic.
        const SOURCE_TOPIC: i8 = 1;
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: topic.to_owned(),
                configuration_keys: None,
            }],
            include_synonyms: false,
            include_documentation: true,
        };
        let response = self.client.retry(|| self.client.call_any(request.clone())).await?;
        let result = response
            .results
            .into_iter()
            .next()
            .ok_or_else(|| Error::protocol("no configuration"))?;
        check(result.error_code, result.error_message.as_deref(), || {
            format!("topic {topic}")
        })?;
        let entries = result.configs.into_iter().map(|config| ConfigEntry {
            name: config.name,
            value: config.value.filter(|_| !config.is_sensitive),
            is_default: config.config_source != SOURCE_TOPIC,
            is_read_only: config.read_only,
            documentation: config.documentation.filter(|text| !text.is_empty()),
        });
        Ok(entries.collect())
    }

    /// Changes keys of a topic's configuration; the others stay.
    pub async fn alter_topic_configs(&self, topic: &str, changes: Vec<ConfigChange>) -> Result<()> {
        const OPERATION_SET: i8 = 0;
        const OPERATION_DELETE: i8 = 1;
        let configs = changes.into_iter().map(|change| match change {
            ConfigChange::Set(name, value) => AlterableConfig {
                name,
                config_operation: OPERATION_SET,
                value: Some(value),
            },
            ConfigChange::Reset(name) => AlterableConfig {
                name,
                config_operation: OPERATION_DELETE,
                value: None,
            },
        });
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: topic.to_owned(),
                configs: configs.collect(),
            }],
            validate_only: false,
        };
        let response = self.client.call_controller(request).await?;
        for result in response.responses {
            check(result.error_code, result.error_message.as_deref(), || {
                format!("topic {topic}")
            })?;
        }
        Ok(())
    }
}
