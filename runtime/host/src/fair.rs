//! Whose run is next: deficit round robin between modules, by processor time. Pure: the lanes are in [`lanes`](crate::lanes), and so is the
//! clock.
//!
//! In a round every module is given [`QUANTUM_US`]. What a run took is charged when it ends, because nobody knows before. A module in debt waits
//! while another has credit; where nobody has, rounds pass until somebody does. So a module alone is never held up.
//!
//! A run is not interrupted in favour of another, and is one batch, at most `batch.timeout` long. What follows, for L lanes:
//! - Of two modules that always have runs waiting, none takes more than a quantum and L runs' time beyond the other, however long they go on.
//! - A module that comes back to lanes that are all taken waits until the first of those runs ends, not for what is queued behind them.
//! - Modules whose runs are long ([`LONG_US`]) take at most L - 1 lanes together while others, whose runs are short, have had one lately. A
//!   task has one batch in flight, so a module of one task has nothing waiting while its commit is written: without this, neighbours that spin
//!   would hold every lane each time it comes back.
use std::collections::{BTreeMap, VecDeque};

/// Processor time that each module is given in a round, microseconds.
const QUANTUM_US: i64 = 1_000;
/// A run of more than this is long, microseconds.
const LONG_US: i64 = 10_000;
/// A module is remembered until others have taken so much since its last run, microseconds.
const REMEMBERED_US: i64 = 1_000_000;

/// What waits, by module, and what each module has taken.
#[derive(Debug)]
pub(crate) struct Fair<T> {
    lanes: usize,
    accounts: BTreeMap<String, Account<T>>,
    /// Modules with something waiting, in turn.
    turns: VecDeque<String>,
    /// Everything charged so far, microseconds.
    charged_us: i64,
}

#[derive(Debug)]
struct Account<T> {
    waiting: VecDeque<T>,
    running: usize,
    /// What it may take still; below 0 it is in debt.
    credit_us: i64,
    /// Its longest run; that of long ago counts little.
    run_us: i64,
    /// [`Fair::charged_us`] when it last ended a run.
    seen_us: i64,
}

impl<T> Account<T> {
    fn is_long(&self) -> bool {
        LONG_US < self.run_us
    }

    /// Nobody saves up more than a quantum, beside what its runs are going to be charged.
    fn cap(&mut self) {
        let pending_us = i64::try_from(self.running)
            .unwrap_or(i64::MAX)
            .saturating_mul(self.run_us);
        self.credit_us = self.credit_us.min(QUANTUM_US.saturating_add(pending_us));
    }

    fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || self.running != 0
    }
}

impl<T> Fair<T> {
    /// Nothing waits; there are so many lanes.
    pub(crate) fn new(lanes: usize) -> Self {
        Self {
            lanes,
            accounts: BTreeMap::new(),
            turns: VecDeque::new(),
            charged_us: 0,
        }
    }

    /// Queues something behind what waits of its module.
    pub(crate) fn push(&mut self, module: &str, job: T) {
        let seen_us = self.charged_us;
        let account = self.accounts.entry(module.to_owned()).or_insert_with(|| Account {
            waiting: VecDeque::new(),
            running: 0,
            credit_us: QUANTUM_US,
            run_us: 0,
            seen_us,
        });
        if account.waiting.is_empty() {
            self.turns.push_back(module.to_owned());
        }
        account.waiting.push_back(job);
    }

    /// Takes out what is next, and whose it is. [`Fair::ended`] belongs to it.
    pub(crate) fn next(&mut self) -> Option<(String, T)> {
        self.pass_rounds()?;
        let takes_long = self.takes_long();
        let is_next = |module: &String| {
            let account = self.accounts.get(module);
            account.is_some_and(|account| 0 < account.credit_us && (takes_long || !account.is_long()))
        };
        let place = self.turns.iter().position(is_next)?;
        let module = self.turns.remove(place)?;
        let account = self.accounts.get_mut(&module)?;
        let job = account.waiting.pop_front()?;
        account.running += 1;
        if !account.waiting.is_empty() {
            self.turns.push_back(module.clone());
        }
        Some((module, job))
    }

    /// Whether a lane that is free would find something.
    pub(crate) fn has_next(&self) -> bool {
        self.best_credit().is_some()
    }

