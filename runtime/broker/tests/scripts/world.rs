//! A world for one broker: the journal is a vector, storage is maps, time moves when a script says so.
//!
//! Entries go through their binary form and back, and after every entry the state loaded from all rows is compared with the live one.
//!
//! Commands: `tick MS` moves time and fires what is due; `hold` keeps proposals from becoming durable, `release [COUNT]` lets them go in
//! order; `refuse [too-large]` gives the oldest held proposal back as refused (disk full); `close` closes the prefix's connection; `restart` builds a new
//! broker from the rows, `replay` from the entries; `note` output is printed as `note: ...`.
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    error::Error,
    fmt::Write as _,
};

use bytes::Bytes;
use goldenscript::Command;
use tidemill_broker::{
    Broker, Config, Entry, RequestContext, State,
    context::{ConnectionId, Refusal},
    effect::{
        Append, Changes, Effect, Found, LogId, LogRead, ProposalId, ReadError, ReadId, RequestId, RetentionQuery, Row,
        Table,
    },
    module::{Asked, Version, run::Run, view::Rows},
};
use tidemill_protocol::{
    admin,
    api::{Request, Response},
    records::Records,
};

use crate::Output;

/// 2023-11-14T22:13:20Z: a script's first moment.
const START: i64 = 1_700_000_000_000;

/// Everything around one broker.
pub struct World {
    pub broker: Broker,
    pub config: Config,
    pub now: i64,
    /// Runs that the core asked for and no script has answered yet.
    pub runs: VecDeque<Run>,
    /// Versions that the core asked for and no script has answered yet.
    pub loads: Vec<Version>,
    /// Components that must be kept, as the core said last.
    pub kept: BTreeSet<[u8; 32]>,
    pub store: Store,
    /// Reads for tables that are not answered yet, and whether they wait for a script to say so.
    table_reads: VecDeque<(ReadId, LogRead)>,
    pub tables_stall: bool,
    entries: Vec<Bytes>,
    held: VecDeque<(ProposalId, tidemill_broker::Command)>,
    is_holding: bool,
    requests: u64,
    connections: Vec<String>,
    connection: ConnectionId,
    first_request: u64,
    unanswered: Vec<u64>,
    /// Answers of the present command, as they came.
    responses: Vec<(u64, Answered)>,
    lines: String,
}

enum Answered {
    Kafka(Response),
    Admin(admin::Answer),
}

impl World {
    pub fn new() -> World {
        let config = Config {
            group_initial_rebalance_delay_ms: 0,
            ..Config::default()
        };
        let mut broker = Broker::new(config.clone(), State::default());
        broker.handle_start(START);
        World {
            broker,
            config,
            now: START,
            runs: VecDeque::new(),
            loads: Vec::new(),
            kept: BTreeSet::new(),
            store: Store::default(),
            table_reads: VecDeque::new(),
            tables_stall: false,
            entries: Vec::new(),
            held: VecDeque::new(),
            is_holding: false,
            requests: 0,
            connections: Vec::new(),
            connection: ConnectionId(0),
            first_request: 0,
            unanswered: Vec::new(),
            responses: Vec::new(),
            lines: String::new(),
        }
    }

    /// A command begins; its prefix names the connection that requests come from.
    pub fn begin(&mut self, prefix: Option<&str>) {
        let name = prefix.unwrap_or("");
        let position = self
            .connections
            .iter()
            .position(|known| known == name)
            .unwrap_or_else(|| {
                self.connections.push(name.into());
                self.connections.len() - 1
            });
        self.connection = ConnectionId(position as u64);
        self.first_request = self.requests + 1;
    }

    /// Sends a request from the prefix's connection.
    pub fn request(&mut self, api_version: i16, request: impl Into<Request>) {
        self.requests += 1;
        self.unanswered.push(self.requests);
        let client = &self.connections[usize::try_from(self.connection.0).unwrap()];
        let context = RequestContext {
            principal: "User:ANONYMOUS".into(),
            client_id: Some(if client.is_empty() { "client" } else { client }.into()),
            client_host: "127.0.0.1".into(),
            api_version,
            connection: self.connection,
        };
        self.broker
            .handle_request(self.now, RequestId(self.requests), context, request.into());
        self.settle();
    }

    /// The last request is never answered.
    pub fn forget_answer(&mut self) {
        self.unanswered.pop();
    }

    /// Sends a management call.
    pub fn admin(&mut self, asked: impl Into<Asked>) {
        self.requests += 1;
        self.broker
            .handle_admin(self.now, RequestId(self.requests), "User:ANONYMOUS".into(), asked);
        self.settle();
    }

    /// Prints a line with the present command's output.
    pub fn print(&mut self, line: &str) {
        writeln!(self.lines, "{line}").unwrap();
    }

