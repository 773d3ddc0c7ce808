//! A card in two countries within ten minutes: one of the two is not its owner.
//!
//! The last uses of each card are durable state, so that the second payment finds the first whatever happened to the machine between
//! them. Time is event time: a payment that arrives late is compared with what was near it when it was made, not when it arrived; the
//! pair is found in either order.
use serde::{Deserialize, Serialize};
use tidemill_guest::prelude::*;

/// Uses kept of one card. More within the window is a case for another rule.
const USES_MAX: usize = 32;

/// What is paid; other fields are of no interest here.
#[derive(Deserialize)]
struct Payment {
    id: String,
    country: String,
}

/// A payment as it is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Use {
    id: String,
    country: String,
    at: i64,
}

/// What is sent: two payments that cannot both be the owner's, the earlier one first.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Alert {
    card: String,
    first: Use,
    second: Use,
    /// Seconds between them.
    apart: i64,
}

fn process(batch: &Batch) -> Result<Ack, Error> {
    let window_ms: i64 = context::config_or("window-ms", 10 * 60 * 1_000)?;
    let mut alerts = Output::to(&context::config_or("output", "payments.suspicious".to_owned())?);
    let uses = state::open("uses")?;
    for record in batch {
        // The key is the card's token; its number has no business here.
        let card = record.key_str()?;
        let payment: Payment = record.json()?;
        let mut known: Vec<Use> = uses.get_json(card.as_bytes())?.unwrap_or_default();
        if known.iter().any(|used| used.id == payment.id) {
            continue;
        }
        let now = Use {
            id: payment.id,
            country: payment.country,
            at: record.timestamp(),
        };
        if let Some(alert) = suspicion(card, &known, &now, window_ms) {
            alerts.push_json(Some(card.as_bytes()), &alert)?;
        }
        remember(&mut known, now, window_ms);
        uses.set_json(card.as_bytes(), &known)?;
    }
    context::count("alerts", alerts.len() as u64);
    alerts.send()?;
    Ok(Ack::All)
}

tidemill_guest::module!(process);

/// The nearest use of the card in another country within the window, if there is one.
fn suspicion(card: &str, known: &[Use], now: &Use, window_ms: i64) -> Option<Alert> {
    let apart = |used: &&Use| used.at.abs_diff(now.at);
    let other = known
        .iter()
        .filter(|used| used.country != now.country && apart(used) <= window_ms.unsigned_abs())
        .min_by_key(apart)?;
    let (first, second) = if other.at <= now.at { (other, now) } else { (now, other) };
    Some(Alert {
        card: card.to_owned(),
        first: first.clone(),
        second: second.clone(),
        apart: (second.at - first.at) / 1_000,
    })
}

/// Adds a use in order of time, and forgets those that no payment can be near to any more: twice the window, so that one that is as late
/// as the window is wide still finds its neighbours.
fn remember(known: &mut Vec<Use>, now: Use, window_ms: i64) {
    let place = known.partition_point(|used| used.at <= now.at);
    known.insert(place, now);
    let youngest = known.last().map_or(0, |used| used.at);
    let forgotten = known.partition_point(|used| used.at < youngest.saturating_sub(2 * window_ms));
    known.drain(..forgotten.max(known.len().saturating_sub(USES_MAX)));
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{Bench, Input};

    use super::*;

    const MINUTE: i64 = 60_000;

    fn bench() -> Bench {
        Bench::new(process).output("payments.suspicious").bucket("uses")
    }

    fn payment(card: &str, id: &str, country: &str, minute: i64) -> Input {
        Input::new("payments")
            .key(card)
            .value(format!(r#"{{"id":"{id}","country":"{country}","amount":5}}"#))
            .at(minute * MINUTE)
    }

    fn pairs(bench: &mut Bench, inputs: &[Input]) -> Vec<(String, String)> {
        let alert = |value: &[u8]| {
            let alert: Alert = serde_json::from_slice(value).unwrap();
            (alert.first.id, alert.second.id)
        };
        let sent = bench.run(inputs).unwrap().sent;
        sent.iter().map(|s| alert(s.value.as_ref().unwrap())).collect()
    }

    fn pair(first: &str, second: &str) -> (String, String) {
        (first.to_owned(), second.to_owned())
    }

    #[test]
    fn two_countries_within_the_window_are_told_over_batches_and_in_either_order() {
        let mut bench = bench();
        assert_eq!(pairs(&mut bench, &[payment("c", "1", "DE", 0)]), []);
        assert_eq!(pairs(&mut bench, &[payment("c", "2", "BR", 10)]), [pair("1", "2")]);
        assert_eq!(pairs(&mut bench, &[payment("c", "3", "DE", 30)]), []);
        assert_eq!(
            pairs(&mut bench, &[payment("c", "0", "BR", 25)]),
            [pair("0", "3")],
            "late"
        );
    }

    #[test]
    fn a_traveller_and_another_card_are_not_told() {
        let inputs = [
            payment("c", "1", "DE", 0),
            payment("d", "2", "FR", 1),
            payment("c", "3", "FR", 11),
            payment("c", "4", "FR", 12),
        ];
        assert_eq!(pairs(&mut bench(), &inputs), []);
    }

    #[test]
    fn a_payment_that_is_repeated_is_told_once() {
        let inputs = [
            payment("c", "1", "DE", 0),
            payment("c", "2", "FR", 1),
            payment("c", "2", "FR", 1),
        ];
        assert_eq!(pairs(&mut bench(), &inputs), [pair("1", "2")]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut bench = bench();
        for n in 0..100 {
            bench.run(&[payment("c", &n.to_string(), "DE", n)]).unwrap();
        }
        let known: Vec<Use> = serde_json::from_slice(&bench.state("uses", b"c").unwrap()).unwrap();
        assert_eq!((known.len(), known[0].at), (21, 79 * MINUTE));
        let burst: Vec<Input> = (0..100).map(|n| payment("d", &n.to_string(), "DE", 0)).collect();
        bench.run(&burst).unwrap();
        let known: Vec<Use> = serde_json::from_slice(&bench.state("uses", b"d").unwrap()).unwrap();
        assert_eq!(known.len(), USES_MAX);
    }

    #[test]
    fn what_is_no_payment_is_poison() {
        let error = bench().run(&[Input::new("payments").key("c").value("{}")]).unwrap_err();
        assert!(matches!(error, Error::Poison { code, .. } if code == "bad-json"));
    }
}