    /// Charges a module for what it took.
    pub(crate) fn ended(&mut self, module: &str, took_us: u64) {
        // Nothing is for free.
        let took_us = i64::try_from(took_us).unwrap_or(i64::MAX).clamp(1, 1 << 40);
        self.charged_us += took_us;
        if let Some(account) = self.accounts.get_mut(module) {
            account.running -= 1;
            account.credit_us -= took_us;
            account.run_us = took_us.max(account.run_us / 2);
            account.seen_us = self.charged_us;
            account.cap();
        }
    }

    /// Forgets what waits.
    pub(crate) fn clear(&mut self) {
        self.turns.clear();
        self.accounts.values_mut().for_each(|account| account.waiting.clear());
    }

    /// Gives everybody as many quanta as the first of those that wait needs. `None` if nothing waits that may run.
    fn pass_rounds(&mut self) -> Option<()> {
        let debt = -self.best_credit()?;
        if debt < 0 {
            return Some(());
        }
        let given = (debt / QUANTUM_US + 1) * QUANTUM_US;
        for account in self.accounts.values_mut() {
            account.credit_us += given;
            account.cap();
        }
        // Whoever has no debt and is not remembered is as one that was never here.
        let charged_us = self.charged_us;
        let is_known = |account: &Account<T>| account.is_busy() || account.credit_us < QUANTUM_US;
        self.accounts
            .retain(|_, account| is_known(account) || charged_us - account.seen_us < REMEMBERED_US);
        Some(())
    }

    /// The most credit of a module that waits and may run.
    fn best_credit(&self) -> Option<i64> {
        let takes_long = self.takes_long();
        let waiting = self.turns.iter().filter_map(|module| self.accounts.get(module));
        let may_run = waiting.filter(|account| takes_long || !account.is_long());
        may_run.map(|account| account.credit_us).max()
    }

    /// Whether a module with long runs may begin another.
    fn takes_long(&self) -> bool {
        let accounts = || self.accounts.values();
        let long = accounts().filter(|account| account.is_long());
        let is_here = |account: &Account<T>| account.is_busy() || self.charged_us - account.seen_us < REMEMBERED_US;
        long.map(|account| account.running).sum::<usize>() + 1 < self.lanes.max(2)
            || !accounts().any(|account| !account.is_long() && is_here(account))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A module whose tasks each run for so long, and are back so long after.
    struct Load {
        module: &'static str,
        tasks: usize,
        run_us: u64,
        away_us: u64,
    }

    fn load(module: &'static str, tasks: usize, run_us: u64, away_us: u64) -> Load {
        Load {
            module,
            tasks,
            run_us,
            away_us,
        }
    }

    /// What each module has taken after so long.
    fn share(lanes: usize, loads: &[Load], until_us: u64) -> BTreeMap<&'static str, u64> {
        let (mut fair, mut taken) = (Fair::new(lanes), BTreeMap::new());
        // When a run ends or a task is back, which of them, and of which load.
        let (mut events, mut busy) = (BTreeSet::new(), 0);
        for (load, place) in loads.iter().zip(0..) {
            events.extend((0..load.tasks).map(|task| (0, false, place, task)));
            taken.insert(load.module, 0);
        }
        while let Some((now, ended, place, task)) = events.pop_first()
            && now < until_us
        {
            let load: &Load = &loads[place];
            if ended {
                busy -= 1;
                fair.ended(load.module, load.run_us);
                *taken.get_mut(load.module).unwrap() += load.run_us;
                events.insert((now + load.away_us, false, place, task));
            } else {
                fair.push(load.module, (place, task));
            }
            // Whoever is back at once is back before a lane looks.
            let is_settled = events.first().is_none_or(|(next, ..)| now < *next);
            while is_settled
                && busy < lanes
                && let Some((_, (place, task))) = fair.next()
            {
                busy += 1;
                let run_us: u64 = loads[place].run_us;
                events.insert((now + run_us, true, place, task));
            }
        }
        taken
    }

    #[test]
    fn two_modules_share_a_lane_however_long_their_runs_are() {
        let loads = [load("greedy", 9, 200_000, 0), load("decent", 1, 130, 0)];
        let taken = share(1, &loads, 10_000_000);
        let difference = taken["greedy"].abs_diff(taken["decent"]);
        assert!(difference <= 200_000 + QUANTUM_US.unsigned_abs(), "{taken:?}");
    }

