//! What a guest says: bounded in length and in lines a second, kept whatever becomes of the batch.
use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use tidemill_broker::module::run::{Coordinates, LogLine};

use crate::limits;

/// Lines that one deployment may still log in this second, all its tasks together.
#[derive(Debug, Default)]
pub(crate) struct Budget(Mutex<(i64, u32)>);

impl Budget {
    fn take(&self, second: i64, lines_max: u32) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.0 != second {
            *used = (second, 0);
        }
        used.1 += 1;
        used.1 <= lines_max
    }
}

/// Lines of one call.
#[derive(Debug)]
pub(crate) struct Log {
    lines: Vec<LogLine>,
    dropped: u64,
    last_error: Option<String>,
    task: u32,
    now: i64,
    started: Instant,
    lines_per_second: u32,
}

impl Log {
    /// Begins at the call's clock.
    pub(crate) fn new(task: u32, now: i64, started: Instant, lines_per_second: u32) -> Self {
        Self {
            lines: Vec::new(),
            dropped: 0,
            last_error: None,
            task,
            now,
            started,
            lines_per_second,
        }
    }

    /// A line from the guest.
    pub(crate) fn guest(&mut self, budget: &Budget, level: &'static str, at: Option<Coordinates>, message: &str) {
        if matches!(level, "error" | "critical") {
            self.last_error = Some(cut(message, limits::LOG_LINE_BYTES_MAX));
        }
        let time = self.time();
        let room = self.lines.len() < limits::LOG_LINES_MAX as usize;
        if room && budget.take(time.div_euclid(1_000), self.lines_per_second) {
            self.push(time, level, at, message);
        } else {
            self.dropped += 1;
        }
    }

    /// A line about the guest: never dropped.
    pub(crate) fn host(&mut self, level: &'static str, at: Option<Coordinates>, message: &str) {
        let time = self.time();
        self.push(time, level, at, message);
    }

    /// What the guest said last when it said that something is wrong: the message of a panic.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// All lines, and one about those that there was no room for.
    pub(crate) fn finish(mut self) -> Vec<LogLine> {
        if self.dropped != 0 {
            let message = format!(
                "{} log lines dropped: more than `limits.log-lines-per-second` = {}",
                self.dropped, self.lines_per_second
            );
            self.host("warn", None, &message);
        }
        self.lines
    }

    fn push(&mut self, time: i64, level: &'static str, at: Option<Coordinates>, message: &str) {
        self.lines.push(LogLine {
            time,
            level,
            task: self.task,
            at,
            message: cut(message, limits::LOG_LINE_BYTES_MAX),
        });
    }

    fn time(&self) -> i64 {
        self.now
            .saturating_add(i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}

/// At most so many bytes of a text, cut between characters, with a mark where something is missing.
pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max);
    format!("{}…", &text[..end])
}
