//! One fixture through one module: what came of it, and whether that is what it should be.

use tidemill_broker::module::run::{LogLine, dead_letter};
use tidemill_protocol::{admin::ModuleState, manifest::Manifest};

use super::{
    Driver, Output, Record, Setup, Stage, StateEntry,
    chaos::Plan,
    fixture::{Fixture, Step},
};

/// What is left when everything has come to rest.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) records_in: u64,
    /// What went to output topics, in the order of the commits.
    pub(crate) outputs: Vec<Output>,
    /// What went to the dead-letter topic.
    pub(crate) dead_letters: Vec<Output>,
    pub(crate) state: Vec<StateEntry>,
    /// Why the module stopped, if it did.
    pub(crate) stopped: Option<String>,
    pub(crate) logs: Vec<LogLine>,
    /// How often the process was killed.
    pub(crate) crashes: usize,
}

/// Plays a fixture, with a plan of what goes wrong or without.
pub(crate) fn play(
    stage: &Stage,
    manifest: &Manifest,
    fixture: &Fixture,
    plan: Option<Plan>,
) -> Result<Played, String> {
    let manifest = fixture.manifest(manifest);
    let setup = Setup {
        manifest: manifest.clone(),
        partitions: fixture.partitions.max(1),
        topics: fixture.topics.clone(),
        now: fixture.clock.0,
    };
    let mut driver = Driver::start(stage, &setup)?;
    if let Some(plan) = plan {
        driver.crash_by(plan);
    }
    // The fixture's clock. The driver's may be ahead: it also moves when a module waits for a retry.
    let mut clock = setup.now;
    for (number, step) in fixture.step.iter().enumerate() {
        let done = take_step(&mut driver, &manifest, fixture, step, &mut clock);
        done.map_err(|why| format!("step {}: {why}", number + 1))?;
    }
    driver.into_played()
}

impl Driver<'_> {
    /// What is left.
    pub(crate) fn into_played(self) -> Result<Played, String> {
        let (dead_letters, outputs) = self.outputs().into_iter().partition(is_dead_letter);
        let status = self.status().ok_or("the module is not deployed")?;
        Ok(Played {
            records_in: status.counters.records_in,
            outputs,
            dead_letters,
            state: self.state(),
            stopped: match status.state {
                ModuleState::Running => None,
                _ => Some(status.reason.unwrap_or_default()),
            },
            crashes: self.crashed(),
            logs: self.logs,
        })
    }
}

fn take_step(
    driver: &mut Driver<'_>,
    manifest: &Manifest,
    fixture: &Fixture,
    step: &Step,
    clock: &mut i64,
) -> Result<(), String> {
    if let Some(to) = step.clock {
        *clock = to.from(fixture.clock).max(*clock);
    }
    if let Some(advance) = step.advance {
        *clock = clock.saturating_add(advance.as_millis_i64());
    }
    driver.advance(*clock)?;
    let records = fixture.records(step, manifest, *clock)?;
    let is_of_table = |record: &Record| manifest.tables.values().any(|topic| *topic == record.topic);
    // A table is as far as its step before the module reads on: what a fixture expects must not depend on who is faster.
    let (facts, records): (Vec<_>, Vec<_>) = records.into_iter().partition(is_of_table);
    for records in [facts, records] {
        if driver.splits() {
            for record in records {
                driver.append(&[record])?;
                driver.rest()?;
            }
        } else if !records.is_empty() {
            driver.append(&records)?;
            driver.rest()?;
        }
    }
    if step.restart {
        driver.crash();
        driver.rest()?;
    }
    Ok(())
}

/// The host's headers say so: an output topic may be the dead-letter topic too.
fn is_dead_letter(output: &Output) -> bool {
    header(output, dead_letter::TOPIC).is_some() && header(output, dead_letter::CODE).is_some()
}

/// Topic and offset that a dead letter comes from.
pub(crate) fn origin(letter: &Output) -> Option<(String, i64)> {
    let offset = header(letter, dead_letter::OFFSET)?.parse().ok()?;
    Some((header(letter, dead_letter::TOPIC)?, offset))
}

/// A header's value as text.
pub(super) fn header(output: &Output, name: &str) -> Option<String> {
    let found = output.record.headers.iter().find(|(key, _)| key == name)?;
    Some(String::from_utf8_lossy(found.1.as_deref().unwrap_or_default()).into_owned())
}
