//! A node in one thread and in memory, for the tools of a module's author: the core decides, the real sandbox runs the guest, logs and
//! rows are maps, and time is a number that moves when everything else waits for it.
//!
//! ```text
//!  fixture ──► Driver ── handle_* ──► Broker ── Propose ──► applied at once, published to Store
//!                ▲  │                        ── Run ─────► Sandbox ──► handle_processed
//!                │  └── poll_effect ─────────── Read ────► Store
//!                └── poll_timeout: the clock jumps there
//! ```
//! Guarantees: retries, bisection, dead letters, claims and commits are the core's own; with [`Metering::Instructions`] the same inputs
//! give the same outcome on every machine; a crash ([`Crash`]) loses exactly what a killed process would. Does not know sockets, files,
//! durability or several modules at once.
pub(crate) mod chaos;
pub(crate) mod compare;
pub(crate) mod fixture;
pub(crate) mod play;
mod random;
mod store;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tidemill_broker::{
    Broker, Command, Config, Entry, RequestContext,
    context::ConnectionId,
    effect::{Effect, ProposalId, RequestId},
    module::{
        Asked, Change, rehearsal,
        run::{Bucket, LogLine, Run, StateReader, TaskKey, Usage},
        view::Rows,
    },
};
use tidemill_host::{Metering, Sandbox, digest};
use tidemill_protocol::{
    admin::{Answer, Call, Digest, ModuleState, ModuleStatus, Phase, TaskStatus},
    api::{Request, Response, create_topics, produce},
    batch::{Builder, RecordHeader},
    error_code::ErrorCode,
    manifest::Manifest,
    records::Records,
};

use self::{chaos::Crash, store::Store};
use crate::clock;

pub(crate) use store::{Entry as StateEntry, Output};

/// Virtual time that a module may take to come to rest: far more than all retries of the longest backoff.
const REST_MS_MAX: i64 = 24 * 60 * 60 * 1000;
/// Steps of the clock within it.
const REST_STEPS_MAX: usize = 1_000_000;
/// Bytes of keys and values that are appended at once where there are many.
const APPENDED_BYTES: usize = 256 << 10;
/// Log lines kept for whoever asks.
const LOG_LINES_MAX: usize = 10_000;
/// The version of the APIs that the driver speaks to the core.
const PRODUCE_VERSION: i16 = 9;
const CREATE_TOPICS_VERSION: i16 = 7;

/// One record to append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(String, Option<Bytes>)>,
}

/// What to begin with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) manifest: Manifest,
    /// Partitions of a topic that is not named.
    pub(crate) partitions: u32,
    /// Partitions by topic.
    pub(crate) topics: BTreeMap<String, u32>,
    /// The clock, milliseconds.
    pub(crate) now: i64,
}

/// What the sandbox took, over all runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Wall time of the sandbox: decoding, the guest, encoding.
    pub(crate) sandbox: Duration,
    /// Of it, from the guest's call on.
    pub(crate) guest: Duration,
    /// Records delivered.
    pub(crate) records: u64,
    /// Runs.
    pub(crate) runs: u64,
    /// The largest linear memory.
    pub(crate) memory_bytes: u64,
}

/// The sandbox with one component in it, for any number of drivers after each other.
pub(crate) struct Stage {
    sandbox: Sandbox,
    store: Arc<Store>,
    digest: [u8; 32],
}

impl Stage {
    /// Compiles a component.
    pub(crate) fn new(component: &[u8], metering: Metering) -> Result<Self, tidemill_host::Error> {
        let store = Arc::new(Store::default());
        let sandbox = Sandbox::in_memory(Arc::clone(&store) as Arc<dyn StateReader>, metering)?;
        sandbox.add(component)?;
        Ok(Self {
            sandbox,
            store,
            digest: digest(component),
        })
    }
}

/// See the top of this file.
pub(crate) struct Driver<'a> {
    stage: &'a Stage,
    broker: Broker,
    config: Config,
    name: String,
    now: i64,
    entries: u64,
    requests: u64,
    /// The first refusal of a request or call of ours.
    refused: Option<String>,
    crashes: Option<chaos::Plan>,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) spent: Spent,
}

