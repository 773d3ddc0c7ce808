//! `tidemill topic`: create, list, describe, delete, alter.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidemill_client::{Admin, ConfigChange, ErrorCode, NewTopic, OffsetSpec, Topic, TopicPartition};

use super::Failure;
use super::place::ends;
use super::remote::{Remote, block_on, explained, parse_pair, print, print_table, table};

/// Create, show, change and delete topics.
#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a topic.
    #[command(after_help = "Examples:
  tidemill topic create clicks --partitions 12
  tidemill topic create users --config cleanup.policy=compact --config retention.ms=86400000")]
    Create {
        /// Name.
        topic: String,
        /// Number of partitions; without it the daemon's default.
        #[arg(long, short)]
        partitions: Option<i32>,
        /// Copies of each partition; without it the daemon's default.
        #[arg(long)]
        replication_factor: Option<i16>,
        /// A key of its configuration, as Kafka names them. May be repeated.
        #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse_pair)]
        config: Vec<(String, String)>,
        /// Be content when it exists.
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List topics.
    #[command(after_help = "Example:\n  tidemill topic list --json | jq -r '.[].topic'")]
    List {
        /// Also the topics that the daemon keeps for itself.
        #[arg(long)]
        internal: bool,
        /// A JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show a topic: partitions with their offsets, and what is configured.
    #[command(
        after_help = "Examples:\n  tidemill topic describe clicks\n  tidemill topic describe clicks --all-configs --json"
    )]
    Describe {
        /// Name.
        topic: String,
        /// Also keys that are at their defaults.
        #[arg(long)]
        all_configs: bool,
        /// A JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Delete topics with their records.
    #[command(after_help = "Example:\n  tidemill topic delete clicks sessions")]
    Delete {
        /// Names.
        #[arg(required = true)]
        topics: Vec<String>,
    },
    /// Add partitions, change the configuration.
    #[command(after_help = "Examples:
  tidemill topic alter clicks --partitions 24
  tidemill topic alter clicks --set retention.ms=3600000 --reset max.message.bytes

More partitions send keys to other partitions than before.")]
    Alter {
        /// Name.
        topic: String,
        /// New number of partitions; it can only grow.
        #[arg(long, short)]
        partitions: Option<i32>,
        /// Set a key of the configuration. May be repeated.
        #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
        set: Vec<(String, String)>,
        /// Set a key back to its default. May be repeated.
        #[arg(long, value_name = "KEY")]
        reset: Vec<String>,
    },
}

impl Group {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let client = self.remote.connect().await?;
            let admin = client.admin();
            let done = self.command.run(&admin).await;
            client.close().await;
            done.map(|()| ExitCode::SUCCESS)
        })
    }
}

impl Command {
    async fn run(self, admin: &Admin) -> Result<(), Failure> {
        match self {
            Command::Create {
                topic,
                partitions,
                replication_factor,
                config,
                if_not_exists,
            } => {
                let configs = config.into_iter().collect();
                create(
                    admin,
                    NewTopic {
                        name: topic,
                        partitions,
                        replication_factor,
                        configs,
                    },
                    if_not_exists,
                )
                .await
            }
            Command::List { internal, json } => list(admin, internal, json).await,
            Command::Describe {
                topic,
                all_configs,
                json,
            } => describe(admin, &topic, all_configs, json).await,
            Command::Delete { topics } => {
                for topic in topics {
                    admin.delete_topic(&topic).await.map_err(explained)?;
                    print(format_args!("deleted {topic}"))?;
                }
                Ok(())
            }
            Command::Alter {
                topic,
                partitions,
                set,
                reset,
            } => alter(admin, &topic, partitions, set, reset).await,
        }
    }
}

async fn create(admin: &Admin, topic: NewTopic, if_not_exists: bool) -> Result<(), Failure> {
    let name = topic.name.clone();
    match admin.create_topic(topic).await {
        Ok(topic) => print(format_args!(
            "created {name} with {} partitions",
            topic.partitions.len()
        )),
        Err(error) if if_not_exists && error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {
            print(format_args!("{name} exists"))
        }
        Err(error) => Err(explained(error)),
    }
}

