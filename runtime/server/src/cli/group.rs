//! `tidemill group`: list, describe, reset-offsets, delete.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidemill_client::{Admin, Client, Committed, ErrorCode, GroupDescription, OffsetSpec, TopicPartition};

use super::Failure;
use super::place::{Place, ends};
use super::remote::{Remote, block_on, explained, print, print_table, table};

/// Show consumer groups, move them, delete them.
#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List groups.
    List {
        /// A JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show a group: its members, what they read, how far they are.
    #[command(after_help = "Example:\n  tidemill group describe billing --json | jq '[.offsets[].lag] | add'")]
    Describe {
        /// The group's id.
        group: String,
        /// A JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Move the committed offsets of a group without members.
    #[command(after_help = "Examples:
  tidemill group reset-offsets billing --topic orders --to earliest
  tidemill group reset-offsets billing --topic orders --partition 3 --to 1200
  tidemill group reset-offsets billing --topic orders --to @2013-01-31T12:00:00Z --dry-run

TO is earliest, latest, an offset, -COUNT from the end, or @TIME.")]
    ResetOffsets {
        /// The group's id.
        group: String,
        /// Topic. May be repeated.
        #[arg(long, short, required = true)]
        topic: Vec<String>,
        /// Only this partition. May be repeated.
        #[arg(long, short)]
        partition: Vec<i32>,
        /// Where to.
        #[arg(long, allow_hyphen_values = true)]
        to: Place,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// A JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Delete groups without members, with their offsets.
    Delete {
        /// Ids.
        #[arg(required = true)]
        groups: Vec<String>,
    },
}

impl Group {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            let client = self.remote.connect().await?;
            let done = self.command.run(&client).await;
            client.close().await;
            done.map(|()| ExitCode::SUCCESS)
        })
    }
}

impl Command {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let admin = client.admin();
        match self {
            Command::List { json } => list(&admin, json).await,
            Command::Describe { group, json } => describe(&admin, &group, json).await,
            Command::ResetOffsets {
                group,
                topic,
                partition,
                to,
                dry_run,
                json,
            } => {
                let places = places(&admin, &topic, &partition).await?;
                reset(&admin, &group, &places, to, dry_run, json).await
            }
            Command::Delete { groups } => {
                for group in groups {
                    admin.delete_group(&group).await.map_err(explained)?;
                    print(format_args!("deleted {group}"))?;
                }
                Ok(())
            }
        }
    }
}

async fn list(admin: &Admin, json: bool) -> Result<(), Failure> {
    let groups = admin.list_groups().await.map_err(explained)?;
    if json {
        let rows = groups.iter().map(|group| {
            json!({
                "group": group.group_id,
                "type": group.group_type,
                "state": group.state,
                "protocol_type": group.protocol_type,
            })
        });
        return print(Value::Array(rows.collect()));
    }
    let mut rows = table(["group", "type", "state"]);
    for group in groups {
        rows.add_row(vec![group.group_id, group.group_type, group.state]);
    }
    print_table(&rows, "no groups")
}

/// How far a group is in one partition.
struct Progress {
    place: TopicPartition,
    committed: Option<i64>,
    end: Option<i64>,
    owner: Option<String>,
}

impl Progress {
    fn lag(&self) -> Option<i64> {
        self.end
            .map(|end| (end - self.committed.unwrap_or(0)).max(0))
            .filter(|_| self.committed.is_some())
    }
}

async fn describe(admin: &Admin, group: &str, json: bool) -> Result<(), Failure> {
    let described = admin.describe_group(group).await.map_err(explained)?;
    let progress = progress(admin, &described).await?;
    if json {
        return print(described_json(&described, &progress));
    }
    let epoch = described
        .epoch
        .map(|epoch| format!(", epoch {epoch}"))
        .unwrap_or_default();
    print(format_args!(
        "{}  {} group, {}, assignor {}{epoch}",
        described.group_id,
        described.group_type,
        described.state,
        if described.assignor.is_empty() {
            "none"
        } else {
            &described.assignor
        },
    ))?;
    let mut rows = table(["member", "client", "host", "partitions"]);
    for member in &described.members {
        let name = member
            .instance_id
            .as_ref()
            .map_or_else(|| member.member_id.clone(), |id| format!("{id} ({})", member.member_id));
        rows.add_row(vec![
            name,
            member.client_id.clone(),
            member.client_host.clone(),
            listed(&member.assignment),
        ]);
    }
    print_table(&rows, "no members")?;
    let written = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let mut rows = table(["topic", "partition", "committed", "end", "lag", "member"]);
    for p in &progress {
        rows.add_row(vec![
            p.place.topic.clone(),
            p.place.partition.to_string(),
            written(p.committed),
            written(p.end),
            written(p.lag()),
            p.owner.clone().unwrap_or_default(),
        ]);
    }
    print_table(&rows, "nothing committed")
}

