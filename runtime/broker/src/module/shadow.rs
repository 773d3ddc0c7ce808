//! Another version run over what was processed already, to see what it would have made of it. Nothing of it is kept.
//!
//! Each task is held between two batches; its last batches are read again and given to both versions, over the state as it is now:
//! since the state has moved on, what the running version makes of them today need not be what it made then, but both see the same.
//!
//! ```text
//!  load ──► task by task:  read a batch ──► run the version that runs ──► run the other ──► compare ──► next batch
//! ```
use alloc::{
    boxed::Box,
    collections::VecDeque,
    format,
    string::{String, ToString},
    vec::Vec,
};
use bytes::Bytes;
use tidemill_protocol::{
    admin::{Answer, ErrorCode as AdminCode},
    batch::batches,
    records::Records,
};

use super::{
    Version,
    deployed::Deployed,
    edition::{Edition, Load},
    run::{Input, Processed, Run, Verdict},
    task::Phase,
    tickets::{ReadFor, Tickets},
    work::Patience,
};
use crate::{
    context::{Context, Reading},
    effect::{Effect, LogRead, ReadAnswer, RequestId},
    limits::LETTER_BYTES_MAX,
};

/// Number under which the other version is loaded: no release ever has it.
pub(super) const OTHER: u32 = u32::MAX;
/// Number under which the running version is loaded once more, so that its own instances see nothing of this.
pub(super) const RUNNING: u32 = u32::MAX - 1;
/// Characters of a record that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// A comparison under way.
#[derive(Debug)]
pub(super) struct Shadow {
    from: RequestId,
    token: u64,
    editions: [Edition; 2],
    /// Tasks to look at.
    tasks: VecDeque<u32>,
    batches: u32,
    held: Option<Held>,
    compared: u64,
    records: u64,
    different: u64,
}

/// The task at hand.
#[derive(Debug)]
struct Held {
    number: u32,
    /// For each of its sources: first offset of the next batch, and where the task's own position is.
    places: Vec<(i64, i64)>,
    /// The batch at hand, and what the running version made of it.
    inputs: Vec<Input>,
    first: Option<Processed>,
}

impl Deployed {
    /// Begins: both versions are loaded.
    pub(super) fn shadow(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        from: RequestId,
        other: Edition,
        batches: u32,
    ) {
        let refuse = |ctx: &mut Context<'_>, message: &str| {
            ctx.respond_admin(from, Answer::error(AdminCode::WrongState, message));
        };
        if self.shadow.is_some() {
            return refuse(ctx, "a version is compared with this module already");
        }
        let topics = |edition: &Edition| -> Vec<String> {
            edition.manifest.input.iter().map(|input| input.topic.clone()).collect()
        };
        let Some(running) = self.editions.get(&self.current).filter(|edition| edition.is_ready()) else {
            return refuse(ctx, "the module does not run");
        };
        if topics(running) != topics(&other) {
            return refuse(ctx, "the version reads other topics than the one that runs");
        }
        if let Some(why) = other.held_by(ctx.state) {
            return refuse(ctx, &why);
        }

