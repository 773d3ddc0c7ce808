//! One deployment as it runs on this node: its releases in the host, its members in the group, its tasks.
//!
//! Everything here follows from the durable deployment and can be made anew from it; [`Deployed::reconcile`] does so whenever the
//! deployment changes. A task is taken in this order: the group assigns its partitions, what the group wants back has been given
//! back, its start is known, the claim is committed. Only then it reads.
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use tidemill_protocol::{
    admin::{Answer, ErrorCode as AdminCode},
    api::consumer_group_heartbeat::ConsumerGroupHeartbeatResponse,
    error_code::ErrorCode,
    manifest::{Manifest, Start},
};

use super::{
    Version,
    change::{Change, Claim, Outcome, Refused},
    durable,
    edition::{Edition, Grants, Load},
    event_time::Seen,
    logs::{Logs, Measure},
    member::{Heard, Member, is_fencing},
    policy::Plan,
    redrive::Redrive,
    rewind::Rewinding,
    rollout::Trial,
    run::Due,
    shadow::{self, Shadow},
    task::{Phase, Source, Task, Tasks},
    tickets::{ReadFor, Tickets, Waiter},
    usage::TaskUsage,
    work::Patience,
};
use crate::{
    context::{self, Context, Reading},
    effect::{Effect, Found, RequestId},
    entry::Command,
    limits::MODULE_TROUBLE_MS,
    state::State,
};

/// One deployment on this node.
#[derive(Debug)]
pub(super) struct Deployed {
    pub(super) name: String,
    pub(super) id: u64,
    pub(super) incarnation: u64,
    /// Number of the release that runs, and its manifest: all releases that run read the same.
    pub(super) current: u32,
    pub(super) manifest: Arc<Manifest>,
    /// Releases that the host has or was asked for, by number.
    pub(super) editions: BTreeMap<u32, Edition>,
    /// The release that takes over.
    pub(super) rollout: Option<durable::Rollout>,
    pub(super) trial: Trial,
    /// Whether something that decides about the rollout is proposed.
    pub(super) is_deciding: bool,
    pub(super) members: Vec<Member>,
    pub(super) tasks: Tasks,
    pub(super) logs: Logs,
    pub(super) measures: BTreeMap<String, Measure>,
    /// What runs took, by task.
    pub(super) usage: BTreeMap<u32, TaskUsage>,
    pub(super) failures: u64,
    pub(super) refused: u64,
    /// When to try again to take what is assigned and could not be taken.
    pub(super) settle_at: Option<i64>,
    /// Dead letters that are processed again.
    pub(super) redrive: Option<Redrive>,
    /// A version that is compared with the one that runs.
    pub(super) shadow: Option<Shadow>,
    /// A rewind whose offsets are searched.
    pub(super) rewinding: Option<Rewinding>,
    /// Deploys that are answered when everything runs.
    pub(super) waits: Vec<RequestId>,
}

impl Deployed {
    /// A deployment of which nothing is done yet.
    pub(super) fn new(durable: &durable::Deployment) -> Self {
        Self {
            name: durable.name().into(),
            id: durable.id,
            incarnation: 0,
            current: durable.current,
            manifest: durable.manifest().clone(),
            editions: BTreeMap::new(),
            rollout: None,
            trial: Trial::default(),
            is_deciding: false,
            members: Vec::new(),
            tasks: Tasks::new(),
            logs: Logs::default(),
            measures: BTreeMap::new(),
            usage: BTreeMap::new(),
            failures: 0,
            refused: 0,
            settle_at: None,
            redrive: None,
            shadow: None,
            rewinding: None,
            waits: Vec::new(),
        }
    }

