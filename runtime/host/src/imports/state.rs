//! `state`: the task's buckets, its own writes over what is committed.
use bytes::Bytes;
use wasmtime::component::Resource;

use crate::{
    bindings::tidemill::processor::state::{Error, Host, HostBucket, KeyRange, ScanPage},
    call::{Call, Guest, Stop},
    limits,
    overlay::{self, Committed, Overlay, Quota, Refused},
};

/// A bucket as the guest holds it: its position among the buckets that the manifest declares.
#[allow(unreachable_pub, reason = "the generated bindings re-export it within the crate")]
#[derive(Debug)]
pub struct Bucket;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for Guest {
    fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        let call = self.call();
        call.has_state()?;
        let Some(position) = call.run.buckets.iter().position(|bucket| bucket.name == identifier) else {
            call.hit(format!(
                "bucket `{}` is not declared: add `[state.{0}]` to the manifest",
                crate::log::cut(&identifier, 100)
            ));
            return Ok(Err(Error::NoSuchStore));
        };
        Ok(Ok(Resource::new_own(u32::try_from(position)?)))
    }
}

impl HostBucket for Guest {
    fn get(&mut self, bucket: Resource<Bucket>, key: Vec<u8>) -> Answer<Option<Vec<u8>>> {
        let (overlay, committed, _) = parts(self.call(), &bucket)?;
        Ok(Ok(overlay.get(committed, &key).map(Vec::from)))
    }

    fn get_many(&mut self, bucket: Resource<Bucket>, keys: Vec<Vec<u8>>) -> Answer<Vec<Option<Vec<u8>>>> {
        let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for keys in keys.chunks(64) {
            self.call().check_time()?;
            let (overlay, committed, _) = parts(self.call(), &bucket)?;
            for key in keys {
                let value = overlay.get(committed, key).map(Vec::from);
                bytes += value.as_ref().map_or(0, Vec::len);
                values.push(value);
            }
            if limits::HOST_CALL_BYTES_MAX < bytes {
                return Ok(Err(Error::Other(format!(
                    "the answer is larger than {} bytes: ask for fewer keys",
                    limits::HOST_CALL_BYTES_MAX
                ))));
            }
        }
        Ok(Ok(values))
    }

    fn set(&mut self, bucket: Resource<Bucket>, key: Vec<u8>, value: Vec<u8>) -> Answer<()> {
        self.write(&bucket, [(key, Some(value))])
    }

    fn set_many(&mut self, bucket: Resource<Bucket>, entries: Vec<(Vec<u8>, Vec<u8>)>) -> Answer<()> {
        self.write(&bucket, entries.into_iter().map(|(key, value)| (key, Some(value))))
    }

    fn delete(&mut self, bucket: Resource<Bucket>, key: Vec<u8>) -> Answer<()> {
        self.write(&bucket, [(key, None)])
    }

    fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<Vec<u8>>) -> Answer<()> {
        self.write(&bucket, keys.into_iter().map(|key| (key, None)))
    }

    fn delete_range(&mut self, bucket: Resource<Bucket>, range: KeyRange) -> Answer<u64> {
        let call = self.call();
        let deadline = call.deadline();
        let go_on = || crate::clock::now() < deadline;
        let (overlay, committed, quota) = parts(call, &bucket)?;
        let deleted = overlay.delete_range(committed, range.into(), quota, go_on);
        call.check_time()?;
        Ok(deleted.map_err(|refused| self.refuse(refused)))
    }

    fn exists(&mut self, bucket: Resource<Bucket>, key: Vec<u8>) -> Answer<bool> {
        let (overlay, committed, _) = parts(self.call(), &bucket)?;
        Ok(Ok(overlay.get(committed, &key).is_some()))
    }

    fn scan(
        &mut self,
        bucket: Resource<Bucket>,
        range: KeyRange,
        max_entries: u32,
        max_bytes: u32,
    ) -> Answer<ScanPage> {
        let entries_max = (max_entries as usize).clamp(1, limits::SCAN_ENTRIES_MAX);
        let bytes_max = (max_bytes as usize).min(limits::SCAN_BYTES_MAX);
        let (overlay, committed, _) = parts(self.call(), &bucket)?;
        let page = overlay.scan(committed, &range.into(), entries_max, bytes_max);
        let length = |bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Ok(Ok(ScanPage {
            key_lengths: page.entries.iter().map(|(key, _)| length(key)).collect(),
            value_lengths: page.entries.iter().map(|(_, value)| length(value)).collect(),
            data: page
                .entries
                .iter()
                .flat_map(|(key, value)| [key, value])
                .flatten()
                .copied()
                .collect(),
            next: page.next,
        }))
    }

    fn increment(&mut self, bucket: Resource<Bucket>, key: Vec<u8>, delta: i64) -> Answer<i64> {
        let (overlay, committed, quota) = parts(self.call(), &bucket)?;
        let sum = overlay.increment(committed, key.into(), delta, quota);
        Ok(sum.map_err(|refused| self.refuse(refused)))
    }

    fn drop(&mut self, _bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl Guest {
    fn write(
        &mut self,
        bucket: &Resource<Bucket>,
        writes: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
    ) -> Answer<()> {
        let call = self.call();
        let deadline = call.deadline();
        let (overlay, committed, quota) = parts(call, bucket)?;
        for (n, (key, value)) in writes.into_iter().enumerate() {
            // What a write replaces may have to be read, and an epoch does not interrupt the host.
            if n % 64 == 63 && deadline <= crate::clock::now() {
                return Err(Stop::Timeout.into());
            }
            let written = overlay.write(committed, key.into(), value.map(Bytes::from), quota);
            if let Err(refused) = written {
                return Ok(Err(self.refuse(refused)));
            }
        }
        Ok(Ok(()))
    }

    fn refuse(&mut self, refused: Refused) -> Error {
        match refuse(self.call(), refused) {
            None => Error::QuotaExceeded,
            Some(why) => Error::Other(why),
        }
    }
}

/// Says which quota refused a write; `None` for the quotas, otherwise what is wrong with the write.
pub(super) fn refuse(call: &mut Call, refused: Refused) -> Option<String> {
    Some(match refused {
        Refused::Writes => {
            let most = call.quota.max;
            call.hit(format!(
                "state writes of this call are over `limits.state-write-bytes` = {most}"
            ));
            return None;
        }
        Refused::State => {
            let (number, most) = (call.run.task.number, call.quota.state_max);
            call.hit(format!(
                "state of task {number} would be over `limits.state-bytes` = {most}"
            ));
            return None;
        }
        Refused::KeyTooLarge => format!("a key is larger than {} bytes", limits::STATE_KEY_BYTES_MAX),
        Refused::ValueTooLarge => format!("a value is larger than {} bytes", limits::STATE_VALUE_BYTES_MAX),
        Refused::NotACounter => "the value is not a counter: it is not 8 bytes long".into(),
        Refused::Overflow => "the counter would overflow".into(),
    })
}

type Parts<'a> = (&'a mut Overlay, Committed<'a>, &'a mut Quota);

fn parts<'a>(call: &'a mut Call, bucket: &Resource<Bucket>) -> Result<Parts<'a>, Stop> {
    call.has_state()?;
    let position = bucket.rep() as usize;
    let committed = Committed {
        reader: call.reader.as_ref(),
        task: &call.run.task,
        bucket: &call.run.buckets[position].rows,
    };
    Ok((&mut call.buckets[position], committed, &mut call.quota))
}

impl From<KeyRange> for overlay::KeyRange {
    fn from(range: KeyRange) -> Self {
        Self {
            start: range.start,
            end: range.end,
            reverse: range.reverse,
        }
    }
}
