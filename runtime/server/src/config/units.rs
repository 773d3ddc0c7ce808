//! Sizes and durations as a person writes them: `"64MiB"`, `"30s"`.
//!
//! A bare number is bytes, or milliseconds. Fractions are not accepted: `1536KiB`, not `1.5MiB`. Both print in the largest unit that
//! keeps the number whole, so that what `config show` prints can be pasted back.
use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const SIZES: [(&str, u64); 6] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("B", 1),
];
const SPANS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A number of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

impl Size {
    /// So many mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// As a length in memory. Bounds in `config::check` keep it within 32 bits.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Span {
    /// So many seconds.
    pub const fn secs(n: u64) -> Self {
        Self(n * 1000)
    }

    /// As the standard library has it.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// As the protocol has it.
    pub fn millis(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

fn parse(text: &str, units: &[(&str, u64)], what: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let expected = || {
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        format!(
            "{text:?} is not a {what}: write a whole number and a unit ({})",
            names.join(", ")
        )
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    let scale = match unit {
        "" => 1,
        unit => units.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?.1,
    };
    number.checked_mul(scale).ok_or_else(expected)
}

fn print(f: &mut fmt::Formatter<'_>, n: u64, units: &[(&str, u64)]) -> fmt::Result {
    let (name, scale) = units
        .iter()
        .find(|(_, scale)| n != 0 && n.is_multiple_of(*scale))
        .copied()
        .unwrap_or(units[units.len() - 1]);
    write!(f, "{}{name}", n / scale)
}

macro_rules! unit {
    ($type:ident, $units:expr, $what:literal) => {
        impl FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                parse(text, &$units, $what).map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(f, self.0, &$units)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a ", $what))
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, n: u64) -> Result<$type, E> {
                        Ok($type(n))
                    }
                    fn visit_i64<E: de::Error>(self, n: i64) -> Result<$type, E> {
                        u64::try_from(n)
                            .map($type)
                            .map_err(|_| E::custom("must not be negative"))
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

unit!(Size, SIZES, "size");
unit!(Span, SPANS, "duration");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_printed_parses_back() {
        for n in [
            0,
            1,
            999,
            1000,
            1024,
            1536,
            60_000,
            90_000,
            1 << 20,
            3 << 30,
            86_400_000,
            u64::MAX,
        ] {
            assert_eq!(Size(n).to_string().parse(), Ok(Size(n)));
            assert_eq!(Span(n).to_string().parse(), Ok(Span(n)));
        }
        assert_eq!(Size::mib(64).to_string(), "64MiB");
        assert_eq!(Span::secs(90).to_string(), "90s");
    }

    #[test]
    fn nonsense_is_refused_with_the_units() {
        assert!("12 parsecs".parse::<Span>().unwrap_err().contains("(d, h, min, s, ms)"));
        assert!("".parse::<Size>().is_err());
        assert!("99999999999999999999GiB".parse::<Size>().is_err());
        assert!("17179869184GiB".parse::<Size>().is_err());
    }
}
