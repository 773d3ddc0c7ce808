//! What modules do most, each as small as can be, to `tame`. `[config] work` says which:
//!
//! | work | of the input | output |
//! |---|---|---|
//! | `identity` | keys and values | every record, through columns |
//! | `forward` | nothing | every record, as it is |
//! | `upper-case` | keys and values | every record in upper case |
//! | `filter` | values, as JSON | the large payments, as they are |
//! | `count` | keys | one record a key: how often it was in the batch |
//! | `tally` | keys | every record: how often its key was there so far, which is state |
//!
//! `cargo bench --workspace --bench workloads` runs them in the sandbox and natively, `tidemill bench transform guest-examples/workloads
//! --record-bytes 100B --keys 10000` runs `tally` in a daemon.
use tidemill_guest::prelude::*;

pub mod work;

fn process(batch: &Batch) -> Result<Ack, Error> {
    match context::config("work").as_deref() {
        Some("identity") => identity(batch)?,
        Some("forward") => batch.forward("tame", &(0..batch.len()).collect::<Vec<_>>())?,
        Some("upper-case") => upper_case(batch)?,
        Some("filter") => filter(batch)?,
        Some("count") => count(batch)?,
        Some("tally") => tally(batch)?,
        other => {
            return Err(Error::fatal(format!(
                "[config] work = {other:?} is not one of this module's"
            )));
        }
    }
    Ok(Ack::All)
}

tidemill_guest::module!(process);

fn identity(batch: &Batch) -> Result<(), Error> {
    let mut out = Output::to("tame");
    for record in batch {
        out.push(Message::new().key(record.key()).value(record.value()));
    }
    out.send()
}

fn upper_case(batch: &Batch) -> Result<(), Error> {
    let (mut out, mut upper) = (Output::to("tame"), Vec::new());
    for record in batch {
        work::upper_case(record.value().unwrap_or_default(), &mut upper);
        out.push(Message::new().key(record.key()).value(Some(&upper)));
    }
    out.send()
}

fn filter(batch: &Batch) -> Result<(), Error> {
    let large = batch
        .iter()
        .filter(|record| record.value().is_some_and(work::is_large_payment));
    batch.forward("tame", &large.map(|record| record.index()).collect::<Vec<_>>())
}

fn count(batch: &Batch) -> Result<(), Error> {
    let (keys, mut counts) = (batch.keys_only(), work::Counts::new());
    for record in &keys {
        work::count(&mut counts, record.key().unwrap_or_default());
    }
    let mut out = Output::to("tame");
    for (key, count) in counts {
        out.push(Message::new().key(Some(key)).value(Some(&count.to_le_bytes())));
    }
    out.send()
}

fn tally(batch: &Batch) -> Result<(), Error> {
    let (keys, tallies) = (batch.keys_only(), state::open("tallies")?);
    let mut out = Output::to("tame");
    for record in &keys {
        let key = record.key().unwrap_or_default();
        let tally = tallies.increment(key, 1)?;
        out.push(Message::new().key(Some(key)).value(Some(&tally.to_le_bytes())));
    }
    out.send()
}