        if running.state_version != other.state_version {
            let (own, others) = (running.state_version, other.state_version);
            let message =
                format!("the state has layout {own}, the version reads layout {others}: it cannot be compared");
            return refuse(ctx, &message);
        }
        let as_number = |edition: &Edition, number| Edition {
            version: Version {
                number,
                ..edition.version.clone()
            },
            manifest: edition.manifest.clone(),
            state_version: edition.state_version,
            load: Load::Loading,
            grants: edition.grants.clone(),
            unbuilt: Vec::new(),
        };
        let editions = [as_number(running, RUNNING), as_number(&other, OTHER)];
        for edition in &editions {
            ctx.effect(Effect::Load(edition.version.clone()));
        }
        self.shadow = Some(Shadow {
            from,
            token: tickets.number(),
            editions,
            tasks: self.tasks.keys().copied().collect(),
            batches,
            held: None,
            compared: 0,
            records: 0,
            different: 0,
        });
    }

    /// The host has one of the two, or cannot have it.
    pub(super) fn shadow_loaded(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        version: &Version,
        result: Result<(), String>,
    ) {
        let Some(shadow) = &mut self.shadow else { return };
        if let Err(reason) = result {
            return self.end_shadow(ctx, tickets, Err((AdminCode::InvalidComponent, reason)));
        }
        for edition in &mut shadow.editions {
            if edition.version == *version {
                edition.load = Load::Ready;
            }
        }
        if shadow.editions.iter().all(Edition::is_ready) {
            self.shadow_next(ctx, tickets);
        }
    }

    /// Goes to the next task that is between two batches; ends when none is left.
    pub(super) fn shadow_next(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
        let Some(shadow) = &mut self.shadow else { return };
        // A task that left takes with it what was under way for it.
        let is_held = |held: &Held| {
            let task = self.tasks.get(&held.number);
            task.is_some_and(|task| matches!(task.phase, Phase::Shadowing))
        };
        shadow.held = shadow.held.take().filter(is_held);
        if shadow.held.is_some() || !shadow.editions.iter().all(Edition::is_ready) {
            return;
        }
        while shadow
            .tasks
            .front()
            .is_some_and(|number| !self.tasks.contains_key(number))
        {
            shadow.tasks.pop_front();
        }
        match shadow.tasks.front().copied() {
            None => self.end_shadow(ctx, tickets, Ok(())),
            Some(number) => self.advance(ctx, tickets, number, Patience::None),
        }
    }

    /// Takes a task that is between two batches, if it is its turn; true if it is held.
    pub(super) fn hold_for_shadow(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, number: u32) -> bool {
        let Some(shadow) = &mut self.shadow else { return false };
        let is_ready = shadow.editions.iter().all(Edition::is_ready);
        let Some(task) = self.tasks.get_mut(&number) else {
            return false;
        };
        if !is_ready || shadow.held.is_some() || shadow.tasks.front() != Some(&number) {
            return false;
        }
        shadow.tasks.pop_front();
        let reach = i64::from(shadow.batches).saturating_mul(i64::from(self.manifest.batch.max_records));
        let mut places = Vec::with_capacity(task.sources.len());
        for source in &task.sources {
            let start = ctx.state.logs.get(&source.log).map_or(0, |log| log.start);
            let first = source.position.saturating_sub(reach).max(start).min(source.position);
            places.push((first, source.position));
        }
        shadow.held = Some(Held {
            number,
            places,
            inputs: Vec::new(),
            first: None,
        });
        task.phase = Phase::Shadowing;
        self.shadow_read(ctx, tickets);
        true
    }

    fn shadow_read(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
        let Some(shadow) = &mut self.shadow else { return };
        let Some(held) = &shadow.held else { return };
        let number = held.number;
        let Some(task) = self.tasks.get_mut(&number) else {
            return self.shadow_next(ctx, tickets);
        };
        let mut reads = Vec::new();
        for (source, (first, end)) in task.sources.iter().zip(&held.places) {
            if first < end {
                reads.push(LogRead {
                    log: source.log,
                    from: *first,
                    until: *end,
                    bytes_max: self.manifest.batch.max_bytes.as_usize(),
                });
            }
        }
        if reads.is_empty() {
            task.phase = Phase::Idle(None);
            self.advance(ctx, tickets, number, Patience::None);
            return self.shadow_next(ctx, tickets);
        }
        let ticket = tickets.read(&self.name, number, shadow.token, ReadFor::Shadow);
        ctx.read(reads, Reading::Module(ticket));
    }

    /// A batch is there: the version that runs first.
    pub(super) fn shadow_batch(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        token: u64,
        answer: ReadAnswer,
    ) {
        let Some(shadow) = self.shadow.as_mut().filter(|shadow| shadow.token == token) else {
            return;
        };
        let Some(held) = &mut shadow.held else { return };
        let Some(task) = self.tasks.get(&held.number) else {
            return self.shadow_next(ctx, tickets);
        };
        let mut answers = answer.into_iter();
        let mut inputs = Vec::new();
        for (source, (first, end)) in task.sources.iter().zip(&mut held.places) {
            if *end <= *first {
                continue;
            }
            match answers.next() {
                Some(Ok(records)) if !records.is_empty() => inputs.push(Input {
                    topic: source.topic.clone(),
                    partition: source.partition.cast_unsigned(),
                    from: *first,
                    until: *end,
                    give_up: Vec::new(),
                    records,
                    has_more: false,
                }),
                // Nothing to be had: go on behind it.
                _ => *first = *end,
            }
        }
        if inputs.is_empty() {
            return self.shadow_read(ctx, tickets);
        }
        held.inputs = inputs;
        self.shadow_run(ctx, tickets, 0);
    }

    fn shadow_run(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, which: usize) {
        let Some(shadow) = &self.shadow else { return };
        let Some(held) = &shadow.held else { return };
        let run = self.run_of(ctx, held.number, &shadow.editions[which], held.inputs.clone());
        let Some(run) = run else {
            return self.shadow_next(ctx, tickets);
        };
        let run = Run {
            // What the host is told by a generation is nothing; what comes back finds its way by the version.
            generation: u64::MAX - which as u64,
            ..run
        };
        ctx.effect(Effect::Run(Box::new(run)));
    }

    /// What one of the two made of the batch. Whether it was theirs.
    pub(super) fn shadow_processed(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        processed: Processed,
    ) -> Option<Processed> {
        if processed.generation < u64::MAX - 1 {
            return Some(processed);
        }
        let number = processed.task.number;
        let Some(shadow) = &mut self.shadow else { return None };
        let held = shadow.held.as_mut().filter(|held| held.number == number)?;
        let Some(first) = held.first.take() else {
            held.first = Some(processed);
            self.shadow_run(ctx, tickets, 1);
            return None;
        };
        let second = processed;
        shadow.compared += 1;
        shadow.records += u64::from(first.usage.records);
        let differences = differences(&first, &second);
        if !differences.is_empty() {
            shadow.different += 1;
            let place = held
                .inputs
                .first()
                .map(|input| format!("{}/{} from offset {}", input.topic, input.partition, input.from));
            let message = format!(
                "task {number}, {}: {}",
                place.unwrap_or_default(),
                differences.join("; ")
            );
            let stage = "different".into();
            ctx.respond_admin(shadow.from, Answer::Progress { stage, message });
        }
        // The next batch begins where the running version got to; where it got nowhere, behind what was read.
        if let Some(task) = self.tasks.get(&number) {
            for (source, (next, end)) in task.sources.iter().zip(&mut held.places) {
                let input = held.inputs.iter().find(|input| input.topic == source.topic);
                let Some(input) = input else { continue };
                let reached = first
                    .next
                    .iter()
                    .find(|(topic, ..)| *topic == source.topic)
                    .map(|(.., next)| *next);
                let behind = reached
                    .filter(|reached| *next < *reached)
                    .unwrap_or_else(|| end_of(&input.records));
                *next = behind.max(*next + 1).min(*end);
            }
        }
        self.shadow_read(ctx, tickets);
        None
    }

    /// Ends, and lets the host drop both versions.
    pub(super) fn end_shadow(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        result: Result<(), (AdminCode, String)>,
    ) {
        let Some(shadow) = self.shadow.take() else { return };
        for edition in &shadow.editions {
            ctx.effect(Effect::Unload(edition.version.clone()));
        }
        if let Err((code, reason)) = result {
            ctx.respond_admin(shadow.from, Answer::error(code, reason));
        } else {
            let (compared, records, different) = (shadow.compared, shadow.records, shadow.different);
            let message = format!("{compared} batches, {records} records: {different} batches came out differently");
            let stage = "compared".into();
            ctx.respond_admin(shadow.from, Answer::Progress { stage, message });
            ctx.respond_admin(shadow.from, Answer::Done);
        }
        // The task at hand goes on.
        for number in self.tasks_that(|task| matches!(task.phase, Phase::Shadowing)) {
            if let Some(task) = self.tasks.get_mut(&number) {
                task.phase = Phase::Idle(None);
            }
            self.advance(ctx, tickets, number, Patience::None);
        }
    }
}

