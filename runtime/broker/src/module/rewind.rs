//! Going back (or ahead) in the inputs of a module, to a moment or to an end, with its state or without.
//!
//! Every partition is searched first; then one entry commits all offsets, fences whatever is under way and, if asked, begins a new
//! state. All partitions of the inputs are moved, also those that another member of the group reads just now.
use alloc::{string::String, vec::Vec};
use tidemill_protocol::{
    admin::{Answer, ErrorCode as AdminCode},
    ids::Uuid,
    manifest::Start,
};

use super::{
    apply::{Applied, committed, find, forget_failures},
    change::{Change, Outcome, Refused, Rewind},
    deployed::Deployed,
    tickets::{ReadFor, Tickets, Waiter},
};
use crate::{
    context::{self, Context, Reading},
    effect::{Changes, Found, RequestId},
    entry::{Command, Stamp},
    state::State,
};

/// A rewind whose offsets are being searched.
#[derive(Debug)]
pub(super) struct Rewinding {
    from: RequestId,
    token: u64,
    reset_state: bool,
    searches: usize,
    /// (topic, partition, offset): where each begins, or its end until it is found.
    offsets: Vec<(Uuid, i32, i64)>,
}

impl Deployed {
    /// Begins to search.
    pub(super) fn rewind(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        from: RequestId,
        (to, reset_state): (Start, bool),
    ) {
        if self.rewinding.is_some() {
            let message = "the module is being rewound already";
            return ctx.respond_admin(from, Answer::error(AdminCode::WrongState, message));
        }
        let token = tickets.number();
        let (mut offsets, mut searches) = (Vec::new(), 0);
        for input in &self.manifest.input {
            let Some(topic) = ctx.state.topics.get(&input.topic) else {
                continue;
            };
            for (partition, log) in (0..).zip(&topic.logs) {
                let Some(state) = ctx.state.logs.get(log) else { continue };
                let offset = match to {
                    Start::Earliest => state.start,
                    Start::Latest | Start::At(_) => state.high_watermark(),
                };
                if let Start::At(moment) = to {
                    let ticket = tickets.read(&self.name, 0, token, ReadFor::Rewind(offsets.len()));
                    ctx.find_time(*log, moment.0, Reading::Module(ticket));
                    searches += 1;
                }
                offsets.push((topic.id, partition, offset));
            }
        }
        self.rewinding = Some(Rewinding {
            from,
            token,
            reset_state,
            searches,
            offsets,
        });
        self.propose_rewind(ctx);
    }

    /// One partition is searched.
    pub(super) fn rewind_found(&mut self, ctx: &mut Context<'_>, token: u64, place: usize, found: Option<Found>) {
        let Some(rewinding) = self.rewinding.as_mut().filter(|rewinding| rewinding.token == token) else {
            return;
        };
        rewinding.searches = rewinding.searches.saturating_sub(1);
        if let (Some(found), Some(offset)) = (found, rewinding.offsets.get_mut(place)) {
            offset.2 = found.offset;
        }
        self.propose_rewind(ctx);
    }

    fn propose_rewind(&mut self, ctx: &mut Context<'_>) {
        let Some(Rewinding {
            from,
            reset_state,
            offsets,
            ..
        }) = self.rewinding.take_if(|rewinding| rewinding.searches == 0)
        else {
            return;
        };
        let module: String = self.name.clone();
        let rewind = Rewind {
            module: module.clone(),
            incarnation: self.incarnation,
            offsets,
            reset_state,
        };
        let wait = false;
        let waiter = Waiter::Admin { from, module, wait };
        ctx.propose(Command::Module(Change::Rewind(rewind)), context::Waiter::Module(waiter));
    }
}

/// Applies a rewind.
pub(super) fn apply(state: &mut State, at: Stamp, rewind: &Rewind, changes: &mut Changes) -> Applied {
    let deployment = find(state, &rewind.module)?;
    if deployment.incarnation != rewind.incarnation {
        return Err(Refused::Fenced);
    }
    deployment.incarnation = at.index;
    if rewind.reset_state {
        deployment.state = at.index;
        deployment.migrated = None;
    }
    deployment.save(changes);
    if rewind.reset_state {
        for (number, task) in state.modules.tasks.get_mut(&rewind.module).into_iter().flatten() {
            task.reset_state(*number, at.index, changes);
            task.save(&rewind.module, *number, changes);
        }
    }
    forget_failures(state, &rewind.module, changes);
    let offsets = rewind.offsets.iter();
    let offsets: Vec<_> = offsets
        .map(|&(topic, partition, offset)| committed(topic, partition, offset))
        .collect();
    state.commit_offsets(changes, at, &rewind.module, &offsets);
    Ok(Outcome::Done)
}
