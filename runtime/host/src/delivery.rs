//! What one run delivers to the guest: records cut from its inputs by the run's limits, in an order that depends on nothing else.
//!
//! Several inputs are merged by timestamp, each partition's own order kept: a record waits while an older one may still be in the log. Control batches take up offsets and are never delivered.
//! What cannot be decoded is not delivered and not passed over in silence: see [`Delivery::unreadable`].
use bytes::Bytes;
use tidemill_broker::module::run::{Coordinates, GiveUp, Input, Limits};
use tidemill_protocol::batch::{BatchError, Encoded, Record, RecordHeader, batches};

use crate::{
    entry::{Entry, Span},
    limits,
};

/// The records of one call, and how far each input has come with them.
#[allow(unreachable_pub, reason = "the generated bindings re-export it within the crate")]
#[derive(Debug, Default)]
pub struct Delivery {
    chunks: Vec<Bytes>,
    headers: Vec<(Span, Span)>,
    records: Vec<Entry>,
    inputs: Vec<Position>,
    given_up: Vec<GivenUp>,
    bytes: usize,
}

/// A record that this run gives up on instead of delivering it.
#[derive(Debug)]
pub(crate) struct GivenUp {
    /// Where it lies; `None` where nothing can be read.
    pub(crate) entry: Option<Entry>,
    /// Topic and partition it comes from.
    pub(crate) source: u16,
    /// Why, and where to.
    pub(crate) give_up: GiveUp,
}

/// Where reading an input had to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// At a record that its producer wrote wrongly. Giving it up gives up the rest of its batch: nobody can say where the next one begins.
    Record(i64, BatchError),
    /// At a batch that is not as it was appended: the disk's fault, or ours.
    Batch(i64, BatchError),
}

/// How far one input has come.
#[derive(Debug)]
struct Position {
    topic: String,
    partition: u32,
    from: i64,
    /// Next offset when everything decoded here is done with.
    end: i64,
    /// Records decoded, and of those delivered.
    decoded: usize,
    delivered: usize,
    stopped: Option<Unreadable>,
    /// Whether the log has more after what was decoded.
    has_more: bool,
}

impl Delivery {
    /// Cuts a delivery from what was read.
    pub(crate) fn cut(inputs: &[Input], limits: &Limits) -> Self {
        let mut delivery = Self::default();
        let mut decoded = Vec::with_capacity(inputs.len());
        for input in inputs {
            decoded.push(delivery.decode(input, limits));
        }
        if let [only] = &mut decoded[..] {
            (delivery.records, delivery.bytes) = std::mem::take(only);
            delivery.inputs[0].delivered = delivery.records.len();
        } else {
            delivery.merge(&decoded, limits);
        }
        delivery
    }

    /// Number of records.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes of records.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Topics and partitions, by [`Entry::source`].
    pub(crate) fn sources(&self) -> impl ExactSizeIterator<Item = (&str, u32)> {
        self.inputs.iter().map(|input| (input.topic.as_str(), input.partition))
    }

    /// The record at a position, with the chunk that holds its bytes.
    pub(crate) fn get(&self, index: usize) -> Option<(&Entry, &[u8])> {
        let entry = self.records.get(index)?;
        Some((entry, self.chunk(entry)))
    }

    /// Records in order.
    pub(crate) fn records(&self) -> &[Entry] {
        &self.records
    }

    /// The chunk that holds a record's bytes.
    pub(crate) fn chunk(&self, entry: &Entry) -> &[u8] {
        &self.chunks[entry.chunk as usize]
    }

