//! Golden scripts: commands in, effects out, one scenario a file under `testscripts/`.
//!
//! A [`world::World`] stands in for the journal, the storage and the clock. Every subject has its own file of commands here: `run` takes a
//! command if it knows it, `show` prints a response if it knows it. To add a command, add it to the subject's file; to add a subject, add its
//! file to [`SUBJECTS`]. `UPDATE_GOLDENFILES=1 cargo test -p tidemill-broker --test scripts` writes the expected output.
#![allow(clippy::unwrap_used, unreachable_pub, clippy::print_stdout, reason = "a test binary")]

mod groups;
mod guest;
mod migrating;
mod modules;
mod modules_fold;
mod records;
mod tables;
mod timers;
mod topics;
mod world;

use std::{error::Error, path::Path};

use goldenscript::{Command, Context, Runner};
use tidemill_protocol::api::Response;
use world::World;

/// What a command gave: lines to print.
type Output = Result<String, Box<dyn Error>>;

/// One subject's commands and responses.
struct Subject {
    /// Runs a command, or says that it is not one of this subject's.
    run: fn(&mut World, &Command) -> Option<Output>,
    /// Prints a response, or says that it is not one of this subject's.
    show: fn(&Response) -> Option<String>,
}

const SUBJECTS: &[Subject] = &[
    Subject {
        run: world::run,
        show: |_| None,
    },
    Subject {
        run: topics::run,
        show: topics::show,
    },
    Subject {
        run: records::run,
        show: records::show,
    },
    Subject {
        run: groups::run,
        show: groups::show,
    },
    Subject {
        run: modules::run,
        show: modules::show,
    },
    Subject {
        run: tables::run,
        show: |_| None,
    },
];

struct Script(World);

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Output {
        self.0.begin(context.prefix.as_deref());
        for subject in SUBJECTS {
            if let Some(output) = (subject.run)(&mut self.0, command) {
                let mut lines = output?;
                self.0.settle();
                lines.push_str(
                    &self
                        .0
                        .finish(|response| SUBJECTS.iter().find_map(|subject| (subject.show)(response))),
                );
                return Ok(lines);
            }
        }
        Err(format!("unknown command {}", command.name).into())
    }
}

fn run_all(subject: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts").join(subject);
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<_> = names
        .filter(|path| path.extension().is_none() && !path.ends_with(".gitkeep"))
        .collect();
    scripts.sort();
    for script in scripts {
        println!("{}", script.display());
        groups::forget_names();
        goldenscript::run(&mut Script(World::new()), script).unwrap();
    }
}

#[test]
fn records_behave_as_written() {
    run_all("records");
}

#[test]
fn topics_behave_as_written() {
    run_all("topics");
}

#[test]
fn groups_behave_as_written() {
    run_all("groups");
}

#[test]
fn modules_behave_as_written() {
    run_all("modules");
}