impl<'a> Driver<'a> {
    /// Creates the topics, deploys the module, and waits until it runs.
    pub(crate) fn start(stage: &'a Stage, setup: &Setup) -> Result<Self, String> {
        stage.store.clear();
        stage.sandbox.drop_instances();
        let config = Config {
            default_partitions: setup.partitions,
            group_initial_rebalance_delay_ms: 0,
            ..Config::default()
        };
        let mut driver = Self {
            stage,
            broker: Broker::new(config.clone(), tidemill_broker::State::default()),
            config,
            name: setup.manifest.name().to_owned(),
            now: setup.now,
            entries: 0,
            requests: 0,
            refused: None,
            crashes: None,
            logs: Vec::new(),
            spent: Spent::default(),
        };
        driver.broker.handle_start(driver.now);
        let mut topics = setup.topics.clone();
        let inputs = setup.manifest.input.iter().map(|input| &input.topic);
        for topic in inputs.chain(setup.manifest.tables.values()) {
            topics.entry(topic.clone()).or_insert(setup.partitions);
        }
        driver.create_topics(&topics)?;
        let state_version = driver.rehearse(&setup.manifest)?;
        let deploy = Call::ModuleDeploy {
            manifest: Box::new(setup.manifest.clone()),
            component_bytes: 0,
            digest: Digest(stage.digest),
            wait: false,
            canary: None,
        };
        driver.admin(Asked {
            state_version,
            ..deploy.into()
        });
        driver.rest()?;
        Ok(driver)
    }

    /// From now on the process is killed as the plan says.
    pub(crate) fn crash_by(&mut self, plan: chaos::Plan) {
        self.crashes = Some(plan);
    }

    /// Whether the records of a step come one by one: by the plan, if there is one.
    pub(crate) fn splits(&mut self) -> bool {
        self.crashes.as_mut().is_some_and(chaos::Plan::splits)
    }

    /// How often the process was killed so far.
    pub(crate) fn crashed(&self) -> usize {
        self.crashes.as_ref().map_or(0, |plan| plan.crashes)
    }

    /// Moves the clock forward and lets what is due happen.
    pub(crate) fn advance(&mut self, to: i64) -> Result<(), String> {
        for _ in 0..REST_STEPS_MAX {
            let Some(due) = self.broker.poll_timeout().filter(|due| *due <= to) else {
                break;
            };
            self.now = self.now.max(due);
            self.broker.handle_timeout(self.now);
            self.perform_all();
        }
        self.now = self.now.max(to);
        self.rest()
    }

