//! Durations, sizes, factors and moments as a person writes them in a manifest.
//!
//! Each is text with a unit (`"100ms"`, `"1MiB"`), reads back what it wrote, and refuses what it would have to round or guess:
//! a duration without a unit, a fraction of a byte, a month.
use alloc::{
    format,
    string::{String, ToString},
};
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time in whole milliseconds. Written `"100ms"`, `"5s"`, `"30m"`, `"48h"`, `"7d"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub u64);

/// A number of bytes. Written `"8MiB"` (KiB, MiB, GiB), `"10MB"` (kB, MB, GB) or as a plain number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A factor in thousandths. Written `2.0` or `2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Factor(pub u32);

/// A moment, milliseconds since the epoch. Written as RFC 3339 in UTC: `"2013-01-31T12:00:00Z"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];
const DAY_MS: i64 = 86_400_000;

impl Duration {
    /// Reads `"100ms"`; `None` when it is not a whole number with a unit that fits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_units(text, &DURATION_UNITS).map(Self)
    }

    /// Milliseconds, cut at the largest `u32`.
    #[must_use]
    pub fn as_millis_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// Milliseconds as the core counts time, cut at the largest `i64`.
    #[must_use]
    pub fn as_millis_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl ByteSize {
    /// Reads `"8MiB"`; `None` when it is not a whole number with a unit that fits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_units(text, &SIZE_UNITS).map(Self)
    }

    /// Bytes, cut at the largest `usize`.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Factor {
    /// `value` times this factor, cut at the largest `u64`.
    #[must_use]
    pub fn scale(self, value: u64) -> u64 {
        let scaled = u128::from(value) * u128::from(self.0) / 1000;
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

impl Moment {
    /// Reads `"2013-01-31"` or `"2013-01-31T12:00:00[.123]Z"`; `None` for anything else, other zones included.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, time.strip_suffix('Z')?),
            None => (text, "00:00:00"),
        };
        let mut date = date.split('-');
        let (year, month, day) = (
            digits(date.next()?, 4)?,
            digits(date.next()?, 2)?,
            digits(date.next()?, 2)?,
        );
        let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let mut clock = clock.split(':');
        let (hour, minute, second) = (
            digits(clock.next()?, 2)?,
            digits(clock.next()?, 2)?,
            digits(clock.next()?, 2)?,
        );
        if date.next().is_some() || clock.next().is_some() || fraction.is_empty() || fraction.len() > 3 {
            return None;
        }
        let mut millis = digits(fraction, fraction.len())?;
        for _ in fraction.len()..3 {
            millis *= 10;
        }
        if !(1..=12).contains(&month)
            || day < 1
            || days_in_month(year, month) < day
            || 23 < hour
            || 59 < minute
            || 59 < second
        {
            return None;
        }
        Some(Self(
            days_since_epoch(year, month, day) * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + millis,
        ))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_units(f, self.0, &DURATION_UNITS, "ms")
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_units(f, self.0, &SIZE_UNITS[..3], "B")
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0.div_euclid(DAY_MS), self.0.rem_euclid(DAY_MS));
        let (year, month, day) = civil(days);
        let (hour, minute, second, millis) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = r#"a duration with a unit, such as "100ms", "5s", "30m", "48h""#;
        deserializer.deserialize_any(TextOrNumber {
            expected,
            parse: Duration::parse,
            number: |_| None,
        })
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = r#"a size in bytes, such as "64KiB" or "8MiB""#;
        let number = |number: f64| whole(number).map(ByteSize);
        deserializer.deserialize_any(TextOrNumber {
            expected,
            parse: ByteSize::parse,
            number,
        })
    }
}

impl Serialize for Factor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Half a thousandth is added because 1.1 is not exactly 1100 thousandths in binary.
        let number = |number: f64| {
            whole_part(number * 1000.0 + 0.5)
                .and_then(|n| u32::try_from(n).ok())
                .map(Factor)
        };
        deserializer.deserialize_any(TextOrNumber {
            expected: "a factor, such as 2.0",
            parse: |_| None,
            number,
        })
    }
}

