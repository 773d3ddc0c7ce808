//! What a person at a terminal sees while a measurement runs: one line that moves. Nobody else sees anything.
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Problem;
use super::crew::Crew;

const INTERVAL: Duration = Duration::from_millis(200);

/// Lets a crew go, shows how far it is and waits for its results. Those, and the seconds that they took.
pub(super) async fn run<T: Send + 'static>(crew: &mut Crew<T>, what: &'static str) -> Result<(Vec<T>, f64), Problem> {
    let begun = crew.go().await;
    let bar = io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed}  {msg}");
        let bar = ProgressBar::new_spinner().with_prefix(what);
        match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    });
    let Some(bar) = bar else {
        let results = crew.finish().await?;
        return Ok((results, begun.elapsed().as_secs_f64()));
    };
    let progress = crew.progress_counter();
    let mut finish = std::pin::pin!(crew.finish());
    let first = progress();
    loop {
        tokio::select! {
            results = &mut finish => {
                let seconds = begun.elapsed().as_secs_f64();
                bar.finish_and_clear();
                return Ok((results?, seconds));
            }
            () = tokio::time::sleep(INTERVAL) => {
                let records = progress() - first;
                let rate = records as f64 / begun.elapsed().as_secs_f64();
                bar.set_message(format!("{records} records, {rate:.0}/s"));
                bar.tick();
            }
        }
    }
}