async fn list(admin: &Admin, internal: bool, json: bool) -> Result<(), Failure> {
    let mut topics = admin.list_topics().await.map_err(explained)?;
    topics.retain(|topic| internal || !topic.is_internal);
    if json {
        let rows = topics.iter().map(|topic| {
            json!({
                "topic": topic.name,
                "id": topic.id.to_string(),
                "partitions": topic.partitions.len(),
                "internal": topic.is_internal,
            })
        });
        return print(Value::Array(rows.collect()));
    }
    let mut rows = table(["topic", "partitions", "replicas"]);
    for topic in &topics {
        let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        rows.add_row(vec![
            topic.name.clone(),
            topic.partitions.len().to_string(),
            replicas.to_string(),
        ]);
    }
    print_table(&rows, "no topics: create one with `tidemill topic create NAME`")
}

async fn describe(admin: &Admin, name: &str, all_configs: bool, json: bool) -> Result<(), Failure> {
    let topic = admin.describe_topic(name).await.map_err(explained)?;
    let places = places(&topic);
    let starts = ends(admin, &places, OffsetSpec::Earliest).await.map_err(explained)?;
    let ends = ends(admin, &places, OffsetSpec::Latest).await.map_err(explained)?;
    let mut configs = admin.topic_configs(name).await.map_err(explained)?;
    configs.retain(|config| all_configs || !config.is_default);
    let offset = |place, offsets: &std::collections::BTreeMap<_, i64>| offsets.get(place).copied();
    if json {
        let partitions = topic.partitions.iter().zip(&places).map(|(partition, place)| {
            json!({
                "partition": partition.partition,
                "leader": partition.leader,
                "replicas": partition.replicas,
                "in_sync": partition.in_sync,
                "earliest": offset(place, &starts),
                "latest": offset(place, &ends),
            })
        });
        let configs = configs
            .iter()
            .map(|c| (c.name.clone(), c.value.clone().map_or(Value::Null, Value::String)));
        return print(json!({
            "topic": topic.name,
            "id": topic.id.to_string(),
            "internal": topic.is_internal,
            "partitions": partitions.collect::<Vec<_>>(),
            "configs": Value::Object(configs.collect()),
        }));
    }
    print(format_args!("{}  id {}", topic.name, topic.id))?;
    let mut rows = table(["partition", "leader", "replicas", "earliest", "latest", "records"]);
    for (partition, place) in topic.partitions.iter().zip(&places) {
        let (start, end) = (offset(place, &starts), offset(place, &ends));
        let written = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let replicas: Vec<_> = partition.replicas.iter().map(ToString::to_string).collect();
        rows.add_row(vec![
            partition.partition.to_string(),
            written(partition.leader.map(i64::from)),
            replicas.join(","),
            written(start),
            written(end),
            written(start.zip(end).map(|(start, end)| end - start)),
        ]);
    }
    print(rows)?;
    let mut rows = table(["config", "value", "default"]);
    for config in &configs {
        let value = config.value.clone().unwrap_or_else(|| "(hidden)".to_owned());
        rows.add_row(vec![
            config.name.clone(),
            value,
            if config.is_default { "yes" } else { "" }.to_owned(),
        ]);
    }
    if rows.is_empty() { Ok(()) } else { print(rows) }
}

async fn alter(
    admin: &Admin,
    topic: &str,
    partitions: Option<i32>,
    set: Vec<(String, String)>,
    reset: Vec<String>,
) -> Result<(), Failure> {
    let set = set.into_iter().map(|(key, value)| ConfigChange::Set(key, value));
    let changes: Vec<ConfigChange> = set.chain(reset.into_iter().map(ConfigChange::Reset)).collect();
    if partitions.is_none() && changes.is_empty() {
        return Err("nothing to change: give --partitions, --set or --reset".into());
    }
    if !changes.is_empty() {
        let count = changes.len();
        admin.alter_topic_configs(topic, changes).await.map_err(explained)?;
        print(format_args!("changed {count} keys of {topic}"))?;
    }
    if let Some(count) = partitions {
        admin.create_partitions(topic, count).await.map_err(explained)?;
        print(format_args!("{topic} has {count} partitions"))?;
    }
    Ok(())
}

fn places(topic: &Topic) -> Vec<TopicPartition> {
    topic
        .partitions
        .iter()
        .map(|partition| TopicPartition::new(topic.name.clone(), partition.partition))
        .collect()
}
