//! Modules: deployments, their tasks as members of consumer groups, and the policy for what goes wrong.
pub mod run;

use alloc::string::String;

/// One version of one module, as the host needs to name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Name of the deployment, which is also its consumer group.
    pub module: String,
    /// Version label from the manifest.
    pub label: String,
    /// SHA-256 of the component's bytes: names the artefact in the data directory.
    pub digest: [u8; 32],
}
