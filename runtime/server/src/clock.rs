//! The only place in the daemon that asks the machine for the time.
use std::{cell::Cell, time::Instant};

/// Milliseconds since the epoch.
#[allow(clippy::disallowed_methods, reason = "the daemon's one clock")]
pub(crate) fn wall_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// The node's time: the machine's, but for steps back. After one it goes on as time passes until the machine's has caught up, so that no
/// deadline waits for as long as the step was.
pub(crate) struct Clock(Cell<(i64, Instant)>);

impl Clock {
    /// A clock that agrees with the machine's.
    pub(crate) fn start() -> Self {
        Self(Cell::new((wall_ms(), instant())))
    }

    /// Milliseconds since the epoch; never less than before.
    pub(crate) fn now(&self) -> i64 {
        let (wall, at) = (wall_ms(), instant());
        let now = later(self.0.get(), wall, at);
        if now == wall {
            self.0.set((wall, at));
        }
        now
    }
}

fn later((ms, then): (i64, Instant), wall: i64, at: Instant) -> i64 {
    let passed = i64::try_from(at.saturating_duration_since(then).as_millis()).unwrap_or(i64::MAX);
    wall.max(ms.saturating_add(passed))
}

/// For measuring how long something took.
#[allow(clippy::disallowed_methods, reason = "the daemon's one clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_goes_on_while_the_machine_s_clock_is_behind() {
        let then = instant();
        let after = |ms| then + Duration::from_millis(ms);
        assert_eq!(later((5_000, then), 5_001, after(1)), 5_001);
        // Set back by four seconds.
        assert_eq!(later((5_000, then), 1_010, after(10)), 5_010);
        assert_eq!(later((5_000, then), 4_999, after(3_999)), 8_999);
        // Set forward, or caught up.
        assert_eq!(later((5_000, then), 60_000, after(10)), 60_000);
    }
}
