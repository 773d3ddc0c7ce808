//! Does what its records say, one command a record, and answers each with a record in the topic `tame`. It has every export and uses
//! every function that a module may use, for the tests of the host.
//!
//! | command | answer |
//! |---|---|
//! | `set BUCKET KEY VALUE`, `delete BUCKET KEY` | `ok` |
//! | `get BUCKET KEY` | the value, or `-` |
//! | `add BUCKET KEY NUMBER` | the sum |
//! | `scan BUCKET START END`, `back BUCKET START END` (`-` has no bound) | `KEY=VALUE ...` |
//! | `clear BUCKET START END` | how many keys |
//! | `look TABLE KEY ...` | the values, `-` for none |
//! | `timer KEY AT`, `alarm KEY AT` (event time, wall clock; `+MS` is from now) | `ok` |
//! | `cancel KEY` | `true` if there was such a timer by event time |
//! | `watermark`, `task` | the watermark; the task's number and whether this instance was told of it |
//! | anything else | itself |
//!
//! A timer that fires is answered with `fired KEY AT`; one of key `trap` panics, one of key `poison` is refused, one of key `again` is
//! set again a second later. `[config]` has `init = "fail"` and `assign = "count"`, which counts in bucket `kept`,
//! and `migrate`, the bucket that a migration rewrites instead of `kept`.
use std::sync::atomic::{AtomicU32, Ordering};

use tidemill_guest::prelude::*;

/// One more than the task that this instance serves.
static ASSIGNED: AtomicU32 = AtomicU32::new(0);

fn process(batch: &Batch) -> Result<Ack, Error> {
    let mut out = Output::to("tame");
    for record in batch {
        let words = std::str::from_utf8(record.value().unwrap_or_default()).map_err(Error::fatal)?;
        let answer = obey(&words.split(' ').collect::<Vec<_>>())?;
        out.push(Message::new().key(record.key()).value(Some(answer.as_bytes())));
    }
    out.send()?;
    Ok(Ack::All)
}

fn on_timers(due: &[Timer]) -> Result<(), Error> {
    let mut out = Output::to("tame");
    for (index, timer) in (0..).zip(due) {
        let key = String::from_utf8_lossy(&timer.key);
        match key.as_ref() {
            "trap" => panic!("this timer cannot be handled"),
            "poison" => {
                let (code, reason) = ("bad-timer".to_owned(), "says so itself".to_owned());
                return Err(Error::Poison { index, code, reason });
            }
            "again" => timers::set(&Timer {
                at: timer.at + 1_000,
                ..timer.clone()
            })?,
            _ => {}
        }
        let answer = format!("fired {key} {}", timer.at);
        out.push(Message::new().value(Some(answer.as_bytes())).timestamp(timer.at));
    }
    out.send()
}

struct Probe;

impl Lifecycle for Probe {
    fn init() -> Result<(), Error> {
        log::info("init");
        match context::config("init").as_deref() {
            Some("fail") => Err(Error::fatal("[config] init = \"fail\"")),
            Some("state") => state::open("kept").map(|_| ()),
            Some("table") => tables::open("facts").get(b"k").map(|_| ()),
            _ => Ok(()),
        }
    }

    fn on_assign(task: &Task) -> Result<(), Error> {
        log::info("on-assign");
        ASSIGNED.store(task.number + 1, Ordering::Relaxed);
        if context::config("assign").is_some() {
            state::open("kept")?.increment(b"assigned", 1)?;
        }
        Ok(())
    }

    fn on_revoke(task: &Task, reason: RevokeReason) {
        log::info(&format!("on-revoke {} {reason:?}", task.number));
    }
}

impl Migrator for Probe {
    const STATE_VERSION: u32 = 2;

    /// Doubles every value of bucket `kept` (or what `[config]` names as `migrate`), one key a call.
    fn migrate(_task: &Task, from_version: u32, cursor: Option<Vec<u8>>) -> Result<Progress, Error> {
        if from_version != 1 {
            return Err(Error::fatal(format!("there is no way from layout {from_version}")));
        }
        let kept = state::open(&context::config_or("migrate", "kept".to_owned())?)?;
        let mut entries = kept.scan(&cursor.unwrap_or_default(), b"", 2)?.into_iter();
        let Some((key, value)) = entries.next() else {
            return Ok(Progress::Done);
        };
        kept.set(&key, &[value.clone(), value].concat())?;
        Ok(entries.next().map_or(Progress::Done, |(next, _)| Progress::More(next)))
    }
}

