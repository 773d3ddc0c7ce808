//! What a deploy, a rollback or a promotion tells on its way.

use std::io::{self, IsTerminal, Write};

use tidemill_client::Answers;
use tidemill_client::management::Answer;

use crate::cli::Failure;
use crate::cli::remote::{explained, print};

/// Stages that are results, not steps.
const RESULTS: [&str; 4] = ["changed", "restored", "different", "compared"];

/// Reads answers to the end. What a version may do that the one before might not is always told; the rest is for a terminal.
pub(super) async fn follow(mut answers: Answers, json: bool) -> Result<(), Failure> {
    while let Some(answer) = answers.next().await.map_err(explained)? {
        match &answer {
            _ if json => print(serde_json::to_string(&answer)?)?,
            Answer::Progress { stage, message } if RESULTS.contains(&stage.as_str()) => print(message)?,
            Answer::Progress { stage, message } if io::stderr().is_terminal() => {
                writeln!(io::stderr(), "{stage}: {message}")?;
            }
            _ => {}
        }
    }
    Ok(())
}