    /// Follows the durable deployment. Tasks of another incarnation are dropped: whatever they were about to commit is refused.
    pub(super) fn reconcile(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, durable: &durable::Deployment) {
        let begins_anew = self.incarnation != durable.incarnation;
        let to = |rollout: &Option<durable::Rollout>| rollout.as_ref().map(|rollout| rollout.to);
        if begins_anew || to(&self.rollout) != to(&durable.rollout) {
            self.trial = Trial::default();
        }
        self.incarnation = durable.incarnation;
        self.current = durable.current;
        self.manifest = durable.manifest().clone();
        self.rollout = durable.rollout.clone();
        self.keep_editions(ctx, durable);
        if begins_anew {
            self.tasks.clear();
            self.stop_redrive(ctx, "the module began anew");
            let message = "the module began anew: compare again".into();
            self.end_shadow(ctx, tickets, Err((AdminCode::Unavailable, message)));
        }
        if let Some(reason) = &durable.paused {
            if begins_anew {
                self.logs.note(ctx, "info", 0, format!("paused: {reason}"));
                self.leave(ctx, tickets, 0);
            }
            let message = format!("the module was paused: {reason}");
            self.refuse_waits(ctx, AdminCode::WrongState, &message);
            return;
        }
        if self.is_ready() {
            self.join(ctx, tickets);
        }
        self.roll(ctx);
    }

    /// When it wants [`Deployed::timeout`] to be called.
    pub(super) fn deadline(&self) -> Option<i64> {
        let members = self
            .members
            .iter()
            .filter(|_| self.is_ready())
            .filter_map(Member::deadline);
        let tasks = self.tasks.values().filter_map(Task::deadline);
        members
            .chain(tasks)
            .chain(self.settle_at)
            .chain(self.promotion_due())
            .min()
    }

    /// The deployment is deleted.
    pub(super) fn end(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
        self.tasks.clear();
        self.leave(ctx, tickets, 0);
        for edition in core::mem::take(&mut self.editions).into_values() {
            ctx.effect(Effect::Unload(edition.version));
        }
        self.logs.end(ctx);
        self.stop_redrive(ctx, "the module was deleted");
        let message = "the module was deleted".into();
        self.end_shadow(ctx, tickets, Err((AdminCode::UnknownModule, message)));
        self.refuse_waits(ctx, AdminCode::UnknownModule, "the module was deleted");
    }

    /// The host has the version ready, or cannot have it.
    pub(super) fn loaded(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        version: &Version,
        result: Result<(), String>,
    ) {
        if shadow::RUNNING <= version.number {
            return self.shadow_loaded(ctx, tickets, version, result);
        }
        let asked = self.editions.get_mut(&version.number);
        let asked = asked.filter(|edition| edition.version == *version && edition.load == Load::Loading);
        let Some(edition) = asked else { return };
        match result {
            Ok(()) => {
                edition.load = Load::Ready;
                let held_by = edition.held_by(ctx.state);
                for wait in &self.waits {
                    let (stage, message) = ("loaded".to_string(), "loaded by the host".to_string());
                    ctx.respond_admin(*wait, Answer::Progress { stage, message });
                    if let Some(message) = held_by.clone() {
                        let stage = "waits".to_string();
                        ctx.respond_admin(*wait, Answer::Progress { stage, message });
                    }
                }
                if version.number == self.current && self.is_ready() {
                    self.join(ctx, tickets);
                }
                self.roll(ctx);
            }
            Err(reason) => {
                edition.load = Load::Failed(reason.clone());
                self.logs.note(ctx, "error", 0, format!("cannot be loaded: {reason}"));
                self.refuse_waits(ctx, AdminCode::InvalidComponent, &reason);
                if version.number == self.current {
                    self.roll(ctx);
                } else {
                    self.give_back(ctx, format!("cannot be loaded: {reason}"));
                }
            }
        }
    }

    /// Makes the members that the manifest asks for, and lets those that are due speak.
    pub(super) fn join(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
        let wanted = usize::try_from(self.manifest.module.members).unwrap_or(usize::MAX);
        self.leave(ctx, tickets, wanted);
        for index in self.members.len()..wanted {
            self.members
                .push(Member::new(&self.name, ctx.config.node_id, index, tickets.number()));
        }
        self.settle(ctx, tickets);
        self.poll_members(ctx, tickets);
    }

    /// Takes out of the group all members but the first `keep`.
    fn leave(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, keep: usize) {
        for member in self.members.drain(keep.min(self.members.len())..) {
            member.leave(ctx, tickets.number(), &self.name);
        }
        let count = self.members.len();
        self.tasks.retain(|_, task| task.member < count);
    }