    /// A record's headers, in order.
    pub(crate) fn headers<'a>(
        &'a self,
        entry: &Entry,
    ) -> impl ExactSizeIterator<Item = RecordHeader<'a>> + Clone + use<'a> {
        let (first, count) = (entry.headers.0 as usize, entry.headers.1 as usize);
        let chunk: &'a [u8] = &self.chunks[entry.chunk as usize];
        let header = |(name, value): &(Span, Span)| RecordHeader {
            key: name.of(chunk).unwrap_or_default(),
            value: value.of(chunk),
        };
        self.headers[first..first + count].iter().map(header)
    }

    /// Where a record comes from.
    pub(crate) fn coordinates(&self, index: usize) -> Option<Coordinates> {
        let entry = self.records.get(index)?;
        let input = &self.inputs[usize::from(entry.source)];
        Some(Coordinates {
            topic: input.topic.clone(),
            partition: input.partition,
            offset: entry.offset,
        })
    }

    /// First offset not covered, for each input, when the first `count` records are done with.
    pub(crate) fn next(&self, count: usize) -> Vec<(String, u32, i64)> {
        let mut done = vec![0; self.inputs.len()];
        let mut next: Vec<i64> = self.inputs.iter().map(|input| input.from).collect();
        for entry in self.records.iter().take(count) {
            done[usize::from(entry.source)] += 1;
            next[usize::from(entry.source)] = entry.offset + 1;
        }
        let inputs = self.inputs.iter().zip(done).zip(next);
        inputs
            .map(|((input, done), next)| {
                (
                    input.topic.clone(),
                    input.partition,
                    if done == input.decoded { input.end } else { next },
                )
            })
            .collect()
    }

    /// For each input with records: (topic, partition, first offset, last offset, count).
    pub(crate) fn delivered(&self) -> Vec<(String, u32, i64, i64, u32)> {
        let mut delivered: Vec<Option<(i64, i64)>> = vec![None; self.inputs.len()];
        for entry in &self.records {
            let range = &mut delivered[usize::from(entry.source)];
            *range = Some((range.map_or(entry.offset, |(first, _)| first), entry.offset));
        }
        let inputs = self.inputs.iter().zip(delivered);
        inputs
            .filter_map(|(input, range)| {
                let (first, last) = range?;
                Some((
                    input.topic.clone(),
                    input.partition,
                    first,
                    last,
                    u32::try_from(input.delivered).unwrap_or(u32::MAX),
                ))
            })
            .collect()
    }

    /// The largest timestamp of each input among the first `count` records.
    pub(crate) fn event_times(&self, count: usize) -> Vec<(String, u32, i64)> {
        let mut latest: Vec<Option<i64>> = vec![None; self.inputs.len()];
        for entry in self.records.iter().take(count) {
            let latest = &mut latest[usize::from(entry.source)];
            *latest = (*latest).max(Some(entry.timestamp));
        }
        let inputs = self.inputs.iter().zip(latest);
        inputs
            .filter_map(|(input, latest)| Some((input.topic.clone(), input.partition, latest?)))
            .collect()
    }

    /// Records that are given up, in order for each input.
    pub(crate) fn given_up(&self) -> &[GivenUp] {
        &self.given_up
    }

    /// Where reading stopped, when nothing before it is left to deliver.
    pub(crate) fn unreadable(&self) -> Option<(Coordinates, &Unreadable)> {
        let stopped = |input: &Position| input.stopped.is_some() && self.records.is_empty();
        let input = self.inputs.iter().find(|input| stopped(input))?;
        let unreadable = input.stopped.as_ref()?;
        let (Unreadable::Record(offset, _) | Unreadable::Batch(offset, _)) = unreadable;
        Some((
            Coordinates {
                topic: input.topic.clone(),
                partition: input.partition,
                offset: *offset,
            },
            unreadable,
        ))
    }

    /// Records of one input, and their bytes.
    fn decode(&mut self, input: &Input, limits: &Limits) -> (Vec<Entry>, usize) {
        let source = u16::try_from(self.inputs.len()).unwrap_or(u16::MAX);
        let mut taken = Taken {
            end: input.from,
            ..Taken::default()
        };
        for batch in batches(&input.records) {
            if taken.full || taken.stopped.is_some() || input.until <= taken.end {
                break;
            }
            match batch {
                Ok(batch) if batch.header().last_offset() < input.from => {}
                Ok(batch) => self.take(&batch, input, limits, source, &mut taken),
                Err(error) => taken.stopped = Some(Unreadable::Batch(taken.end, error)),
            }
        }
        self.inputs.push(Position {
            has_more: input.has_more || taken.full,
            topic: input.topic.clone(),
            partition: input.partition,
            from: input.from,
            end: taken.end.min(input.until).max(input.from),
            decoded: taken.entries.len(),
            delivered: 0,
            stopped: taken.stopped,
        });
        self.given_up.extend(taken.given_up);
        (taken.entries, taken.bytes)
    }

    fn take(&mut self, batch: &Encoded, input: &Input, limits: &Limits, source: u16, taken: &mut Taken) {
        let (header, chunks) = (batch.header(), self.chunks.len());
        let read = if header.attributes.is_control {
            Ok(())
        } else {
            self.read(batch, input, limits, source, taken)
        };
        match read {
            Err((offset, error)) if offset <= header.last_offset() => {
                let offset = offset.max(input.from);
                let Some(give_up) = input.given_up(offset) else {
                    taken.stopped = Some(Unreadable::Record(offset, error));
                    taken.end = offset;
                    return;
                };
                taken.given_up.push(GivenUp {
                    entry: None,
                    source,
                    give_up: give_up.clone(),
                });
                taken.end = header.next_offset();
                // A few kilobytes may have been unpacked to many megabytes.
                taken.bytes += self.chunks[chunks..].iter().map(Bytes::len).sum::<usize>();
                taken.full = limits.bytes_max <= taken.bytes;
            }
            // What follows the last record is nobody's.
            _ if taken.full => {}
            _ => taken.end = header.next_offset(),
        }
    }

    /// Takes the records of a batch; the error is the offset at which reading had to stop.
    fn read(
        &mut self,
        batch: &Encoded,
        input: &Input,
        limits: &Limits,
        source: u16,
        taken: &mut Taken,
    ) -> Result<(), (i64, BatchError)> {
        let mut next = batch.header().base_offset;
        let payload = batch
            .payload(limits::DECOMPRESSED_BYTES_MAX)
            .map_err(|error| (next, error))?;
        let chunk = u32::try_from(self.chunks.len()).unwrap_or(u32::MAX);
        self.chunks.push(payload.bytes().clone());
        // What the header claims is bounded by what the run may take and by what the bytes could hold.
        let claimed = usize::try_from(batch.header().record_count).unwrap_or(0);
        let most = (limits.records_max as usize).min(payload.bytes().len() / RECORD_BYTES_MIN);
        taken.entries.reserve(claimed.min(most));
        for record in payload.records() {
            let record = record.map_err(|error| (next, error))?;
            next = record.offset + 1;
            if record.offset < input.from {
                continue;
            }
            let give_up = input.given_up(record.offset);
            let give_up = give_up.filter(|_| record.offset < input.until);
            if !taken.makes_room(&record, input, limits) {
                break;
            }
            let mut entry = || Entry::new(&record, payload.bytes(), (chunk, source), &mut self.headers);
            match give_up {
                None => taken.entries.push(entry()),
                Some(give_up) => taken.given_up.push(GivenUp {
                    entry: Some(entry()),
                    source,
                    give_up: give_up.clone(),
                }),
            }
        }
        Ok(())
    }

    fn merge(&mut self, inputs: &[(Vec<Entry>, usize)], limits: &Limits) {
        let mut heads = vec![0; inputs.len()];
        while self.records.len() < limits.records_max as usize {
            // What comes next of an input that is not wholly decoded may be older than what the others have.
            let unknown = |i: usize| {
                let (input, rest) = (&self.inputs[i], inputs[i].0.get(heads[i]));
                rest.is_none() && input.has_more && input.stopped.is_none()
            };
            if !self.records.is_empty() && (0..inputs.len()).any(unknown) {
                return;
            }
            let oldest = (0..inputs.len())
                .filter_map(|i| inputs[i].0.get(heads[i]))
                .min_by_key(|entry| (entry.timestamp, entry.source));
            let Some(entry) = oldest else { return };
            if !self.records.is_empty() && limits.bytes_max < self.bytes + entry.size as usize {
                return;
            }
            self.records.push(*entry);
            self.bytes += entry.size as usize;
            let source = usize::from(entry.source);
            self.inputs[source].delivered += 1;
            heads[source] += 1;
        }
    }
}

