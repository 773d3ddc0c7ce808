//! Whether a component starts, before anything is deployed: `lifecycle.init` with the settings of its manifest, and which layout its state
//! has. The caller runs it and hands the answer over with the call that it belongs to ([`Asked`](super::Asked)).
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use tidemill_protocol::manifest::Manifest;

use super::{
    Version,
    run::{Bucket, Kind, Limits, Processed, Run, TaskKey, Verdict},
};

/// A rehearsal of a component under a number that no release has.
#[must_use]
pub fn run(manifest: &Manifest, digest: [u8; 32], number: u32, now: i64) -> Run {
    let module: String = manifest.name().into();
    Run {
        task: TaskKey {
            module: module.clone(),
            deployment: 0,
            number: 0,
        },
        version: Version {
            module,
            number,
            label: manifest.module.version.clone(),
            digest,
        },
        generation: 0,
        attempt: 1,
        now,
        is_fresh: true,
        firings: 0,
        event_time: None,
        state_bytes: 0,
        kind: Kind::Rehearse,
        inputs: Vec::new(),
        outputs: Arc::new(BTreeMap::new()),
        dead_letter: None,
        buckets: Arc::new(Bucket::granted(manifest)),
        config: Arc::new(manifest.config.clone()),
        // Nothing is in them yet.
        tables: Arc::new(manifest.tables.keys().map(|name| (name.clone(), None)).collect()),
        metrics: Arc::new(manifest.metrics.clone()),
        limits: Limits::of(manifest),
    }
}

/// What came of it: the layout of the component's state.
///
/// # Errors
/// Why it does not start, for the person who deploys it.
pub fn outcome(processed: &Processed) -> Result<u32, String> {
    let why = match &processed.verdict {
        Verdict::Ack => return Ok(processed.state_version.unwrap_or(0)),
        Verdict::Fatal(reason) | Verdict::Retry { reason, .. } | Verdict::Poison { reason, .. } => reason.to_string(),
        Verdict::Failed { message, .. } => message.clone(),
    };
    Err(format!("the component does not start: {why}"))
}