/// Accepts text or a number where a manifest may have either, and says what was expected otherwise.
struct TextOrNumber<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
    number: fn(f64) -> Option<T>,
}

impl<'de, T> de::Visitor<'de> for TextOrNumber<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        #[allow(
            clippy::cast_precision_loss,
            reason = "bounds are far below 2^53, and more is refused by `whole`"
        )]
        (self.number)(number as f64).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let unsigned = u64::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))?;
        self.visit_u64(unsigned)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        (self.number)(number).ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
    }
}

fn whole(number: f64) -> Option<u64> {
    #[allow(clippy::cast_precision_loss, reason = "compares equal only when nothing was lost")]
    whole_part(number).filter(|whole| *whole as f64 == number)
}

fn whole_part(number: f64) -> Option<u64> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked just before"
    )]
    (0.0..9e15).contains(&number).then_some(number as u64)
}

fn parse_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn write_units(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)], base: &str) -> fmt::Result {
    match units
        .iter()
        .find(|(_, scale)| value != 0 && value.is_multiple_of(*scale))
    {
        Some((name, scale)) => write!(f, "{}{name}", value / scale),
        None => write!(f, "{value}{base}"),
    }
}

fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Howard Hinnant's `days_from_civil`: the year is taken to begin in March, so that the leap day is its last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_since_epoch`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Where a task without a committed offset begins. Written `"earliest"`, `"latest"`, or a [`Moment`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Start {
    /// The log's start.
    #[default]
    Earliest,
    /// The high watermark when the task first looks.
    Latest,
    /// The first record at or after this moment.
    At(Moment),
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Earliest => serializer.serialize_str("earliest"),
            Self::Latest => serializer.serialize_str("latest"),
            Self::At(moment) => serializer.serialize_str(&moment.to_string()),
        }
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            other => Moment::parse(other).map(Self::At).ok_or_else(|| {
                de::Error::custom(format!(
                    r#"{other:?} is not "earliest", "latest" or a moment such as "2013-01-31T12:00:00Z""#
                ))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_and_sizes_read_what_they_write() {
        for (text, millis) in [
            ("100ms", 100),
            ("5s", 5000),
            ("90s", 90_000),
            ("30m", 1_800_000),
            ("2d", 172_800_000),
            ("0ms", 0),
        ] {
            assert_eq!(Duration::parse(text), Some(Duration(millis)), "{text}");
            assert_eq!(
                Duration::parse(&Duration(millis).to_string()),
                Some(Duration(millis)),
                "{text}"
            );
        }
        for (text, bytes) in [
            ("1MiB", 1 << 20),
            ("2GiB", 2 << 30),
            ("1kB", 1000),
            ("7B", 7),
            ("1 KiB", 1024),
        ] {
            assert_eq!(ByteSize::parse(text), Some(ByteSize(bytes)), "{text}");
            assert_eq!(
                ByteSize::parse(&ByteSize(bytes).to_string()),
                Some(ByteSize(bytes)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_has_no_unit_or_does_not_fit_is_refused() {
        for text in [
            "",
            "5",
            "ms",
            "-5s",
            "1.5s",
            "5 years",
            "18446744073709551616ms",
            "99999999999999999d",
        ] {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
        assert_eq!(ByteSize::parse("1mib"), None);
    }

    #[test]
    fn moments_are_read_and_written_in_utc() {
        for (text, millis) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2013-01-31T12:00:00.000Z", 1_359_633_600_000),
            ("2024-02-29T23:59:59.999Z", 1_709_251_199_999),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(Moment::parse(text), Some(Moment(millis)), "{text}");
            assert_eq!(Moment(millis).to_string(), text);
        }
        assert_eq!(Moment::parse("2013-01-31"), Moment::parse("2013-01-31T00:00:00Z"));
        for text in [
            "2013-02-29",
            "2013-01-31T12:00:00",
            "2013-01-31T12:00:00+01:00",
            "2013-13-01",
            "x",
            "2013-01-31T24:00:00Z",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }
}
