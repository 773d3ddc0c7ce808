//! `producer`: records out. Linked by hand, so that columns are read where the guest has them and only encoded, never copied before.
use tidemill_protocol::batch::RecordHeader;
use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Lift, Linker, Resource, WasmList},
};

use crate::{
    bindings::{
        PACKAGE, VERSION,
        tidemill::processor::{
            producer::{Error, OutputRecord},
            types::{Failure, Header},
        },
    },
    call::{Call, Guest},
    dead_letter::Letter,
    delivery::Delivery,
    log::cut,
    output::{Check, Forwarded, Message, Outputs, Refused},
};

type Answer = (Result<(), Error>,);

/// Offers the interface.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut producer = linker.instance(&format!("{PACKAGE}producer@{VERSION}"))?;
    producer.func_wrap(
        "send",
        |mut store: StoreContextMut<'_, Guest>, (topic, records): (String, Vec<OutputRecord>)| {
            Ok::<Answer, _>((send(store.data_mut().tasked()?, &topic, &records),))
        },
    )?;
    producer.func_wrap(
        "send-columns",
        |mut store: StoreContextMut<'_, Guest>, (topic, columns): (String, OutputColumns)| {
            // The columns lie in the guest's memory, which is part of the store: what is written to is taken out of it meanwhile.
            let call = store.data_mut().tasked()?;
            let (mut outputs, timestamp) = (std::mem::take(&mut call.outputs), call.timestamp());
            let sent = send_columns(&mut outputs, &topic, &columns.slices(&store), timestamp);
            let call = store.data_mut().call();
            call.outputs = outputs;
            Ok::<Answer, _>((sent.map_err(|unsent| unsent.report(call, &topic)),))
        },
    )?;
    producer.func_wrap(
        "forward",
        |mut store: StoreContextMut<'_, Guest>, (topic, _batch, indexes): (String, Resource<Delivery>, Vec<u32>)| {
            Ok::<Answer, _>((forward(store.data_mut().tasked()?, &topic, &indexes),))
        },
    )?;
    producer.func_wrap(
        "dead-letter",
        |mut store: StoreContextMut<'_, Guest>, (_batch, index, failure): (Resource<Delivery>, u32, Failure)| {
            Ok::<Answer, _>((dead_letter(store.data_mut().tasked()?, index, &failure),))
        },
    )
}