    /// Brings up to date what each run carries.
    pub(super) fn grant(&mut self, state: &State) {
        for (number, edition) in &mut self.editions {
            let grants = Grants::of(&edition.manifest, state);
            if grants.tables != edition.grants.tables {
                // A run that looks things up in a view that is gone finds nothing: what it makes of that must not be committed.
                let reads_it = |task: &Task| matches!(task.phase, Phase::Reading(_) | Phase::Running);
                self.tasks.retain(|_, task| task.release != *number || !reads_it(task));
            }
            edition.grants = grants;
        }
    }

    /// Lets members speak whose time has come.
    pub(super) fn poll_members(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
        let now = ctx.now;
        self.speak(ctx, tickets, |member| {
            member.has_news() || member.deadline().is_some_and(|due| due <= now)
        });
    }

    fn speak(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, if_: impl Fn(&Member) -> bool) {
        for (index, member) in self.members.iter_mut().enumerate() {
            if if_(member) {
                let call = tickets.call(&self.name, index, member.nonce);
                member.heartbeat(ctx, call, &self.manifest);
            }
        }
    }

    /// The group answers a member.
    pub(super) fn heard(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        (index, nonce, call): (usize, u64, u64),
        response: ConsumerGroupHeartbeatResponse,
    ) {
        let Some(member) = self.members.get_mut(index).filter(|member| member.nonce == nonce) else {
            return;
        };
        let before = (member.epoch, member.assigned.clone());
        if member.hear(ctx.now, call, response) == Heard::Fenced {
            self.tasks.retain(|_, task| task.member != index);
        }
        let has_changed = before != (member.epoch, member.assigned.clone());
        self.settle(ctx, tickets);
        self.roll(ctx);
        // An answer without news is waited for until the next timeout, so that nobody can make this go round at once.
        if has_changed {
            self.poll_members(ctx, tickets);
            for number in self.tasks_that(|task| task.member == index && matches!(task.phase, Phase::Idle(_))) {
                self.advance(ctx, tickets, number, Patience::None);
            }
        }
    }

    /// Numbers of some tasks: what is done with one may change any.
    pub(super) fn tasks_that(&self, is_wanted: impl Fn(&Task) -> bool) -> Vec<u32> {
        let wanted = self.tasks.iter().filter(|(_, task)| is_wanted(task));
        wanted.map(|(number, _)| *number).collect()
    }

    /// Whether a member knows the epoch that the group has it at: what it was told before may have come too late for a claim or a commit.
    pub(super) fn is_current(&self, state: &State, index: usize) -> bool {
        let member = self.members.get(index);
        member.is_some_and(|member| {
            state
                .groups
                .check_commit(&self.name, &member.id, None, member.epoch)
                .is_ok()
        })
    }

    /// The group does not accept what a member wanted to commit.
    pub(super) fn member_refused(&mut self, index: usize, code: ErrorCode) {
        // A stale epoch is news that is on its way to the member; a member that is unknown must join again.
        if is_fencing(code) {
            self.members[index].reset();
            self.tasks.retain(|_, task| task.member != index);
        }
    }

    /// Brings tasks and assignments together: gives back what the group wants back, takes what it gives.
    pub(super) fn settle(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
        self.settle_at = None;
        for index in 0..self.members.len() {
            self.assign(ctx, tickets, index);
        }
        for index in 0..self.members.len() {
            self.claim(ctx, index);
        }
        self.speak(ctx, tickets, Member::has_news);
        self.answer_waits(ctx);
        self.redrive_next(ctx, tickets);
        self.shadow_next(ctx, tickets);
    }