    /// Performs effects until there are none.
    pub fn settle(&mut self) {
        while let Some(effect) = self.broker.poll_effect() {
            self.perform(effect);
        }
    }

    /// Prints what the command led to.
    pub fn finish(&mut self, show: impl Fn(&Response) -> Option<String>) -> String {
        let mut output = std::mem::take(&mut self.lines);
        for (id, answered) in std::mem::take(&mut self.responses) {
            let text = match &answered {
                Answered::Kafka(response) => show(response).unwrap_or_else(|| format!("{response:?}")),
                Answered::Admin(answer) => crate::modules::show_answer(answer),
            };
            if id < self.first_request {
                write!(output, "#{id} ").unwrap();
            }
            writeln!(output, "{}", text.trim_end()).unwrap();
        }
        for id in self.unanswered.iter().filter(|id| self.first_request <= **id) {
            writeln!(output, "#{id} waits").unwrap();
        }
        output
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Propose(id, command) => {
                self.held.push_back((id, command));
                if !self.is_holding {
                    self.commit_next();
                }
            }
            Effect::Read(id, reads) => {
                let answer = reads.iter().map(|read| self.store.read(read)).collect();
                self.broker.handle_read(self.now, id, answer);
            }
            Effect::ReadRows(id, read) => {
                self.table_reads.push_back((id, read));
                if !self.tables_stall {
                    self.feed_table();
                }
            }
            Effect::FindTime(id, log, timestamp) => {
                let found = self.store.find_time(log, timestamp);
                self.broker.handle_found(self.now, id, found);
            }
            Effect::FindRetention(queries) => {
                let starts = queries
                    .iter()
                    .filter_map(|query| Some((query.log, self.store.find_retention(query)?)));
                let starts: Vec<_> = starts.collect();
                self.broker.handle_retention(self.now, &starts);
            }
            Effect::Respond(id, response) => {
                self.unanswered.retain(|waiting| *waiting != id.0);
                self.responses.push((id.0, Answered::Kafka(response)));
            }
            Effect::RespondAdmin(id, answer) => self.responses.push((id.0, Answered::Admin(*answer))),
            Effect::Run(run) => {
                self.print(&format!(
                    "run: {} {} {}",
                    run.task.module,
                    run.task.number,
                    run.inputs
                        .iter()
                        .map(|input| format!("{}/{}@{}", input.topic, input.partition, input.from))
                        .collect::<Vec<_>>()
                        .join(" ")
                ));
                self.runs.push_back(*run);
            }
            Effect::Load(version) => {
                self.print(&format!("load: {} {}", version.module, version.label));
                self.loads.push(version);
            }
            Effect::Unload(version) => {
                self.print(&format!("unload: {} {}", version.module, version.label));
                self.loads.retain(|asked| *asked != version);
            }
            Effect::Revoke(version, task) => self.print(&format!("revoke: {} {task}", version.module)),
            Effect::Keep(digests) => self.kept = digests,
            Effect::Note(text) => self.print(&format!("note: {text}")),
        }
    }

    /// Answers the oldest read for a table, if there is one.
    pub fn feed_table(&mut self) -> bool {
        let Some((id, read)) = self.table_reads.pop_front() else {
            return false;
        };
        let records = self.store.read(&read);
        let rows = records.and_then(|records| Rows::of(&read, &records));
        self.broker.handle_rows(self.now, id, rows);
        true
    }

    /// Whether proposals are held back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    fn commit_next(&mut self) -> bool {
        let Some((id, command)) = self.held.pop_front() else {
            return false;
        };
        let index = self.entries.len() as u64 + 1;
        let entry = Entry {
            index,
            term: 1,
            node: 1,
            time: self.now,
            command,
        };
        let encoded = Bytes::from(entry.encode().concat());
        let entry = Entry::decode(encoded.clone()).unwrap();
        self.entries.push(encoded);
        let changes = self.broker.handle_committed(self.now, Some(id), &entry);
        self.store.publish(&changes);
        assert_eq!(
            &self.store.state(),
            self.broker.state(),
            "state from rows is the state after entry {index}"
        );
        true
    }

    fn tick(&mut self, ms: i64) {
        let end = self.now + ms;
        // A deadline that is not moved by its own handling would be a busy loop: bounded here.
        for _ in 0..100_000 {
            let Some(due) = self.broker.poll_timeout().filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.broker.handle_timeout(self.now);
            self.settle();
        }
        assert!(
            self.broker.poll_timeout().is_none_or(|due| end < due),
            "deadlines move on"
        );
        self.now = end;
    }

    fn restart(&mut self, state: State) {
        self.held.clear();
        self.unanswered.clear();
        self.loads.clear();
        self.table_reads.clear();
        self.broker = Broker::new(self.config.clone(), state);
        self.broker.handle_start(self.now);
        self.settle();
    }
}