/// Why nothing of a request was sent.
enum Unsent {
    Refused(Refused),
    Malformed(&'static str),
}

impl From<Refused> for Unsent {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl Unsent {
    fn report(self, call: &mut Call, topic: &str) -> Error {
        let refused = match self {
            Self::Malformed(why) => return Error::Other(why.into()),
            Self::Refused(refused) => refused,
        };
        let name = cut(topic, 250);
        match refused {
            Refused::Denied => {
                call.hit(format!(
                    "topic `{name}` is not granted: add an `[[output]]` with `topic = \"{name}\"` to the manifest"
                ));
                Error::AccessDenied(topic.into())
            }
            Refused::NoSuchTopic => {
                call.hit(format!("topic `{name}` does not exist"));
                Error::NoSuchTopic(topic.into())
            }
            Refused::TooLarge => {
                call.hit(format!(
                    "a record is larger than a record batch of topic `{name}` may be (`max.message.bytes` of the topic)"
                ));
                Error::TooLarge
            }
            Refused::NoSuchPartition => Error::Other(format!("topic `{name}` has no such partition")),
            Refused::Quota => {
                call.hit(format!(
                    "the output of this call is over `limits.output-bytes` = {}",
                    call.run.limits.output_bytes_max
                ));
                Error::QuotaExceeded
            }
        }
    }
}

fn forward(call: &mut Call, topic: &str, indexes: &[u32]) -> Result<(), Error> {
    forward_to(&mut call.outputs, &call.delivery, topic, indexes).map_err(|unsent| unsent.report(call, topic))
}

fn forward_to(outputs: &mut Outputs, delivery: &Delivery, topic: &str, indexes: &[u32]) -> Result<(), Unsent> {
    let topic = outputs.topic(topic)?;
    let mut check = outputs.check(topic);
    for index in indexes {
        let entry = delivery.records().get(*index as usize);
        let entry = entry.ok_or(Unsent::Malformed("forward: no such record in the batch"))?;
        check.size(Forwarded::size(entry.encoded.bytes()))?;
    }
    let request = check.end();
    let topic = outputs.take(request);
    for (entry, chunk) in indexes.iter().filter_map(|index| delivery.get(*index as usize)) {
        let forwarded = Forwarded {
            timestamp: entry.timestamp,
            key: entry.key.of(chunk),
            encoded: entry.encoded.of(chunk).unwrap_or_default(),
        };
        topic.forward(&forwarded);
    }
    Ok(())
}

fn dead_letter(call: &mut Call, index: u32, failure: &Failure) -> Result<(), Error> {
    let Some(topic) = call.run.dead_letter.clone() else {
        call.hit("no dead-letter topic is declared: add `[dead-letter]` with `topic = ...` to the manifest".into());
        return Err(Error::Other("the manifest names no dead-letter topic".into()));
    };
    let (Some(at), Some((entry, _))) = (
        call.delivery.coordinates(index as usize),
        call.delivery.get(index as usize),
    ) else {
        return Err(Error::Other("dead-letter: no such record in the batch".into()));
    };
    let letter = Letter::new(&call.run, &at, &failure.code, &failure.reason, call.run.attempt);
    match letter.put(&mut call.outputs, &topic, &call.delivery, Some(entry)) {
        Ok(()) => call.given_up += 1,
        Err(refused) => return Err(Unsent::Refused(refused).report(call, &topic)),
    }
    Ok(())
}

fn send(call: &mut Call, topic: &str, records: &[OutputRecord]) -> Result<(), Error> {
    let timestamp = call.timestamp();
    send_records(&mut call.outputs, topic, records, timestamp).map_err(|unsent| unsent.report(call, topic))
}

fn send_records(outputs: &mut Outputs, topic: &str, records: &[OutputRecord], timestamp: i64) -> Result<(), Unsent> {
    let topic = outputs.topic(topic)?;
    let mut check = outputs.check(topic);
    for record in records {
        check.record(&message(record, timestamp))?;
    }
    let request = check.end();
    let topic = outputs.take(request);
    for record in records {
        topic.push(message(record, timestamp));
    }
    Ok(())
}

fn message(record: &OutputRecord, timestamp: i64) -> Message<'_, impl Iterator<Item = RecordHeader<'_>> + Clone> {
    fn header(header: &Header) -> RecordHeader<'_> {
        RecordHeader {
            key: header.name.as_bytes(),
            value: header.value.as_deref(),
        }
    }
    Message {
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: record.headers.iter().map(header),
        timestamp: record.timestamp.unwrap_or(timestamp),
        partition: record.partition,
    }
}

/// `output-columns` as the guest has them.
#[derive(ComponentType, Lift)]
#[component(record)]
struct OutputColumns {
    #[component(name = "key-lengths")]
    key_lengths: WasmList<i32>,
    #[component(name = "value-lengths")]
    value_lengths: WasmList<i32>,
    timestamps: WasmList<i64>,
    partitions: WasmList<i32>,
    #[component(name = "header-counts")]
    header_counts: WasmList<u16>,
    #[component(name = "header-lengths")]
    header_lengths: WasmList<i32>,
    data: WasmList<u8>,
}

impl OutputColumns {
    fn slices<'a>(&self, store: &'a StoreContextMut<'_, Guest>) -> Columns<'a> {
        Columns {
            key_lengths: self.key_lengths.as_le_slice(store),
            value_lengths: self.value_lengths.as_le_slice(store),
            timestamps: self.timestamps.as_le_slice(store),
            partitions: self.partitions.as_le_slice(store),
            header_counts: self.header_counts.as_le_slice(store),
            header_lengths: self.header_lengths.as_le_slice(store),
            data: self.data.as_le_slice(store),
        }
    }
}

/// The same as slices of the guest's memory; their numbers are little endian.
struct Columns<'a> {
    key_lengths: &'a [i32],
    value_lengths: &'a [i32],
    timestamps: &'a [i64],
    partitions: &'a [i32],
    header_counts: &'a [u16],
    header_lengths: &'a [i32],
    data: &'a [u8],
}

/// Headers of one record of the columns: lengths of name and value by turns, and their bytes.
#[derive(Clone, Debug)]
struct ColumnHeaders<'a> {
    lengths: &'a [i32],
    data: &'a [u8],
}

