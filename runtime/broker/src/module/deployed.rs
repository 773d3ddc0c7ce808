//! One deployment as it runs on this node: its version in the host, its members in the group, its tasks.
//!
//! Everything here follows from the durable deployment and can be made anew from it; [`Deployed::reconcile`] does so whenever the
//! incarnation changes. A task is taken in this order: the group assigns its partitions, what the group wants back has been given
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
    manifest::{Manifest, Metrics, Start},
};

use super::{
    Version,
    change::{Change, Claim, Outcome, Refused},
    durable,
    logs::{Logs, Measure},
    member::{Heard, Member, is_fencing},
    policy::Plan,
    run::OutputTopic,
    task::{Phase, Source, Task, Tasks},
    tickets::{ReadFor, Tickets, Waiter},
    work::Patience,
};
use crate::{
    context::{self, Context, Reading},
    effect::{Effect, Found, RequestId},
    entry::Command,
    limits::MODULE_TROUBLE_MS,
    state::State,
};

/// Where a version stands in the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Not wanted.
    No,
    /// Asked for.
    Loading,
    /// Ready to run.
    Ready,
    /// It cannot be loaded.
    Failed(String),
}

/// What the guest may use, in the form in which each run carries it.
#[derive(Clone, Debug, Default)]
pub(super) struct Grants {
    pub(super) outputs: Arc<BTreeMap<String, OutputTopic>>,
    pub(super) buckets: Arc<Vec<String>>,
    pub(super) config: Arc<BTreeMap<String, String>>,
    pub(super) metrics: Arc<Metrics>,
}

/// One deployment on this node.
#[derive(Debug)]
pub(super) struct Deployed {
    pub(super) name: String,
    pub(super) id: u64,
    pub(super) incarnation: u64,
    pub(super) version: Version,
    pub(super) manifest: Arc<Manifest>,
    pub(super) load: Load,
    pub(super) members: Vec<Member>,
    pub(super) tasks: Tasks,
    pub(super) grants: Grants,
    pub(super) logs: Logs,
    pub(super) measures: BTreeMap<String, Measure>,
    pub(super) failures: u64,
    pub(super) refused: u64,
    /// When to try again to take what is assigned and could not be taken.
    pub(super) settle_at: Option<i64>,
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
            version: durable.version(),
            manifest: durable.manifest.clone(),
            load: Load::No,
            members: Vec::new(),
            tasks: Tasks::new(),
            grants: Grants::default(),
            logs: Logs::default(),
            measures: BTreeMap::new(),
            failures: 0,
            refused: 0,
            settle_at: None,
            waits: Vec::new(),
        }
    }

    /// Follows the durable deployment. Tasks of the old incarnation are dropped: whatever they were about to commit is refused.
    pub(super) fn reconcile(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, durable: &durable::Deployment) {
        if self.incarnation == durable.incarnation {
            return;
        }
        let version = durable.version();
        let is_new_version = self.version != version;
        self.incarnation = durable.incarnation;
        self.manifest = durable.manifest.clone();
        self.tasks.clear();
        self.grant(ctx.state);
        if is_new_version || durable.paused.is_some() {
            self.unload(ctx);
        }
        self.version = version;
        if let Some(reason) = &durable.paused {
            self.logs.note(ctx, "info", 0, format!("paused: {reason}"));
            self.leave(ctx, tickets, 0);
            let message = format!("the module was paused: {reason}");
            self.refuse_waits(ctx, AdminCode::WrongState, &message);
            return;
        }
        match self.load {
            Load::Ready => self.join(ctx, tickets),
            Load::Loading => {}
            Load::No | Load::Failed(_) => {
                self.load = Load::Loading;
                ctx.effect(Effect::Load(self.version.clone()));
            }
        }
    }

    /// When it wants [`Deployed::timeout`] to be called.
    pub(super) fn deadline(&self) -> Option<i64> {
        let members = self
            .members
            .iter()
            .filter(|_| self.load == Load::Ready)
            .filter_map(Member::deadline);
        let tasks = self.tasks.values().filter_map(Task::deadline);
        members.chain(tasks).chain(self.settle_at).min()
    }

    /// The deployment is deleted.
    pub(super) fn end(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
        self.tasks.clear();
        self.leave(ctx, tickets, 0);
        self.unload(ctx);
        self.logs.end(ctx);
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
        if *version != self.version || self.load != Load::Loading {
            return;
        }
        match result {
            Ok(()) => {
                self.load = Load::Ready;
                for wait in &self.waits {
                    let (stage, message) = ("loaded".to_string(), "loaded by the host".to_string());
                    ctx.respond_admin(*wait, Answer::Progress { stage, message });
                }
                self.join(ctx, tickets);
            }
            Err(reason) => {
                self.logs.note(ctx, "error", 0, format!("cannot be loaded: {reason}"));
                self.refuse_waits(ctx, AdminCode::InvalidComponent, &reason);
                self.load = Load::Failed(reason);
            }
        }
    }

    /// Makes the members that the manifest asks for, and lets those that are due speak.
    fn join(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
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

    fn unload(&mut self, ctx: &mut Context<'_>) {
        if self.load != Load::No {
            ctx.effect(Effect::Unload(self.version.clone()));
        }
        self.load = Load::No;
    }

    /// Brings up to date what each run carries.
    pub(super) fn grant(&mut self, state: &State) {
        let manifest = &self.manifest;
        let mut outputs = BTreeMap::new();
        for name in manifest.writable_topics() {
            let Some(topic) = state.topics.get(name) else { continue };
            let batch_bytes_max = state.settings(topic).batch_bytes_max();
            outputs.insert(
                name.into(),
                OutputTopic {
                    partitions: topic.partitions(),
                    batch_bytes_max,
                },
            );
        }
        self.grants = Grants {
            outputs: Arc::new(outputs),
            buckets: Arc::new(manifest.state.keys().cloned().collect()),
            config: Arc::new(manifest.config.clone()),
            metrics: Arc::new(manifest.metrics.clone()),
        };
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
        // An answer without news is waited for until the next timeout, so that nobody can make this go round at once.
        if has_changed {
            self.poll_members(ctx, tickets);
        }
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
    }

    fn assign(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, index: usize) {
        let wanted = self.wanted(ctx.state, index);
        for (number, task) in self.tasks.iter_mut().filter(|(_, task)| task.member == index) {
            task.revoking = !wanted.get(number).is_some_and(|sources| task.reads(sources));
        }
        self.tasks.retain(|_, task| !task.revoking || task.is_busy());
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
        for (number, task) in self.tasks.iter_mut().filter(|(_, task)| task.member == index) {
            if matches!(task.phase, Phase::Unclaimed) {
                task.phase = Phase::Claiming;
                claim.tasks.push(*number);
                claim.starts.extend(&task.starts);
                tokens.push((*number, task.token));
            }
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
            _ => self.settle_at = Some(ctx.now + MODULE_TROUBLE_MS),
        }
        self.answer_waits(ctx);
    }

    /// Answers the deploys that wait, when every member is in the group and has taken what it was given.
    pub(super) fn answer_waits(&mut self, ctx: &mut Context<'_>) {
        let settled = self.load == Load::Ready && self.members.iter().all(Member::is_settled);
        if self.waits.is_empty() || !settled || self.tasks.values().any(Task::is_starting) {
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

    fn refuse_waits(&mut self, ctx: &mut Context<'_>, code: AdminCode, message: &str) {
        for wait in self.waits.drain(..) {
            ctx.respond_admin(wait, Answer::error(code, message));
        }
    }
}
