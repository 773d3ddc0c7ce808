//! Faults on purpose: lose a request on its way out, or a response on its way in.
//!
//! The delivery guarantees are statements about lost messages, and only a lost message shows whether they hold, in our
//! tests and in yours. A lost message looks to the client like what it is in practice: the stream ends before the
//! answer. Nothing here costs anything when no faults are set.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_protocol::api::ApiKey;

/// What happens to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes its way.
    Deliver,
    /// It disappears, and its stream breaks.
    Lose,
}

/// Decides over every message of a client. Calls come from several tasks.
pub trait Faults: Send + Sync + 'static {
    /// A request about to be written.
    fn request(&self, _api: ApiKey) -> Fate {
        Fate::Deliver
    }

    /// A response just read: the broker has done what was asked.
    fn response(&self, _api: ApiKey) -> Fate {
        Fate::Deliver
    }
}

/// Loses messages of one API by their number, counted from 1 over the client's life.
#[derive(Debug)]
pub struct LoseNth {
    api: ApiKey,
    requests: Mutex<Vec<u64>>,
    responses: Mutex<Vec<u64>>,
    requests_seen: AtomicU64,
    responses_seen: AtomicU64,
}

impl LoseNth {
    /// Loses the requests and the responses of `api` with these numbers.
    pub fn new(api: ApiKey, requests: impl Into<Vec<u64>>, responses: impl Into<Vec<u64>>) -> LoseNth {
        LoseNth {
            api,
            requests: Mutex::new(requests.into()),
            responses: Mutex::new(responses.into()),
            requests_seen: AtomicU64::new(0),
            responses_seen: AtomicU64::new(0),
        }
    }

    /// Loses the responses of `api` whose number is in `numbers`: the first, with `[1]`.
    pub fn responses(api: ApiKey, numbers: impl Into<Vec<u64>>) -> LoseNth {
        LoseNth::new(api, Vec::new(), numbers)
    }

    /// Loses the requests of `api` whose number is in `numbers`.
    pub fn requests(api: ApiKey, numbers: impl Into<Vec<u64>>) -> LoseNth {
        LoseNth::new(api, numbers, Vec::new())
    }

    /// How many requests and responses of the API passed by so far, lost ones included.
    pub fn seen(&self) -> (u64, u64) {
        (
            self.requests_seen.load(Ordering::Relaxed),
            self.responses_seen.load(Ordering::Relaxed),
        )
    }

    fn fate(&self, api: ApiKey, seen: &AtomicU64, lost: &Mutex<Vec<u64>>) -> Fate {
        if api != self.api {
            return Fate::Deliver;
        }
        let number = seen.fetch_add(1, Ordering::Relaxed) + 1;
        let lost = lost.lock().expect("no panic while the list is held");
        if lost.contains(&number) {
            Fate::Lose
        } else {
            Fate::Deliver
        }
    }
}

impl Faults for LoseNth {
    fn request(&self, api: ApiKey) -> Fate {
        self.fate(api, &self.requests_seen, &self.requests)
    }

    fn response(&self, api: ApiKey) -> Fate {
        self.fate(api, &self.responses_seen, &self.responses)
    }
}
