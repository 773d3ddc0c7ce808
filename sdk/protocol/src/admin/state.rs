//! A look into a module's state: one page of one bucket of one task. Bytes are written in hexadecimal.
use alloc::{string::String, vec::Vec};
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Entries of a page that may be asked for.
pub const STATE_ENTRIES_MAX: u32 = 1000;
/// Bytes of keys and values in a page; the first entry is given whatever its size.
pub const STATE_PAGE_BYTES_MAX: usize = 2 << 20;

/// Which entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateQuery {
    /// Name of the deployment.
    pub module: String,
    /// Task number.
    #[serde(default)]
    pub task: u32,
    /// Bucket, as the manifest names it; empty: the only one.
    pub bucket: String,
    /// Keys that begin with these bytes.
    #[serde(default)]
    pub prefix: Hex,
    /// Keys after this one: [`StatePage::last`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Hex>,
    /// At most [`STATE_ENTRIES_MAX`].
    pub entries_max: u32,
}

/// Entries in the order of their keys, as committed when the page was read. Two pages may be of different moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePage {
    /// What was found.
    pub entries: Vec<StateEntry>,
    /// Ask for what comes after this key; absent when there is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Hex>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEntry {
    /// The guest's key.
    pub key: Hex,
    /// The guest's value.
    pub value: Hex,
}

/// Bytes, written in hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex(pub Vec<u8>);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| Some(super::nibble(pair[0])? << 4 | super::nibble(pair[1])?);
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        let bytes = bytes.filter(|_| rest.is_empty());
        bytes
            .map(Hex)
            .ok_or_else(|| de::Error::custom("bytes are pairs of hexadecimal digits"))
    }
}
