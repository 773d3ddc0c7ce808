//! Payment and mail data must not reach analytics: card numbers and mail addresses in any string of a JSON event are masked.
//!
//! A card number is 13 to 19 digits, with single spaces or dashes between, that pass the Luhn check (ISO/IEC 7812-1), so that order
//! numbers and phone numbers stay readable. Its last four digits are kept, as PCI DSS 3.4 allows.
use serde_json::Value;
use tidemill_guest::prelude::*;

/// Digits of a card number, by ISO/IEC 7812-1.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

fn process(batch: &Batch) -> Result<Ack, Error> {
    let mut out = Output::to(&context::config("output").unwrap_or_else(|| "events.redacted".to_owned()));
    let mut masked = 0;
    for record in batch {
        // A tombstone carries no data; it must still delete the key downstream.
        if record.value().is_none() {
            out.push(Message::new().key(record.key()).timestamp(record.timestamp()));
            continue;
        }
        let mut event: Value = record.json()?;
        masked += redact(&mut event);
        let value = serde_json::to_vec(&event).map_err(Error::fatal)?;
        out.push(
            Message::new()
                .key(record.key())
                .value(Some(&value))
                .timestamp(record.timestamp()),
        );
    }
    out.send()?;
    context::count("masked", masked);
    Ok(Ack::All)
}

tidemill_guest::module!(process);

/// Masks every string of a JSON value in place; says how many were changed.
fn redact(value: &mut Value) -> u64 {
    match value {
        Value::String(text) => match mask(text) {
            Some(masked) => {
                *text = masked;
                1
            }
            None => 0,
        },
        Value::Array(items) => items.iter_mut().map(redact).sum(),
        Value::Object(fields) => fields.values_mut().map(redact).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// The text with its secrets masked, or `None` if it has none.
fn mask(text: &str) -> Option<String> {
    let cards = mask_cards(text);
    let mails = mask_mails(cards.as_deref().unwrap_or(text));
    mails.or(cards)
}

/// Replaces `local@host.tld` by `***@host.tld`: the domain is of use to analytics and names nobody.
fn mask_mails(text: &str) -> Option<String> {
    let local = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
    let domain = |c: char| c.is_alphanumeric() || ".-".contains(c);
    let (mut out, mut from, mut search) = (String::new(), 0, 0);
    while let Some(at) = text[search..].find('@').map(|i| search + i) {
        search = at + 1;
        let start = text[from..at].rfind(|c| !local(c)).map_or(from, |i| {
            from + i + text[from + i..].chars().next().map_or(1, char::len_utf8)
        });
        let end = text[at + 1..].find(|c| !domain(c)).map_or(text.len(), |i| at + 1 + i);
        if start < at && text[at + 1..end].trim_end_matches('.').contains('.') {
            out.push_str(&text[from..start]);
            out.push_str("***");
            from = at;
        }
    }
    (from > 0).then(|| out + &text[from..])
}

/// Replaces all but the last four digits of card numbers by `*`.
fn mask_cards(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < bytes.len() {
        let digits = run_of_digits(bytes, at);
        let Some(last) = digits.last() else {
            at += 1;
            continue;
        };
        at = last + 1;
        if CARD_DIGITS.contains(&digits.len()) && luhn(digits.iter().map(|i| bytes[*i] - b'0')) {
            let out = out.get_or_insert_with(|| bytes.to_vec());
            for i in &digits[..digits.len() - 4] {
                out[*i] = b'*';
            }
        }
    }
    out.map(|bytes| String::from_utf8(bytes).expect("only ASCII digits were replaced, by ASCII"))
}

/// Positions of the digits of the run that starts here, single spaces and dashes between them allowed.
fn run_of_digits(bytes: &[u8], start: usize) -> Vec<usize> {
    let mut digits = Vec::new();
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => digits.push(at),
            b' ' | b'-' if digits.last().is_some_and(|last| last + 1 == at) => {}
            _ => break,
        }
        at += 1;
    }
    digits
}

fn luhn(digits: impl DoubleEndedIterator<Item = u8>) -> bool {
    let double = |d: u8| if d > 4 { 2 * d - 9 } else { 2 * d };
    let sum: u32 = digits
        .rev()
        .enumerate()
        .map(|(i, d)| u32::from(if i % 2 == 1 { double(d) } else { d }))
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{Bench, Input};

    use super::*;

    #[test]
    fn cards_and_mails_are_masked_wherever_they_stand() {
        let mut bench = Bench::new(process).output("events.redacted");
        let event =
            r#"{"user":"ann.b@example.org","note":["paid with 4111 1111-1111 1111, thanks"],"order":"1234567890123"}"#;
        let outcome = bench.run(&[Input::new("events").key("k").value(event)]).unwrap();
        let value: Value = serde_json::from_slice(outcome.sent[0].value.as_ref().unwrap()).unwrap();
        assert_eq!(value["user"], "***@example.org");
        assert_eq!(value["note"][0], "paid with **** ****-**** 1111, thanks");
        assert_eq!(value["order"], "1234567890123", "fails the Luhn check: an order number");
        assert_eq!(bench.counter("masked"), 2);
    }

    #[test]
    fn what_is_not_json_is_poison() {
        let mut bench = Bench::new(process).output("events.redacted");
        let good = Input::new("events").value("{}");
        let error = bench.run(&[good, Input::new("events").value("{")]).unwrap_err();
        assert!(matches!(error, Error::Poison { index: 1, code, .. } if code == "bad-json"));
    }

    #[test]
    fn a_tombstone_passes() {
        let mut bench = Bench::new(process).output("events.redacted");
        let outcome = bench.run(&[Input::new("events").key("k")]).unwrap();
        assert_eq!(
            (outcome.sent[0].key.as_deref(), outcome.sent[0].value.as_deref()),
            (Some(&b"k"[..]), None)
        );
    }

    #[test]
    fn masks_find_their_edges() {
        let cases = [
            ("ü@ü.de, b@c.org!", Some("***@ü.de, ***@c.org!")),
            ("no mail: a@b, @x.org, 12@", None),
            ("4111111111111111", Some("************1111")),
            ("41111111111111112", None),
            ("", None),
        ];
        for (text, masked) in cases {
            assert_eq!(mask(text).as_deref(), masked, "{text}");
        }
    }
}
