//! What becomes of a batch that did not go well: the table "One batch" of the module contract, as a value without effects.
//!
//! A [`Plan`] remembers, for one task, what its present records have been through. Each failure narrows it: the records are cut in
//! halves until the guest gets through or one record is left, which is then given up, skipped, or stops the module. Good parts
//! are committed on the way, so a bad record costs about log2(batch) extra runs and no other record is lost or repeated. The plan is
//! soft: after a restart the same records fail in the same way and the same is found again, and attempts are counted from 1.
//!
//! | fault | on disk | then | shown by (scripts of `testscripts/modules`, and `tests/it`) |
//! |---|---|---|---|
//! | crash before or during the call, or before the commit | nothing | the batch is delivered again | `restart`, `kill.rs`, `module test --chaos` |
//! | crash inside the commit | all or nothing | one of its neighbours | storage's `crash_sweep.rs` |
//! | crash after the commit | everything | the next batch | `restart`, `kill.rs`, `module test --chaos` |
//! | trap | nothing | the marked record, or the one that bisecting finds, is poison | `trap_bisect` |
//! | out of memory, deep recursion, a bound of the host | nothing | as a trap | `bad_actors.rs` |
//! | timeout | nothing | once more at half size, then as a trap | `timeout_halves` |
//! | `retry` | nothing | the same records after a backoff; then the module pauses, or a record is poison | `retry_backoff`, `retry_exhausted` |
//! | `poison(i)` | nothing | the batch again without the record, which is dead-lettered in that commit, skipped, or stops | `poison_to_dead_letters`, `poison_skip_and_stop` |
//! | `producer.dead-letter` | with the batch | nothing | `poison_to_dead_letters` |
//! | `ack.first(n)` | the first n | the rest is delivered at once | `ack_first` |
//! | an output or dead-letter topic refuses | nothing | the module pauses | `missing_output`, `dead_letters_refused` |
//! | too many of the last records given up | nothing | the module pauses | `stop_if` |
//! | `fatal` | nothing | the module pauses | `fatal_pauses` |
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use tidemill_protocol::manifest::{Exhausted, Manifest, OnPoison, Retry};

use super::{
    run::{Coordinates, Failure, GiveUp, Verdict},
    window::Window,
};

/// Characters of a reason that are kept: it becomes a header and a line of `status`.
const REASON_CHARS_MAX: usize = 1000;
/// Code of a record on which the guest asked for a retry until no attempt was left.
const RETRY_EXHAUSTED: &str = "retry-exhausted";

/// Records delivered from one input: (topic, partition, first offset, last offset, count).
type Delivered = (String, u32, i64, i64, u32);

/// One input partition of the task, as far as the policy looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// Topic.
    pub(super) topic: &'a str,
    /// Partition number.
    pub(super) partition: u32,
    /// Next offset to process.
    pub(super) position: i64,
}

/// What the policy sees of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    /// The rules.
    pub(super) manifest: &'a Manifest,
    /// The task's inputs; plans name them by their place here.
    pub(super) sources: &'a [Source<'a>],
    /// How its last records fared.
    pub(super) window: &'a Window,
}

/// What to do next. Nothing of the failed run takes effect in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Run what the plan says, at once.
    Again,
    /// Run what the plan says, after this many milliseconds.
    After(i64),
    /// Pause the module, for this reason.
    Pause(String),
}

/// What a task's present records have been through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Number of the next delivery, from 1.
    pub(super) attempt: u32,
    /// Records not to be delivered again: (place of the source, record), in order of offset for each source.
    pub(super) give_up: Vec<(usize, GiveUp)>,
    /// Why the last run failed.
    pub(super) last_error: Option<String>,
    /// For each part of a part: where to stop in each source. The innermost comes last.
    caps: Vec<Vec<i64>>,
    timed_out: bool,
    exhausted: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            attempt: 1,
            give_up: Vec::new(),
            last_error: None,
            caps: Vec::new(),
            timed_out: false,
            exhausted: false,
        }
    }
}

impl Plan {
    /// First offset of a source that must not be delivered; `i64::MAX` when only the limits cut the batch.
    pub(super) fn until(&self, source: usize) -> i64 {
        self.caps.last().map_or(i64::MAX, |cap| cap[source])
    }

