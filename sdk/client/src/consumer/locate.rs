//! Gives positions to partitions that have none: what the group committed, else by the reset policy, or as asked for.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Shared;
use super::config::OffsetReset;
use super::state::Locate;
use crate::client::AutoCreate;
use crate::error::{Error, Result};
use crate::offsets::{self, Committed, OffsetSpec};
use crate::record::TopicPartition;

/// A partition that waits, with the epoch of its wish.
struct Waiting {
    place: TopicPartition,
    epoch: u64,
    locate: Locate,
}

/// One round over all partitions that wait. Whatever is sought meanwhile keeps its own wish.
pub(super) async fn run(shared: &Shared) -> Result<()> {
    let mut waiting = waiting(shared);
    for place in waiting.iter().map(|waiting| waiting.place.clone()).collect::<Vec<_>>() {
        if let Err(error) = shared.client.topic(&place.topic, AutoCreate::Denied).await {
            shared.rest_partition(&place, &error);
            waiting.retain(|waiting| waiting.place != place);
        }
    }
    if waiting.is_empty() {
        return Ok(());
    }
    let by_commit: Vec<_> = waiting
        .iter()
        .filter(|w| w.locate == Locate::Committed)
        .map(|w| w.place.clone())
        .collect();
    if !by_commit.is_empty() {
        let committed = match shared.config.group_id {
            Some(_) => offsets::fetch(&shared.client, &shared.committer()?, Some(&by_commit)).await?,
            None => BTreeMap::new(),
        };
        waiting.retain_mut(|w| settle_by_commit(shared, w, &committed));
    }
    let wanted: Vec<_> = waiting
        .iter()
        .filter_map(|w| Some((w.place.clone(), spec(shared, w)?)))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let found = offsets::list(&shared.client, wanted.iter().cloned()).await?;
    let behind = wanted
        .iter()
        .filter(|(place, _)| found.get(place).copied().flatten().is_none());
    let behind: Vec<_> = behind.map(|(place, _)| (place.clone(), OffsetSpec::Latest)).collect();
    // Nothing is at that time or later: wait for what comes.
    let ends = if behind.is_empty() {
        BTreeMap::new()
    } else {
        offsets::list(&shared.client, behind).await?
    };
    for waiting in &waiting {
        let found = [&found, &ends]
            .into_iter()
            .find_map(|offsets| offsets.get(&waiting.place).copied().flatten());
        if let Some(found) = found {
            seek(shared, waiting, found.offset, None);
        }
    }
    Ok(())
}

fn waiting(shared: &Shared) -> Vec<Waiting> {
    let state = shared.state();
    let now = Instant::now();
    let parts = state
        .parts
        .iter()
        .filter(|(_, part)| !matches!(part.locate, Locate::Done | Locate::Never))
        .filter(|(_, part)| part.not_before.is_none_or(|not_before| not_before <= now));
    parts
        .map(|(place, part)| Waiting {
            place: place.clone(),
            epoch: part.epoch,
            locate: part.locate,
        })
        .collect()
}

/// Whether the partition still waits: nothing was committed for it.
fn settle_by_commit(shared: &Shared, waiting: &mut Waiting, found: &BTreeMap<TopicPartition, Committed>) -> bool {
    if waiting.locate != Locate::Committed {
        return true;
    }
    match found.get(&waiting.place) {
        Some(committed) => {
            seek(shared, waiting, committed.offset, Some(committed.offset));
            false
        }
        None => {
            waiting.locate = Locate::Reset(shared.config.auto_offset_reset);
            true
        }
    }
}

/// Where to look; a partition that may not choose is told to the application and left.
fn spec(shared: &Shared, waiting: &Waiting) -> Option<OffsetSpec> {
    match waiting.locate {
        Locate::At(spec) => Some(spec),
        Locate::Reset(OffsetReset::Earliest) => Some(OffsetSpec::Earliest),
        Locate::Reset(OffsetReset::Latest) => Some(OffsetSpec::Latest),
        Locate::Reset(OffsetReset::None) => {
            let mut state = shared.state();
            if let Some(part) = state.parts.get_mut(&waiting.place) {
                part.locate = Locate::Never;
                state.errors.push_back(Error::NoOffset {
                    topic: waiting.place.topic.clone(),
                    partition: waiting.place.partition,
                    reason: "nothing is committed, or what was is out of range, and the reset policy is none"
                        .to_owned(),
                });
            }
            drop(state);
            shared.data_wake.notify_one();
            None
        }
        Locate::Committed | Locate::Done | Locate::Never => None,
    }
}

fn seek(shared: &Shared, waiting: &Waiting, offset: i64, committed: Option<i64>) {
    let mut state = shared.state();
    if let Some(part) = state.parts.get_mut(&waiting.place)
        && part.epoch == waiting.epoch
    {
        part.seek(offset);
        part.committed = committed;
    }
}
