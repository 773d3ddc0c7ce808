//! `tidemill module test`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use tidemill_host::Metering;

use super::project::Project;
use super::stage::{on_a_lane, subject};
use crate::cli::Failure;
use crate::cli::remote::print;
use crate::driver::Stage;
use crate::driver::chaos::Plan;
use crate::driver::compare::{Difference, compare, first_difference};
use crate::driver::fixture::{self, Fixture};
use crate::driver::play::{Played, play};

/// Run a module's fixtures in the real sandbox, without a daemon.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module test
  tidemill module test --chaos 42
  tidemill module test fixtures/late.toml --logs

A fixture is a TOML file in the module's folder fixtures/: what comes in, and what must come of it. Time is the fixture's, and what the
guest may take is counted in instructions, so that a test ends the same way everywhere.

With --chaos the same records come in batches cut at random, the process is killed around batches (before the call, during it, before
the commit, after it) and commits arrive twice: what each task sends to each partition and the state must be what they are without.")]
pub(super) struct Test {
    /// Fixtures; without any, all of the folder's.
    fixtures: Vec<PathBuf>,
    /// Folder with a `module.toml`, or the manifest itself.
    #[arg(long, default_value = ".")]
    path: PathBuf,
    /// Run this component; it is not built.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Run the component as it is.
    #[arg(long)]
    no_build: bool,
    /// Let everything go wrong, by chance from this seed.
    #[arg(long, value_name = "SEED")]
    chaos: Option<u64>,
    /// How many times, each with the next seed.
    #[arg(long, default_value_t = 20, requires = "chaos")]
    rounds: u64,
    /// Also print what the module logs.
    #[arg(long)]
    logs: bool,
    /// A JSON array.
    #[arg(long)]
    json: bool,
}

/// What came of one fixture.
struct Verdict {
    fixture: String,
    about: String,
    summary: String,
    differences: Vec<Difference>,
    logs: Vec<String>,
}

impl Test {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let project = Project::read(&self.path)?;
        let component = subject(&project, self.component.as_deref(), self.no_build)?;
        let fixtures = fixture::read_all(project.folder(), &self.fixtures)?;
        if fixtures.is_empty() {
            let folder = project.folder().join("fixtures");
            return Err(format!(
                "no fixtures in {}: `tidemill module test --help` says what they are",
                folder.display()
            )
            .into());
        }
        let verdicts = on_a_lane(|| -> Result<_, String> {
            let stage = Stage::new(&component, Metering::Instructions).map_err(|e| e.to_string())?;
            let verdict = |fixture: &Fixture| self.verdict(&stage, &project, fixture);
            Ok(fixtures.iter().map(verdict).collect::<Vec<_>>())
        })??;
        let failed = verdicts
            .iter()
            .filter(|verdict| !verdict.differences.is_empty())
            .count();
        if self.json {
            print(Value::from_iter(verdicts.iter().map(Verdict::json)))?;
        } else {
            verdicts.iter().try_for_each(|verdict| verdict.show(self.logs))?;
            print(format_args!("fixtures: {}, failed: {failed}", verdicts.len()))?;
        }
        Ok(if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn verdict(&self, stage: &Stage, project: &Project, fixture: &Fixture) -> Verdict {
        let manifest = &project.manifest;
        let played = match play(stage, manifest, fixture, None) {
            Ok(played) => played,
            Err(why) => return Verdict::broken(fixture, why),
        };
        let mut verdict = Verdict {
            fixture: fixture.name.clone(),
            about: fixture.about.clone(),
            summary: summary(&played),
            differences: compare(fixture, manifest, &played),
            logs: played
                .logs
                .iter()
                .map(|line| format!("{:5} {}", line.level, line.message))
                .collect(),
        };
        if let Some(seed) = self.chaos.filter(|_| verdict.differences.is_empty()) {
            let mut crashes = 0;
            for seed in (0..self.rounds).map(|round| seed.wrapping_add(round)) {
                let (difference, count) = round(stage, project, fixture, &played, seed);
                crashes += count;
                if difference.is_some() {
                    verdict.differences.extend(difference);
                    break;
                }
            }
            verdict.summary += &format!("; the same in {} rounds with {crashes} crashes", self.rounds);
        }
        verdict
    }
}

/// One round of chaos: what is different, and how many crashes there were.
fn round(
    stage: &Stage,
    project: &Project,
    fixture: &Fixture,
    plain: &Played,
    seed: u64,
) -> (Option<Difference>, usize) {
    let (lines, crashes) = match play(stage, &project.manifest, fixture, Some(Plan::new(seed))) {
        Ok(played) => (first_difference(plain, &played), played.crashes),
        Err(why) => (Some(why + "\n"), 0),
    };
    let again = format!("seed {seed} (--chaos {seed} --rounds 1 has it again): ");
    let difference = lines.map(|lines| Difference {
        what: "chaos",
        lines: again + &lines,
    });
    (difference, crashes)
}

fn summary(played: &Played) -> String {
    format!(
        "{} in, {} out, {} dead letters, {} of state",
        played.records_in,
        played.outputs.len(),
        played.dead_letters.len(),
        played.state.len()
    )
}

impl Verdict {
    fn broken(fixture: &Fixture, why: String) -> Self {
        Self {
            fixture: fixture.name.clone(),
            about: fixture.about.clone(),
            summary: String::new(),
            differences: vec![Difference {
                what: "run",
                lines: why + "\n",
            }],
            logs: Vec::new(),
        }
    }

    fn json(&self) -> Value {
        let differences = self
            .differences
            .iter()
            .map(|difference| json!({ "what": difference.what, "lines": difference.lines }));
        json!({
            "fixture": self.fixture,
            "about": self.about,
            "ok": self.differences.is_empty(),
            "summary": self.summary,
            "differences": Value::from_iter(differences),
            "logs": self.logs,
        })
    }

    fn show(&self, logs: bool) -> Result<(), Failure> {
        if self.differences.is_empty() {
            print(format_args!("ok      {}: {}", self.fixture, self.summary))?;
        } else {
            print(format_args!("FAILED  {}: {}", self.fixture, self.about))?;
        }
        for difference in &self.differences {
            print(format_args!("{} (- expected, + found)", difference.what))?;
            difference
                .lines
                .lines()
                .try_for_each(|line| print(format_args!("  {line}")))?;
        }
        if logs {
            self.logs
                .iter()
                .try_for_each(|line| print(format_args!("  log {line}")))?;
        }
        Ok(())
    }
}
