//! The command line: `tidemill serve` and everything that a person does to a running daemon.
//!
//! A command ends with 0 when it did what it says and 1 otherwise, with one line on standard error that says what to do. Standard output
//! is for results only, so that every command works in a pipe.
mod bench;
mod config;
mod consume;
mod group;
mod module;
mod place;
mod produce;
mod record_json;
mod remote;
mod serve;
mod stop;
mod topic;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::node::{COMPILE_COMMAND, compile_child};

/// Event streaming: Kafka's protocol over TCP and QUIC, with Wasm modules between topics, exactly once.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, max_term_width = 120, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Serve(serve::Serve),
    /// Check or show the daemon's configuration.
    #[command(subcommand)]
    Config(config::Command),
    Topic(topic::Group),
    Produce(produce::Produce),
    Consume(consume::Consume),
    Group(group::Group),
    Module(module::Group),
    Bench(Box<bench::Group>),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Example:\n  tidemill completions bash > ~/.local/share/bash-completion/completions/tidemill"
    )]
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Compile a component from standard input: the daemon's own child process.
    #[command(name = COMPILE_COMMAND, hide = true)]
    Compile {
        /// Bound of the address space, bytes.
        memory_bytes: u64,
        /// Bound of the processor time, seconds.
        cpu_seconds: u64,
        /// Where the artefact goes.
        directory: PathBuf,
    },
}

/// What a failed command says.
type Failure = Box<dyn std::error::Error>;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone there is nobody to tell.
            let _ = writeln!(io::stderr(), "tidemill: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(serve) => serve.run(),
        Command::Config(command) => command.run(),
        Command::Topic(topic) => topic.run(),
        Command::Produce(produce) => produce.run(),
        Command::Consume(consume) => consume.run(),
        Command::Group(group) => group.run(),
        Command::Module(module) => module.run(),
        Command::Bench(bench) => bench.run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidemill", &mut script);
            io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Compile {
            memory_bytes,
            cpu_seconds,
            directory,
        } => {
            let compiled = compile_child(memory_bytes, cpu_seconds, &directory)?;
            Ok(if compiled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// The reader of a pipe had enough (`| head`): that is how it should end.
fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