    #[test]
    fn two_modules_share_lanes_by_what_they_take_and_not_by_what_they_queue() {
        for (lanes, run_us) in [(2, 9_000), (3, 9_000), (8, 9_000), (2, 200_000), (8, 200_000)] {
            let loads = [load("greedy", 100, run_us, 0), load("decent", 2 * lanes, 700, 0)];
            let taken = share(lanes, &loads, 10_000_000);
            let difference = taken["greedy"].abs_diff(taken["decent"]);
            let bound = lanes as u64 * run_us + QUANTUM_US.unsigned_abs();
            assert!(difference <= bound, "{lanes} lanes, {run_us} us: {taken:?}");
        }
    }

    #[test]
    fn a_module_of_one_task_that_commits_between_its_runs_is_not_held_up() {
        let decent = || load("decent", 1, 1_000, 3_000);
        let alone = share(2, &[decent()], 10_000_000)["decent"];
        let loads = [decent(), load("greedy", 4, 200_000, 5_000)];
        let taken = share(2, &loads, 10_000_000);
        // But for once: before the first of the greedy one's runs has ended, nobody knows that they are long.
        assert!(alone * 95 / 100 < taken["decent"], "{alone} alone, {taken:?}");
        assert!(9_000_000 < taken["greedy"], "it has the other lane: {taken:?}");
    }

    #[test]
    fn a_module_alone_has_every_lane() {
        let taken = share(4, &[load("greedy", 4, 100_000, 0)], 10_000_000);
        // Those that have not ended are not counted.
        assert!(4 * 9_900_000 <= taken["greedy"], "{taken:?}");
    }

    #[test]
    fn a_module_alone_pays_no_debt_of_the_past() {
        let mut fair = Fair::new(1);
        for _ in 0..3 {
            fair.push("greedy", ());
            assert!(fair.next().is_some());
            fair.ended("greedy", 60_000_000);
        }
        fair.push("decent", ());
        fair.push("greedy", ());
        assert_eq!(fair.next().unwrap().0, "decent");
        assert_eq!(fair.next().unwrap().0, "greedy");
    }

    #[test]
    fn what_waits_of_a_module_keeps_its_order() {
        let mut fair = Fair::new(1);
        for (module, job) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            fair.push(module, job);
        }
        let order: Vec<i32> = std::iter::from_fn(|| fair.next()).map(|(_, job)| job).collect();
        assert_eq!(order, [1, 3, 2, 4]);
    }

    /// `decent` commits: nothing of it waits or runs.
    fn while_decent_commits(lanes: usize) -> Fair<()> {
        let mut fair = Fair::new(lanes);
        fair.push("decent", ());
        fair.push("greedy", ());
        assert_eq!(fair.next().unwrap().0, "decent");
        assert_eq!(fair.next().unwrap().0, "greedy");
        fair.ended("decent", 500);
        fair.ended("greedy", 200_000);
        (0..10).for_each(|_| fair.push("greedy", ()));
        fair
    }

    #[test]
    fn long_runs_leave_a_lane_to_a_module_that_will_be_back() {
        let mut fair = while_decent_commits(2);
        assert!(fair.has_next() && fair.next().is_some());
        assert!(!fair.has_next() && fair.next().is_none(), "the other lane stays free");
        fair.push("decent", ());
        assert_eq!(fair.next().unwrap().0, "decent");
    }

    #[test]
    fn a_module_that_does_not_come_back_is_forgotten() {
        let mut fair = while_decent_commits(2);
        for _ in 0..5 {
            assert_eq!(fair.next().unwrap().0, "greedy");
            fair.ended("greedy", 200_000);
        }
        assert!(fair.next().is_some() && fair.next().is_some(), "both lanes are taken");
        assert_eq!(fair.accounts.keys().collect::<Vec<_>>(), ["greedy"]);
    }

    #[test]
    fn one_lane_is_not_left_to_nobody() {
        assert!(while_decent_commits(1).next().is_some());
    }

    #[test]
    fn many_modules_in_debt_take_turns_and_starve_nobody() {
        let loads = [
            load("a", 5, 1_000, 0),
            load("b", 1, 300, 0),
            load("c", 9, 5_000, 0),
            load("d", 2, 200, 0),
            load("e", 3, 900_000, 0),
        ];
        for (module, taken) in share(2, &loads, 60_000_000) {
            assert!((22_000_000..26_000_000).contains(&taken), "{module}: {taken}");
        }
    }
}
