//! Says when records are due, to within microseconds.
use std::io;
use std::time::Duration;

#[cfg(target_os = "linux")]
use tokio::io::unix::AsyncFd;

use super::Plan;

/// Records that are due from one moment on: the first and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    first: u64,
    pub(super) count: u64,
    begun: u64,
    rate: u64,
}

impl Due {
    /// Number and time of each, in nanoseconds since the origin.
    pub(super) fn records(self) -> impl Iterator<Item = (u64, u64)> {
        (self.first..self.first + self.count).map(move |number| (number, self.begun + at(number, self.rate)))
    }
}

/// Nanoseconds from the first record to this one.
fn at(number: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(number) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX)
}

/// What is due gathers while nobody asks: whoever cannot follow has to answer for it.
pub(super) struct Pacer<'a> {
    plan: &'a Plan,
    alarm: Alarm,
    begun: u64,
    /// The next to be due.
    first: u64,
}

impl<'a> Pacer<'a> {
    /// The first record is due now. It must be driven on the runtime on which it is called.
    pub(super) fn start(plan: &'a Plan) -> io::Result<Self> {
        Ok(Self {
            plan,
            alarm: Alarm::new()?,
            begun: plan.now(),
            first: 0,
        })
    }

    /// The next that are due, as soon as there are any, but no more than so many; `None` after the last. Dropping the future before it is
    /// ready loses nothing.
    pub(super) async fn due(&mut self, count_max: u64) -> io::Result<Option<Due>> {
        let rate = self.plan.rate;
        while self.first < self.plan.records {
            let (now, next) = (self.plan.now(), self.begun + at(self.first, rate));
            if now < next {
                self.alarm.wait(Duration::from_nanos(next - now)).await?;
                continue;
            }
            let elapsed = u128::from(now - self.begun);
            let reached = u64::try_from(elapsed * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX) + 1;
            let due = Due {
                first: self.first,
                count: (reached.min(self.plan.records) - self.first).min(count_max),
                begun: self.begun,
                rate,
            };
            self.first += due.count;
            return Ok(Some(due));
        }
        Ok(None)
    }
}

/// A timer of the system's: the runtime's own are late by up to a millisecond.
#[cfg(target_os = "linux")]
struct Alarm(AsyncFd<std::os::fd::OwnedFd>);

#[cfg(target_os = "linux")]
impl Alarm {
    fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        #[expect(
            deprecated,
            reason = "a descriptor that is owned is all that the unsafe form asks for"
        )]
        let timer = AsyncFd::with_interest(timer, tokio::io::Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// May end early.
    async fn wait(&self, time: Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(time).map_err(io::Error::other)?,
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        // How often it went off need not be read: setting it forgets that.
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

/// Elsewhere records are sent up to a millisecond late, and that is measured.
#[cfg(not(target_os = "linux"))]
struct Alarm;

#[cfg(not(target_os = "linux"))]
impl Alarm {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn wait(&self, time: Duration) -> io::Result<()> {
        tokio::time::sleep(time).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_even_distances() {
        let due = Due {
            first: 2,
            count: 2,
            begun: 1000,
            rate: 1_000_000,
        };
        assert_eq!(due.records().collect::<Vec<_>>(), [(2, 3000), (3, 4000)]);
    }
}
