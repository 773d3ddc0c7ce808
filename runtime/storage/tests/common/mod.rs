//! A toy state machine over storage, and the naive reference that it must agree with.
//!
//! The toy keeps its own state in rows, as the real core does: after a restart it is loaded from them and replays what the journal has.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::cast_possible_truncation)]
pub mod model;
pub mod node;
pub mod toy;

use bytes::Bytes;

/// How many seeds the long form of a test takes; without `TIDEMILL_SWEEP` it is the short form.
pub fn seeds() -> Option<u64> {
    Some(std::env::var("TIDEMILL_SWEEP").ok()?.parse().unwrap())
}

/// splitmix64: the tests' only source of chance.
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A batch as a client sends it: base offset 0, leader epoch -1. The records are noise.
pub fn batch(records: i32, payload_bytes: usize, max_timestamp: i64, seed: u64) -> Bytes {
    let mut data = vec![0; 61 + payload_bytes];
    let rest_bytes = i32::try_from(data.len() - 12).unwrap();
    data[8..12].copy_from_slice(&rest_bytes.to_be_bytes());
    data[12..16].copy_from_slice(&(-1i32).to_be_bytes());
    data[16] = 2;
    data[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    data[27..35].copy_from_slice(&max_timestamp.to_be_bytes());
    data[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    data[57..61].copy_from_slice(&records.to_be_bytes());
    let mut chance = Chance(seed);
    for chunk in data[61..].chunks_mut(8) {
        let noise = chance.next().to_le_bytes();
        chunk.copy_from_slice(&noise[..chunk.len()]);
    }
    data.into()
}

/// A batch as it is stored and sent.
pub fn patched(batch: &Bytes, base_offset: i64, leader_epoch: i32) -> Vec<u8> {
    let mut data = batch.to_vec();
    data[..8].copy_from_slice(&base_offset.to_be_bytes());
    data[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    data
}
