//! Fetch: reads, and waits where there is not enough to read.
//!
//! ```text
//!            any error, or nothing may be waited for
//!  request ───────────────────────────────────────────► respond
//!     │ something to read                                  ▲
//!     ├──────────────────► reading ── enough, or late ─────┤
//!     │ nothing yet           ▲  │ not enough              │
//!     └──────────► parked ◄───┼──┘                         │
//!                     └───────┴ bytes arrived, deadline, ──┘
//!                               topic gone, log start moved
//! ```
//! What is readable ends at the high watermark, which is also the last stable offset as long as there are no transactions. Sessions are never
//! made: every answer says session 0, and every request is complete. A parked fetch counts the bytes that are appended to its logs after it
//! was parked; what it had read before is counted with its size then. An answer that ends before the high watermark is enough: there will not
//! be more of it, however long it waits.
//! Partitions are taken in the order of the request as long as what was read of them fits its bound; the first with records is answered
//! whatever its size, so that every fetch gets on.
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
    vec::Vec,
};
use tidemill_protocol::{
    api::fetch::{
        AbortedTransaction, FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
    },
    batch::batches,
    error_code::ErrorCode,
    ids::Uuid,
    records::Records,
};

use super::list_offsets::check_epoch;
use crate::{
    context::{ConnectionId, Context, Reading, RequestContext, Requester},
    effect::{Append, LogId, LogRead, ReadAnswer, ReadError},
    limits::{FETCH_BYTES_MAX, FETCH_READ_BYTES, FETCH_WAIT_MS_MAX},
    state::State,
    topic::{Log, Topic},
};

/// Version from which topics are named by id.
const TOPIC_IDS: i16 = 13;

/// Fetches that wait for bytes or for a read.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    fetches: BTreeMap<u64, Fetch>,
    /// Parked fetches by the logs they wait for.
    parked: BTreeSet<(LogId, u64)>,
    deadlines: BTreeSet<(i64, u64)>,
    next: u64,
}

#[derive(Debug)]
struct Fetch {
    from: Requester,
    connection: ConnectionId,
    deadline: i64,
    bytes_min: usize,
    bytes_max: usize,
    is_read_committed: bool,
    wanted: Vec<Wanted>,
    /// Bytes that can be read, as far as is known.
    bytes: usize,
    /// Which of `wanted` are being read and up to where, in order, while it is reading.
    reading: Vec<(usize, i64)>,
    /// Sum of the high watermarks that it has seen: if it rises during a read, there is more to read.
    seen: i64,
}

/// One partition that is asked for.
#[derive(Debug)]
struct Wanted {
    /// One for all partitions of a topic: nobody has looked how long it is.
    topic: Arc<str>,
    topic_id: Uuid,
    partition: FetchPartition,
    /// Where it is, unless it is nowhere.
    log: Result<LogId, ErrorCode>,
}

