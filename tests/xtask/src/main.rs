//! The project's chores: `cargo xtask --help`. Each installs what it needs from cargo, rustup or pip, into the toolchain or
//! `target/`, and never needs root.
//!
//! It depends on nothing of the project, so that it starts in seconds on a fresh machine.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod languages;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's chores", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// The main job on real input: flights through a Wasm module, with a kill -9 in the middle.
    Demo {
        /// Leave the daemon running afterwards.
        #[arg(long)]
        keep: bool,
        /// Use the development build, which the tests have made already.
        #[arg(long)]
        dev: bool,
    },
    /// All tests: unit, golden scripts, crash sweep (short form), guest examples, end to end.
    Test {
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
    /// Build the guest examples for wasm32-wasip2.
    Guests,
    /// Build the guest examples in JavaScript and Python, with tools from npm and PyPI that are brought into target/.
    Languages,
    /// kill -9 the daemon at random moments under load and check every promise after it.
    Kill {
        /// How many times.
        #[arg(long, default_value_t = 200)]
        rounds: u32,
    },
    /// The chain of three modules over the whole year of flights (336,776, from PyPI), under kill -9, against a plain computation.
    Year,
    /// The crash sweep in its long form: every cut of many workloads.
    Sweep {
        /// How many.
        #[arg(long, default_value_t = 4)]
        seeds: u32,
    },
    /// Tidemill, its peers and the limits of the machine side by side; the table goes to docs/performance.md.
    Bench(bench::Options),
    /// Coverage-guided fuzzing of the wire decoders (installs cargo-fuzz into target/, and the nightly toolchain with rustup).
    Fuzz {
        /// frame, request or batch.
        target: String,
        /// Seconds to run.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Advisories and licences of every dependency (installs cargo-deny into target/).
    Deny,
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Demo { keep, dev } => run::demo(keep, dev),
        Chore::Test { filter } => run::test(filter.as_deref()),
        Chore::Guests => run::guests(),
        Chore::Languages => languages::languages(),
        Chore::Kill { rounds } => run::kill(rounds),
        Chore::Year => run::year(),
        Chore::Sweep { seeds } => run::sweep(seeds),
        Chore::Bench(options) => bench::bench(&options),
        Chore::Fuzz { target, seconds } => run::fuzz(&target, seconds),
        Chore::Deny => run::deny(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
