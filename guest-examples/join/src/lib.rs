//! Payments without shipment: two topics, keyed by order, and a timer.
//!
//! Partition *n* of both topics is one task, so a payment and its shipment meet in the same state, whichever comes first. An order
//! whose shipment is not there when the deadline has passed in event time is told as overdue, once; a shipment that comes later
//! still completes it. Complete orders are remembered until the manifest's `ttl` has passed, so that repeats change nothing.
use serde::{Deserialize, Serialize};
use tidemill_guest::{prelude::*, timers::Clock};

/// Name of the timer of an order.
const DEADLINE: &str = "deadline";

/// What is known of an order; with both times it is complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    /// Event time, milliseconds.
    paid: Option<i64>,
    shipped: Option<i64>,
    /// It was told.
    overdue: bool,
}

/// As it is sent.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Complete {
    order: String,
    paid: i64,
    shipped: i64,
    /// Whether the deadline was missed.
    late: bool,
}

/// As it is sent.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Overdue {
    order: String,
    paid: i64,
}

/// What the manifest's `[config]` says.
struct Settings {
    payments: String,
    shipments: String,
    complete: String,
    overdue: String,
    deadline_ms: i64,
}

impl Settings {
    fn read() -> Result<Settings, Error> {
        let topic = |key: &str| context::config(key).ok_or_else(|| Error::fatal(format!("[config] {key} is missing")));
        Ok(Settings {
            payments: topic("payments")?,
            shipments: topic("shipments")?,
            complete: topic("complete")?,
            overdue: topic("overdue")?,
            deadline_ms: context::config_or("deadline-ms", 24 * 3_600_000)?,
        })
    }
}

fn process(batch: &Batch) -> Result<Ack, Error> {
    let settings = Settings::read()?;
    let orders = state::open("orders")?;
    let mut complete = Output::to(&settings.complete);
    for record in batch {
        let id = record.key_str()?;
        let mut order: Order = orders.get_json(id.as_bytes())?.unwrap_or_default();
        if order.paid.is_some() && order.shipped.is_some() {
            continue;
        }
        let at = record.timestamp();
        // The first of each counts: a repeat changes nothing.
        match record.source().topic.as_str() {
            topic if topic == settings.payments => order.paid = order.paid.or(Some(at)),
            topic if topic == settings.shipments => order.shipped = order.shipped.or(Some(at)),
            topic => {
                return Err(Error::fatal(format!(
                    "the input {topic} is neither `payments` nor `shipments` of [config]"
                )));
            }
        }
        match (order.paid, order.shipped) {
            (Some(paid), Some(shipped)) => {
                let late = order.overdue || shipped - paid > settings.deadline_ms;
                complete.push_json(
                    Some(id.as_bytes()),
                    &Complete {
                        order: id.to_owned(),
                        paid,
                        shipped,
                        late,
                    },
                )?;
                timers::cancel(Clock::EventTime, DEADLINE, id)?;
            }
            (Some(paid), None) if !order.overdue => {
                timers::event_time(DEADLINE, id, paid.saturating_add(settings.deadline_ms))?;
            }
            _ => {}
        }
        orders.set_json(id.as_bytes(), &order)?;
    }
    context::count("complete", complete.len() as u64);
    complete.send()?;
    Ok(Ack::All)
}

fn on_timers(due: &[Timer]) -> Result<(), Error> {
    let settings = Settings::read()?;
    let orders = state::open("orders")?;
    let mut overdue = Output::to(&settings.overdue);
    for timer in due {
        let Some(mut order) = orders.get_json::<Order>(&timer.key)? else {
            continue;
        };
        let Some(paid) = order.paid else { continue };
        let id = String::from_utf8_lossy(&timer.key).into_owned();
        overdue.push_json(Some(&timer.key), &Overdue { order: id, paid })?;
        order.overdue = true;
        orders.set_json(&timer.key, &order)?;
    }
    context::count("overdue", overdue.len() as u64);
    overdue.send()
}

tidemill_guest::module!(process, timers = on_timers);

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use tidemill_guest::testing::{Bench, Input, Outcome};

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn bench() -> Bench {
        let topics = [
            ("payments", "payments"),
            ("shipments", "shipments"),
            ("complete", "orders.complete"),
            ("overdue", "orders.overdue"),
        ];
        let bench = Bench::new(process)
            .timers(on_timers)
            .max_out_of_order(HOUR)
            .output("orders.complete")
            .output("orders.overdue")
            .bucket_with_ttl("orders", 7 * 24 * HOUR, Clock::EventTime);
        topics
            .into_iter()
            .fold(bench, |bench, (key, topic)| bench.config(key, topic))
    }

    fn at(topic: &str, order: &str, hour: i64) -> Input {
        Input::new(topic).key(order).value("{}").at(hour * HOUR)
    }

    fn sent<T: DeserializeOwned>(outcome: Option<Outcome>) -> Vec<T> {
        let sent = outcome.map(|outcome| outcome.sent).unwrap_or_default();
        sent.iter()
            .map(|s| serde_json::from_slice(s.value.as_ref().unwrap()).unwrap())
            .collect()
    }

    fn complete(order: &str, paid: i64, shipped: i64, late: bool) -> Complete {
        Complete {
            order: order.to_owned(),
            paid: paid * HOUR,
            shipped: shipped * HOUR,
            late,
        }
    }

    #[test]
    fn a_pair_is_complete_once_in_either_order() {
        let mut bench = bench();
        assert_eq!(
            sent::<Complete>(bench.run(&[at("payments", "1", 0), at("shipments", "2", 1)]).ok()),
            []
        );
        let pairs = bench
            .run(&[at("shipments", "1", 3), at("payments", "2", 2), at("payments", "2", 9)])
            .ok();
        assert_eq!(
            sent::<Complete>(pairs),
            [complete("1", 0, 3, false), complete("2", 2, 1, false)]
        );
        let again = bench.run(&[at("shipments", "1", 4), at("payments", "1", 5)]).ok();
        assert_eq!(sent::<Complete>(again), [], "repeats");
        assert_eq!(bench.timer(Clock::EventTime, DEADLINE, "1"), None);
    }

    #[test]
    fn an_order_without_shipment_is_overdue_once_and_completes_late() {
        let mut bench = bench();
        bench.run(&[at("payments", "1", 0), at("payments", "2", 20)]).unwrap();
        bench.run(&[at("payments", "3", 25)]).unwrap();
        assert_eq!(
            sent::<Overdue>(bench.fire().unwrap()),
            [Overdue {
                order: "1".into(),
                paid: 0
            }]
        );
        assert_eq!(bench.fire().unwrap(), None);
        let late = bench.run(&[at("shipments", "1", 23), at("payments", "1", 26)]).ok();
        assert_eq!(sent::<Complete>(late), [complete("1", 0, 23, true)]);
    }
}
