//! The node's loop: one event at a time, and everything that the core wants done about it.
//!
//! ```text
//!   network ─┐                      ┌─► answers
//!   journal ─┤         ┌──────┐     ├─► sequencer ─► journal
//!   readers ─┼─ Event ►│ core │─────┼─► readers, storage
//!   lanes   ─┤         └──────┘     ├─► lanes
//!   clock   ─┘                      └─► log
//! ```
//! Guarantees: entries are applied in their order, their changes are published to storage before anything that follows from them goes out, and
//! effects are performed in the order in which the core gave them. The loop never waits for a disk, a socket or a guest.
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tidemill_broker::{
    Broker, Command,
    context::{ConnectionId, Refusal},
    effect::{Effect, LogRead, ProposalId, ReadId, RequestId},
    module::{Asked, run::Processed, view::Rows},
};
use tidemill_protocol::{
    admin::{Answer, Call, ErrorCode, StateQuery},
    api::Response,
};
use tidemill_storage::{CommitError, Storage};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    event::{Committed, Event, Events},
    find_time::find_time,
    modules::Modules,
    readers::Readers,
    reading::Reading,
    sequencer::{Local, Sequencer},
    state_page,
    state_reader::ModuleState,
    status::Status,
};
use crate::{clock::Clock, limits, net::Permit};

/// Everything that the loop owns.
pub(super) struct Turn {
    pub(super) clock: Clock,
    pub(super) broker: Broker,
    pub(super) sequencer: Local,
    pub(super) storage: Storage,
    pub(super) readers: Readers,
    pub(super) modules: Modules,
    pub(super) status: Status,
    pub(super) events: Events,
    pub(super) open: Open,
}

/// What is outstanding.
#[derive(Default)]
pub(super) struct Open {
    requests: u64,
    replies: HashMap<RequestId, oneshot::Sender<Response>>,
    admin: HashMap<RequestId, (ConnectionId, mpsc::Sender<Answer>)>,
    /// Requests that nobody waits for; each holds its place until its entry is durable.
    unanswered: HashMap<ProposalId, Arc<Permit>>,
    /// Proposals that wait until storage has caught up.
    held: VecDeque<(ProposalId, Command)>,
    proposals: usize,
    reads: usize,
    draining: Option<oneshot::Sender<()>>,
    /// While draining: whether guests may run still.
    modules: bool,
}

/// How the loop ended.
pub(super) enum End {
    /// It was told to.
    Stopped,
    /// Something failed that only a restart can mend.
    Failed(String),
}

