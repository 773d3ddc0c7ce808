//! Applying commands about topics: creation, deletion, partitions, configuration, log starts.
use alloc::{string::String, vec::Vec};
use tidemill_protocol::{error_code::ErrorCode, ids::Uuid};

use super::State;
use crate::{
    effect::{Changes, LogId, Table},
    entry::{ConfigChange, NewPartitions, NewTopic, Stamp, Trim},
    limits::{OFFSETS_PARTITIONS, PARTITIONS_MAX, TOPIC_PARTITIONS_MAX},
    topic::{CONSUMER_OFFSETS, Log, Topic, is_internal},
};

impl State {
    /// Creates a topic, for `apply` only.
    pub(crate) fn create_topic(&mut self, changes: &mut Changes, new: &NewTopic) -> Result<(), ErrorCode> {
        if self.topics.get(&new.name).is_some() {
            return Err(ErrorCode::TOPIC_ALREADY_EXISTS);
        }
        if is_internal(&new.name) {
            return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        self.check_partitions(0, new.partitions)?;
        self.add_topic(changes, new);
        Ok(())
    }

    /// Adds a topic that may be there.
    pub(super) fn add_topic(&mut self, changes: &mut Changes, new: &NewTopic) {
        let mut topic = Topic {
            name: new.name.clone(),
            id: new.id,
            logs: Vec::new(),
            configs: new.configs.clone(),
        };
        self.add_partitions(changes, &mut topic, new.partitions);
        topic.save(changes);
        self.topics.insert(topic);
    }

    /// Whether a topic of `present` partitions may have `wanted`.
    pub(crate) fn check_partitions(&self, present: u32, wanted: u32) -> Result<(), ErrorCode> {
        // The first commit of an offset needs these, and cannot be refused any more.
        let kept = match self.topics.get(CONSUMER_OFFSETS) {
            Some(_) => 0,
            None => OFFSETS_PARTITIONS,
        };
        let all = self.logs.len() + kept as usize + wanted.saturating_sub(present) as usize;
        let fits = present < wanted && wanted <= TOPIC_PARTITIONS_MAX && all <= PARTITIONS_MAX;
        if fits {
            Ok(())
        } else {
            Err(ErrorCode::INVALID_PARTITIONS)
        }
    }

    pub(super) fn delete_topic(&mut self, changes: &mut Changes, at: Stamp, id: &Uuid) -> Result<(), ErrorCode> {
        let topic = self.topics.get_by_id(id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
        if topic.is_internal() {
            return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        // While the topic is still known: tombstones name it.
        let committed = self.offsets.of_topic(id);
        for (group, partition) in committed {
            self.delete_offsets(changes, at, &group, &[(*id, partition)]);
        }
        let topic = self.topics.remove(id).expect("it was found above");
        changes.delete(Table::Topic, topic.name.clone().into_bytes());
        for log in topic.logs {
            self.logs.remove(&log);
            self.producers.drop_log(changes, log);
            changes.delete(Table::Log, crate::stored::Stored::to_row(&log));
            changes.dropped.push(log);
        }
        Ok(())
    }

    pub(super) fn create_partitions(&mut self, changes: &mut Changes, new: &NewPartitions) -> Result<(), ErrorCode> {
        let topic = self
            .topics
            .get_by_id(&new.topic)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        self.check_partitions(topic.partitions(), new.count)?;
        let mut topic = topic.clone();
        self.add_partitions(changes, &mut topic, new.count);
        topic.save(changes);
        self.topics.insert(topic);
        Ok(())
    }

    pub(super) fn alter_config(&mut self, changes: &mut Changes, change: &ConfigChange) -> Result<(), ErrorCode> {
        match change.topic {
            Some(id) => {
                let topic = self.topics.get_mut(&id).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
                change.apply(&mut topic.configs);
                topic.save(changes);
            }
            None => {
                change.apply(&mut self.configs);
                changes.put(Table::Meta, &b"configs"[..], &self.configs);
            }
        }
        Ok(())
    }

    pub(super) fn trim_log(&mut self, changes: &mut Changes, trim: &Trim) -> Result<i64, ErrorCode> {
        let log = self
            .logs
            .get_mut(&trim.log)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        if log.end < trim.start {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if log.start < trim.start {
            log.start = trim.start;
            log.save(trim.log, changes);
            changes.log_starts.push((trim.log, trim.start));
        }
        Ok(log.start)
    }

    /// Gives `topic` logs up to `count`.
    fn add_partitions(&mut self, changes: &mut Changes, topic: &mut Topic, count: u32) {
        for partition in topic.partitions()..count {
            let id = LogId(self.counters.log);
            self.counters.log += 1;
            let partition = i32::try_from(partition).expect("partitions are bounded by TOPIC_PARTITIONS_MAX");
            let log = Log::new(topic.id, partition);
            log.save(id, changes);
            self.logs.insert(id, log);
            topic.logs.push(id);
        }
        changes.put(Table::Meta, &b"counters"[..], &self.counters);
    }
}

impl ConfigChange {
    fn apply(&self, configs: &mut alloc::collections::BTreeMap<String, String>) {
        if self.replace {
            configs.clear();
        }
        for (name, value) in &self.set {
            match value {
                Some(value) => drop(configs.insert(name.clone(), value.clone())),
                None => drop(configs.remove(name)),
            }
        }
    }
}