tidemill_guest::module!(process, timers = on_timers, lifecycle = Probe, migrator = Probe);

fn obey(words: &[&str]) -> Result<String, Error> {
    let bound = |word: &str| {
        if word == "-" {
            Vec::new()
        } else {
            word.as_bytes().to_vec()
        }
    };
    let show = |entries: state::Range<'_>| -> Result<String, Error> {
        let mut words = Vec::new();
        for entry in entries {
            let (key, value) = entry?;
            words.push(format!(
                "{}={}",
                String::from_utf8_lossy(&key),
                String::from_utf8_lossy(&value)
            ));
        }
        Ok(words.join(" "))
    };
    Ok(match words {
        ["set", bucket, key, value] => {
            state::open(bucket)?.set(key.as_bytes(), value.as_bytes())?;
            "ok".into()
        }
        ["delete", bucket, key] => {
            state::open(bucket)?.delete(key.as_bytes())?;
            "ok".into()
        }
        ["get", bucket, key] => match state::open(bucket)?.get(key.as_bytes())? {
            Some(value) => String::from_utf8_lossy(&value).into_owned(),
            None => "-".into(),
        },
        ["add", bucket, key, delta] => {
            let delta = delta.parse().map_err(Error::fatal)?;
            state::open(bucket)?.increment(key.as_bytes(), delta)?.to_string()
        }
        ["scan", bucket, start, end] => show(state::open(bucket)?.range(&bound(start), &bound(end)))?,
        ["back", bucket, start, end] => show(state::open(bucket)?.range(&bound(start), &bound(end)).reversed())?,
        ["clear", bucket, start, end] => state::open(bucket)?
            .delete_range(&bound(start), &bound(end))?
            .to_string(),
        ["look", table, keys @ ..] => {
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            let found = tables::get_many(table, &keys)?.into_iter();
            let found =
                found.map(|value| value.map_or("-".into(), |value| String::from_utf8_lossy(&value).into_owned()));
            found.collect::<Vec<_>>().join(" ")
        }
        ["timer", key, at] => {
            timers::event_time("probe", key, at.parse().map_err(Error::fatal)?)?;
            "ok".into()
        }
        ["alarm", key, at] => {
            let base = if at.starts_with('+') { context::now() } else { 0 };
            let at: i64 = at.parse().map_err(Error::fatal)?;
            timers::wall_clock("probe", key, base + at)?;
            "ok".into()
        }
        ["cancel", key] => timers::cancel(timers::Clock::EventTime, "probe", key)?.to_string(),
        ["watermark"] => format!("{:?}", context::watermark()),
        ["task"] => format!("{:?}", ASSIGNED.load(Ordering::Relaxed).checked_sub(1)),
        other => other.join(" "),
    })
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{Bench, Clock, Input};

    use super::*;

    fn answers(bench: &mut Bench, commands: &[&str]) -> Vec<String> {
        let inputs: Vec<Input> = commands
            .iter()
            .map(|command| Input::new("wild").value(command))
            .collect();
        let sent = bench.run(&inputs).unwrap().sent;
        let text = |sent: &tidemill_guest::testing::Sent| String::from_utf8(sent.value.clone().unwrap()).unwrap();
        sent.iter().map(text).collect()
    }

    #[test]
    fn it_obeys() {
        let mut bench = Bench::new(process)
            .timers(on_timers)
            .max_out_of_order(0)
            .output("tame")
            .bucket("kept");
        let said = answers(
            &mut bench,
            &[
                "set kept a 1",
                "set kept b 2",
                "back kept - -",
                "timer x 7",
                "alarm y +5",
            ],
        );
        assert_eq!(said, ["ok", "ok", "b=2 a=1", "ok", "ok"]);
        assert_eq!(
            answers(
                &mut bench,
                &["add kept n 3", "add kept n -1", "cancel z", "clear kept a b"]
            )[1..],
            ["2", "false", "1"]
        );
        assert_eq!(bench.timer(Clock::WallClock, "probe", "y"), Some(5));
        bench.now(5);
        bench.watermark(7);
        let fired = bench.fire().unwrap().unwrap().sent;
        assert_eq!(fired.len(), 2);
    }
}
