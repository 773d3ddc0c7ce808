//! Dead letters processed again: by the module that gave up on them, and by nobody else.
//!
//! A redriven record is not appended to its topic a second time, where every other consumer would meet it again. The module is given
//! the record alone, as it was and at the offset that it had. What comes of it, and the mark that this letter is done, are one entry:
//! a letter is done once, whatever crashes. A record that fails again stays a letter that is not done.
//!
//! ```text
//!  letters: partitions of the dead-letter topic ──► read ──► those of this module, not done, with the code asked for
//!                                                                  │ to the task of the partition it came from
//!                                                                  ▼ between two of its batches
//!                                              Run(record alone) ──► Commit { outputs, state, redriven }   or: failed again
//! ```
//! What goes on is soft: after a restart somebody asks again, and what was done is left out.
use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    format,
    string::{String, ToString},
    vec::Vec,
};
use bytes::Bytes;
use tidemill_protocol::{
    admin::{Answer, ErrorCode as AdminCode},
    batch::{Builder, RecordHeader, batches},
    ids::Uuid,
};

use super::{
    change::{Change, Commit, Outcome, Redriven, Refused, Totals},
    commit::output_logs,
    deployed::Deployed,
    run::{Coordinates, Input, Processed, Verdict, dead_letter},
    task::{Committing, Phase},
    tickets::{ReadFor, Tickets, Waiter},
    work::Patience,
};
use crate::{
    context::{self, Context, Reading},
    effect::{Effect, LogId, LogRead, ReadAnswer, RequestId},
    entry::Command,
    limits::{LETTER_BYTES_MAX, LETTERS_READ_BYTES},
};

/// One dead letter, ready to be given to the guest again.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// Place in the dead-letter topic, and what it marks as done.
    pub(super) mark: Redriven,
    /// Where it came from.
    pub(super) at: Coordinates,
    /// Why it was given up.
    pub(super) code: String,
    /// Deliveries until now.
    pub(super) attempt: u32,
    /// The record as it was, as a batch at its own offset.
    pub(super) batch: Bytes,
}

/// A redrive under way.
#[derive(Debug)]
pub(super) struct Redrive {
    from: RequestId,
    token: u64,
    code: Option<String>,
    dry_run: bool,
    topic: Uuid,
    /// Partitions to read: (partition, log, next offset, end).
    partitions: VecDeque<(i32, LogId, i64, i64)>,
    /// Offset after the last letter of a task in the partition that is read.
    after: BTreeMap<u32, i64>,
    waiting: BTreeMap<u32, VecDeque<Letter>>,
    is_reading: bool,
    matched: u64,
    done: u64,
    failed: u64,
}