impl Fetches {
    pub(crate) fn handle(
        &mut self,
        ctx: &mut Context<'_>,
        from: Requester,
        context: &RequestContext,
        request: FetchRequest,
    ) {
        if request.session_id != 0 {
            // There are no sessions; the client goes on with a full fetch.
            let response = FetchResponse {
                error_code: ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
                ..Default::default()
            };
            return ctx.respond(from, response.into());
        }
        let is_by_id = TOPIC_IDS <= context.api_version;
        let wait = i64::from(request.max_wait_ms.clamp(0, FETCH_WAIT_MS_MAX));
        let fetch = Fetch {
            from,
            connection: context.connection,
            deadline: ctx.now.saturating_add(wait),
            bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
            bytes_max: usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX),
            is_read_committed: request.isolation_level == 1,
            wanted: wanted(ctx.state, is_by_id, request),
            bytes: 0,
            reading: Vec::new(),
            seen: 0,
        };
        let id = self.next;
        self.next += 1;
        self.advance(ctx, id, fetch);
    }

    /// Records were appended: counts them for those who wait.
    pub(crate) fn handle_appended(&mut self, ctx: &mut Context<'_>, appends: &[Append]) {
        let mut ready = BTreeSet::new();
        for append in appends {
            for (_, id) in self.parked.range((append.log, 0)..=(append.log, u64::MAX)) {
                let fetch = self.fetches.get_mut(id).expect("what is parked is kept");
                fetch.bytes = fetch.bytes.saturating_add(append.batch.len());
                if fetch.bytes_min <= fetch.bytes {
                    ready.insert(*id);
                }
            }
        }
        self.wake(ctx, ready);
    }

    /// Log starts moved or logs are gone: whoever waits there may have to be told.
    pub(crate) fn handle_logs_changed(&mut self, ctx: &mut Context<'_>, logs: impl Iterator<Item = LogId>) {
        let ready = logs
            .flat_map(|log| self.parked.range((log, 0)..=(log, u64::MAX)).map(|(_, id)| *id))
            .collect();
        self.wake(ctx, ready);
    }

    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        let due = self
            .deadlines
            .range(..=(ctx.now, u64::MAX))
            .map(|(_, id)| *id)
            .collect();
        self.wake(ctx, due);
    }

    pub(crate) fn poll_timeout(&self) -> Option<i64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(crate) fn handle_connection_closed(&mut self, connection: ConnectionId) {
        let gone: Vec<u64> = self
            .fetches
            .iter()
            .filter(|(_, fetch)| fetch.connection == connection)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.take(id);
        }
    }

    pub(crate) fn handle_read(&mut self, ctx: &mut Context<'_>, id: u64, answer: ReadAnswer) {
        let Some(mut fetch) = self.take(id) else { return };
        fetch.bytes = answer.iter().flatten().map(Records::len).sum();
        let has_error = answer.iter().any(Result::is_err);
        let is_enough = fetch.bytes_min <= fetch.bytes || fetch.is_cut(&answer);
        if has_error || is_enough || fetch.deadline <= ctx.now {
            let response = fetch.response(ctx.state, answer);
            return ctx.respond(fetch.from, response.into());
        }
        if fetch.seen < fetch.ends(ctx.state) {
            return self.advance(ctx, id, fetch);
        }
        self.park(id, fetch);
    }

    fn wake(&mut self, ctx: &mut Context<'_>, ids: BTreeSet<u64>) {
        for id in ids {
            if let Some(fetch) = self.take(id) {
                self.advance(ctx, id, fetch);
            }
        }
    }

    /// Responds, reads or parks: whatever the state allows now.
    fn advance(&mut self, ctx: &mut Context<'_>, id: u64, mut fetch: Fetch) {
        let (has_error, reads) = fetch.reads(ctx.state);
        if reads.is_empty() {
            if has_error || fetch.bytes_min == 0 || fetch.deadline <= ctx.now {
                let response = fetch.response(ctx.state, Vec::new());
                return ctx.respond(fetch.from, response.into());
            }
            fetch.bytes = 0;
            return self.park(id, fetch);
        }
        if has_error {
            // An error is told at once, with whatever there is.
            fetch.deadline = ctx.now;
        }
        ctx.read(reads, Reading::Fetch(id));
        self.fetches.insert(id, fetch);
    }

    fn park(&mut self, id: u64, fetch: Fetch) {
        self.deadlines.insert((fetch.deadline, id));
        self.parked.extend(fetch.logs().map(|log| (log, id)));
        self.fetches.insert(id, fetch);
    }

    fn take(&mut self, id: u64) -> Option<Fetch> {
        let fetch = self.fetches.remove(&id)?;
        self.deadlines.remove(&(fetch.deadline, id));
        for log in fetch.logs() {
            self.parked.remove(&(log, id));
        }
        Some(fetch)
    }
}

impl Fetch {
    fn logs(&self) -> impl Iterator<Item = LogId> {
        self.wanted.iter().filter_map(|wanted| wanted.log.ok())
    }

    fn ends(&self, state: &State) -> i64 {
        self.logs()
            .filter_map(|log| state.logs.get(&log))
            .map(Log::high_watermark)
            .sum()
    }

    /// What to read now, and whether any partition has an error.
    fn reads(&mut self, state: &State) -> (bool, Vec<LogRead>) {
        let mut has_error = false;
        let mut reads = Vec::new();
        let mut room = self.bytes_max.max(FETCH_READ_BYTES);
        self.reading.clear();
        self.seen = self.ends(state);
        for (index, wanted) in self.wanted.iter().enumerate() {
            let Ok((id, until)) = wanted.readable(state) else {
                has_error = true;
                continue;
            };
            if until <= wanted.partition.fetch_offset || (room == 0 && !reads.is_empty()) {
                continue;
            }
            let bytes_max = usize::try_from(wanted.partition.partition_max_bytes)
                .unwrap_or(0)
                .min(self.bytes_max)
                .min(room);
            room -= bytes_max;
            reads.push(LogRead {
                log: id,
                from: wanted.partition.fetch_offset,
                until,
                bytes_max,
            });
            self.reading.push((index, until));
        }
        (has_error, reads)
    }

