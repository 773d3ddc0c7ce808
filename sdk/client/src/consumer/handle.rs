//! What can be asked of a consumer, and done to it, from any task and from rebalance callbacks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::error_code::ErrorCode;

use super::Shared;
use super::state::Locate;
use crate::error::{Error, Result};
use crate::offsets::{self, Committed, OffsetAndTimestamp, OffsetSpec};
use crate::record::TopicPartition;

/// How often a commit is repeated that met a member epoch which the next heartbeat will renew.
const STALE_EPOCH_RETRIES: u32 = 10;

/// A handle to a [`Consumer`](crate::Consumer). Clones are equal; a handle does not keep the consumer open.
#[derive(Clone)]
pub struct ConsumerHandle {
    pub(super) shared: Arc<Shared>,
}

impl ConsumerHandle {
    /// The partitions this consumer reads.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.state().parts.keys().cloned().collect()
    }

    /// Its member id in the group, once it has joined.
    pub fn member_id(&self) -> Option<String> {
        self.shared.state().member.as_ref().map(|(id, _)| id.clone())
    }

    /// The next offset to be delivered; none while it is being looked for, and for partitions not assigned.
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        let state = self.shared.state();
        state
            .parts
            .get(partition)
            .map(|part| part.position)
            .filter(|position| 0 <= *position)
    }

    /// Records between the position and the end of the partition as last told; none before the first fetch.
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        let state = self.shared.state();
        let part = state.parts.get(partition).filter(|part| 0 <= part.position)?;
        part.high_watermark
            .map(|high_watermark| (high_watermark - part.position).max(0))
    }

    /// Stops delivering these partitions; others go on. What is ready is kept. Partitions not assigned are ignored.
    pub fn pause(&self, partitions: &[TopicPartition]) {
        self.set_paused(partitions, true);
    }

    /// Delivers them again.
    pub fn resume(&self, partitions: &[TopicPartition]) {
        self.set_paused(partitions, false);
    }

    /// The partitions that are paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        let state = self.shared.state();
        state
            .parts
            .iter()
            .filter(|(_, part)| part.is_paused)
            .map(|(place, _)| place.clone())
            .collect()
    }

    /// Reads on from this offset.
    pub fn seek(&self, partition: &TopicPartition, offset: i64) -> Result<()> {
        if offset < 0 {
            return Err(Error::InvalidArgument(format!("{partition} has no offset {offset}")));
        }
        {
            let mut state = self.shared.state();
            let part = state.parts.get_mut(partition).ok_or_else(|| not_assigned(partition))?;
            part.seek(offset);
        }
        self.shared.partitions_changed();
        Ok(())
    }

    /// Reads on from the first record that is still there.
    pub fn seek_to_beginning(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.seek_to(partitions, OffsetSpec::Earliest)
    }

    /// Reads on from behind the last record.
    pub fn seek_to_end(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.seek_to(partitions, OffsetSpec::Latest)
    }

    /// Reads on from the first record at or after this time, in milliseconds since the epoch; from behind the last
    /// record if there is none.
    pub fn seek_to_timestamp(&self, partitions: &[TopicPartition], timestamp: i64) -> Result<()> {
        self.seek_to(partitions, OffsetSpec::Timestamp(timestamp))
    }

    /// Commits the positions: everything that `next` has given. Called before processing, a crash loses what was not
    /// processed; called after, a crash repeats it.
    pub async fn commit(&self) -> Result<()> {
        let positions = {
            let state = self.shared.state();
            let located = state.parts.iter().filter(|(_, part)| 0 <= part.position);
            located
                .map(|(place, part)| (place.clone(), Committed::from(part.position)))
                .collect()
        };
        self.shared.commit(positions).await
    }

    /// Commits the positions without waiting. A failure is logged, and the next commit makes up for it.
    pub fn commit_later(&self) {
        let handle = self.clone();
        tokio::spawn(async move {
            if let Err(error) = handle.commit().await {
                tracing::warn!(%error, "cannot commit");
            }
        });
    }

    /// Commits these: for each partition the next offset to read.
    pub async fn commit_offsets(&self, offsets: BTreeMap<TopicPartition, Committed>) -> Result<()> {
        self.shared.commit(offsets).await
    }

    /// What the group has committed for these partitions; those without a commit are left out.
    pub async fn committed(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Committed>> {
        let committer = self.shared.committer()?;
        self.shared
            .client
            .retry(|| offsets::fetch(&self.shared.client, &committer, Some(partitions)))
            .await
    }

    /// The first offset of each partition that is still there.
    pub async fn beginning_offsets(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        self.ends(partitions, OffsetSpec::Earliest).await
    }

    /// The offset behind the last record of each partition.
    pub async fn end_offsets(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        self.ends(partitions, OffsetSpec::Latest).await
    }

    /// The first record of each partition at or after a time, in milliseconds since the epoch; none if there is none.
    pub async fn offsets_for_times(
        &self,
        times: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>> {
        let client = &self.shared.client;
        let wanted = || {
            times
                .iter()
                .map(|(place, time)| (place.clone(), OffsetSpec::Timestamp(*time)))
        };
        client.retry(|| offsets::list(client, wanted())).await
    }

    async fn ends(&self, partitions: &[TopicPartition], spec: OffsetSpec) -> Result<BTreeMap<TopicPartition, i64>> {
        let client = &self.shared.client;
        let wanted = || partitions.iter().map(move |place| (place.clone(), spec));
        let found = client.retry(|| offsets::list(client, wanted())).await?;
        Ok(found
            .into_iter()
            .filter_map(|(place, found)| Some((place, found?.offset)))
            .collect())
    }

    fn seek_to(&self, partitions: &[TopicPartition], spec: OffsetSpec) -> Result<()> {
        {
            let mut state = self.shared.state();
            if let Some(missing) = partitions.iter().find(|place| !state.parts.contains_key(place)) {
                return Err(not_assigned(missing));
            }
            for place in partitions {
                if let Some(part) = state.parts.get_mut(place) {
                    part.relocate(Locate::At(spec));
                }
            }
        }
        self.shared.partitions_changed();
        Ok(())
    }

    fn set_paused(&self, partitions: &[TopicPartition], is_paused: bool) {
        {
            let mut state = self.shared.state();
            for place in partitions {
                if let Some(part) = state.parts.get_mut(place) {
                    part.is_paused = is_paused;
                }
            }
        }
        self.shared.partitions_changed();
    }
}

impl Shared {
    /// Commits what is processed, of all partitions or of some.
    pub(super) async fn commit_processed(&self, only: Option<&[TopicPartition]>) -> Result<()> {
        let positions = self.state().to_commit(only);
        if positions.is_empty() || self.config.group_id.is_none() {
            return Ok(());
        }
        self.commit(positions).await
    }

    async fn commit(&self, positions: BTreeMap<TopicPartition, Committed>) -> Result<()> {
        for attempt in 0.. {
            let committed = self
                .client
                .retry(|| async { offsets::commit(&self.client, &self.committer()?, &positions).await });
            match committed.await {
                Err(error) if error.code() == Some(ErrorCode::STALE_MEMBER_EPOCH) && attempt < STALE_EPOCH_RETRIES => {
                    self.group_wake.notify_one();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        self.state().note_committed(&positions);
        Ok(())
    }
}

fn not_assigned(partition: &TopicPartition) -> Error {
    Error::InvalidArgument(format!("{partition} is not assigned to this consumer"))
}

impl std::fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerHandle")
            .field("assignment", &self.assignment())
            .finish_non_exhaustive()
    }
}