impl Deployed {
    /// Begins to process dead letters again, or to say which.
    pub(super) fn redrive(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        from: RequestId,
        code: Option<String>,
        dry_run: bool,
    ) {
        let refuse = |ctx: &mut Context<'_>, message: &str| {
            ctx.respond_admin(from, Answer::error(AdminCode::WrongState, message));
        };
        if self.redrive.is_some() {
            return refuse(ctx, "dead letters of this module are being redriven already");
        }
        if !dry_run && (!self.is_ready() || self.tasks.is_empty()) {
            return refuse(ctx, "the module does not run");
        }
        let topic = self.manifest.dead_letter.topic.as_ref();
        let Some(topic) = topic.and_then(|topic| ctx.state.topics.get(topic)) else {
            return refuse(ctx, "the module has no dead-letter topic");
        };
        let mut partitions = VecDeque::new();
        for (partition, log) in (0..).zip(&topic.logs) {
            if let Some(state) = ctx.state.logs.get(log) {
                partitions.push_back((partition, *log, state.start, state.high_watermark()));
            }
        }
        self.redrive = Some(Redrive {
            from,
            token: tickets.number(),
            code,
            dry_run,
            topic: topic.id,
            partitions,
            after: BTreeMap::new(),
            waiting: BTreeMap::new(),
            is_reading: false,
            matched: 0,
            done: 0,
            failed: 0,
        });
        self.redrive_next(ctx, tickets);
    }

    /// Reads more letters when the last ones are through, and ends when there are none.
    pub(super) fn redrive_next(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
        self.fail_orphans(ctx);
        let is_running = self.tasks.values().any(|task| task.letter.is_some());
        let Some(redrive) = &mut self.redrive else { return };
        if !redrive.waiting.is_empty() || is_running || redrive.is_reading {
            return;
        }
        while redrive.partitions.front().is_some_and(|(.., next, end)| end <= next) {
            redrive.partitions.pop_front();
            redrive.after.clear();
        }
        if let Some(&(_, log, next, end)) = redrive.partitions.front() {
            let ticket = tickets.read(&self.name, 0, redrive.token, ReadFor::Letters);
            let read = LogRead {
                log,
                from: next,
                until: end,
                bytes_max: LETTERS_READ_BYTES,
            };
            redrive.is_reading = true;
            ctx.read([read].into(), Reading::Module(ticket));
            return;
        }
        let (from, matched, done, failed) = (redrive.from, redrive.matched, redrive.done, redrive.failed);
        let message = if redrive.dry_run {
            format!("{matched} dead letters would be processed again")
        } else {
            format!("{done} dead letters processed, {failed} failed again")
        };
        self.redrive = None;
        let stage = "redriven".into();
        ctx.respond_admin(from, Answer::Progress { stage, message });
        ctx.respond_admin(from, Answer::Done);
    }

    /// Letters were read.
    pub(super) fn letters(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, token: u64, mut answer: ReadAnswer) {
        let Some(mut redrive) = self.redrive.take_if(|redrive| redrive.token == token) else {
            return;
        };
        redrive.is_reading = false;
        let Some(front) = redrive.partitions.front_mut() else {
            return;
        };
        let partition = front.0;
        let Some(Ok(records)) = answer.pop() else {
            let message = format!("dead letters of partition {partition} could not be read");
            return ctx.respond_admin(redrive.from, Answer::error(AdminCode::Internal, message));
        };
        let before = front.2;
        for batch in batches(&records).map_while(Result::ok) {
            front.2 = batch.header().next_offset().max(front.2);
            let Ok(payload) = batch.payload(LETTER_BYTES_MAX) else {
                continue;
            };
            for record in payload.records().map_while(Result::ok) {
                if record.offset < before {
                    continue;
                }
                let headers: Vec<(&[u8], Option<&[u8]>)> =
                    record.headers.map(|header| (header.key, header.value)).collect();
                let Some((at, code, attempt, own)) = origin(&self.name, &headers) else {
                    continue;
                };
                let after = redrive.after.insert(at.partition, record.offset + 1);
                let mark = Redriven {
                    topic: redrive.topic,
                    partition,
                    from: after.unwrap_or(0),
                    offset: record.offset,
                };
                let is_wanted = redrive.code.as_ref().is_none_or(|wanted| *wanted == code);
                let task = ctx.state.modules.task(&self.name, at.partition);
                if !is_wanted || task.is_some_and(|task| task.redriven.contains(&mark)) {
                    continue;
                }
                let mut batch = Builder::new();
                let own = own.iter().map(|(key, value)| RecordHeader { key, value: *value });
                batch.append(record.timestamp, record.key, record.value, own);
                let mut batch = batch.finish().to_vec();
                // The base offset lies before what the checksum covers.
                batch[..8].copy_from_slice(&at.offset.to_be_bytes());
                redrive.matched += 1;
                let letter = Letter {
                    mark,
                    at,
                    code,
                    attempt,
                    batch: batch.into(),
                };
                if redrive.dry_run {
                    let message = letter.to_string();
                    let stage = "letter".into();
                    ctx.respond_admin(redrive.from, Answer::Progress { stage, message });
                } else {
                    redrive
                        .waiting
                        .entry(letter.at.partition)
                        .or_default()
                        .push_back(letter);
                }
            }
        }
        // Nothing readable is there, or a hole: go on behind it rather than for ever.
        if front.2 <= before {
            front.2 = front.3;
        }
        let tasks: Vec<u32> = redrive.waiting.keys().copied().collect();
        self.redrive = Some(redrive);
        for number in tasks {
            self.advance(ctx, tickets, number, Patience::Linger);
        }
        self.redrive_next(ctx, tickets);
    }

    /// Letters of tasks that another consumer of the group has.
    fn fail_orphans(&mut self, ctx: &mut Context<'_>) {
        let Some(redrive) = &mut self.redrive else { return };
        redrive.waiting.retain(|_, letters| !letters.is_empty());
        let mut orphans = Vec::new();
        for (number, letters) in &mut redrive.waiting {
            if !self.tasks.contains_key(number) {
                orphans.extend(letters.drain(..).map(|letter| (*number, letter)));
            }
        }
        redrive.waiting.retain(|_, letters| !letters.is_empty());
        for (number, letter) in orphans {
            self.letter_failed(ctx, number, &letter, "this node does not have the task");
        }
    }

    /// Gives the guest the next letter of a task that is between two batches; false if there is none.
    pub(super) fn run_letter(&mut self, ctx: &mut Context<'_>, number: u32) -> bool {
        loop {
            let waiting = self
                .redrive
                .as_mut()
                .and_then(|redrive| redrive.waiting.get_mut(&number));
            let Some(letter) = waiting.and_then(VecDeque::pop_front) else {
                return false;
            };
            let task = self.tasks.get(&number);
            let reads = task.is_some_and(|task| task.place(&letter.at.topic, letter.at.partition).is_some());
            let input = Input {
                topic: letter.at.topic.clone(),
                partition: letter.at.partition,
                from: letter.at.offset,
                until: letter.at.offset + 1,
                give_up: Vec::new(),
                has_more: false,
                records: letter.batch.clone().into(),
            };
            let run = self.run(ctx, number, [input].into()).filter(|_| reads);
            let (Some(mut run), Some(task)) = (run, self.tasks.get_mut(&number)) else {
                self.letter_failed(ctx, number, &letter, "the module does not read that topic any more");
                continue;
            };
            run.attempt = letter.attempt.saturating_add(1);
            task.letter = Some(letter);
            task.phase = Phase::Running;
            ctx.effect(Effect::Run(Box::new(run)));
            return true;
        }
    }

    /// The guest is done with a letter: commits what came of it, or leaves it as it was.
    pub(super) fn letter_processed(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        number: u32,
        mut processed: Processed,
    ) {
        let Some(task) = self.tasks.get(&number) else { return };
        let Some(letter) = task.letter.clone() else { return };
        let outputs = match words(&processed.verdict) {
            Some(why) => Err(why),
            None => output_logs(ctx.state, core::mem::take(&mut processed.outputs)),
        };
        let outputs = match outputs {
            Ok(outputs) => outputs,
            Err(why) => return self.letter_over(ctx, tickets, number, Err(why)),
        };
        let commit = Commit {
            owner: self.owner(number, task),
            inputs: Vec::new(),
            outputs,
            state: core::mem::take(&mut processed.state),
            state_growth: processed.state_growth,
            event_time: None,
            due: processed.due,
            firing: None,
            totals: Totals {
                records_in: u64::from(processed.usage.records),
                records_out: processed.output_records,
                batches: 1,
                given_up: u64::from(processed.given_up),
            },
            redriven: Some(letter.mark),
        };
        let waiter = Waiter::Commit {
            module: self.name.clone(),
            task: number,
            token: task.token,
        };
        if let Some(task) = self.tasks.get_mut(&number) {
            task.phase = Phase::Committing(Committing {
                metrics: processed.metrics,
                due: processed.due,
                state_growth: processed.state_growth,
                served: processed.usage.records != 0,
                ..Committing::default()
            });
        }
        ctx.propose(Command::Module(Change::Commit(commit)), context::Waiter::Module(waiter));
    }

    /// What came of a letter's commit; `None` when it never became an entry.
    pub(super) fn letter_committed(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        number: u32,
        outcome: Option<Outcome>,
    ) {
        let result = match outcome {
            Some(Outcome::Done | Outcome::Claimed(_) | Outcome::Restored(_)) => Ok(()),
            Some(Outcome::Refused(Refused::TooManyGaps)) => {
                Err("too many letters were left out before it: redrive them without --where".into())
            }
            Some(Outcome::Refused(refused)) => Err(format!("refused: {refused:?}")),
            None => Err("it could not be written".into()),
        };
        self.letter_over(ctx, tickets, number, result);
    }

    fn letter_over(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, number: u32, result: Result<(), String>) {
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        let (letter, is_revoking) = (task.letter.take(), task.revoking);
        task.phase = Phase::Idle(None);
        match (&result, letter, &mut self.redrive) {
            (Ok(()), _, Some(redrive)) => redrive.done += 1,
            (Err(why), Some(letter), _) => self.letter_failed(ctx, number, &letter, why),
            _ => {}
        }
        if is_revoking {
            return self.hand_over(ctx, tickets, number);
        }
        self.advance(ctx, tickets, number, Patience::None);
        self.redrive_next(ctx, tickets);
    }

    fn letter_failed(&mut self, ctx: &mut Context<'_>, number: u32, letter: &Letter, why: &str) {
        let message = format!("redriving {letter}: {why}");
        self.logs.note(ctx, "warn", number, message.clone());
        if let Some(redrive) = &mut self.redrive {
            redrive.failed += 1;
            let stage = "failed".into();
            ctx.respond_admin(redrive.from, Answer::Progress { stage, message });
        }
    }

    /// Tasks are gone, with what ran in them: whoever asked asks again.
    pub(super) fn stop_redrive(&mut self, ctx: &mut Context<'_>, why: &str) {
        if let Some(redrive) = self.redrive.take() {
            let message = format!(
                "{} dead letters were processed, then {why}: ask again for the rest",
                redrive.done
            );
            ctx.respond_admin(redrive.from, Answer::error(AdminCode::Unavailable, message));
        }
    }

    /// Nobody reads the answers any more.
    pub(super) fn forget_redrive(&mut self, from: RequestId) {
        self.redrive.take_if(|redrive| redrive.from == from);
    }
}