    /// Whether there was more of a partition than its bound let in.
    fn is_cut(&self, answer: &ReadAnswer) -> bool {
        self.reading.iter().zip(answer).any(|((_, until), records)| {
            let last = records.iter().flat_map(batches).last().and_then(Result::ok);
            last.is_some_and(|last| last.header().next_offset() < *until)
        })
    }

    fn response(&self, state: &State, answer: ReadAnswer) -> FetchResponse {
        let mut read: BTreeMap<usize, Result<Records, ReadError>> =
            self.reading.iter().map(|(index, _)| *index).zip(answer).collect();
        let mut responses: Vec<FetchableTopicResponse> = Vec::new();
        let mut bytes = 0;
        for (index, wanted) in self.wanted.iter().enumerate() {
            let mut data = self.partition(state, wanted);
            match read.remove(&index) {
                // Storage's bounds are soft; the sum of them is held here, but for the first.
                Some(Ok(records))
                    if data.error_code.is_ok()
                        && (bytes == 0 || records.len() <= self.bytes_max.saturating_sub(bytes)) =>
                {
                    bytes += records.len();
                    data.records = Some(records);
                }
                Some(Err(ReadError::Gone)) => data.error_code = ErrorCode::OFFSET_OUT_OF_RANGE,
                Some(Err(ReadError::Failed)) => data.error_code = ErrorCode::KAFKA_STORAGE_ERROR,
                _ => {}
            }
            match responses
                .last_mut()
                .filter(|last| *last.topic == *wanted.topic && last.topic_id == wanted.topic_id)
            {
                Some(last) => last.partitions.push(data),
                None => responses.push(FetchableTopicResponse {
                    topic: String::from(&*wanted.topic),
                    topic_id: wanted.topic_id,
                    partitions: [data].into(),
                }),
            }
        }
        FetchResponse {
            responses,
            ..FetchResponse::default()
        }
    }

    /// Everything of a partition's answer but its records.
    fn partition(&self, state: &State, wanted: &Wanted) -> PartitionData {
        let mut data = PartitionData {
            partition_index: wanted.partition.partition,
            high_watermark: -1,
            records: Some(Records::new()),
            aborted_transactions: self.is_read_committed.then(Vec::<AbortedTransaction>::new),
            ..PartitionData::default()
        };
        match wanted.readable(state) {
            Ok((id, until)) => {
                data.high_watermark = until;
                data.last_stable_offset = until;
                data.log_start_offset = state.logs[&id].start;
            }
            Err(error) => data.error_code = error,
        }
        data
    }
}

impl Wanted {
    /// The log and its high watermark, if this fetch may read there.
    fn readable(&self, state: &State) -> Result<(LogId, i64), ErrorCode> {
        let id = self.log?;
        // A topic deleted while this waited took its logs with it.
        let log = state.logs.get(&id).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        check_epoch(log, self.partition.current_leader_epoch)?;
        let until = log.high_watermark();
        if (log.start..=until).contains(&self.partition.fetch_offset) {
            Ok((id, until))
        } else {
            Err(ErrorCode::OFFSET_OUT_OF_RANGE)
        }
    }
}

fn wanted(state: &State, is_by_id: bool, request: FetchRequest) -> Vec<Wanted> {
    let mut all = Vec::new();
    for topic in request.topics {
        let known = if is_by_id {
            state.topics.get_by_id(&topic.topic_id)
        } else {
            state.topics.get(&topic.topic)
        };
        let name: Arc<str> = topic.topic.into();
        for partition in topic.partitions {
            all.push(Wanted {
                topic: Arc::clone(&name),
                topic_id: topic.topic_id,
                log: find(known, is_by_id, partition.partition),
                partition,
            });
        }
    }
    all
}

fn find(topic: Option<&Topic>, is_by_id: bool, partition: i32) -> Result<LogId, ErrorCode> {
    let unknown = if is_by_id {
        ErrorCode::UNKNOWN_TOPIC_ID
    } else {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    };
    topic
        .ok_or(unknown)?
        .log(partition)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}
