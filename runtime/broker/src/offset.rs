//! Committed offsets: a view by (group, topic id, partition) of what `__consumer_offsets` holds as records.
//!
//! Keyed by the topic's identity, so that offsets of a deleted topic never apply to its successor.
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use tidemill_protocol::ids::Uuid;

use crate::{
    effect::{Changes, Row, Table},
    limits::OFFSETS_PARTITIONS,
    stored,
    stored::{Malformed, Stored, Writer},
};

stored! {
    /// What a group has committed for one partition.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Committed {
        /// Next offset to read.
        pub offset: i64,
        /// As the client sent it; -1 when it did not.
        pub leader_epoch: i32,
        /// As the client sent it.
        pub metadata: String,
        /// Time of the entry that committed it.
        pub time: i64,
    }
}

/// All committed offsets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offsets {
    groups: BTreeMap<String, BTreeMap<(Uuid, i32), Committed>>,
}

impl Offsets {
    /// What `group` has committed for a partition.
    pub fn get(&self, group: &str, topic: &Uuid, partition: i32) -> Option<&Committed> {
        self.groups.get(group)?.get(&(*topic, partition))
    }

    /// Everything that `group` has committed.
    pub fn of_group(&self, group: &str) -> impl Iterator<Item = (&(Uuid, i32), &Committed)> {
        self.groups.get(group).into_iter().flatten()
    }

    /// Groups that have committed anything.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    pub(crate) fn insert(&mut self, changes: &mut Changes, group: &str, at: (Uuid, i32), committed: Committed) {
        changes.put(Table::Offset, key(group, at), &committed);
        self.groups.entry(group.into()).or_default().insert(at, committed);
    }

    pub(crate) fn remove(&mut self, changes: &mut Changes, group: &str, at: (Uuid, i32)) -> Option<Committed> {
        let offsets = self.groups.get_mut(group)?;
        let removed = offsets.remove(&at)?;
        if offsets.is_empty() {
            self.groups.remove(group);
        }
        changes.delete(Table::Offset, key(group, at));
        Some(removed)
    }

    pub(crate) fn load(&mut self, row: &Row) -> Result<(), Malformed> {
        let (group, topic, partition) = <(String, Uuid, i32)>::from_row(&row.key)?;
        let Some(value) = &row.value else { return Ok(()) };
        self.groups
            .entry(group)
            .or_default()
            .insert((topic, partition), Committed::from_row(value)?);
        Ok(())
    }

    /// Groups and partitions with an offset of this topic.
    pub(crate) fn of_topic(&self, topic: &Uuid) -> Vec<(String, i32)> {
        let mut found = Vec::new();
        for (group, offsets) in &self.groups {
            let range = (*topic, i32::MIN)..=(*topic, i32::MAX);
            found.extend(offsets.range(range).map(|(at, _)| (group.clone(), at.1)));
        }
        found
    }
}

fn key(group: &str, (topic, partition): (Uuid, i32)) -> bytes::Bytes {
    let mut writer = Writer::default();
    writer.count(group.len());
    writer.put(group.as_bytes());
    topic.store(&mut writer);
    partition.store(&mut writer);
    writer.into_bytes()
}

/// The partition of `__consumer_offsets` that belongs to a group: `abs(String.hashCode(group)) % 50`, where the hash runs over UTF-16
/// units and the absolute value of the smallest integer is 0, as in Kafka's `GroupMetadataManager`.
pub fn partition_of_group(group: &str) -> i32 {
    let hash = group
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let partitions = i32::try_from(OFFSETS_PARTITIONS).expect("the constant is small");
    hash.checked_abs().unwrap_or(0) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_partition_is_javas_hash_code_modulo_fifty() {
        assert_eq!(partition_of_group(""), 0);
        // "hello".hashCode() is 99162322 and "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(partition_of_group("hello"), 22);
        assert_eq!(partition_of_group("polygenelubricants"), 0);
    }
}
