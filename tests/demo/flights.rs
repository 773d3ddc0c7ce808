//! The flights that left New York in 2013, and a plain computation of what the module makes of them.
use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

/// As in the manifest: a pause longer than this ends a rotation.
pub const GAP_MS: i64 = 9 * 3_600_000;

/// One departure.
pub struct Flight {
    /// Aircraft; `None` where the source has `NA`.
    pub tail: Option<String>,
    /// Scheduled departure, UTC, milliseconds.
    pub at: i64,
    /// What is produced.
    pub value: String,
    /// Carrier, flight, and from where to where.
    pub leg: String,
    /// Two letters.
    #[allow(dead_code, reason = "only the stories of the end-to-end tests use it")]
    pub carrier: String,
}

/// A rotation: what the module sends for an aircraft, field by field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rotation {
    pub key: String,
    pub start: i64,
    pub end: i64,
    pub count: u64,
    pub events: Vec<String>,
}

/// What the plain computation expects of the module.
#[derive(Default)]
pub struct Expected {
    pub rotations: Vec<Rotation>,
    /// Flights without an aircraft, and those older than the open rotation by more than the gap.
    pub dead_letters: usize,
}

#[derive(Deserialize)]
struct Line {
    carrier: String,
    flight: u32,
    tailnum: String,
    origin: String,
    dest: String,
    minute: i64,
    time_hour: String,
}

/// Reads the file, in its order.
pub fn read(path: &Path) -> Result<Vec<Flight>, String> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let packed = path.extension().is_some_and(|end| end == "gz");
    let text: Box<dyn Read> = if packed {
        Box::new(GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut lines = csv::Reader::from_reader(text);
    lines
        .deserialize()
        .map(|line| line.map_err(|e| e.to_string()).and_then(flight))
        .collect()
}

fn flight(line: Line) -> Result<Flight, String> {
    let hour = hour_utc(&line.time_hour).ok_or_else(|| format!("{:?} is no hour", line.time_hour))?;
    let leg = format!("{}{} {}>{}", line.carrier, line.flight, line.origin, line.dest);
    let value = serde_json::json!({ "leg": leg, "carrier": line.carrier, "from": line.origin, "to": line.dest });
    let tail = Some(line.tailnum).filter(|tail| !tail.is_empty() && tail != "NA");
    Ok(Flight {
        tail,
        at: hour + line.minute * 60_000,
        value: value.to_string(),
        leg,
        carrier: line.carrier,
    })
}

/// Milliseconds of `2013-01-31T10:00:00Z`.
fn hour_utc(text: &str) -> Option<i64> {
    const JANUARY_2013: i64 = 1_356_998_400_000;
    let (date, hour) = text.strip_suffix(":00:00Z")?.split_once('T')?;
    let mut numbers = date.split('-').map(|number| number.parse::<usize>().ok());
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    // Flights of the last evening leave in the next year, UTC.
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let days = before.get(month.checked_sub(1)?)? + day.checked_sub(1)? + year.checked_sub(2013)? * 365;
    let hours = i64::try_from(days).ok()? * 24 + hour.parse::<i64>().ok()?;
    Some(JANUARY_2013 + hours * 3_600_000)
}

/// The same thing without a broker: a fold over the file.
pub fn compute(flights: &[Flight]) -> Expected {
    let mut open: BTreeMap<&str, (Rotation, Vec<i64>)> = BTreeMap::new();
    let mut expected = Expected::default();
    for flight in flights {
        let Some(tail) = flight.tail.as_deref() else {
            expected.dead_letters += 1;
            continue;
        };
        let (at, leg) = (flight.at, flight.leg.clone());
        let fresh = Rotation {
            key: tail.to_owned(),
            start: at,
            end: at,
            count: 1,
            events: vec![leg.clone()],
        };
        match open.get_mut(tail) {
            Some((now, _)) if at < now.start - GAP_MS => expected.dead_letters += 1,
            Some((now, times)) if at <= now.end + GAP_MS => {
                (now.start, now.end, now.count) = (now.start.min(at), now.end.max(at), now.count + 1);
                let place = times.partition_point(|time| *time <= at);
                times.insert(place, at);
                now.events.insert(place, leg);
            }
            _ => expected
                .rotations
                .extend(open.insert(tail, (fresh, vec![at])).map(|(closed, _)| closed)),
        }
    }
    expected.rotations.extend(open.into_values().map(|(last, _)| last));
    expected
}