/// What two versions made of the same batch, where it differs: verdict, counts by topic, the first record, the state.
fn differences(first: &Processed, second: &Processed) -> Vec<String> {
    let mut lines = Vec::new();
    let (before, after) = (verdict(&first.verdict), verdict(&second.verdict));
    if before != after {
        lines.push(format!("{before} became {after}"));
        return lines;
    }
    if first.next != second.next {
        lines.push("it acknowledged other records".into());
    }
    let (before, after) = (records(first), records(second));
    let topics: alloc::collections::BTreeSet<&String> = before.iter().chain(&after).map(|record| &record.0).collect();
    for topic in topics {
        let count = |records: &[Shown]| records.iter().filter(|record| record.0 == *topic).count();
        let (one, other) = (count(&before), count(&after));
        if one != other {
            lines.push(format!("{topic}: {one} records became {other}"));
        }
    }
    let pairs = before.len().max(after.len());
    if let Some(place) = (0..pairs).find(|place| before.get(*place) != after.get(*place)) {
        let show = |record: Option<&Shown>| {
            record.map_or_else(|| "nothing".to_string(), |record| format!("{} {}", record.0, record.1))
        };
        lines.push(format!(
            "record {place}: {} became {}",
            show(before.get(place)),
            show(after.get(place))
        ));
    }
    if first.state != second.state {
        let (one, other) = (first.state.len(), second.state.len());
        let place = (0..one.max(other)).find(|place| first.state.get(*place) != second.state.get(*place));
        let key = place.and_then(|place| first.state.get(place).or_else(|| second.state.get(place)));
        let key = key.map(|(bucket, key, _)| format!("{} {}", String::from_utf8_lossy(bucket), cut(key)));
        lines.push(format!(
            "{one} state writes became {other}, the first difference at {}",
            key.unwrap_or_default()
        ));
    }
    lines
}

