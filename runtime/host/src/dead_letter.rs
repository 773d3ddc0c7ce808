//! A record on its way to the dead-letter topic: as it was, with where it came from and why it was refused as headers after its own.
use tidemill_broker::module::run::{Coordinates, Run, dead_letter};
use tidemill_protocol::batch::RecordHeader;

use crate::{
    delivery::Delivery,
    entry::Entry,
    limits,
    log::cut,
    output::{Message, Outputs, Refused},
};

/// Headers of one dead letter.
#[derive(Debug)]
pub(crate) struct Letter {
    headers: [(&'static str, String); 8],
    now: i64,
}

impl Letter {
    /// For the record at these coordinates.
    pub(crate) fn new(run: &Run, at: &Coordinates, code: &str, reason: &str, attempt: u32) -> Self {
        let headers = [
            (dead_letter::TOPIC, at.topic.clone()),
            (dead_letter::PARTITION, at.partition.to_string()),
            (dead_letter::OFFSET, at.offset.to_string()),
            (dead_letter::CODE, cut(code, limits::FAILURE_TEXT_BYTES_MAX)),
            (dead_letter::REASON, cut(reason, limits::FAILURE_TEXT_BYTES_MAX)),
            (dead_letter::ATTEMPT, attempt.to_string()),
            (dead_letter::MODULE, run.task.module.clone()),
            (dead_letter::VERSION, run.version.label.clone()),
        ];
        Self { headers, now: run.now }
    }

    /// Adds the record to the outputs of a topic; without an entry (nothing of it could be read) key and value are null.
    pub(crate) fn put(
        &self,
        outputs: &mut Outputs,
        topic: &str,
        delivery: &Delivery,
        entry: Option<&Entry>,
    ) -> Result<(), Refused> {
        let index = outputs.topic(topic)?;
        let chunk = entry.map_or(&[][..], |entry| delivery.chunk(entry));
        let own = entry.map(|entry| delivery.headers(entry)).into_iter().flatten();
        let added = self.headers.iter().map(|(name, value)| RecordHeader {
            key: name.as_bytes(),
            value: Some(value.as_bytes()),
        });
        let message = Message {
            key: entry.and_then(|entry| entry.key.of(chunk)),
            value: entry.and_then(|entry| entry.value.of(chunk)),
            headers: own.chain(added),
            timestamp: entry.map_or(self.now, |entry| entry.timestamp),
            partition: None,
        };
        let mut check = outputs.check(index);
        check.record(&message)?;
        let letter = check.end();
        outputs.take(letter).push(message);
        Ok(())
    }
}
