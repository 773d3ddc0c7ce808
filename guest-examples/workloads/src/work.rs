//! What is done with a record. This file is compiled twice: into the module, and natively into the bench that compares the two.
#![allow(unreachable_pub, reason = "the bench compiles it as its own module")]
use std::collections::HashMap;

use serde::Deserialize;

/// How often each key was seen.
pub type Counts<'a> = HashMap<&'a [u8], u64>;

#[derive(Deserialize)]
struct Payment<'a> {
    #[serde(borrow)]
    currency: &'a str,
    amount: u32,
}

/// Upper-case of ASCII letters; `out` is used again from record to record.
pub fn upper_case(value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(value);
    out.make_ascii_uppercase();
}

/// Whether a JSON value is a payment in euros of at least 500.
pub fn is_large_payment(value: &[u8]) -> bool {
    let payment = serde_json::from_slice::<Payment<'_>>(value);
    payment.is_ok_and(|payment| payment.currency == "EUR" && 500 <= payment.amount)
}

/// Counts one more record of a key.
pub fn count<'a>(counts: &mut Counts<'a>, key: &'a [u8]) {
    *counts.entry(key).or_default() += 1;
}
