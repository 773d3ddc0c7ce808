//! How a key's open sessions are stored, and how one layout becomes the other.
//!
//! Layout 0 is JSON with the names of all fields. Layout 1, with the feature `compact`, leaves the names out: a session is a list. Events
//! are the same in both.
use tidemill_guest::prelude::*;

use super::Open;

#[cfg(feature = "compact")]
pub(crate) use compact::{Compact, read, write};
#[cfg(not(feature = "compact"))]
pub(crate) use named::{read, write};

mod named {
    use super::{Bucket, Error, Open};

    pub(crate) fn read(bucket: &Bucket, key: &[u8]) -> Result<Vec<Open>, Error> {
        Ok(bucket.get_json(key)?.unwrap_or_default())
    }

    #[cfg(not(feature = "compact"))]
    pub(crate) fn write(bucket: &Bucket, key: &[u8], sessions: &[Open]) -> Result<(), Error> {
        bucket.set_json(key, &sessions)
    }
}

#[cfg(feature = "compact")]
mod compact {
    use serde::{Deserialize, Serialize};

    use super::{Bucket, Error, Migrator, Open, Progress, context, named, state};
    use crate::Carried;

    /// Keys that a call of `migrate` rewrites, unless `[config]` says otherwise.
    const KEYS: u32 = 256;

    /// Start, end, count, events, carried: as in [`Open`].
    #[derive(Serialize, Deserialize)]
    struct Listed(i64, i64, u64, Vec<(i64, String)>, Carried);

    pub(crate) fn read(bucket: &Bucket, key: &[u8]) -> Result<Vec<Open>, Error> {
        let open = |Listed(start, end, count, events, carried)| Open {
            start,
            end,
            count,
            events,
            carried,
        };
        let listed: Vec<Listed> = bucket.get_json(key)?.unwrap_or_default();
        Ok(listed.into_iter().map(open).collect())
    }

    pub(crate) fn write(bucket: &Bucket, key: &[u8], sessions: &[Open]) -> Result<(), Error> {
        let listed = |open: &Open| {
            let Open {
                start,
                end,
                count,
                events,
                carried,
            } = open.clone();
            Listed(start, end, count, events, carried)
        };
        bucket.set_json(key, &sessions.iter().map(listed).collect::<Vec<_>>())
    }

    /// Takes over what layout 0 left.
    pub(crate) struct Compact;

    impl Migrator for Compact {
        const STATE_VERSION: u32 = 1;

        fn migrate(
            _task: &tidemill_guest::lifecycle::Task,
            from_version: u32,
            cursor: Option<Vec<u8>>,
        ) -> Result<Progress, Error> {
            if from_version != 0 {
                return Err(Error::fatal(format!("there is no way from layout {from_version}")));
            }
            let keys: u32 = context::config_or("migrate-keys", KEYS)?;
            let bucket = state::open("open")?;
            // One more than are rewritten: where to go on.
            let found = bucket.scan(&cursor.unwrap_or_default(), b"", keys.saturating_add(1))?;
            for (n, (key, _)) in (0..).zip(found) {
                if n == keys {
                    return Ok(Progress::More(key));
                }
                write(&bucket, &key, &named::read(&bucket, &key)?)?;
            }
            Ok(Progress::Done)
        }
    }
}
