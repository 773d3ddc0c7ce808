//! What a guest's answer means, and what is committed with it.
use std::sync::Arc;

use tidemill_broker::module::{
    run::{self, Coordinates, Migrated, Processed, StateRow, Usage, Verdict},
    timer_row,
};
use tidemill_protocol::manifest::Clock;

use crate::{
    bindings::tidemill::processor::types::{Ack, Failure, ProcessError},
    call::Call,
    dead_letter::Letter,
    delivery::{GivenUp, Unreadable},
    expiry::Rows,
    fault, timers,
};

/// What a guest answered.
pub(crate) enum Answer {
    /// `handler.process`.
    Batch(Result<Ack, ProcessError>),
    /// `timer-handler.on-timers`.
    Timers(Result<(), ProcessError>),
    /// `migrator.migrate`.
    Migrated(Migrated),
    /// Nothing was called but `init`: the layout of the component's state.
    Rehearsed(Option<u32>),
    /// A function of `lifecycle` or `migrator` said no: which, and why.
    Refused(&'static str, String),
}

impl Call {
    /// What the guest's answer means.
    pub(crate) fn answered(self, answer: Answer, memory_bytes: u64) -> Processed {
        let verdict = match answer {
            Answer::Batch(answer) => return self.answered_batch(answer, memory_bytes),
            Answer::Timers(Ok(())) => return self.acknowledge(0, memory_bytes),
            Answer::Migrated(migrated) => {
                let migrated = Some(migrated);
                return Processed {
                    migrated,
                    ..self.acknowledge(0, memory_bytes)
                };
            }
            Answer::Rehearsed(state_version) => {
                return Processed {
                    state_version,
                    ..self.outcome(Verdict::Ack, memory_bytes)
                };
            }
            Answer::Timers(Err(ProcessError::Poison(poison))) => {
                let timer = self.due.get(poison.index as usize).map(|timer| {
                    let key = String::from_utf8_lossy(&timer.key);
                    format!("timer `{}` of key {key:?} due at {}", timer.name, timer.at)
                });
                let timer = timer.unwrap_or_else(|| format!("timer {} of {}", poison.index, self.due.len()));
                let Failure { code, reason } = poison.failure;
                fault::failed(run::Failure::Trap, format!("{timer}: {code}: {reason}"), &self)
            }
            Answer::Timers(Err(error)) => self.error(error),
            Answer::Refused(function, why) => Verdict::Fatal(self.explained(format!("`{function}` failed: {why}"))),
        };
        self.outcome(verdict, memory_bytes)
    }

    fn answered_batch(self, answer: Result<Ack, ProcessError>, memory_bytes: u64) -> Processed {
        let count = self.delivery.len();
        let verdict = match answer {
            Ok(Ack::All) => return self.acknowledge(count, memory_bytes),
            Ok(Ack::First(0)) => self.retry("`ack.first(0)` makes no progress".into(), None),
            Ok(Ack::First(first)) if first as usize <= count => return self.acknowledge(first as usize, memory_bytes),
            Ok(Ack::First(first)) => fault::failed(
                run::Failure::Trap,
                format!("`ack.first({first})` of {count} records"),
                &self,
            ),
            Err(error) => self.error(error),
        };
        self.outcome(verdict, memory_bytes)
    }

    fn error(&self, error: ProcessError) -> Verdict {
        match error {
            ProcessError::Retry(retry) => self.retry(retry.reason, retry.after_ms),
            ProcessError::Poison(poison) => match self.delivery.coordinates(poison.index as usize) {
                Some(at) => Verdict::Poison {
                    at,
                    code: poison.failure.code,
                    reason: poison.failure.reason,
                },
                None => fault::failed(
                    run::Failure::Trap,
                    format!("`poison({})` of {} records", poison.index, self.delivery.len()),
                    self,
                ),
            },
            ProcessError::Fatal(reason) => Verdict::Fatal(fault::blamed(self.explained(reason), self)),
        }
    }

    /// A guest's reason to stop, with the limits that it ran into.
    fn explained(&self, reason: String) -> String {
        match self.limits_hit.as_slice() {
            [] => reason,
            hit => format!("{reason} ({})", hit.join("; ")),
        }
    }