/// The world's own commands.
pub fn run(world: &mut World, command: &Command) -> Option<Output> {
    let mut args = command.consume_args();
    let mut run = || -> Result<(), Box<dyn Error>> {
        match command.name.as_str() {
            "tick" => world.tick(args.next_pos().ok_or("milliseconds?")?.parse()?),
            "hold" => world.is_holding = true,
            "release" => {
                world.is_holding = false;
                let count = args.next_pos().map_or(Ok(usize::MAX), str::parse)?;
                for _ in 0..count {
                    if !world.commit_next() {
                        break;
                    }
                    world.settle();
                }
                world.is_holding = !world.held.is_empty();
            }
            "refuse" => {
                let (id, _) = world.held.pop_front().ok_or("nothing is held")?;
                let refusal = match args.next_pos() {
                    Some("too-large") => Refusal::TooLarge,
                    _ => Refusal::DiskFull,
                };
                world.broker.handle_refused(world.now, id, refusal);
            }
            "close" => world.broker.handle_connection_closed(world.now, world.connection),
            "restart" => world.restart(world.store.state()),
            "replay" => {
                let mut state = State::default();
                for entry in &world.entries {
                    state.apply(&Entry::decode(entry.clone())?);
                }
                assert_eq!(&state, world.broker.state(), "a replay gives the same state");
                world.restart(state);
            }
            _ => unreachable!("names are checked before"),
        }
        args.reject_next()
    };
    match command.name.as_str() {
        "tick" | "hold" | "release" | "refuse" | "close" | "restart" | "replay" => Some(run().map(|()| String::new())),
        _ => None,
    }
}

/// Storage in memory.
#[derive(Default)]
pub struct Store {
    pub logs: BTreeMap<LogId, Vec<Append>>,
    pub rows: BTreeMap<(Table, Bytes), Bytes>,
}

impl Store {
    pub fn publish(&mut self, changes: &Changes) {
        for append in &changes.appends {
            self.logs.entry(append.log).or_default().push(append.clone());
        }
        for row in &changes.rows {
            match &row.value {
                Some(value) => drop(self.rows.insert((row.table, row.key.clone()), value.clone())),
                None => drop(self.rows.remove(&(row.table, row.key.clone()))),
            }
        }
        for (table, prefix) in &changes.cleared {
            self.rows
                .retain(|(other, key), _| other != table || !key.starts_with(prefix));
        }
        for (log, start) in &changes.log_starts {
            self.logs
                .entry(*log)
                .or_default()
                .retain(|append| *start <= append.last_offset);
        }
        for log in &changes.dropped {
            self.logs.remove(log);
        }
    }

    pub fn state(&self) -> State {
        let mut state = State::default();
        for ((table, key), value) in &self.rows {
            state
                .load(&Row {
                    table: *table,
                    key: key.clone(),
                    value: Some(value.clone()),
                })
                .unwrap();
        }
        state
    }

    pub fn read(&self, read: &LogRead) -> Result<Records, ReadError> {
        let appends = self.logs.get(&read.log).map_or(&[][..], Vec::as_slice);
        if appends.first().is_some_and(|first| read.from < first.base_offset) {
            return Err(ReadError::Gone);
        }
        let mut records = Records::new();
        for append in appends
            .iter()
            .filter(|append| read.from <= append.last_offset && append.last_offset < read.until)
        {
            if !records.is_empty() && read.bytes_max < records.len() + append.batch.len() {
                break;
            }
            let mut batch = append.batch.to_vec();
            batch[..8].copy_from_slice(&append.base_offset.to_be_bytes());
            batch[12..16].copy_from_slice(&append.leader_epoch.to_be_bytes());
            records.push(batch.into());
        }
        Ok(records)
    }

    fn find_time(&self, log: LogId, timestamp: i64) -> Option<Found> {
        let batch = self
            .logs
            .get(&log)?
            .iter()
            .find(|append| timestamp <= append.max_timestamp)?;
        // Batches of these scripts have one timestamp.
        let header = tidemill_protocol::batch::Header::parse(&batch.batch).unwrap();
        Some(Found {
            offset: batch.base_offset,
            timestamp: header.max_timestamp,
        })
    }

    fn find_retention(&self, query: &RetentionQuery) -> Option<i64> {
        let appends = self.logs.get(&query.log)?;
        let mut bytes: u64 = appends.iter().map(|append| append.batch.len() as u64).sum();
        let mut start = None;
        for append in appends {
            let is_old = query.delete_before.is_some_and(|before| append.max_timestamp < before);
            let len = append.batch.len() as u64;
            let is_over = query.bytes_max.is_some_and(|max| max <= bytes - len);
            if !is_old && !is_over {
                break;
            }
            bytes -= len;
            start = Some(append.last_offset + 1);
        }
        start
    }
}
