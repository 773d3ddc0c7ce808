//! `timers`: durable timers of the task, in the same commit as its state.
use tidemill_broker::module::timer_row::{self, Id};
use tidemill_protocol::manifest;

use super::state::refuse;
use crate::{
    bindings::tidemill::processor::timers::{Clock, Error, Host, Timer},
    call::{Call, Guest},
    limits,
    overlay::{Overlay, Refused},
    timers,
};

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for Guest {
    fn set(&mut self, timer: Timer) -> Answer<()> {
        let call = self.tasked()?;
        if let Err(error) = check(call, &timer) {
            return Ok(Err(error));
        }
        let Timer {
            clock,
            name,
            key,
            at,
            payload,
        } = timer;
        let id = Id {
            clock: clock.into(),
            name: &name,
            key: &key,
        };
        let committed = timers::committed(call.reader.as_ref(), &call.run.task);
        let overlay = call.timers.get_or_insert_default();
        let set = timers::set(overlay, committed, (id, at), payload, &mut call.quota);
        Ok(set.map_err(|refused| self.refuse_timer(refused)))
    }

    fn cancel(&mut self, clock: Clock, name: String, key: Vec<u8>) -> Answer<bool> {
        let call = self.tasked()?;
        if timer_row::NAME_BYTES_MAX < name.len() {
            return Ok(Ok(false));
        }
        let id = Id {
            clock: clock.into(),
            name: &name,
            key: &key,
        };
        let committed = timers::committed(call.reader.as_ref(), &call.run.task);
        let overlay = call.timers.get_or_insert_with(Overlay::default);
        let cancelled = timers::cancel(overlay, committed, id, &mut call.quota);
        Ok(cancelled.map_err(|refused| self.refuse_timer(refused)))
    }
}

impl Guest {
    fn refuse_timer(&mut self, refused: Refused) -> Error {
        match refuse(self.call(), refused) {
            None => Error::QuotaExceeded,
            Some(why) => Error::Other(why),
        }
    }
}

fn check(call: &mut Call, timer: &Timer) -> Result<(), Error> {
    let refused = |call: &mut Call, why: &str| {
        call.hit(why.to_owned());
        Err(Error::Other(why.to_owned()))
    };
    if !call.handles_timers {
        return refused(
            call,
            "a timer is set, but the component does not export `timer-handler`",
        );
    }
    if timer.clock == Clock::EventTime && call.run.event_time.is_none() {
        return refused(
            call,
            "an event-time timer is set, but the module has no event time: give an `[[input]]` `max-out-of-order`",
        );
    }
    if timer_row::NAME_BYTES_MAX < timer.name.len() {
        let most = timer_row::NAME_BYTES_MAX;
        return Err(Error::Other(format!("the name of a timer is longer than {most} bytes")));
    }
    if limits::TIMER_PAYLOAD_BYTES_MAX < timer.payload.len() {
        let most = limits::TIMER_PAYLOAD_BYTES_MAX;
        return Err(Error::Other(format!(
            "the payload of a timer is larger than {most} bytes"
        )));
    }
    Ok(())
}

impl From<Clock> for manifest::Clock {
    fn from(clock: Clock) -> Self {
        match clock {
            Clock::EventTime => Self::EventTime,
            Clock::WallClock => Self::WallClock,
        }
    }
}

impl From<manifest::Clock> for Clock {
    fn from(clock: manifest::Clock) -> Self {
        match clock {
            manifest::Clock::EventTime => Self::EventTime,
            manifest::Clock::WallClock => Self::WallClock,
        }
    }
}
