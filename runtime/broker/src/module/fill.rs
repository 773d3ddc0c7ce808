//! Keeps the views of topics up with their topics: one part of one partition after the other.
//!
//! ```text
//!  Idle ──behind──► Reading ──rows──► Filling ──applied──► Idle
//!                      └── the disk or the journal has trouble ──► Waiting ──► Idle
//! ```
//! Soft, but for what [`view`](super::view) keeps. A view is read from one partition at a time, so what it has in flight is bounded
//! however large its topic is, and partitions take turns.
use alloc::{collections::BTreeMap, vec::Vec};
use tidemill_protocol::ids::Uuid;

use super::{
    change::{Change, Fill},
    tickets::Waiter,
    view::{View, ViewId},
};
use crate::{
    context::{self, Context, Reading},
    effect::{LogRead, ReadError, RowsAnswer},
    entry::Command,
    limits::{MODULE_TROUBLE_MS, VIEW_READ_BYTES},
    state::State,
};

/// All views, by topic.
#[derive(Debug, Default)]
pub(super) struct Fills(BTreeMap<Uuid, Filling>);

/// One view.
#[derive(Debug)]
struct Filling {
    view: ViewId,
    phase: Phase,
    /// Partition to read first.
    turn: i32,
    freshness: Freshness,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Of this partition, from this offset.
    Reading(i32, i64),
    Filling,
    Waiting(i64),
}

/// Up to when a view has everything that was appended. While it is behind, the ends of its partitions at one moment are its goal; once it
/// has reached them it has everything up to that moment, and the ends as they are by then are the next goal.
#[derive(Debug, Default)]
struct Freshness {
    complete: Option<i64>,
    goal: Option<(i64, BTreeMap<i32, i64>)>,
}

impl Freshness {
    /// For every time that the topic or the view has moved.
    fn look(&mut self, state: &State, view: &View, now: i64) {
        let rests = view.partitions(state).filter_map(|n| Some((n, view.rest(state, n)?)));
        let rests: BTreeMap<i32, (i64, i64)> = rests.filter(|(_, (next, end))| next < end).collect();
        if rests.is_empty() {
            *self = Self {
                complete: Some(now),
                goal: None,
            };
            return;
        }
        let reached = |(partition, end): (&i32, &i64)| rests.get(partition).is_none_or(|(next, _)| end <= next);
        match &self.goal {
            Some((_, ends)) if !ends.iter().all(reached) => return,
            Some((at, _)) => self.complete = Some(*at),
            // It had everything until this moment, or nobody knows.
            None => self.complete = self.complete.map(|_| now),
        }
        let ends = rests.into_iter().map(|(partition, (_, end))| (partition, end));
        self.goal = Some((now, ends.collect()));
    }
}

impl Fills {
    /// By how many milliseconds a view is behind; `None` while it has never been known to have everything.
    pub(super) fn behind_ms(&self, state: &State, view: &View, now: i64) -> Option<i64> {
        if view.behind(state) == 0 {
            return Some(0);
        }
        let complete = self.0.get(&view.id.topic)?.freshness.complete?;
        Some((now - complete).max(0))
    }

    /// A topic has more records: news for a view that was up to date.
    pub(super) fn appended(&mut self, ctx: &mut Context<'_>, topic: &Uuid) {
        let is_behind = |filling: &Filling| filling.phase != Phase::Idle && filling.freshness.goal.is_some();
        if self.0.get(topic).is_some_and(|filling| !is_behind(filling)) {
            self.follow(ctx, topic);
        }
    }

    /// A view came, went or came further.
    pub(super) fn follow(&mut self, ctx: &mut Context<'_>, topic: &Uuid) {
        let Some(view) = ctx.state.modules.views.get(topic) else {
            self.0.remove(topic);
            return;
        };
        let filling = self.0.entry(*topic).or_insert_with(|| Filling::new(view.id));
        if filling.view != view.id {
            *filling = Filling::new(view.id);
        }
        filling.advance(ctx, view);
    }