    /// Takes note of a commit up to these positions.
    pub(super) fn committed(&mut self, positions: &[i64]) {
        self.give_up
            .retain(|(source, record)| positions[*source] <= record.offset);
        let done = |cap: &Vec<i64>| positions.iter().zip(cap).all(|(position, end)| end <= position);
        while self.caps.last().is_some_and(done) {
            self.caps.pop();
        }
        // What is left of a part has been delivered before.
        self.attempt = self.attempt.saturating_add(1);
        if self.caps.is_empty() {
            self.attempt = 1;
            self.last_error = None;
            self.timed_out = false;
            self.exhausted = false;
        }
    }

    /// Decides about a run that was not acknowledged.
    pub(super) fn failed(&mut self, case: Case<'_>, verdict: Verdict) -> Next {
        match verdict {
            Verdict::Ack => self.nothing_done(case, "the module acknowledged no record at all"),
            Verdict::Fatal(reason) => Next::Pause(format!("the module gave up: {}", cut(&reason))),
            Verdict::Retry {
                reason,
                after_ms,
                delivered,
            } => self.retry(case, &reason, after_ms, &delivered),
            Verdict::Poison { at, code, reason } => self.give_up(case, &at, &code, &reason),
            Verdict::Failed {
                kind,
                message,
                suspect,
                delivered,
            } => {
                self.last_error = Some(cut(&message));
                if kind == Failure::Timeout && !self.timed_out {
                    self.timed_out = true;
                    if self.halve(case, &delivered).is_none() {
                        self.hold(case, &delivered);
                    }
                    return self.again();
                }
                match suspect {
                    Some(at) => self.give_up(case, &at, kind.code(), &message),
                    None => self.isolate(case, kind.code(), &message, &delivered),
                }
            }
        }
    }

    /// Whether committing this many given up of this many records is too much.
    pub(super) fn stops(case: Case<'_>, records: u32, failed: u32) -> Option<String> {
        let stop_if = case.manifest.dead_letter.stop_if?;
        case.window.stops(stop_if, records, failed).then(|| {
            let (failed, of_last) = (stop_if.failed, stop_if.of_last);
            format!("at least {failed} of the last {of_last} records were given up (dead-letter.stop-if)")
        })
    }

    fn retry(&mut self, case: Case<'_>, reason: &str, after_ms: Option<u32>, delivered: &[Delivered]) -> Next {
        self.last_error = Some(cut(reason));
        let retry = &case.manifest.retry;
        if self.exhausted || (retry.max_attempts <= self.attempt && retry.exhausted == Exhausted::Poison) {
            self.exhausted = true;
            return self.isolate(case, RETRY_EXHAUSTED, reason, delivered);
        }
        if retry.max_attempts <= self.attempt {
            return Next::Pause(exhausted(self.attempt, reason));
        }
        self.hold(case, delivered);
        let wait = after_ms.map_or_else(|| backoff(retry, self.attempt), |wait| u64::from(wait).min(retry.max.0));
        self.attempt += 1;
        Next::After(i64::try_from(wait).unwrap_or(i64::MAX))
    }

    /// A failure that no record can be blamed for: it is tried again, and in the end stops the module.
    fn nothing_done(&mut self, case: Case<'_>, reason: &str) -> Next {
        self.last_error = Some(cut(reason));
        let retry = &case.manifest.retry;
        if retry.max_attempts <= self.attempt {
            return Next::Pause(exhausted(self.attempt, reason));
        }
        let wait = backoff(retry, self.attempt);
        self.attempt += 1;
        Next::After(i64::try_from(wait).unwrap_or(i64::MAX))
    }

    /// Looks for the record to blame: half of what was delivered next time, or the one record that it was.
    fn isolate(&mut self, case: Case<'_>, code: &str, reason: &str, delivered: &[Delivered]) -> Next {
        if delivered.iter().all(|part| part.4 == 0) {
            return self.nothing_done(case, reason);
        }
        match self.halve(case, delivered) {
            Some(()) => self.again(),
            None => match delivered.iter().find(|part| part.4 != 0) {
                Some((topic, partition, first, ..)) => {
                    let at = Coordinates {
                        topic: topic.clone(),
                        partition: *partition,
                        offset: *first,
                    };
                    self.give_up(case, &at, code, reason)
                }
                None => self.nothing_done(case, reason),
            },
        }
    }