async fn progress(admin: &Admin, described: &GroupDescription) -> Result<Vec<Progress>, Failure> {
    let committed = admin.group_offsets(&described.group_id).await.map_err(explained)?;
    let owners: BTreeMap<TopicPartition, &str> = described
        .members
        .iter()
        .flat_map(|member| {
            member
                .assignment
                .iter()
                .map(|place| (place.clone(), member.member_id.as_str()))
        })
        .collect();
    let mut places: Vec<TopicPartition> = committed.keys().chain(owners.keys()).cloned().collect();
    places.sort();
    places.dedup();
    // A topic that is gone has no end; what was committed for it is shown all the same.
    let mut known_ends = BTreeMap::new();
    for of_topic in places.chunk_by(|a, b| a.topic == b.topic) {
        known_ends.extend(ends(admin, of_topic, OffsetSpec::Latest).await.unwrap_or_default());
    }
    let row = |place: TopicPartition| Progress {
        committed: committed.get(&place).map(|committed| committed.offset),
        end: known_ends.get(&place).copied(),
        owner: owners.get(&place).map(|owner| (*owner).to_owned()),
        place,
    };
    Ok(places.into_iter().map(row).collect())
}

fn described_json(described: &GroupDescription, progress: &[Progress]) -> Value {
    let members = described.members.iter().map(|member| {
        let assignment = member
            .assignment
            .iter()
            .map(|p| json!({ "topic": p.topic, "partition": p.partition }));
        json!({
            "member_id": member.member_id,
            "instance_id": member.instance_id,
            "client_id": member.client_id,
            "client_host": member.client_host,
            "assignment": assignment.collect::<Vec<_>>(),
        })
    });
    let offsets = progress.iter().map(|p| {
        json!({
            "topic": p.place.topic,
            "partition": p.place.partition,
            "committed": p.committed,
            "end": p.end,
            "lag": p.lag(),
            "member": p.owner,
        })
    });
    json!({
        "group": described.group_id,
        "type": described.group_type,
        "state": described.state,
        "assignor": described.assignor,
        "epoch": described.epoch,
        "members": members.collect::<Vec<_>>(),
        "offsets": offsets.collect::<Vec<_>>(),
    })
}

async fn reset(
    admin: &Admin,
    group: &str,
    places: &[TopicPartition],
    to: Place,
    dry_run: bool,
    json: bool,
) -> Result<(), Failure> {
    let Some(targets) = to.offsets(admin, places).await.map_err(explained)? else {
        return Err("committed is where the group is already: give another place".into());
    };
    let before = match admin.group_offsets(group).await {
        Ok(before) => before,
        Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => BTreeMap::new(),
        Err(error) => return Err(explained(error)),
    };
    if !dry_run {
        let offsets = targets
            .iter()
            .map(|(place, offset)| (place.clone(), Committed::from(*offset)));
        admin
            .alter_group_offsets(group, &offsets.collect())
            .await
            .map_err(explained)?;
    }
    let was = |place: &TopicPartition| before.get(place).map(|committed| committed.offset);
    if json {
        let rows = targets.iter().map(|(place, offset)| {
            json!({ "topic": place.topic, "partition": place.partition, "before": was(place), "after": offset })
        });
        return print(Value::Array(rows.collect()));
    }
    let mut rows = table(["topic", "partition", "before", "after"]);
    for (place, offset) in &targets {
        let before = was(place).map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        rows.add_row(vec![
            place.topic.clone(),
            place.partition.to_string(),
            before,
            offset.to_string(),
        ]);
    }
    print(rows)?;
    if dry_run {
        print("nothing was changed: leave out --dry-run to do it")
    } else {
        Ok(())
    }
}

/// The partitions meant: all of each topic, or those numbered.
async fn places(admin: &Admin, topics: &[String], numbers: &[i32]) -> Result<Vec<TopicPartition>, Failure> {
    let mut places = Vec::new();
    for name in topics {
        let topic = admin.describe_topic(name).await.map_err(explained)?;
        let all = topic.partitions.iter().map(|partition| partition.partition);
        if let Some(missing) = numbers
            .iter()
            .find(|number| !(0..topic.partition_count()).contains(number))
        {
            return Err(format!("{name} has no partition {missing}, it has {}", topic.partition_count()).into());
        }
        let wanted = all.filter(|number| numbers.is_empty() || numbers.contains(number));
        places.extend(wanted.map(|number| TopicPartition::new(name.clone(), number)));
    }
    Ok(places)
}

/// `topic: 0,1,2  other: 4`.
fn listed(places: &[TopicPartition]) -> String {
    let by_topic = places.chunk_by(|a, b| a.topic == b.topic).map(|places| {
        let numbers: Vec<_> = places.iter().map(|place| place.partition.to_string()).collect();
        format!("{}: {}", places[0].topic, numbers.join(","))
    });
    by_topic.collect::<Vec<_>>().join("  ")
}
