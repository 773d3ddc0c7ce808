//! The binary `tidemill`: daemon and command line.
use std::process::ExitCode;

fn main() -> ExitCode {
    tidemill::cli::main()
}
