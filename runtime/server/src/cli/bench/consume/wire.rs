//! A consumer on the bare protocol: one fetch for all of its partitions, the next on its way while the last is looked at.
use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use tidemill_protocol::api::ApiKey;
use tidemill_protocol::api::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use tidemill_protocol::batch::{HEADER_BYTES, Header, batches};
use tidemill_protocol::ids::Uuid;
use tidemill_protocol::records::Records;

use super::super::Problem;
use super::super::crew::Seat;
use super::super::wire::{Connection, check};
use super::{Consumed, Reading};

/// Bytes of one answer.
const FETCH_BYTES_MAX: i32 = 16 << 20;

/// Bytes to which one batch may be decompressed.
const BATCH_BYTES_MAX: usize = 256 << 20;

/// First version in which topics are named by their ids.
const BY_ID: i16 = 13;

/// One consumer, with a connection to every leader of its partitions.
pub(super) async fn run(seat: Seat, reading: Arc<Reading>) -> Result<Consumed, Problem> {
    let mut leaders: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for (index, end) in reading.share(seat.number) {
        let partition = reading
            .topic
            .partitions
            .iter()
            .find(|partition| partition.index == index);
        let leader = partition.ok_or("a partition without a leader")?.leader.clone();
        leaders.entry(leader).or_default().push(Place { index, next: 0, end });
    }
    let mut lanes = Vec::new();
    for (address, places) in leaders {
        lanes.push(Lane {
            fetch: Fetch::new(
                reading.dial.connect(&address).await?,
                &reading.topic.name,
                reading.topic.id,
            )?,
            partition_bytes: reading.fetch_bytes,
            places,
            seat: seat.clone(),
        });
    }
    seat.start().await;
    let consumed = try_join_all(lanes.iter_mut().map(Lane::run)).await?;
    Ok(Consumed {
        records: consumed.iter().map(|one| one.records).sum(),
        bytes: consumed.iter().map(|one| one.bytes).sum(),
    })
}

/// How far a partition is read.
pub(in crate::cli::bench) struct Place {
    pub(in crate::cli::bench) index: i32,
    pub(in crate::cli::bench) next: i64,
    end: i64,
}

impl Place {
    /// A partition without an end, to be read from an offset on.
    pub(in crate::cli::bench) fn from(index: i32, next: i64) -> Place {
        let end = i64::MAX;
        Place { index, next, end }
    }
}

struct Lane {
    fetch: Fetch,
    partition_bytes: i32,
    places: Vec<Place>,
    seat: Seat,
}

impl Lane {
    async fn run(&mut self) -> Result<Consumed, Problem> {
        let mut consumed = Consumed { records: 0, bytes: 0 };
        self.places.retain(|place| place.next < place.end);
        if self.places.is_empty() {
            return Ok(consumed);
        }
        self.fetch.ask(&self.places, self.partition_bytes, 1).await?;
        loop {
            let fetched = self.fetch.answer(&mut self.places).await?;
            self.places.retain(|place| place.next < place.end);
            // Others begin the next answer, so that none is starved by a bound on the whole.
            if !self.places.is_empty() {
                self.places.rotate_left(1);
                self.fetch.ask(&self.places, self.partition_bytes, 1).await?;
            }
            let before = consumed.records;
            for records in fetched {
                look(&records, &mut consumed)?;
                // A QUIC connection lives in this thread.
                tokio::task::yield_now().await;
            }
            self.seat.advance(consumed.records - before);
            if self.places.is_empty() {
                return Ok(consumed);
            }
        }
    }
}

/// Every batch's checksum, every record.
fn look(records: &Records, consumed: &mut Consumed) -> Result<(), Problem> {
    for batch in batches(records) {
        for record in batch?.payload(BATCH_BYTES_MAX)?.records() {
            consumed.records += 1;
            consumed.bytes += record?.value.map_or(0, <[u8]>::len) as u64;
        }
    }
    Ok(())
}

/// Fetches of one topic on one connection.
pub(in crate::cli::bench) struct Fetch {
    connection: Connection,
    topic: String,
    id: Uuid,
}

impl Fetch {
    pub(in crate::cli::bench) fn new(connection: Connection, topic: &str, id: Uuid) -> Result<Fetch, Problem> {
        let version = connection.version(ApiKey::Fetch)?;
        if BY_ID <= version && id.is_zero() {
            return Err("the broker names topics by id and gave none".into());
        }
        Ok(Fetch {
            connection,
            topic: topic.to_owned(),
            id,
        })
    }

    /// Asks for what these partitions have next, and waits until there are so many bytes.
    pub(in crate::cli::bench) async fn ask(
        &mut self,
        places: &[Place],
        partition_bytes: i32,
        bytes_min: i32,
    ) -> Result<(), Problem> {
        let wanted = places.iter().map(|place| FetchPartition {
            partition: place.index,
            fetch_offset: place.next,
            partition_max_bytes: partition_bytes,
            ..Default::default()
        });
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes: bytes_min,
            max_bytes: FETCH_BYTES_MAX,
            topics: vec![FetchTopic {
                topic: self.topic.clone(),
                topic_id: self.id,
                partitions: wanted.collect(),
            }],
            ..Default::default()
        };
        self.connection.send(request).await
    }

    /// The answer: whole batches, behind which the places then stand.
    pub(in crate::cli::bench) async fn answer(&mut self, places: &mut [Place]) -> Result<Vec<Records>, Problem> {
        let response: FetchResponse = self.connection.receive::<FetchRequest>().await?;
        check(response.error_code, "a fetch")?;
        let mut fetched = Vec::new();
        for data in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            check(data.error_code, &format!("fetching partition {}", data.partition_index))?;
            let Some(records) = data.records.filter(|records| !records.is_empty()) else {
                continue;
            };
            let place = places.iter_mut().find(|place| place.index == data.partition_index);
            let place = place.ok_or("an answer for a partition that was not asked for")?;
            let (whole, next) = whole_batches(&records)?;
            place.next = next.unwrap_or(place.next);
            fetched.push(whole);
        }
        Ok(fetched)
    }
}

/// Cuts off a batch that did not fit the answer. The offset behind the last one.
fn whole_batches(records: &Records) -> Result<(Records, Option<i64>), Problem> {
    let bytes = records.to_bytes();
    let (mut at, mut next) = (0, None);
    while at + HEADER_BYTES <= bytes.len() {
        let header = Header::parse(&bytes[at..])?;
        if bytes.len() < at + header.batch_bytes() {
            break;
        }
        at += header.batch_bytes();
        next = Some(header.next_offset());
    }
    Ok((Records::from(bytes.slice(..at)), next))
}
