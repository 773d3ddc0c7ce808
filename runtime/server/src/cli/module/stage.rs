//! What the commands that run a component here share: which one, and a stack that a guest cannot exhaust.

use std::path::Path;

use tidemill_host::limits::LANE_STACK_BYTES;

use super::build::build;
use super::project::Project;
use crate::cli::Failure;

/// The component to run: the one given, else the project's, built first unless it is not to be.
pub(super) fn subject(project: &Project, given: Option<&Path>, no_build: bool) -> Result<Vec<u8>, Failure> {
    if given.is_some() || no_build || !project.is_built_here() {
        return project.component(given);
    }
    Ok(build(project, &[])?.component)
}

/// Runs `work` on a thread with the stack of the daemon's lanes, so that deep recursion traps in the guest here too.
pub(super) fn on_a_lane<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    std::thread::scope(|scope| {
        let lane = std::thread::Builder::new()
            .name("lane".to_owned())
            .stack_size(LANE_STACK_BYTES)
            .spawn_scoped(scope, work)?;
        lane.join()
            .map_err(|_| "the sandbox itself failed; please report it".into())
    })
}
