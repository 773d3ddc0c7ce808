//! A release as this node has it: where it stands in the host, and what its guest may use.
use alloc::{collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};
use tidemill_protocol::manifest::{Manifest, Metrics};

use super::{
    Version,
    durable::Release,
    run::{Bucket, Limits, OutputTopic, Tables},
    view::View,
};
use crate::{effect::LogId, limits::VIEW_BEHIND_MAX, state::State};

/// Where a release stands in the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Asked for.
    Loading,
    /// Ready to run.
    Ready,
    /// It cannot be loaded.
    Failed(String),
}

/// What the guest may use, in the form in which each run carries it.
#[derive(Clone, Debug, Default)]
pub(super) struct Grants {
    pub(super) outputs: Arc<BTreeMap<String, OutputTopic>>,
    pub(super) buckets: Arc<Vec<Bucket>>,
    pub(super) config: Arc<BTreeMap<String, String>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tables: Arc<Tables>,
}

impl Grants {
    /// What a manifest grants, over the topics as they stand.
    pub(super) fn of(manifest: &Manifest, state: &State) -> Self {
        let mut outputs = BTreeMap::new();
        for name in manifest.writable_topics() {
            let Some(topic) = state.topics.get(name) else { continue };
            let batch_bytes_max = state.settings(topic).batch_bytes_max();
            outputs.insert(
                name.into(),
                OutputTopic {
                    partitions: topic.partitions(),
                    batch_bytes_max,
                },
            );
        }
        Self {
            outputs: Arc::new(outputs),
            buckets: Arc::new(Bucket::granted(manifest)),
            config: Arc::new(manifest.config.clone()),
            metrics: Arc::new(manifest.metrics.clone()),
            tables: Arc::new(
                manifest
                    .tables
                    .iter()
                    .map(|(name, topic)| (name.clone(), view(state, topic).map(|view| view.id)))
                    .collect(),
            ),
        }
    }
}

fn view<'a>(state: &'a State, topic: &str) -> Option<&'a View> {
    state.modules.view(&state.topics, topic)
}

impl Limits {
    /// What a manifest bounds.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let (batch, limits) = (&manifest.batch, &manifest.limits);
        Self {
            records_max: batch.max_records,
            bytes_max: batch.max_bytes.as_usize(),
            timeout_ms: batch.timeout.as_millis_u32(),
            memory_bytes_max: limits.memory.as_usize(),
            output_bytes_max: limits.output_bytes.as_usize(),
            state_write_bytes_max: limits.state_write_bytes.as_usize(),
            state_bytes_max: limits.state_bytes.0,
            log_lines_per_second: limits.log_lines_per_second,
        }
    }
}

/// One release on this node.
#[derive(Debug)]
pub(super) struct Edition {
    pub(super) version: Version,
    pub(super) manifest: Arc<Manifest>,
    /// Layout of the state that it reads and writes.
    pub(super) state_version: u32,
    pub(super) load: Load,
    pub(super) grants: Grants,
    /// How far its tables must be before it runs: what was in their topics when this node heard of it. Empty from then on.
    pub(super) unbuilt: Vec<(LogId, i64)>,
}

impl Edition {
    /// A release that the host was asked for.
    pub(super) fn loading(release: &Release, state: &State) -> Self {
        Self {
            version: release.version(),
            manifest: release.manifest.clone(),
            state_version: release.state_version,
            load: Load::Loading,
            grants: Grants::of(&release.manifest, state),
            unbuilt: unbuilt(&release.manifest, state),
        }
    }

    /// Whether it can run.
    pub(super) fn is_ready(&self) -> bool {
        self.load == Load::Ready && self.unbuilt.is_empty()
    }

    /// Tables came further. True if it is ready by that.
    pub(super) fn tables_moved(&mut self, state: &State) -> bool {
        if self.unbuilt.is_empty() {
            return false;
        }
        self.unbuilt.retain(|(log, end)| {
            let rest = state.logs.get(log).and_then(|log| {
                let view = state.modules.views.get(&log.topic)?;
                view.rest(state, log.partition)
            });
            rest.is_some_and(|(next, _)| next < *end)
        });
        self.is_ready()
    }

    /// Why its guest may not run just now: a table that is not there, or too far behind.
    pub(super) fn held_by(&self, state: &State) -> Option<String> {
        self.manifest.tables.iter().find_map(|(name, topic)| {
            let Some(view) = view(state, topic) else {
                return Some(match state.topics.get(topic) {
                    None => format!("table {name:?}: topic {topic:?} does not exist"),
                    Some(_) => format!("table {name:?}: topic {topic:?} is not materialised for any module that runs"),
                });
            };
            let behind = view.behind(state);
            let is_too_far = VIEW_BEHIND_MAX < behind || !self.unbuilt.is_empty() && 0 < behind;
            is_too_far.then(|| format!("table {name:?} is {behind} records behind topic {topic:?}"))
        })
    }
}

/// What is in the topics of a manifest's tables and not in the views.
fn unbuilt(manifest: &Manifest, state: &State) -> Vec<(LogId, i64)> {
    let mut unbuilt = Vec::new();
    for view in manifest.tables.values().filter_map(|topic| view(state, topic)) {
        for partition in view.partitions(state) {
            let log = state
                .topics
                .get_by_id(&view.id.topic)
                .and_then(|topic| topic.log(partition));
            if let (Some(log), Some((next, end))) = (log, view.rest(state, partition))
                && next < end
            {
                unbuilt.push((log, end));
            }
        }
    }
    unbuilt
}
