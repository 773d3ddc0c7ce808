//! Says when records are due: a thread that sleeps exactly and does nothing else.
use std::time::Duration;

use tokio::sync::mpsc;

use super::super::Problem;
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

    /// The first of them, and the others.
    pub(super) fn split(self, count_max: u64) -> (Due, Option<Due>) {
        let count = self.count.min(count_max);
        let (first, left) = (self.first + count, self.count - count);
        let later = Due {
            first,
            count: left,
            ..self
        };
        (Due { count, ..self }, (0 < left).then_some(later))
    }
}

/// Nanoseconds from the first record to this one.
fn at(number: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(number) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX)
}

/// Starts the thread. What is due comes without a bound: whoever cannot follow has to answer for it.
pub(super) fn start(plan: &Plan) -> Result<mpsc::UnboundedReceiver<Due>, Problem> {
    let (to, due) = mpsc::unbounded_channel();
    let plan = plan.clone();
    let pace = move || {
        sharpen();
        let begun = plan.now();
        let mut first = 0;
        while first < plan.records {
            let next = begun + at(first, plan.rate);
            let now = plan.now();
            if now < next {
                std::thread::park_timeout(Duration::from_nanos(next - now));
                continue;
            }
            let elapsed = u128::from(now - begun);
            let reached = u64::try_from(elapsed * u128::from(plan.rate) / 1_000_000_000).unwrap_or(u64::MAX) + 1;
            let count = reached.min(plan.records) - first;
            let sent = to.send(Due {
                first,
                count,
                begun,
                rate: plan.rate,
            });
            if sent.is_err() {
                return;
            }
            first += count;
        }
    };
    std::thread::Builder::new().name("pacer".into()).spawn(pace)?;
    Ok(due)
}

/// Linux wakes a sleeper up to 50 microseconds late to save power, unless the thread asks it not to.
fn sharpen() {
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let Some(id) = thread.as_deref().and_then(std::path::Path::file_name) else {
        return;
    };
    // Where it cannot be set, records are sent a little late, and that is measured.
    let _ = std::fs::write(std::path::Path::new("/proc").join(id).join("timerslack_ns"), "1");
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
        let (one, other) = due.split(1);
        assert_eq!(
            one.records().chain(other.unwrap().records()).collect::<Vec<_>>(),
            [(2, 3000), (3, 4000)]
        );
        assert_eq!(due.split(2), (due, None));
    }
}
