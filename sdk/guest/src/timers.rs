//! Durable timers of the current task. They are set, cancelled and fired with the commits of state and offsets, or not at all.
//!
//! ```
//! use tidemill_guest::prelude::*;
//!
//! /// Remembers when each key was last seen, and says so when it has been silent for a minute of event time.
//! fn process(batch: &Batch) -> Result<Ack, Error> {
//!     for record in batch {
//!         timers::event_time("silent", record.key_str()?, record.timestamp() + 60_000)?; // set again, it moves
//!     }
//!     Ok(Ack::All)
//! }
//!
//! fn on_timers(due: &[Timer]) -> Result<(), Error> {
//!     let mut out = Output::to("silent");
//!     for timer in due {
//!         out.push(Message::new().key(Some(&timer.key)).timestamp(timer.at));
//!     }
//!     out.send()
//! }
//!
//! tidemill_guest::module!(process, timers = on_timers);
//! # fn main() {}
//! ```
//!
//! A timer of event time fires when the watermark has passed it: when no record older than it is expected any more. That needs
//! `max-out-of-order` on an input in the manifest. One of the wall clock fires when the host's clock has passed it.
use crate::{error::Error, sys};

pub use crate::bindings::tidemill::processor::timers::{Clock, Timer};

/// Sets a timer by event time; one of the same name and key is moved.
///
/// # Errors
/// As [`set`].
pub fn event_time(name: &str, key: impl AsRef<[u8]>, at: i64) -> Result<(), Error> {
    set(&timer(Clock::EventTime, name, key.as_ref(), at))
}

/// Sets a timer by the host's clock; one of the same name and key is moved.
///
/// # Errors
/// As [`set`].
pub fn wall_clock(name: &str, key: impl AsRef<[u8]>, at: i64) -> Result<(), Error> {
    set(&timer(Clock::WallClock, name, key.as_ref(), at))
}

/// Sets a timer with all that it has. Clock, name and key say which; one that is set already is moved and gets the new payload.
///
/// # Errors
/// [`Error::Fatal`] when a quota is used up, or the manifest has no event time for a timer that needs it.
pub fn set(timer: &Timer) -> Result<(), Error> {
    sys::timer_set(timer).map_err(|e| refused(&timer.name, e))
}

/// Takes a timer back; whether it was set.
///
/// # Errors
/// [`Error::Fatal`] when a quota is used up.
pub fn cancel(clock: Clock, name: &str, key: impl AsRef<[u8]>) -> Result<bool, Error> {
    sys::timer_cancel(clock, name, key.as_ref()).map_err(|e| refused(name, e))
}

fn timer(clock: Clock, name: &str, key: &[u8], at: i64) -> Timer {
    Timer {
        clock,
        name: name.to_owned(),
        key: key.to_vec(),
        at,
        payload: Vec::new(),
    }
}

fn refused(name: &str, error: sys::TimerError) -> Error {
    Error::Fatal(match error {
        sys::TimerError::QuotaExceeded => {
            format!("the timer {name} does not fit in limits.state-bytes or limits.state-write-bytes")
        }
        sys::TimerError::Other(why) => format!("timer {name}: {why}"),
    })
}