fn send_columns(outputs: &mut Outputs, topic: &str, columns: &Columns<'_>, timestamp: i64) -> Result<(), Unsent> {
    let topic = outputs.topic(topic)?;
    let mut check = outputs.check(topic);
    columns.check(&mut check)?;
    let request = check.end();
    let topic = outputs.take(request);
    let mut rest = Rest {
        data: columns.data,
        header_lengths: columns.header_lengths,
    };
    for i in 0..columns.key_lengths.len() {
        topic.push(rest.record(columns, i, timestamp).ok_or(MISFIT)?);
    }
    Ok(())
}

/// What the check finds; after it, every record can be taken.
const MISFIT: Unsent = Unsent::Malformed("lengths do not fit the data");

impl Columns<'_> {
    /// Whether the columns fit together, and the records the topic: lengths say it, the data is not touched.
    fn check(&self, check: &mut Check<'_>) -> Result<(), Unsent> {
        let count = self.key_lengths.len();
        let fits = |length: usize| length == count || length == 0;
        if self.value_lengths.len() != count
            || !fits(self.timestamps.len())
            || !fits(self.partitions.len())
            || !fits(self.header_counts.len())
        {
            return Err(Unsent::Malformed("columns of different lengths"));
        }
        let (mut data, mut header_lengths) = (0, self.header_lengths);
        for i in 0..count {
            let mut bytes = field_bytes(self.key_lengths[i])? + field_bytes(self.value_lengths[i])?;
            let headers = self.header_count(i);
            for header in header_lengths.split_off(..headers * 2).ok_or(MISFIT)?.chunks_exact(2) {
                // A header has a name; only its value may be null.
                bytes += usize::try_from(i32::from_le(header[0])).map_err(|_| MISFIT)? + field_bytes(header[1])?;
            }
            check.encoded(self.partition(i), bytes, headers)?;
            data += bytes;
        }
        if data == self.data.len() && header_lengths.is_empty() {
            Ok(())
        } else {
            Err(MISFIT)
        }
    }

    fn header_count(&self, i: usize) -> usize {
        self.header_counts
            .get(i)
            .map_or(0, |count| usize::from(u16::from_le(*count)))
    }

    fn partition(&self, i: usize) -> Option<u32> {
        let partition = self.partitions.get(i)?;
        u32::try_from(i32::from_le(*partition)).ok()
    }
}

/// Bytes of a field; -1 is null and has none, anything below an error.
fn field_bytes(length: i32) -> Result<usize, Unsent> {
    match i32::from_le(length) {
        -1 => Ok(0),
        length => usize::try_from(length).map_err(|_| MISFIT),
    }
}

impl<'a> Iterator for ColumnHeaders<'a> {
    type Item = RecordHeader<'a>;

    /// Lengths and data were found to fit when the record was taken.
    fn next(&mut self) -> Option<Self::Item> {
        let lengths = self.lengths.split_off(..2)?;
        let key = take(&mut self.data, i32::from_le(lengths[0]))??;
        Some(RecordHeader {
            key,
            value: take(&mut self.data, i32::from_le(lengths[1]))?,
        })
    }
}

/// What is not taken yet of the columns that records have several entries in.
struct Rest<'a> {
    data: &'a [u8],
    header_lengths: &'a [i32],
}

impl<'a> Rest<'a> {
    #[inline(always)]
    fn record(&mut self, columns: &Columns<'a>, i: usize, timestamp: i64) -> Option<Message<'a, ColumnHeaders<'a>>> {
        let key = take(&mut self.data, i32::from_le(columns.key_lengths[i]))?;
        let value = take(&mut self.data, i32::from_le(columns.value_lengths[i]))?;
        let lengths = self.header_lengths.split_off(..columns.header_count(i) * 2)?;
        let bytes = lengths
            .iter()
            .map(|length| usize::try_from(i32::from_le(*length)).unwrap_or(0));
        Some(Message {
            key,
            value,
            headers: ColumnHeaders {
                lengths,
                data: self.data.split_off(..bytes.sum())?,
            },
            // -1 is Kafka's word for "no timestamp".
            timestamp: match columns.timestamps.get(i).map(|timestamp| i64::from_le(*timestamp)) {
                None | Some(-1) => timestamp,
                Some(timestamp) => timestamp,
            },
            partition: columns.partition(i),
        })
    }
}

/// Takes so many bytes off the front; -1 is null, anything below an error.
#[inline(always)]
fn take<'a>(data: &mut &'a [u8], length: i32) -> Option<Option<&'a [u8]>> {
    match length {
        -1 => Some(None),
        _ => Some(Some(data.split_off(..usize::try_from(length).ok()?)?)),
    }
}
