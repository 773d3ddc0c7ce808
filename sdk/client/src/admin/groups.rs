//! Groups: what they are, who is in them, and what they have committed.
//!
//! A group of the classic protocol and one of KIP-848 are described by different APIs; the listing says which it is.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use tidemill_protocol::api::consumer_group_describe::ConsumerGroupDescribeRequest;
use tidemill_protocol::api::delete_groups::DeleteGroupsRequest;
use tidemill_protocol::api::describe_groups::DescribeGroupsRequest;
use tidemill_protocol::api::list_groups::ListGroupsRequest;
use tidemill_protocol::api::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use tidemill_protocol::error_code::ErrorCode;

use super::Admin;
use crate::error::{Error, Result, check};
use crate::offsets::{self, Committed, Committer};
use crate::record::TopicPartition;

/// A group in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// `consumer` for KIP-848, `classic` for the older protocol.
    pub group_type: String,
    /// Its state, in Kafka's words: `Stable`, `Empty`, ...
    pub state: String,
    /// `consumer` for groups that read topics.
    pub protocol_type: String,
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group_id: String,
    /// `consumer` or `classic`.
    pub group_type: String,
    /// Its state, in Kafka's words.
    pub state: String,
    /// How partitions are assigned.
    pub assignor: String,
    /// Epoch of the group; none for classic groups.
    pub epoch: Option<i32>,
    /// Who is in it.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub member_id: String,
    /// Its name that survives restarts, if it has one.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it reads.
    pub assignment: Vec<TopicPartition>,
}

impl Admin {
    /// All groups.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        let request = ListGroupsRequest::default();
        let response = self.client.retry(|| self.client.call_any(request.clone())).await?;
        check(response.error_code, None, || "groups".to_owned())?;
        let listing = response.groups.into_iter().map(|group| GroupListing {
            group_id: group.group_id,
            group_type: group.group_type.to_lowercase(),
            state: group.group_state,
            protocol_type: group.protocol_type,
        });
        let mut listing: Vec<_> = listing.collect();
        listing.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(listing)
    }

    /// A group and its members.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        self.client.retry(|| self.describe_group_once(group)).await
    }

    async fn describe_group_once(&self, group: &str) -> Result<GroupDescription> {
        match self.describe_consumer_group(group).await {
            // Not of that protocol, or a broker that does not speak it.
            Err(
                Error::Broker {
                    code: ErrorCode::GROUP_ID_NOT_FOUND,
                    ..
                }
                | Error::UnsupportedApi { .. },
            ) => self.describe_classic_group(group).await,
            described => described,
        }
    }

    async fn describe_consumer_group(&self, group: &str) -> Result<GroupDescription> {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![group.to_owned()],
            ..Default::default()
        };
        let response = self.client.coordinator(group).await?.call(request).await?;
        let described = response
            .groups
            .into_iter()
            .next()
            .ok_or_else(|| Error::protocol("no group"))?;
        check(described.error_code, described.error_message.as_deref(), || {
            format!("group {group}")
        })?;
        let members = described.members.into_iter().map(|member| GroupMember {
            member_id: member.member_id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            assignment: places(
                member
                    .assignment
                    .topic_partitions
                    .into_iter()
                    .map(|t| (t.topic_name, t.partitions)),
            ),
        });
        Ok(GroupDescription {
            group_id: described.group_id,
            group_type: "consumer".to_owned(),
            state: described.group_state,
            assignor: described.assignor_name,
            epoch: Some(described.group_epoch),
            members: members.collect(),
        })
    }

    async fn describe_classic_group(&self, group: &str) -> Result<GroupDescription> {
        let request = DescribeGroupsRequest {
            groups: vec![group.to_owned()],
            ..Default::default()
        };
        let response = self.client.coordinator(group).await?.call(request).await?;
        let described = response
            .groups
            .into_iter()
            .next()
            .ok_or_else(|| Error::protocol("no group"))?;
        check(described.error_code, described.error_message.as_deref(), || {
            format!("group {group}")
        })?;
        if described.group_state == "Dead" {
            // How versions before 6 say it.
            check(ErrorCode::GROUP_ID_NOT_FOUND, None, || format!("group {group}"))?;
        }
        let members = described.members.into_iter().map(|member| GroupMember {
            member_id: member.member_id,
            instance_id: member.group_instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            assignment: classic_assignment(member.member_assignment).unwrap_or_default(),
        });
        Ok(GroupDescription {
            group_id: described.group_id,
            group_type: "classic".to_owned(),
            state: described.group_state,
            assignor: described.protocol_data,
            epoch: None,
            members: members.collect(),
        })
    }

    /// Deletes a group that has no members, with its committed offsets.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        let request = DeleteGroupsRequest {
            groups_names: vec![group.to_owned()],
        };
        let response = self.client.coordinator(group).await?.call(request).await?;
        for result in response.results {
            check(result.error_code, None, || format!("group {group}"))?;
        }
        Ok(())
    }

    /// What a group has committed.
    pub async fn group_offsets(&self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>> {
        let committer = nobody(group);
        self.client
            .retry(|| offsets::fetch(&self.client, &committer, None))
            .await
    }

    /// Sets committed offsets of a group that has no members.
    pub async fn alter_group_offsets(&self, group: &str, offsets: &BTreeMap<TopicPartition, Committed>) -> Result<()> {
        let committer = nobody(group);
        self.client
            .retry(|| offsets::commit(&self.client, &committer, offsets))
            .await
    }

    /// Forgets committed offsets of a group, for topics that it is not subscribed to.
    pub async fn delete_group_offsets(&self, group: &str, partitions: &[TopicPartition]) -> Result<()> {
        let topics = offsets::by_topic(partitions)
            .into_iter()
            .map(|(name, numbers)| OffsetDeleteRequestTopic {
                name,
                partitions: numbers
                    .into_iter()
                    .map(|partition_index| OffsetDeleteRequestPartition { partition_index })
                    .collect(),
            });
        let request = OffsetDeleteRequest {
            group_id: group.to_owned(),
            topics: topics.collect(),
        };
        let response = self.client.coordinator(group).await?.call(request).await?;
        check(response.error_code, None, || format!("group {group}"))?;
        for topic in response.topics {
            for partition in topic.partitions {
                let place = || format!("group {group}, {}-{}", topic.name, partition.partition_index);
                check(partition.error_code, None, place)?;
            }
        }
        Ok(())
    }
}