    /// Appends records, each partition's in their order, in one entry.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), String> {
        let mut batches: BTreeMap<(&str, u32), Builder> = BTreeMap::new();
        for record in records {
            let batch = batches.entry((&record.topic, record.partition)).or_default();
            let headers = record.headers.iter().map(|(key, value)| RecordHeader {
                key: key.as_bytes(),
                value: value.as_deref(),
            });
            batch.append(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                headers,
            );
        }
        let topic_data = batches
            .into_iter()
            .map(|((topic, partition), batch)| produce::TopicProduceData {
                name: topic.to_owned(),
                partition_data: vec![produce::PartitionProduceData {
                    index: i32::try_from(partition).unwrap_or(i32::MAX),
                    records: Some(Records::from(batch.finish())),
                }],
            });
        let request = produce::ProduceRequest {
            acks: -1,
            timeout_ms: 1000,
            topic_data: topic_data.collect(),
            ..Default::default()
        };
        self.request(PRODUCE_VERSION, request.into());
        self.refusal()
    }

    /// Appends any number of records, in batches that are not too large for any topic, and rests.
    pub(crate) fn append_all(&mut self, mut records: &[Record]) -> Result<(), String> {
        while !records.is_empty() {
            let mut bytes = 0;
            let fits = |record: &&Record| {
                bytes += [&record.key, &record.value]
                    .into_iter()
                    .flatten()
                    .map(Bytes::len)
                    .sum::<usize>();
                bytes <= APPENDED_BYTES
            };
            let count = records.iter().take_while(fits).count().max(1);
            let (batch, rest) = records.split_at(count);
            self.append(batch)?;
            records = rest;
        }
        self.rest()
    }

    /// Runs until nothing is left to do, moving the clock where everything waits for it.
    pub(crate) fn rest(&mut self) -> Result<(), String> {
        let until = self.now.saturating_add(REST_MS_MAX);
        for _ in 0..REST_STEPS_MAX {
            self.perform_all();
            self.refusal()?;
            if self.rests() {
                return Ok(());
            }
            let Some(due) = self.broker.poll_timeout().filter(|due| *due <= until) else {
                break;
            };
            self.now = self.now.max(due);
            self.broker.handle_timeout(self.now);
        }
        Err(match self.status() {
            Some(status) => format!("the module does not come to rest: {status:?}"),
            None => "the module is not deployed".to_owned(),
        })
    }

    /// The process dies and starts again: what is applied is there, nothing else.
    pub(crate) fn crash(&mut self) {
        self.stage.sandbox.drop_instances();
        self.broker = Broker::new(self.config.clone(), self.stage.store.state());
        self.broker.handle_start(self.now);
    }

    /// The module as `status` shows it.
    pub(crate) fn status(&self) -> Option<ModuleStatus> {
        self.broker.modules().statuses(self.broker.state(), self.now).next()
    }

    /// Everything that modules appended, in the order of the commits.
    pub(crate) fn outputs(&self) -> Vec<Output> {
        self.stage.store.outputs(self.broker.state())
    }

    /// Every entry of the module's state.
    pub(crate) fn state(&self) -> Vec<StateEntry> {
        let deployment = self.broker.state().modules.get(&self.name);
        let Some(deployment) = deployment else {
            return Vec::new();
        };
        let modules = &self.broker.state().modules;
        let tasks: Vec<TaskKey> = (0..self.tasks())
            .map(|number| modules.task_key(deployment, number))
            .collect();
        self.stage.store.state_of(&tasks, deployment.manifest())
    }

    /// Puts entries into the state of a task, as if they had been committed.
    pub(crate) fn put_state(&mut self, task: u32, bucket: &str, entries: impl IntoIterator<Item = (Bytes, Bytes)>) {
        if let Some(deployment) = self.broker.state().modules.get(&self.name) {
            let buckets = Bucket::granted(deployment.manifest());
            if let Some(bucket) = buckets.iter().find(|granted| granted.name == bucket) {
                let task = self.broker.state().modules.task_key(deployment, task);
                self.stage.store.put_state(&task, bucket, entries);
            }
        }
    }

    /// Forgets records that are done with.
    pub(crate) fn forget_records(&self) {
        self.stage.store.forget_records();
    }

    fn tasks(&self) -> u32 {
        let tasks = self.status().map_or(0, |status| status.tasks.len());
        u32::try_from(tasks).unwrap_or(u32::MAX)
    }

    /// Whether the module has nothing more to do, or will do nothing more.
    fn rests(&self) -> bool {
        let Some(status) = self.status() else {
            return false;
        };
        match status.state {
            ModuleState::Paused | ModuleState::Failed => true,
            ModuleState::Running => {
                let is_done = |task: &TaskStatus| {
                    task.member.is_some() && task.phase == Phase::Idle && task.inputs.iter().all(|input| input.lag == 0)
                };
                status.tasks.iter().all(is_done) && status.tables.iter().all(|table| table.behind == 0)
            }
            ModuleState::Staged => false,
        }
    }

    fn create_topics(&mut self, topics: &BTreeMap<String, u32>) -> Result<(), String> {
        let topics = topics.iter().map(|(name, partitions)| create_topics::CreatableTopic {
            name: name.clone(),
            num_partitions: i32::try_from(*partitions).unwrap_or(i32::MAX),
            replication_factor: 1,
            // A fixture's records may be of any time.
            configs: vec![create_topics::CreatableTopicConfig {
                name: "message.timestamp.after.max.ms".to_owned(),
                value: Some(i64::MAX.to_string()),
            }],
            ..Default::default()
        });
        let request = create_topics::CreateTopicsRequest {
            topics: topics.collect(),
            ..Default::default()
        };
        self.request(CREATE_TOPICS_VERSION, request.into());
        self.refusal()
    }

    fn request(&mut self, api_version: i16, request: Request) {
        self.requests += 1;
        let context = RequestContext {
            principal: "User:ANONYMOUS".into(),
            client_id: None,
            client_host: "127.0.0.1".into(),
            api_version,
            connection: ConnectionId(0),
        };
        self.broker
            .handle_request(self.now, RequestId(self.requests), context, request);
        self.perform_all();
    }

    /// Whether the component starts, as the daemon tries it before a deploy; the layout of its state.
    fn rehearse(&self, manifest: &Manifest) -> Result<u32, String> {
        let run = rehearsal::run(manifest, self.stage.digest, u32::MAX, self.now);
        rehearsal::outcome(&self.stage.sandbox.run(run, &Arc::default()))
    }

    fn admin(&mut self, asked: Asked) {
        self.requests += 1;
        self.broker
            .handle_admin(self.now, RequestId(self.requests), "User:ANONYMOUS".into(), asked);
        self.perform_all();
    }

    fn refusal(&mut self) -> Result<(), String> {
        self.refused.take().map_or(Ok(()), Err)
    }

    fn perform_all(&mut self) {
        while let Some(effect) = self.broker.poll_effect() {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Propose(id, command) => self.propose(id, command),
            Effect::Read(id, reads) => {
                let answer = reads.iter().map(|read| self.stage.store.read(read)).collect();
                self.broker.handle_read(self.now, id, answer);
            }
            Effect::ReadRows(id, read) => {
                let records = self.stage.store.read(&read);
                let rows = records.and_then(|records| Rows::of(&read, &records));
                self.broker.handle_rows(self.now, id, rows);
            }
            Effect::FindTime(id, log, timestamp) => {
                let found = self.stage.store.find_time(log, timestamp);
                self.broker.handle_found(self.now, id, found);
            }
            Effect::Run(run) => self.run(*run),
            Effect::Load(version) => self.broker.handle_loaded(self.now, &version, Ok(())),
            Effect::Respond(_, response) => self.refused = self.refused.take().or(refusal(&response)),
            Effect::RespondAdmin(_, answer) => {
                if let Answer::Error { message, hint, .. } = *answer {
                    let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
                    self.refused.get_or_insert(message + &hint);
                }
            }
            // Nothing is too old in a test.
            Effect::FindRetention(_) | Effect::Unload(_) | Effect::Keep(_) | Effect::Revoke(..) | Effect::Note(_) => {}
        }
    }

    fn run(&mut self, mut run: Run) {
        if let Some(plan) = &mut self.crashes {
            run.limits.records_max = plan.cut(run.limits.records_max);
            if plan.strikes(Crash::BeforeCall) {
                return self.crash();
            }
        }
        let begun = clock::instant();
        let processed = self.stage.sandbox.run(run, &Arc::default());
        self.spent.add(begun.elapsed(), processed.usage);
        if self
            .crashes
            .as_mut()
            .is_some_and(|plan| plan.strikes(Crash::DuringCall))
        {
            return self.crash();
        }
        let room = LOG_LINES_MAX.saturating_sub(self.logs.len());
        self.logs.extend(processed.logs.iter().take(room).cloned());
        self.broker.handle_processed(self.now, processed);
    }

    fn propose(&mut self, id: ProposalId, command: Command) {
        let task = match &command {
            Command::Module(Change::Commit(commit)) => Some(commit.owner.task),
            _ => None,
        };
        let is_commit = task.is_some();
        let mut strikes = |crash| is_commit && self.crashes.as_mut().is_some_and(|plan| plan.strikes(crash));
        if strikes(Crash::BeforeCommit) {
            return self.crash();
        }
        let again = strikes(Crash::CommittedTwice).then(|| command.clone());
        let is_after = strikes(Crash::AfterCommit);
        self.commit(Some(id), command, task);
        if let Some(again) = again {
            self.commit(None, again, task);
        }
        if is_after {
            self.crash();
        }
    }

    fn commit(&mut self, proposal: Option<ProposalId>, command: Command, task: Option<u32>) {
        self.entries += 1;
        let entry = Entry {
            index: self.entries,
            term: 1,
            node: 1,
            time: self.now,
            command,
        };
        let changes = self.broker.handle_committed(self.now, proposal, &entry);
        self.stage.store.publish(changes, task);
    }
}

impl Spent {
    fn add(&mut self, sandbox: Duration, usage: Usage) {
        self.sandbox += sandbox;
        self.guest += Duration::from_micros(usage.guest_us);
        self.records += u64::from(usage.records);
        self.runs += 1;
        self.memory_bytes = self.memory_bytes.max(usage.memory_bytes);
    }
}

/// Why a request of ours was refused, if it was.
fn refusal(response: &Response) -> Option<String> {
    match response {
        Response::Produce(response) => response.responses.iter().find_map(|topic| {
            let refused = topic
                .partition_responses
                .iter()
                .find(|part| part.error_code != ErrorCode::NONE)?;
            let sentence = refused.error_code.sentence();
            Some(format!(
                "{}/{} does not take the records: {sentence}",
                topic.name, refused.index
            ))
        }),
        Response::CreateTopics(response) => {
            let refused = response
                .topics
                .iter()
                .find(|topic| topic.error_code != ErrorCode::NONE)?;
            Some(format!("topic {}: {}", refused.name, refused.error_code.sentence()))
        }
        _ => None,
    }
}