    /// Rows were read.
    pub(super) fn read(&mut self, ctx: &mut Context<'_>, id: ViewId, answer: RowsAnswer) {
        let filling = self.0.get_mut(&id.topic).filter(|filling| filling.view == id);
        if let (Some(filling), Some(view)) = (filling, ctx.state.modules.views.get(&id.topic)) {
            filling.read(ctx, view, answer);
        }
    }

    /// What was proposed is applied or refused there, or (false) never became an entry.
    pub(super) fn filled(&mut self, ctx: &mut Context<'_>, id: ViewId, is_entry: bool) {
        if let Some(filling) = self.0.get_mut(&id.topic).filter(|filling| filling.view == id) {
            filling.phase = if is_entry {
                Phase::Idle
            } else {
                Phase::Waiting(ctx.now + MODULE_TROUBLE_MS)
            };
            self.follow(ctx, &id.topic);
        }
    }

    pub(super) fn timeout(&mut self, ctx: &mut Context<'_>) {
        let is_due = |filling: &Filling| filling.deadline().is_some_and(|at| at <= ctx.now);
        let due = self.0.iter().filter(|(_, filling)| is_due(filling));
        let due: Vec<Uuid> = due.map(|(topic, _)| *topic).collect();
        for topic in due {
            if let Some(filling) = self.0.get_mut(&topic) {
                filling.phase = Phase::Idle;
            }
            self.follow(ctx, &topic);
        }
    }

    pub(super) fn deadline(&self) -> Option<i64> {
        self.0.values().filter_map(Filling::deadline).min()
    }
}

impl Filling {
    fn new(view: ViewId) -> Self {
        Self {
            view,
            phase: Phase::Idle,
            turn: 0,
            freshness: Freshness::default(),
        }
    }

    fn deadline(&self) -> Option<i64> {
        match self.phase {
            Phase::Waiting(until) => Some(until),
            _ => None,
        }
    }

    /// Reads on, if it is idle and there is more.
    fn advance(&mut self, ctx: &mut Context<'_>, view: &View) {
        self.freshness.look(ctx.state, view, ctx.now);
        if self.phase != Phase::Idle {
            return;
        }
        let partitions = view.partitions(ctx.state);
        let turn = self.turn.min(partitions.end);
        let order = (turn..partitions.end).chain(0..turn);
        let behind = order.filter_map(|partition| Some((partition, view.rest(ctx.state, partition)?)));
        let mut behind = behind.filter(|(_, (from, until))| from < until);
        let Some((partition, (from, until))) = behind.next() else {
            return;
        };
        let topic = ctx.state.topics.get_by_id(&self.view.topic);
        let Some(log) = topic.and_then(|topic| topic.log(partition)) else {
            return;
        };
        self.turn = partition + 1;
        self.phase = Phase::Reading(partition, from);
        let read = LogRead {
            log,
            from,
            until,
            bytes_max: VIEW_READ_BYTES,
        };
        ctx.read_rows(read, Reading::View(self.view));
    }

    fn read(&mut self, ctx: &mut Context<'_>, view: &View, answer: RowsAnswer) {
        let Phase::Reading(partition, from) = self.phase else {
            return;
        };
        match answer {
            Ok(rows) if from < rows.next => {
                let fill = Fill {
                    view: self.view,
                    partition,
                    expected: view.next.get(&partition).copied(),
                    next: rows.next,
                    rows: rows.rows.into_iter().collect(),
                    left_out: rows.left_out,
                };
                self.phase = Phase::Filling;
                let waiter = context::Waiter::Module(Waiter::Fill(self.view));
                ctx.propose(Command::Module(Change::Fill(fill)), waiter);
            }
            answer => {
                // Retention may have been faster: then the log starts further on by the next time.
                if answer != Err(ReadError::Gone) {
                    ctx.note("a table cannot read its topic: trying again");
                }
                self.phase = Phase::Waiting(ctx.now + MODULE_TROUBLE_MS);
            }
        }
    }
}