/// Topic, and key and value in words.
type Shown = (String, String);

fn records(processed: &Processed) -> Vec<Shown> {
    let mut shown = Vec::new();
    for (topic, _, batch) in &processed.outputs {
        for batch in batches(&Records::from(batch.clone())).map_while(Result::ok) {
            let Ok(payload) = batch.payload(LETTER_BYTES_MAX) else {
                continue;
            };
            for record in payload.records().map_while(Result::ok) {
                let text = |bytes: Option<&[u8]>| {
                    bytes.map_or_else(|| "null".to_string(), |bytes| cut(&Bytes::copy_from_slice(bytes)))
                };
                shown.push((topic.clone(), format!("{}={}", text(record.key), text(record.value))));
            }
        }
    }
    shown
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ack => "done".into(),
        Verdict::Retry { reason, .. } => format!("retry ({reason})"),
        Verdict::Poison { at, code, reason } => format!("poison at offset {} ({code}: {reason})", at.offset),
        Verdict::Fatal(reason) => format!("fatal ({reason})"),
        Verdict::Failed { kind, message, .. } => {
            format!("{} ({})", kind.code(), message.lines().next().unwrap_or_default())
        }
    }
}

fn cut(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).chars().take(SHOWN_CHARS_MAX).collect()
}

/// First offset after some records.
fn end_of(records: &Records) -> i64 {
    batches(records)
        .map_while(Result::ok)
        .map(|batch| batch.header().next_offset())
        .last()
        .unwrap_or(0)
}
