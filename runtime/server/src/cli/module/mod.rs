//! `tidemill module`: what the author and the operator of a module do with it. One file for each command.
//!
//! The commands that change nothing on a daemon need none.
mod bench;
mod build;
mod check;
mod dead_letters;
mod delete;
mod deploy;
mod dev;
mod history;
mod list;
mod logs;
mod new;
mod pause;
mod progress;
mod project;
mod promote;
mod redrive;
mod replay;
mod resume;
mod rewind;
mod rollback;
mod stage;
mod state;
mod status;
mod template;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use tidemill_client::Admin;

use super::Failure;
use super::remote::{Remote, block_on};

/// Write, build and test Wasm modules; deploy them, look at them, stop and start them.
#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::New),
    Check(check::Check),
    Build(build::Build),
    Test(test::Test),
    Bench(bench::Bench),
    Dev(dev::Dev),
    Replay(replay::Replay),
    Deploy(deploy::Deploy),
    List(list::List),
    Status(status::Status),
    Logs(logs::Logs),
    History(history::History),
    Rollback(rollback::Rollback),
    Promote(promote::Promote),
    Rewind(rewind::Rewind),
    DeadLetters(dead_letters::DeadLetters),
    Redrive(redrive::Redrive),
    State(state::State),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Delete(delete::Delete),
}

impl Group {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let remote = &self.remote;
        match self.command {
            Command::New(new) => new.run(),
            Command::Check(check) => check.run(),
            Command::Build(build) => build.run(),
            Command::Test(test) => test.run(),
            Command::Bench(bench) => bench.run(),
            Command::Dev(dev) => dev.run(remote),
            Command::Replay(replay) => replay.run(remote),
            Command::Deploy(deploy) => deploy.run(remote),
            Command::List(list) => with_admin(remote, async |admin| list.run(admin).await),
            Command::Status(status) => with_admin(remote, async |admin| status.run(admin).await),
            Command::Logs(logs) => with_admin(remote, async |admin| logs.run(admin).await),
            Command::History(history) => with_admin(remote, async |admin| history.run(admin).await),
            Command::Rollback(rollback) => with_admin(remote, async |admin| rollback.run(admin).await),
            Command::Promote(promote) => with_admin(remote, async |admin| promote.run(admin).await),
            Command::Rewind(rewind) => with_admin(remote, async |admin| rewind.run(admin).await),
            Command::DeadLetters(letters) => letters.run(remote),
            Command::Redrive(redrive) => with_admin(remote, async |admin| redrive.run(admin).await),
            Command::State(state) => with_admin(remote, async |admin| state.run(admin).await),
            Command::Pause(pause) => with_admin(remote, async |admin| pause.run(admin).await),
            Command::Resume(resume) => with_admin(remote, async |admin| resume.run(admin).await),
            Command::Delete(delete) => with_admin(remote, async |admin| delete.run(admin).await),
        }
    }
}

/// Connects, does it, and takes leave of the daemon.
fn with_admin(remote: &Remote, work: impl AsyncFnOnce(&Admin) -> Result<(), Failure>) -> Result<ExitCode, Failure> {
    block_on(async {
        let client = remote.connect().await?;
        let done = work(&client.admin()).await;
        client.close().await;
        done.map(|()| ExitCode::SUCCESS)
    })
}