    fn give_up(&mut self, case: Case<'_>, at: &Coordinates, code: &str, reason: &str) -> Next {
        let Coordinates {
            topic,
            partition,
            offset,
        } = at;
        self.last_error = Some(format!("{topic}/{partition} offset {offset}: {code}: {}", cut(reason)));
        let source = case
            .sources
            .iter()
            .position(|source| source.topic == topic && source.partition == *partition);
        let Some(source) = source.filter(|source| case.sources[*source].position <= *offset) else {
            return Next::Pause(format!(
                "the module refused {topic}/{partition} offset {offset}, which it was not given"
            ));
        };
        let policy = case.manifest.on_poison();
        if policy == OnPoison::Stop {
            let reason = cut(reason);
            return Next::Pause(format!(
                "{topic}/{partition} offset {offset}: {code}: {reason} (dead-letter.on-poison = \"stop\")"
            ));
        }
        let record = GiveUp {
            offset: *offset,
            dead_letter: policy == OnPoison::DeadLetter,
            code: cut(code),
            reason: cut(reason),
            attempt: self.attempt,
        };
        let after = self
            .give_up
            .iter()
            .position(|(other, given)| *other == source && *offset <= given.offset);
        match after {
            Some(place) if self.give_up[place].1.offset == *offset => {
                return Next::Pause(format!(
                    "{topic}/{partition} offset {offset} was refused again after it was left out"
                ));
            }
            Some(place) => self.give_up.insert(place, (source, record)),
            None => self.give_up.push((source, record)),
        }
        let failed = u32::try_from(self.give_up.len()).unwrap_or(u32::MAX);
        match Self::stops(case, failed, failed) {
            Some(reason) => Next::Pause(reason),
            None => self.again(),
        }
    }

    fn again(&mut self) -> Next {
        self.attempt = self.attempt.saturating_add(1);
        Next::Again
    }

    /// Makes the next delivery the first half of this one; `None` when it cannot be cut.
    fn halve(&mut self, case: Case<'_>, delivered: &[Delivered]) -> Option<()> {
        let parts: Vec<&Delivered> = delivered.iter().filter(|part| part.4 != 0).collect();
        let half: Vec<Delivered> = match parts[..] {
            [] => return None,
            [(.., first, last, _)] if last <= first => return None,
            // The half has the first record and not the last, whatever offsets are missing between them.
            [(topic, partition, first, last, _)] => {
                [(topic.clone(), *partition, *first, first + (last - first) / 2, 1)].into()
            }
            _ => parts[..parts.len() / 2].iter().map(|part| (*part).clone()).collect(),
        };
        self.hold(case, delivered);
        self.caps.push(cap(case, &half));
        Some(())
    }

    /// Makes sure that later deliveries have no more than these records until they are committed.
    fn hold(&mut self, case: Case<'_>, delivered: &[Delivered]) {
        let cap = cap(case, delivered);
        let new = self.caps.last() != Some(&cap);
        if new && delivered.iter().any(|part| part.4 != 0) {
            self.caps.push(cap);
        }
    }
}

/// Where to stop in each source to deliver what was delivered.
fn cap(case: Case<'_>, delivered: &[Delivered]) -> Vec<i64> {
    let end = |source: &Source<'_>| {
        let part = delivered
            .iter()
            .find(|part| part.0 == source.topic && part.1 == source.partition && part.4 != 0);
        part.map_or(source.position, |part| part.3 + 1)
    };
    case.sources.iter().map(end).collect()
}

/// Wait before the delivery after this one.
fn backoff(retry: &Retry, attempt: u32) -> u64 {
    let mut wait = retry.initial.0;
    for _ in 1..attempt {
        wait = retry.factor.scale(wait);
        if retry.max.0 <= wait || retry.factor.0 <= 1000 {
            break;
        }
    }
    wait.min(retry.max.0)
}

fn exhausted(attempts: u32, reason: &str) -> String {
    format!("failed {attempts} times (retry.max-attempts): {}", cut(reason))
}

pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests;
