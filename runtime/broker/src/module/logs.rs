//! What a module said lately, and what was measured by it. Soft: bounded, and gone with the process.
use alloc::{
    collections::{BTreeMap, VecDeque},
    string::{String, ToString},
    vec::Vec,
};
use tidemill_protocol::admin::{self, Answer};

use super::run::{Coordinates, LogLine, Metric};
use crate::{
    context::Context,
    effect::RequestId,
    limits::{MODULE_LOG_BYTES, MODULE_LOG_FOLLOWERS_MAX, MODULE_LOG_LINES},
};

/// The last lines, oldest first, and who wants the next ones.
#[derive(Debug, Default)]
pub(super) struct Logs {
    lines: VecDeque<admin::LogLine>,
    bytes: usize,
    /// Who wants the lines to come, and from which level on.
    followers: Vec<(RequestId, usize)>,
}

impl Logs {
    /// Keeps a line, and gives it to the followers.
    pub(super) fn push(&mut self, ctx: &mut Context<'_>, line: LogLine) {
        let line = admin::LogLine {
            time: line.time,
            level: line.level.to_string(),
            task: line.task,
            at: line.at.map(place),
            message: line.message,
        };
        let own = rank(&line.level);
        for (follower, _) in self.followers.iter().filter(|(_, least)| *least <= own) {
            ctx.respond_admin(*follower, Answer::Log(line.clone()));
        }
        self.bytes += line.message.len();
        self.lines.push_back(line);
        while MODULE_LOG_LINES < self.lines.len() || MODULE_LOG_BYTES < self.bytes {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.message.len();
        }
    }

    /// A line about the module rather than from it.
    pub(super) fn note(&mut self, ctx: &mut Context<'_>, level: &'static str, task: u32, message: impl Into<String>) {
        let line = LogLine {
            time: ctx.now,
            level,
            task,
            at: None,
            message: message.into(),
        };
        self.push(ctx, line);
    }

    /// Answers `logs`: the last lines of a level and above, and with `follow` those to come.
    pub(super) fn show(
        &mut self,
        ctx: &mut Context<'_>,
        from: RequestId,
        tail: u32,
        follow: bool,
        level: Option<&str>,
    ) {
        let least = level.map_or(0, rank);
        let tail = usize::try_from(tail).unwrap_or(usize::MAX);
        let wanted = || self.lines.iter().filter(move |line| least <= rank(&line.level));
        let skip = wanted().count().saturating_sub(tail);
        for line in wanted().skip(skip) {
            ctx.respond_admin(from, Answer::Log(line.clone()));
        }
        if !follow {
            ctx.respond_admin(from, Answer::Done);
        } else if MODULE_LOG_FOLLOWERS_MAX <= self.followers.len() {
            let message = "too many callers follow this module already";
            ctx.respond_admin(from, Answer::error(admin::ErrorCode::Exhausted, message));
        } else {
            self.followers.push((from, least));
        }
    }

    /// Nobody reads this answer any more.
    pub(super) fn forget(&mut self, from: RequestId) {
        self.followers.retain(|(follower, _)| *follower != from);
    }

    /// There will be no more lines.
    pub(super) fn end(&mut self, ctx: &mut Context<'_>) {
        for (follower, _) in self.followers.drain(..) {
            ctx.respond_admin(follower, Answer::Done);
        }
    }
}

/// How serious a level is.
fn rank(level: &str) -> usize {
    let levels = ["trace", "debug", "info", "warn", "error", "critical"];
    // What is unknown is shown rather than lost.
    levels.iter().position(|known| *known == level).unwrap_or(levels.len())
}

/// A metric of a module as it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// A sum since the start of the process.
    Counter(u64),
    /// The last value.
    Gauge(f64),
    /// How many values there were, and their sum.
    Histogram(u64, f64),
}

/// Takes in what a committed batch measured. A name keeps the kind that it had first.
pub(super) fn measure(measures: &mut BTreeMap<String, Measure>, metrics: Vec<Metric>) {
    for metric in metrics {
        let (name, start) = match &metric {
            Metric::Counter(name, _) => (name.clone(), Measure::Counter(0)),
            Metric::Gauge(name, _) => (name.clone(), Measure::Gauge(0.0)),
            Metric::Histogram(name, _) => (name.clone(), Measure::Histogram(0, 0.0)),
        };
        match (measures.entry(name).or_insert(start), metric) {
            (Measure::Counter(sum), Metric::Counter(_, more)) => *sum = sum.saturating_add(more),
            (Measure::Gauge(last), Metric::Gauge(_, value)) => *last = value,
            (Measure::Histogram(count, sum), Metric::Histogram(_, value)) => {
                *count += 1;
                *sum += value;
            }
            _ => {}
        }
    }
}

fn place(at: Coordinates) -> admin::Place {
    admin::Place {
        topic: at.topic,
        partition: at.partition,
        offset: at.offset,
    }
}
