//! `records`: the input batch, as columns or record by record.
//!
//! There is one batch in a call and a guest cannot keep its handle beyond it, so the handle stands for "the batch of this call".
use tidemill_protocol::batch::RecordHeader;
use wasmtime::{bail, component::Resource};

use crate::{
    bindings::tidemill::processor::{
        records::{self, Columns, InputRecord, Projection},
        types::{Header, Source},
    },
    call::Guest,
    delivery::Delivery,
    entry::Entry,
};

impl records::Host for Guest {}

impl records::HostBatch for Guest {
    fn len(&mut self, _batch: Resource<Delivery>) -> wasmtime::Result<u32> {
        Ok(u32::try_from(self.call().delivery.len())?)
    }

    fn sources(&mut self, _batch: Resource<Delivery>) -> wasmtime::Result<Vec<Source>> {
        Ok(self
            .call()
            .delivery
            .sources()
            .map(|(topic, partition)| Source {
                topic: topic.to_owned(),
                partition,
            })
            .collect())
    }

    fn read(
        &mut self,
        _batch: Resource<Delivery>,
        first: u32,
        max_records: u32,
        max_bytes: u32,
        what: Projection,
    ) -> wasmtime::Result<Columns> {
        let delivery = &self.call().delivery;
        let Some(from_first) = delivery.records().get(first as usize..) else {
            bail!("batch.read: record {first} of a batch of {}", delivery.len());
        };
        let wanted = &from_first[..from_first.len().min(max_records as usize)];
        let (count, bytes) = fitting(wanted, max_bytes as usize, what);
        Ok(columns(delivery, &wanted[..count], bytes, what))
    }

    fn headers(&mut self, _batch: Resource<Delivery>, index: u32) -> wasmtime::Result<Vec<Header>> {
        let delivery = &self.call().delivery;
        Ok(headers(delivery, record(delivery, index)?.0))
    }

    fn get(&mut self, _batch: Resource<Delivery>, index: u32) -> wasmtime::Result<InputRecord> {
        let delivery = &self.call().delivery;
        let (entry, chunk) = record(delivery, index)?;
        let (topic, partition) = delivery
            .sources()
            .nth(usize::from(entry.source))
            .expect("every record has a source");
        Ok(InputRecord {
            topic: topic.to_owned(),
            partition,
            offset: entry.offset.cast_unsigned(),
            timestamp: entry.timestamp,
            key: entry.key.of(chunk).map(<[u8]>::to_vec),
            value: entry.value.of(chunk).map(<[u8]>::to_vec),
            headers: headers(delivery, entry),
        })
    }

    fn drop(&mut self, _batch: Resource<Delivery>) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// How many records fit (at least one), and the bytes of their projection.
fn fitting(records: &[Entry], bytes_max: usize, what: Projection) -> (usize, usize) {
    let mut bytes = 0;
    for (count, entry) in records.iter().enumerate() {
        let size = projected(entry.key.length(), what, Projection::KEYS)
            + projected(entry.value.length(), what, Projection::VALUES);
        if count != 0 && bytes_max < bytes + size {
            return (count, bytes);
        }
        bytes += size;
    }
    (records.len(), bytes)
}

fn projected(length: i32, what: Projection, part: Projection) -> usize {
    if what.contains(part) {
        usize::try_from(length).unwrap_or(0)
    } else {
        0
    }
}

fn columns(delivery: &Delivery, records: &[Entry], bytes: usize, what: Projection) -> Columns {
    let mut data = Vec::with_capacity(bytes);
    for entry in records {
        let chunk = delivery.chunk(entry);
        if what.contains(Projection::KEYS) {
            data.extend_from_slice(entry.key.of(chunk).unwrap_or_default());
        }
        if what.contains(Projection::VALUES) {
            data.extend_from_slice(entry.value.of(chunk).unwrap_or_default());
        }
    }
    let several = delivery.sources().len() != 1;
    Columns {
        source_ids: if several {
            records.iter().map(|entry| entry.source).collect()
        } else {
            Vec::new()
        },
        offsets: records.iter().map(|entry| entry.offset.cast_unsigned()).collect(),
        timestamps: records.iter().map(|entry| entry.timestamp).collect(),
        key_lengths: records.iter().map(|entry| entry.key.length()).collect(),
        value_lengths: records.iter().map(|entry| entry.value.length()).collect(),
        header_counts: records
            .iter()
            .map(|entry| u16::try_from(entry.headers.1).unwrap_or(u16::MAX))
            .collect(),
        data,
    }
}

fn record(delivery: &Delivery, index: u32) -> wasmtime::Result<(&Entry, &[u8])> {
    match delivery.get(index as usize) {
        Some(record) => Ok(record),
        None => bail!("record {index} of a batch of {}", delivery.len()),
    }
}

fn headers(delivery: &Delivery, entry: &Entry) -> Vec<Header> {
    let header = |header: RecordHeader<'_>| Header {
        name: String::from_utf8_lossy(header.key).into_owned(),
        value: header.value.map(<[u8]>::to_vec),
    };
    delivery.headers(entry).map(header).collect()
}
