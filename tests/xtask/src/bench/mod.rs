//! `cargo xtask bench`: Tidemill, its peers and the limits of the machine, side by side in one run.
//!
//! Measurements are interleaved: each round runs all of them once, and what is shown is the median over the rounds, so that an hour in
//! which the machine is slow is slow for everybody. A peer whose registry gives nothing is named as missing, never guessed.
mod case;
mod cases;
mod nats;
mod peers;
mod process;
mod redis;
mod table;
mod text;

use std::path::PathBuf;

use clap::Args;

use self::{peers::Peers, table::Results};
use super::run::{Done, cargo, root};

/// How much to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// More rounds, longer measurements, more work: half an hour instead of ten minutes.
    #[arg(long)]
    long: bool,
    /// Rounds; 3, or 5 in the long form.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of one measurement; 3, or 10 in the long form.
    #[arg(long)]
    seconds: Option<u64>,
    /// Only work whose name contains this. Nothing is written to docs/performance.md then.
    #[arg(long)]
    only: Option<String>,
    /// Measure this binary instead of one built from the tree with the profile `dist`.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Leave the peers out.
    #[arg(long)]
    no_peers: bool,
    /// Do not build nisshi, which takes a quarter of an hour; one that was built before is used.
    #[arg(long)]
    no_nisshi: bool,
    /// Also the benches of storage and host by themselves.
    #[arg(long)]
    parts: bool,
}

/// What every case is told.
pub(super) struct Context {
    /// The binary as packages have it.
    tidemill: PathBuf,
    peers: Peers,
    seconds: u64,
    is_long: bool,
    /// Bytes that the journal synced at once in the last run of each work, for the limit of the disk at the same size.
    commit_bytes: std::collections::BTreeMap<&'static str, u64>,
}

pub(crate) fn bench(options: &Options) -> Done {
    let tidemill = match &options.binary {
        Some(binary) => binary.clone(),
        None => {
            cargo(&["build", "--package", "tidemill", "--profile", "dist", "--locked"])?;
            target().join("dist/tidemill")
        }
    };
    let peers = match options.no_peers {
        true => Peers::default(),
        false => Peers::install(!options.no_nisshi),
    };
    let mut context = Context {
        tidemill,
        peers,
        seconds: options.seconds.unwrap_or(if options.is_long() { 10 } else { 3 }),
        is_long: options.is_long(),
        commit_bytes: Default::default(),
    };
    super::run::guests()?;
    let cases = cases::all(&context);
    let is_wanted = |work: &str| options.only.as_ref().is_none_or(|only| work.contains(only));
    let cases: Vec<_> = cases.into_iter().filter(|case| is_wanted(case.work)).collect();
    let rounds = options.rounds.unwrap_or(if options.is_long() { 5 } else { 3 });
    let mut results = Results::default();
    for round in 1..=rounds {
        for case in &cases {
            let numbers = (case.run)(&mut context);
            match &numbers {
                Ok(numbers) => println!("{round}/{rounds}  {:<44} {:<22} {numbers}", case.work, case.subject),
                Err(why) => println!("{round}/{rounds}  {:<44} {:<22} failed: {why}", case.work, case.subject),
            }
            results.add(case, numbers);
        }
    }
    let page = table::page(&results, &context, rounds);
    println!("\n{page}");
    if options.only.is_none() {
        text::replace(&root().join("docs/performance.md"), &page)?;
    }
    if options.parts {
        cargo(&["bench", "--package", "tidemill-storage", "--locked"])?;
        cargo(&["bench", "--package", "tidemill-host", "--locked"])?;
    }
    match results.failed() {
        0 => Ok(()),
        failed => Err(format!("{failed} measurements failed")),
    }
}

impl Options {
    fn is_long(&self) -> bool {
        self.long
    }
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
