//! Clocks and moments as bytes that have their order.
use tidemill_protocol::manifest::Clock;

/// A moment; earlier ones have smaller bytes.
pub(super) fn encode(at: i64) -> [u8; 8] {
    (at.cast_unsigned() ^ 1 << 63).to_be_bytes()
}

/// The other way.
pub(super) fn decode(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ 1 << 63).cast_signed()
}

/// A clock; event time is first.
pub(super) fn encode_clock(clock: Clock) -> u8 {
    match clock {
        Clock::EventTime => 0,
        Clock::WallClock => 1,
    }
}

/// The other way.
pub(super) fn decode_clock(byte: u8) -> Option<Clock> {
    match byte {
        0 => Some(Clock::EventTime),
        1 => Some(Clock::WallClock),
        _ => None,
    }
}
