//! Control batches: the markers with which a transaction ends.

use bytes::Bytes;

use super::{Attributes, Builder, Payload, Producer, Record, header::Header};

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// The producer's open transaction is aborted.
    Abort,
    /// The producer's open transaction is committed.
    Commit,
    /// Something else, such as a leader change; to be skipped.
    Other(i16),
}

impl ControlType {
    /// Reads the type from a control record's key: version, then type.
    pub fn of(record: &Record<'_>) -> Option<Self> {
        let [_, _, high, low] = *record.key?.first_chunk::<4>()?;
        Some(match i16::from_be_bytes([high, low]) {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        })
    }

    const fn number(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(number) => number,
        }
    }
}

/// The marker that ends a transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Abort or commit.
    pub control_type: ControlType,
    /// Epoch of the transaction coordinator that wrote it.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// The whole control batch, base offset 0.
    pub fn to_batch(self, producer_id: i64, producer_epoch: i16, timestamp: i64) -> Bytes {
        let mut key = [0; 4];
        key[2..].copy_from_slice(&self.control_type.number().to_be_bytes());
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let attributes = Attributes {
            is_transactional: true,
            is_control: true,
            ..Attributes::default()
        };
        let mut builder = Builder::new();
        builder.attributes(attributes);
        builder.producer(Producer {
            id: producer_id,
            epoch: producer_epoch,
            base_sequence: -1,
        });
        builder.append(timestamp, Some(&key), Some(&value), core::iter::empty());
        builder.finish()
    }

    /// Reads the marker of a control batch; `None` if it is a batch of another kind.
    pub fn of(payload: &Payload) -> Option<Self> {
        let Header { attributes, .. } = payload.header();
        if !attributes.is_control {
            return None;
        }
        let record = payload.records().next()?.ok()?;
        let control_type = ControlType::of(&record)?;
        let [_, _, epoch @ ..] = *record.value?.first_chunk::<6>()?;
        match control_type {
            ControlType::Other(_) => None,
            _ => Some(Self {
                control_type,
                coordinator_epoch: i32::from_be_bytes(epoch),
            }),
        }
    }
}
