//! Records to send. They leave with the commit of the batch, or not at all.
use crate::{
    error::Error,
    sys::{self, OutputColumns, SendError},
};

/// One record to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'m> {
    key: Option<&'m [u8]>,
    value: Option<&'m [u8]>,
    timestamp: Option<i64>,
    partition: Option<i32>,
    headers: &'m [(&'m str, Option<&'m [u8]>)],
}

impl<'m> Message<'m> {
    /// A record without key, value and headers.
    pub fn new() -> Message<'m> {
        Message::default()
    }

    /// Sets the key, `None` for a null key. The key's hash chooses the partition.
    pub fn key(self, key: Option<&'m [u8]>) -> Self {
        Message { key, ..self }
    }

    /// Sets the value, `None` for a tombstone.
    pub fn value(self, value: Option<&'m [u8]>) -> Self {
        Message { value, ..self }
    }

    /// Sets the timestamp, milliseconds; by default that of the newest record of the batch.
    pub fn timestamp(self, timestamp: i64) -> Self {
        Message {
            timestamp: Some(timestamp),
            ..self
        }
    }

    /// Sets the partition, instead of the hash of the key.
    pub fn partition(self, partition: i32) -> Self {
        Message {
            partition: Some(partition),
            ..self
        }
    }

    /// Sets the headers, in order; names may repeat.
    pub fn headers(self, headers: &'m [(&'m str, Option<&'m [u8]>)]) -> Self {
        Message { headers, ..self }
    }

    fn has_options(&self) -> bool {
        self.timestamp.is_some() || self.partition.is_some() || !self.headers.is_empty()
    }
}

/// Records gathered for one topic, kept as columns so that sending them costs a handful of lists whatever their number.
#[must_use = "records are sent by `send`"]
pub struct Output {
    topic: String,
    columns: OutputColumns,
    /// Whether a record had more than key and value.
    has_options: bool,
}

impl Output {
    /// An empty output for a topic that the manifest lists under `[[output]]`.
    pub fn to(topic: &str) -> Output {
        let columns = OutputColumns {
            key_lengths: Vec::new(),
            value_lengths: Vec::new(),
            timestamps: Vec::new(),
            partitions: Vec::new(),
            header_counts: Vec::new(),
            header_lengths: Vec::new(),
            data: Vec::new(),
        };
        Output {
            topic: topic.to_owned(),
            columns,
            has_options: false,
        }
    }

    /// Number of records gathered.
    pub fn len(&self) -> usize {
        self.columns.key_lengths.len()
    }

    /// Whether nothing was gathered.
    pub fn is_empty(&self) -> bool {
        self.columns.key_lengths.is_empty()
    }

    /// Adds a record.
    #[inline]
    pub fn push(&mut self, message: Message<'_>) {
        let before = self.len();
        let columns = &mut self.columns;
        columns.key_lengths.push(field(&mut columns.data, message.key));
        columns.value_lengths.push(field(&mut columns.data, message.value));
        if self.has_options || message.has_options() {
            self.push_options(before, &message);
        }
    }

    /// What most records do not have.
    #[cold]
    fn push_options(&mut self, before: usize, message: &Message<'_>) {
        self.has_options = true;
        let columns = &mut self.columns;
        optional(&mut columns.timestamps, before, message.timestamp, NO_TIMESTAMP);
        optional(&mut columns.partitions, before, message.partition, -1);
        let headers = (!message.headers.is_empty()).then(|| u16::try_from(message.headers.len()).unwrap_or(u16::MAX));
        optional(&mut columns.header_counts, before, headers, 0);
        for (name, value) in message.headers.iter().take(usize::from(u16::MAX)) {
            columns
                .header_lengths
                .push(field(&mut columns.data, Some(name.as_bytes())));
            columns.header_lengths.push(field(&mut columns.data, *value));
        }
    }

    /// Adds a record whose value is JSON.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the value cannot be written as JSON.
    pub fn push_json<T: serde::Serialize>(&mut self, key: Option<&[u8]>, value: &T) -> Result<(), Error> {
        let value = serde_json::to_vec(value).map_err(Error::fatal)?;
        self.push(Message::new().key(key).value(Some(&value)));
        Ok(())
    }

    /// Hands the records to the host, which appends them with the commit of this call.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the topic does not exist, is not granted by the manifest, or a limit is used up.
    pub fn send(self) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        sys::send_columns(&self.topic, &self.columns).map_err(|e| refused(&self.topic, &e))
    }
}

/// In the timestamps column: the host's default. Kafka's own word for "no timestamp".
const NO_TIMESTAMP: i64 = -1;

/// A column stays empty until a record needs it; the records before get the default.
fn optional<T: Copy>(column: &mut Vec<T>, before: usize, value: Option<T>, default: T) {
    match value {
        None if column.is_empty() => {}
        None => column.push(default),
        Some(value) => {
            column.resize(before, default);
            column.push(value);
        }
    }
}

#[inline]
fn field(data: &mut Vec<u8>, bytes: Option<&[u8]>) -> i32 {
    let Some(bytes) = bytes else { return -1 };
    data.extend_from_slice(bytes);
    i32::try_from(bytes.len()).expect("a field is smaller than linear memory")
}

/// A refused output is a matter for the operator: the manifest or a limit must change.
pub(crate) fn refused(topic: &str, error: &SendError) -> Error {
    Error::Fatal(match error {
        SendError::NoSuchTopic(topic) => format!("the topic {topic} does not exist: create it"),
        SendError::AccessDenied(topic) => format!("the manifest does not grant {topic}: add it as an [[output]]"),
        SendError::TooLarge => format!("a record is larger than {topic} allows (max.message.bytes)"),
        SendError::QuotaExceeded => format!("more output for {topic} than limits.output-bytes allows in one call"),
        SendError::Other(why) => format!("cannot send to {topic}: {why}"),
    })
}