fn nobody(group: &str) -> Committer {
    Committer {
        group: group.to_owned(),
        member: None,
        instance_id: None,
    }
}

fn places(topics: impl Iterator<Item = (String, Vec<i32>)>) -> Vec<TopicPartition> {
    let mut places: Vec<_> = topics
        .flat_map(|(topic, partitions)| {
            partitions
                .into_iter()
                .map(move |p| TopicPartition::new(topic.clone(), p))
        })
        .collect();
    places.sort();
    places
}

/// Reads the assignment that members of the classic `consumer` protocol hand out among themselves.
///
/// ```text
/// version i16 | topics i32 { name i16+bytes | partitions i32 { i32 } } | user data
/// ```
fn classic_assignment(mut bytes: Bytes) -> Option<Vec<TopicPartition>> {
    let _version = bytes.try_get_i16().ok()?;
    let topics = bytes.try_get_i32().ok()?;
    let mut found = Vec::new();
    for _ in 0..topics {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        let name = (length <= bytes.remaining()).then(|| bytes.split_to(length))?;
        let name = std::str::from_utf8(&name).ok()?.to_owned();
        let partitions = bytes.try_get_i32().ok()?;
        for _ in 0..partitions {
            found.push(TopicPartition::new(name.clone(), bytes.try_get_i32().ok()?));
        }
    }
    found.sort();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_classic_assignment_is_read_and_nonsense_is_not() {
        let bytes =
            b"\x00\x01\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x02\x00\x00\x00\x05\x00\x00\x00\x02\x00\x00\x00\x00";
        let places = classic_assignment(Bytes::from_static(bytes)).expect("it is well formed");
        assert_eq!(places, [TopicPartition::new("t", 2), TopicPartition::new("t", 5)]);
        for cut in 0..bytes.len() - 4 {
            assert_eq!(classic_assignment(Bytes::from_static(&bytes[..cut])), None);
        }
        assert_eq!(
            classic_assignment(Bytes::from_static(b"\x00\x01\x7f\xff\xff\xff")),
            None
        );
    }
}