    fn assign(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, index: usize) {
        let wanted = self.wanted(ctx.state, index);
        for (number, task) in self.tasks.iter_mut().filter(|(_, task)| task.member == index) {
            task.revoking = !wanted.get(number).is_some_and(|sources| task.reads(sources));
        }
        let gone = self.tasks.extract_if(.., |_, task| task.revoking && !task.is_busy());
        for (number, task) in gone {
            if let Some(edition) = self.editions.get(&task.release) {
                ctx.effect(Effect::Revoke(edition.version.clone(), number));
            }
        }
        if self.tasks.values().any(|task| task.revoking && task.member == index) {
            return;
        }
        let member = &mut self.members[index];
        if member.owned != member.assigned {
            member.owned = member.assigned.clone();
        }
        for (number, sources) in wanted {
            if !self.tasks.contains_key(&number) {
                self.begin(ctx, tickets, index, number, sources);
            }
        }
    }

    /// A task that the group wanted back has done its last batch.
    pub(super) fn hand_over(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, number: u32) {
        let edition = self
            .tasks
            .remove(&number)
            .and_then(|task| self.editions.get(&task.release));
        if let Some(edition) = edition {
            ctx.effect(Effect::Revoke(edition.version.clone(), number));
        }
        self.settle(ctx, tickets);
    }

    /// The tasks that a member's assignment makes: number p has partition p of each input that is assigned.
    fn wanted(&self, state: &State, index: usize) -> BTreeMap<u32, Vec<Source>> {
        let mut wanted: BTreeMap<u32, Vec<Source>> = BTreeMap::new();
        for input in &self.manifest.input {
            let Some(topic) = state.topics.get(&input.topic) else {
                continue;
            };
            for &partition in self.members[index].assigned.get(&topic.id).into_iter().flatten() {
                let (Some(log), Ok(number)) = (topic.log(partition), u32::try_from(partition)) else {
                    continue;
                };
                let mut source = Source {
                    topic: input.topic.clone(),
                    id: topic.id,
                    log,
                    partition,
                    position: 0,
                    committed: None,
                    seen: Seen::new(input),
                };
                source.seek(state, &self.name);
                wanted.entry(number).or_default().push(source);
            }
        }
        wanted
    }

    fn begin(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        member: usize,
        number: u32,
        sources: Vec<Source>,
    ) {
        let token = tickets.number();
        let (mut starts, mut searches) = (Vec::new(), 0);
        for (place, source) in sources
            .iter()
            .enumerate()
            .filter(|(_, source)| source.committed.is_none())
        {
            let start = self
                .manifest
                .input
                .iter()
                .find(|input| input.topic == source.topic)
                .map(|input| input.start);
            match start.unwrap_or_default() {
                Start::Earliest => {}
                Start::Latest => starts.push((source.id, source.partition, source.high_watermark(ctx.state))),
                Start::At(moment) => {
                    let ticket = tickets.read(&self.name, number, token, ReadFor::Start(place));
                    ctx.find_time(source.log, moment.0, Reading::Module(ticket));
                    searches += 1;
                }
            }
        }
        let task = Task {
            token,
            member,
            generation: 0,
            release: self.current,
            sources,
            phase: if searches == 0 {
                Phase::Unclaimed
            } else {
                Phase::Finding(searches)
            },
            plan: Plan::default(),
            revoking: false,
            starts,
            turn: 0,
            letter: None,
            is_fresh: true,
            has_event_time: false,
            watermark: None,
            due: Due::default(),
            firings: 0,
            state: 0,
            state_bytes: 0,
            is_held: false,
            wake: None,
        };
        self.tasks.insert(number, task);
    }

