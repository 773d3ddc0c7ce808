//! Everything a module must not do. `[config] act` chooses; the first record whose value is `now` sets it off, others are forwarded.
//!
//! After each of these the daemon lives, the other modules go on, and the message names the record, the limit and its manifest key.
use std::{fs, hint::black_box, mem, net::TcpStream, process, thread, time::Duration};

use tidemill_guest::prelude::*;

fn process(batch: &Batch) -> Result<Ack, Error> {
    let act = context::config("act").unwrap_or_default();
    for record in batch {
        if record.value() == Some(b"now") {
            misbehave(&act, batch, &record)?;
        }
    }
    assert!(act != "panic-at-end", "no record is to blame");
    let all: Vec<u32> = (0..batch.len()).collect();
    batch.forward("tame", &all)?;
    Ok(if act == "nonsense-ack" {
        Ack::First(1_000_000)
    } else {
        Ack::All
    })
}

/// Without it no timer could be set.
fn on_timers(_due: &[Timer]) -> Result<(), Error> {
    Ok(())
}

tidemill_guest::module!(process, timers = on_timers);

fn misbehave(act: &str, batch: &Batch, record: &Record) -> Result<(), Error> {
    match act {
        "endless-loop" => loop {
            black_box(0);
        },
        "spin" => {
            // Takes its time, and ends by itself.
            let millions = context::config("millions").and_then(|text| text.parse::<u64>().ok());
            (0..millions.unwrap_or(1) * 1_000_000).for_each(|step| _ = black_box(step));
            Ok(())
        }
        "memory-bomb" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1u8; 1 << 20]));
            }
        }
        "deep-recursion" => {
            black_box(dig(black_box(1)));
            Ok(())
        }
        "log-flood" => {
            for line in 0..100_000 {
                log::info(&format!("line {line} of a flood"));
            }
            Ok(())
        }
        "long-log-line" => {
            log::info(&"x".repeat(1 << 20));
            Ok(())
        }
        "huge-output" => {
            let block = vec![b'x'; 256 << 10];
            loop {
                let mut out = Output::to("tame");
                out.push(Message::new().value(Some(&block)));
                out.send()?;
            }
        }
        "huge-record" => {
            let block = vec![b'x'; 2 << 20];
            let mut out = Output::to("tame");
            out.push(Message::new().value(Some(&block)));
            out.send()
        }
        "huge-call" => {
            log::info(&"x".repeat(40 << 20));
            Ok(())
        }
        "host-call-flood" => loop {
            black_box(context::attempt());
        },
        "handle-bomb" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(state::open("hoard")?);
            }
        }
        "handle-leak" => {
            // Each of them is closed, but for one a call.
            mem::forget(state::open("hoard")?);
            Ok(())
        }
        "state-quota" => {
            let (hoard, block) = (state::open("hoard")?, vec![b'x'; 64 << 10]);
            for n in 0_u64.. {
                hoard.set(&n.to_be_bytes(), &block)?;
            }
            Ok(())
        }
        "huge-key" => state::open("hoard")?.set(&[b'k'; 1 << 20], b""),
        "huge-value" => state::open("hoard")?.set(b"k", &vec![b'v'; 4 << 20]),
        "timer-bomb" => {
            for n in 0_u64.. {
                timers::set(&timer(&n.to_be_bytes(), 32 << 10))?;
            }
            Ok(())
        }
        "huge-timer" => timers::set(&timer(b"huge", 1 << 20)),
        "exit" => process::exit(0),
        "sleep" => {
            // Nobody waits: the guest's clocks are the batch's, and a sleep moves them.
            #[expect(clippy::disallowed_methods, reason = "it is tested what becomes of it")]
            thread::sleep(Duration::from_secs(3_600));
            Ok(())
        }
        "files" => match fs::read("/etc/passwd") {
            Ok(_) => Err(record.poison("leak", "a file of the machine was read")),
            Err(error) => Err(record.poison("no-files", error)),
        },
        "network" => match TcpStream::connect("127.0.0.1:9092") {
            Ok(_) => Err(record.poison("leak", "a connection was made")),
            Err(error) => Err(record.poison("no-network", error)),
        },
        "environment" => match std::env::vars().next() {
            Some((name, _)) => Err(record.poison("leak", name)),
            None => Err(record.poison("no-environment", "there is none")),
        },
        "nonsense-ack" | "panic-at-end" => Ok(()),
        "undeclared-metric" => {
            context::count("somebody-elses", 1);
            Ok(())
        }
        "undeclared-topic" => batch.forward("somebody-elses", &[record.index()]),
        "undeclared-bucket" => state::open("somebody-elses").map(|_| ()),
        "panic" => panic!("this record cannot be processed"),
        "poison" => Err(record.poison("bad-record", "says so itself")),
        "retry" => Err(Error::retry("the weather is bad")),
        "fatal" => Err(Error::fatal("the module wants to stop")),
        unknown => Err(Error::fatal(format!("[config] act = {unknown:?} is no act"))),
    }
}

/// An alarm in a year that nobody sees.
fn timer(key: &[u8], payload_bytes: usize) -> Timer {
    Timer {
        clock: timers::Clock::WallClock,
        name: "hoard".into(),
        key: key.to_vec(),
        at: i64::MAX / 2,
        payload: vec![b'x'; payload_bytes],
    }
}

fn dig(depth: u64) -> u64 {
    let ballast = black_box([depth; 64]);
    if black_box(true) {
        dig(depth + 1) + ballast[0]
    } else {
        depth
    }
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{Bench, Input};

    use super::*;

    fn bench(act: &str) -> Bench {
        Bench::new(process).output("tame").config("act", act)
    }

    #[test]
    fn other_records_pass() {
        let sent = bench("panic").run(&[Input::new("wild").value("later")]).unwrap().sent;
        assert_eq!(sent[0].topic, "tame");
    }

    #[test]
    fn acts_that_return_say_what_they_did() {
        let now = Input::new("wild").value("now");
        for (act, words) in [
            ("undeclared-topic", "somebody-elses"),
            ("undeclared-bucket", "somebody-elses"),
            ("poison", "bad-record"),
            ("retry", "weather"),
            ("fatal", "wants to stop"),
            ("nonsense", "is no act"),
        ] {
            let error = bench(act).run(std::slice::from_ref(&now)).unwrap_err();
            assert!(error.to_string().contains(words), "{act}: {error}");
        }
    }
}