/// The shortest record: length, attributes, two deltas, no key, no value, no headers.
const RECORD_BYTES_MIN: usize = 7;

/// What was decoded of one input so far.
#[derive(Default)]
struct Taken {
    entries: Vec<Entry>,
    given_up: Vec<GivenUp>,
    bytes: usize,
    /// Next offset after it.
    end: i64,
    /// A limit was reached.
    full: bool,
    stopped: Option<Unreadable>,
}

impl Taken {
    /// Counts one more record, to be delivered or given up: both are in memory, and in the entry that this becomes. False when a limit leaves no
    /// room for it.
    #[inline]
    fn makes_room(&mut self, record: &Record<'_>, input: &Input, limits: &Limits) -> bool {
        let bytes = self.bytes + Entry::size(record);
        let count = self.entries.len() + self.given_up.len();
        let fits = count < limits.records_max as usize && bytes <= limits.bytes_max;
        if input.until <= record.offset || !fits && count != 0 {
            self.full = true;
            self.end = record.offset;
            return false;
        }
        self.bytes = bytes;
        true
    }
}

/// Looks for what this run gives up on.
trait GivesUp {
    fn given_up(&self, offset: i64) -> Option<&GiveUp>;
}

impl GivesUp for Input {
    fn given_up(&self, offset: i64) -> Option<&GiveUp> {
        let position = self
            .give_up
            .binary_search_by_key(&offset, |give_up| give_up.offset)
            .ok()?;
        Some(&self.give_up[position])
    }
}