/// Why a letter failed again; `None` if it did not.
fn words(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Ack => None,
        Verdict::Retry { reason, .. } | Verdict::Fatal(reason) => Some(reason.clone()),
        Verdict::Poison { code, reason, .. } => Some(format!("{code}: {reason}")),
        Verdict::Failed { kind, message, .. } => Some(format!("{}: {message}", kind.code())),
    }
}

impl core::fmt::Display for Letter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Coordinates {
            topic,
            partition,
            offset,
        } = &self.at;
        write!(f, "{topic}/{partition} offset {offset} ({})", self.code)
    }
}

/// A header as it stands in a record.
type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// Where a record of the dead-letter topic came from, why, how often it was tried, and the headers of its own; `None` if it is not a
/// letter of this module.
fn origin<'a, 'h>(module: &str, headers: &'h [Header<'a>]) -> Option<(Coordinates, String, u32, &'h [Header<'a>])> {
    // Ours come after the record's own; a letter that was given up twice has two sets, and the last counts.
    let first = headers
        .iter()
        .rposition(|(key, _)| *key == dead_letter::TOPIC.as_bytes())?;
    let (own, ours) = headers.split_at(first);
    let text = |name: &str| {
        let (_, value) = ours.iter().find(|(key, _)| *key == name.as_bytes())?;
        core::str::from_utf8((*value)?).ok()
    };
    if text(dead_letter::MODULE)? != module {
        return None;
    }
    let at = Coordinates {
        topic: text(dead_letter::TOPIC)?.to_string(),
        partition: text(dead_letter::PARTITION)?.parse().ok()?,
        offset: text(dead_letter::OFFSET)?.parse().ok()?,
    };
    let code = text(dead_letter::CODE)?.to_string();
    let attempt = text(dead_letter::ATTEMPT)?.parse().ok()?;
    Some((at, code, attempt, own))
}
