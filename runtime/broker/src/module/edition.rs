//! A release as this node has it: where it stands in the host, and what its guest may use.
use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};
use tidemill_protocol::manifest::{Manifest, Metrics};

use super::{
    Version,
    durable::Release,
    run::{Bucket, Limits, OutputTopic},
};
use crate::state::State;

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
        }
    }
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
        }
    }

    /// Whether it can run.
    pub(super) fn is_ready(&self) -> bool {
        self.load == Load::Ready
    }
}