    /// A search by time is done: that is where the task begins, or at the end when nothing is as late.
    pub(super) fn found(
        &mut self,
        ctx: &mut Context<'_>,
        (number, token): (u32, u64),
        place: usize,
        found: Option<Found>,
    ) {
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.token == token) else {
            return;
        };
        let Phase::Finding(searches) = task.phase else { return };
        let source = &task.sources[place];
        let offset = found.map_or_else(|| source.high_watermark(ctx.state), |found| found.offset);
        task.starts.push((source.id, source.partition, offset));
        task.phase = if searches == 1 {
            Phase::Unclaimed
        } else {
            Phase::Finding(searches - 1)
        };
        let member = task.member;
        self.claim(ctx, member);
    }

    /// Proposes to take all tasks of a member that know where they begin.
    fn claim(&mut self, ctx: &mut Context<'_>, index: usize) {
        let unclaimed = |task: &Task| task.member == index && matches!(task.phase, Phase::Unclaimed);
        let aims: Vec<(u32, u32)> = self
            .tasks
            .iter()
            .filter(|(_, task)| unclaimed(task))
            .map(|(number, _)| (*number, self.aim(*number)))
            .collect();
        let member = &self.members[index];
        let mut claim = Claim {
            module: self.name.clone(),
            incarnation: self.incarnation,
            member: member.id.clone(),
            epoch: member.epoch,
            tasks: Vec::new(),
            starts: Vec::new(),
        };
        let mut tokens = Vec::new();
        for (number, release) in aims {
            let Some(task) = self.tasks.get_mut(&number) else {
                continue;
            };
            task.phase = Phase::Claiming;
            task.release = release;
            claim.tasks.push((number, release));
            claim.starts.extend(&task.starts);
            tokens.push((number, task.token));
        }
        if !tokens.is_empty() {
            let waiter = Waiter::Claim {
                module: self.name.clone(),
                member: index,
                tokens,
            };
            ctx.propose(Command::Module(Change::Claim(claim)), context::Waiter::Module(waiter));
        }
    }

    /// What came of a claim; `None` when it never became an entry.
    pub(super) fn claimed(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        index: usize,
        tokens: &[(u32, u64)],
        outcome: Option<Outcome>,
    ) {
        for (number, token) in tokens {
            let Some(task) = self.tasks.get_mut(number).filter(|task| task.token == *token) else {
                continue;
            };
            match outcome {
                Some(Outcome::Claimed(generation)) => {
                    task.generation = generation;
                    task.sources
                        .iter_mut()
                        .for_each(|source| source.seek(ctx.state, &self.name));
                    if let Some(kept) = ctx.state.modules.task(&self.name, *number) {
                        task.take_over(kept, ctx.now);
                    }
                    task.phase = Phase::Idle(None);
                    self.advance(ctx, tickets, *number, Patience::None);
                }
                // Taken up again with the next news from the group, or dropped with the incarnation.
                _ => drop(self.tasks.remove(number)),
            }
        }
        match outcome {
            Some(Outcome::Claimed(_)) => {}
            Some(Outcome::Refused(Refused::Member(code))) if is_fencing(code) && index < self.members.len() => {
                self.member_refused(index, code);
                self.poll_members(ctx, tickets);
            }
            Some(Outcome::Refused(Refused::Member(_))) if self.is_current(ctx.state, index) => {
                self.settle(ctx, tickets)
            }
            _ => self.settle_at = Some(ctx.now + MODULE_TROUBLE_MS),
        }
        self.roll(ctx);
        self.answer_waits(ctx);
    }

    /// Answers the deploys that wait, when every member has taken what the group has given it, and is to get no more.
    pub(super) fn answer_waits(&mut self, ctx: &mut Context<'_>) {
        if self.waits.is_empty() || !self.is_ready() || !self.is_rolled_out() {
            return;
        }
        let is_migrating = |task: &Task| matches!(task.phase, Phase::Migrating(_));
        if !self.has_all(ctx.state) || self.tasks.values().any(is_migrating) {
            return;
        }
        for wait in self.waits.drain(..) {
            let message = format!("members: {}, tasks: {}", self.members.len(), self.tasks.len());
            ctx.respond_admin(
                wait,
                Answer::Progress {
                    stage: "running".into(),
                    message,
                },
            );
            ctx.respond_admin(wait, Answer::Done);
        }
    }

    /// Whether every member has taken what the group has given it, and is to get no more.
    pub(super) fn has_all(&self, state: &State) -> bool {
        let has_all = |member: &Member| state.groups.reconciled(&self.name, &member.id) == Some(&member.owned);
        self.members.iter().all(has_all) && !self.tasks.values().any(Task::is_starting)
    }

    pub(super) fn refuse_waits(&mut self, ctx: &mut Context<'_>, code: AdminCode, message: &str) {
        for wait in self.waits.drain(..) {
            ctx.respond_admin(wait, Answer::error(code, message));
        }
    }
}