    fn retry(&self, reason: String, after_ms: Option<u32>) -> Verdict {
        Verdict::Retry {
            reason,
            after_ms,
            delivered: self.delivery.delivered(),
        }
    }

    /// Commits the first `count` records, with the dead letters of what is given up before them.
    pub(crate) fn acknowledge(mut self, count: usize, memory_bytes: u64) -> Processed {
        let next = self.delivery.next(count);
        if let Err(fatal) = self.give_up(&next) {
            return self.outcome(Verdict::Fatal(fatal), memory_bytes);
        }
        let run = Arc::clone(&self.run);
        let (state, state_growth) = self.state();
        let due = self.timers.as_ref().map(|timers| {
            let committed = timers::committed(self.reader.as_ref(), &run.task);
            timers::first_due(timers, committed)
        });
        let event_times = match run.event_time {
            Some(_) => self.delivery.event_times(count),
            None => Vec::new(),
        };
        let (given_up, output_records) = (self.given_up, self.outputs.records());
        let outputs = std::mem::take(&mut self.outputs).finish();
        let metrics = std::mem::take(&mut self.metrics).finish();
        Processed {
            next,
            given_up,
            output_records,
            outputs,
            state,
            state_growth,
            event_times,
            due,
            metrics,
            ..self.outcome(Verdict::Ack, memory_bytes)
        }
    }

    /// The rows to commit: what the guest wrote, its timers, and what has expired; by how much the state grows with them.
    fn state(&mut self) -> (Vec<StateRow>, i64) {
        let (run, mut written) = (Arc::clone(&self.run), Vec::new());
        let mut expire = [None, None];
        for (overlay, bucket) in std::mem::take(&mut self.buckets).into_iter().zip(run.buckets.iter()) {
            if let Some((clock, now)) = overlay.expires() {
                expire[usize::from(clock == Clock::WallClock)] = Some((clock, now));
            }
            overlay.finish(&bucket.rows, &mut written);
        }
        if let Some(timers) = &self.timers {
            timers.rows(timer_row::ROWS, &mut written);
        }
        let mut rows = Rows {
            reader: self.reader.as_ref(),
            task: &run.task,
            written,
        };
        let mut growth = self.quota.growth;
        for (clock, now) in expire.into_iter().flatten() {
            growth -= rows.remove_expired(clock, now);
        }
        (rows.written, growth)
    }

    fn give_up(&mut self, next: &[(String, u32, i64)]) -> Result<(), String> {
        self.outputs.lift_quota();
        for GivenUp { entry, source, give_up } in self.delivery.given_up() {
            let (topic, partition, next) = &next[usize::from(*source)];
            let (Some(letters), true) = (&self.run.dead_letter, give_up.dead_letter && give_up.offset < *next) else {
                continue;
            };
            let at = Coordinates {
                topic: topic.clone(),
                partition: *partition,
                offset: give_up.offset,
            };
            let letter = Letter::new(&self.run, &at, &give_up.code, &give_up.reason, give_up.attempt);
            letter
                .put(&mut self.outputs, letters, &self.delivery, entry.as_ref())
                .map_err(|refused| {
                    format!(
                        "dead-letter topic `{letters}` does not take record {topic}-{partition}@{}: {refused:?}",
                        at.offset
                    )
                })?;
        }
        Ok(())
    }

    /// The outcome of a run that leaves nothing but its log.
    pub(crate) fn outcome(self, verdict: Verdict, memory_bytes: u64) -> Processed {
        let usage = Usage {
            records: u32::try_from(self.delivery.len()).unwrap_or(u32::MAX),
            bytes: self.delivery.bytes() as u64,
            guest_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            cpu_us: 0,
            memory_bytes,
            host_calls: self.host_calls,
        };
        Processed {
            logs: self.log.finish(),
            usage,
            ..Processed::nothing(&self.run, verdict)
        }
    }
}

pub(crate) fn unreadable_verdict(at: Coordinates, unreadable: &Unreadable) -> Verdict {
    match unreadable {
        Unreadable::Record(_, error) => Verdict::Poison {
            at,
            code: "bad-record-batch".into(),
            reason: format!("the record cannot be read: {error}"),
        },
        Unreadable::Batch(_, error) => Verdict::Fatal(format!(
            "the log of {}-{} is damaged at offset {}: {error}",
            at.topic, at.partition, at.offset
        )),
    }
}