impl Turn {
    /// Runs until it is told to stop or something fails.
    pub(super) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) -> End {
        self.broker.handle_start(self.clock.now());
        self.perform(None);
        loop {
            let event = match timeout(self.patience(), events.recv()).await {
                Ok(Some(event)) => Some(event),
                Ok(None) => return End::Stopped,
                Err(_) => None,
            };
            match self.take(event) {
                Ok(()) => {}
                Err(end) => return end,
            }
            self.release();
            self.perform(None);
            self.drained();
        }
    }

    /// How long nothing needs to be done.
    fn patience(&self) -> Duration {
        let deadline = self
            .broker
            .poll_timeout()
            .map(|at| at.saturating_sub(self.clock.now()).max(0));
        let longest = if self.open.held.is_empty() {
            limits::LOOP_WAIT_MAX
        } else {
            limits::HELD_WAIT
        };
        deadline.map_or(longest, |ms| Duration::from_millis(ms.unsigned_abs()).min(longest))
    }

    fn take(&mut self, event: Option<Event>) -> Result<(), End> {
        let now = self.clock.now();
        let mut permit = None;
        match event {
            None => {}
            Some(Event::Request {
                context,
                request,
                reply,
                permit: held,
            }) => {
                let id = self.request_id();
                match held {
                    Some(held) => permit = Some(Arc::new(held)),
                    None => drop(self.open.replies.insert(id, reply)),
                }
                self.broker.handle_request(now, id, context, request);
            }
            Some(Event::Admin {
                connection,
                principal,
                call,
                reply,
            }) => self.admin(now, connection, principal, call, reply),
            Some(Event::Rehearsed {
                connection,
                principal,
                call,
                reply,
                outcome,
            }) => match outcome {
                // Whoever asked is gone.
                _ if reply.is_closed() => {}
                Ok(state_version) => {
                    let asked = Asked {
                        state_version,
                        free_bytes: self.storage.free_bytes(),
                        ..call.into()
                    };
                    self.ask(now, connection, principal, asked, reply);
                }
                Err(why) => drop(reply.try_send(Answer::error(ErrorCode::InvalidComponent, why))),
            },
            Some(Event::Closed(connection)) => self.closed(now, connection),
            Some(Event::Committed(committed)) => self.committed(now, *committed)?,
            Some(Event::Read(id, answer, ahead)) => {
                self.open.reads -= 1;
                self.read_ahead(ahead);
                self.broker.handle_read(now, id, answer);
            }
            Some(Event::Rows(id, answer)) => {
                self.open.reads -= 1;
                self.broker.handle_rows(now, id, answer);
            }
            Some(Event::Found(id, found)) => {
                self.open.reads -= 1;
                self.broker.handle_found(now, id, found);
            }
            Some(Event::Retention(starts)) => self.broker.handle_retention(now, &starts),
            Some(Event::Processed(processed)) => self.broker.handle_processed(now, *processed),
            Some(Event::Loaded(version, result)) => self.broker.handle_loaded(now, &version, result),
            Some(Event::Failed(message)) => return Err(End::Failed(message)),
            Some(Event::ModulesClosed(told)) => self.modules_closed(now, told),
            Some(Event::Drain(done)) => {
                self.open.draining = Some(done);
                self.open.modules = true;
                self.modules.close();
            }
            Some(Event::Stop) => return Err(End::Stopped),
        }
        if self.broker.poll_timeout().is_some_and(|at| at <= now) {
            self.broker.handle_timeout(now);
        }
        self.perform(permit.as_ref());
        Ok(())
    }

    fn request_id(&mut self) -> RequestId {
        self.open.requests += 1;
        RequestId(self.open.requests)
    }

    fn admin(
        &mut self,
        now: i64,
        connection: ConnectionId,
        principal: Arc<str>,
        call: Call,
        reply: mpsc::Sender<Answer>,
    ) {
        if matches!(call, Call::NodeStatus) {
            let status = self.status.node(&self.broker, &self.storage, self.sequencer.written());
            let _ = reply.try_send(Answer::Node(Box::new(status)));
            let _ = reply.try_send(Answer::Done);
            return;
        }
        if let Call::ModuleState(query) = call {
            return self.module_state(query, reply);
        }
        if let Call::ModuleDeploy { manifest, digest, .. } | Call::ModuleShadow { manifest, digest, .. } = &call {
            let (manifest, digest, events) = (manifest.clone(), digest.0, self.events.clone());
            let then = move |outcome| {
                let rehearsed = Event::Rehearsed {
                    connection,
                    principal,
                    call,
                    reply,
                    outcome,
                };
                drop(events.send(rehearsed));
            };
            return self.modules.rehearse(&manifest, digest, then);
        }
        self.ask(now, connection, principal, call.into(), reply);
    }

    fn ask(
        &mut self,
        now: i64,
        connection: ConnectionId,
        principal: Arc<str>,
        asked: Asked,
        reply: mpsc::Sender<Answer>,
    ) {
        let id = self.request_id();
        self.open.admin.insert(id, (connection, reply));
        self.broker.handle_admin(now, id, principal, asked);
    }

    /// A page of a module's state, as of now, read beside the loop.
    fn module_state(&self, mut query: StateQuery, reply: mpsc::Sender<Answer>) {
        let task = match state_page::find(&self.broker, &mut query) {
            Ok(task) => task,
            Err(refused) => return drop(reply.try_send(refused)),
        };
        let (storage, events) = (self.storage.clone(), self.events.clone());
        self.readers.run(move || {
            let page = state_page::read(&ModuleState::new(storage, events), &task, &query);
            // Whoever asked may be gone.
            let _ = reply.try_send(Answer::State(page));
            let _ = reply.try_send(Answer::Done);
        });
    }

    fn modules_closed(&mut self, now: i64, told: Vec<Processed>) {
        self.open.modules = false;
        for processed in told {
            // Their module's log ends with this process.
            for line in &processed.logs {
                tracing::info!(module = processed.task.module, task = line.task, "{}", line.message);
            }
            self.broker.handle_processed(now, processed);
        }
    }

    fn closed(&mut self, now: i64, connection: ConnectionId) {
        let gone: Vec<RequestId> = self
            .open
            .admin
            .iter()
            .filter(|(_, (caller, _))| *caller == connection)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.open.admin.remove(&id);
            self.broker.handle_admin_closed(id);
        }
        self.broker.handle_connection_closed(now, connection);
    }

    fn committed(&mut self, now: i64, committed: Committed) -> Result<(), End> {
        self.open.proposals -= 1;
        self.open.unanswered.remove(&committed.proposal);
        self.sequencer.settled(&committed);
        let Committed {
            proposal,
            entry,
            verdict,
            ..
        } = committed;
        match verdict {
            Ok(()) => {
                let changes = self.broker.handle_committed(now, Some(proposal), &entry);
                self.storage
                    .publish(changes)
                    .map_err(|error| End::Failed(error.to_string()))
            }
            Err(error) => {
                let refusal = match error {
                    CommitError::NoSpace | CommitError::OutOfSequence { .. } => Refusal::DiskFull,
                    CommitError::TooLarge => Refusal::TooLarge,
                    // What stopped it comes as a failure of its own.
                    CommitError::Stopped => Refusal::Stopping,
                };
                self.broker.handle_refused(now, proposal, refusal);
                Ok(())
            }
        }
    }

    /// Does what the core wants done. `permit` belongs to the request that it wants it for.
    fn perform(&mut self, permit: Option<&Arc<Permit>>) {
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Propose(id, command) => {
                    if let Some(permit) = permit {
                        self.open.unanswered.insert(id, Arc::clone(permit));
                    }
                    self.propose(id, command);
                }
                Effect::Respond(id, response) => {
                    if let Some(reply) = self.open.replies.remove(&id) {
                        // Whoever asked may be gone.
                        let _ = reply.send(response);
                    }
                }
                Effect::RespondAdmin(id, answer) => self.respond_admin(id, *answer),
                Effect::Read(id, reads) => self.read(id, reads),
                Effect::ReadRows(id, read) => {
                    self.open.reads += 1;
                    let (storage, events) = (self.storage.clone(), self.events.clone());
                    self.readers.run(move || {
                        let rows = storage.read(read).and_then(|records| Rows::of(&read, &records));
                        let _ = events.send(Event::Rows(id, rows));
                    });
                }
                Effect::FindTime(id, log, timestamp) => {
                    self.open.reads += 1;
                    let (storage, events) = (self.storage.clone(), self.events.clone());
                    self.readers.run(move || {
                        let _ = events.send(Event::Found(id, find_time(&storage, log, timestamp)));
                    });
                }
                Effect::FindRetention(queries) => {
                    let (storage, events) = (self.storage.clone(), self.events.clone());
                    self.readers.run(move || {
                        let due = queries
                            .iter()
                            .filter_map(|query| Some((query.log, storage.find_retention(*query).ok()??)));
                        let _ = events.send(Event::Retention(due.collect()));
                    });
                }
                Effect::Run(run) => self.modules.run(*run),
                Effect::Load(version) => self.modules.load(version),
                Effect::Revoke(version, task) => self.modules.revoke(version, task),
                Effect::Unload(version) => {
                    let module = self.broker.state().modules.get(&version.module);
                    let is_paused = module.is_some_and(|module| module.paused.is_some());
                    self.modules.unload(version, is_paused);
                }
                Effect::Keep(digests) => self.modules.keep(digests),
                Effect::Note(text) => tracing::info!("{text}"),
            }
        }
    }

    fn propose(&mut self, id: ProposalId, command: Command) {
        let is_full = self.storage.is_full();
        if is_full && !makes_room(&command) {
            return self.refuse(id, Refusal::DiskFull);
        }
        self.open.proposals += 1;
        // Settling waits for the space that this frees: it must not wait for settling.
        let goes_first = is_full && frees_space(&command);
        if goes_first || self.open.held.is_empty() && !self.is_behind() {
            self.hand_over(id, command);
        } else {
            self.open.held.push_back((id, command));
        }
    }

    /// Whether more would only wait in memory: for the journal, or for the databases.
    fn is_behind(&self) -> bool {
        limits::JOURNAL_WAITING_BYTES_MAX <= self.sequencer.waiting_bytes() || self.storage.is_behind()
    }

    /// Proposes what had to wait, as far as it need not wait any longer. What came before the disk was full is refused as what comes now.
    fn release(&mut self) {
        while let Some((_, command)) = self.open.held.front() {
            let is_full = self.storage.is_full();
            let is_refused = is_full && !makes_room(command);
            if !is_refused && self.is_behind() && !(is_full && frees_space(command)) {
                return;
            }
            let Some((id, command)) = self.open.held.pop_front() else {
                return;
            };
            if is_refused {
                self.open.proposals -= 1;
                self.refuse(id, Refusal::DiskFull);
            } else {
                self.hand_over(id, command);
            }
        }
    }

    fn hand_over(&mut self, id: ProposalId, command: Command) {
        if self.sequencer.propose(self.clock.now(), id, command).is_err() {
            self.open.proposals -= 1;
            self.refuse(id, Refusal::TooLarge);
        }
    }

    fn refuse(&mut self, id: ProposalId, refusal: Refusal) {
        self.open.unanswered.remove(&id);
        self.broker.handle_refused(self.clock.now(), id, refusal);
    }

    /// What memory has is answered at once; the disk is left to the readers.
    fn read(&mut self, id: ReadId, reads: Vec<LogRead>) {
        let storage = self.storage.clone();
        let mut reading = Reading::of(&reads);
        let mut reads = reads.into_iter();
        let at_hand = |reading: &Reading, read: &LogRead| reading.left_out().or_else(|| storage.read_at_hand(*read));
        while let Some(found) = reads.as_slice().first().and_then(|read| at_hand(&reading, read)) {
            reading.add(found);
            reads.next();
        }
        if reads.len() == 0 {
            self.read_ahead(reading.ahead);
            self.broker.handle_read(self.clock.now(), id, reading.answer);
        } else {
            self.open.reads += 1;
            let events = self.events.clone();
            self.readers.run(move || {
                for read in reads {
                    let found = reading.left_out().unwrap_or_else(|| storage.read_on(read));
                    reading.add(found);
                }
                let _ = events.send(Event::Read(id, reading.answer, reading.ahead));
            });
        }
    }

    /// What will probably be asked for next, while what was asked for is on its way.
    fn read_ahead(&self, reads: Vec<LogRead>) {
        for read in reads {
            let storage = self.storage.clone();
            self.readers.run(move || storage.read_ahead(read));
        }
    }

    fn respond_admin(&mut self, id: RequestId, answer: Answer) {
        let is_last = answer.is_last();
        let Some((_, reply)) = self.open.admin.get(&id) else {
            return;
        };
        // A caller that does not keep up is cut off rather than waited for.
        let is_cut = reply.try_send(answer).is_err();
        if is_cut || is_last {
            self.open.admin.remove(&id);
        }
        if is_cut && !is_last {
            self.broker.handle_admin_closed(id);
        }
    }

    /// Says so when nothing that somebody waits for is in work any more. What is parked (long polls, joins) is let go.
    fn drained(&mut self) {
        let is_quiet = self.open.proposals == 0 && self.open.reads == 0 && !self.open.modules;
        if self.open.draining.is_some() && is_quiet {
            self.open.replies.clear();
            self.open.admin.clear();
            if let Some(done) = self.open.draining.take() {
                let _ = done.send(());
            }
        }
    }
}

/// What may still be written when the disk is nearly full: deletes, the groups by which others go on reading, and the numbers of producers,
/// who then hear of the disk instead of a coordinator that is away.
fn makes_room(command: &Command) -> bool {
    frees_space(command)
        || matches!(
            command,
            Command::ExpireProducers(_) | Command::DeleteOffsets(_) | Command::Group(_) | Command::InitProducerId(_)
        )
}

/// What gives files back. It may pass what was proposed before: a record for a topic that is gone is refused where it is applied.
fn frees_space(command: &Command) -> bool {
    matches!(command, Command::DeleteTopics(_) | Command::TrimLogs(_))
}
