//! How values are kept: the binary form of entries and rows.
//!
//! Numbers are big-endian, counts and lengths are LEB128, options are a byte. [`Writer`] gives a rope in which large payloads are
//! shared, not copied; [`Reader`] gives them back as slices of what it reads. Anything read is bounded by the bytes that remain,
//! so that damage is an error and never an allocation. Nothing here knows what the values mean; who changes the fields of a kept
//! value gives it a new tag, because old entries are read for ever.
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::{ids::Uuid, records::Records};

/// Payloads of at least this many bytes are shared with the writer's caller; smaller ones are cheaper to copy.
const SHARED_BYTES_MIN: usize = 512;

/// The bytes are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed entry or row: {0}")]
pub struct Malformed(pub &'static str);

/// A value with a kept form.
pub trait Stored: Sized {
    /// Writes the value.
    fn store(&self, to: &mut Writer);
    /// Reads what [`Stored::store`] wrote.
    fn restore(from: &mut Reader) -> Result<Self, Malformed>;

    /// The value as one piece, for rows.
    fn to_row(&self) -> Bytes {
        let mut writer = Writer::default();
        self.store(&mut writer);
        writer.into_bytes()
    }

    /// Reads a whole row: bytes left over are an error.
    fn from_row(row: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(row.clone());
        let value = Self::restore(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

/// Collects the kept form of values.
#[derive(Debug, Default)]
pub struct Writer {
    chunks: Vec<Bytes>,
    tail: Vec<u8>,
}

impl Writer {
    /// With room for so many bytes that are copied.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            chunks: Vec::new(),
            tail: Vec::with_capacity(bytes),
        }
    }

    /// Copies raw bytes.
    pub fn put(&mut self, raw: &[u8]) {
        self.tail.extend_from_slice(raw);
    }

    /// A count or length.
    pub fn count(&mut self, count: usize) {
        let mut rest = count;
        while 0x80 <= rest {
            self.tail.push(low_bits(rest) | 0x80);
            rest >>= 7;
        }
        self.tail.push(low_bits(rest));
    }

    /// Raw bytes that may be shared instead of copied.
    pub fn share(&mut self, payload: &Bytes) {
        if payload.len() < SHARED_BYTES_MIN {
            self.put(payload);
            return;
        }
        if !self.tail.is_empty() {
            self.chunks.push(Bytes::from(core::mem::take(&mut self.tail)));
        }
        self.chunks.push(payload.clone());
    }

    /// The rope.
    pub fn into_chunks(mut self) -> Vec<Bytes> {
        if !self.tail.is_empty() {
            self.chunks.push(Bytes::from(self.tail));
        }
        self.chunks
    }

    /// Everything in one piece.
    pub fn into_bytes(self) -> Bytes {
        let chunks = self.into_chunks();
        match <[Bytes; 1]>::try_from(chunks) {
            Ok([only]) => only,
            Err(chunks) => chunks.concat().into(),
        }
    }
}

fn low_bits(number: usize) -> u8 {
    u8::try_from(number & 0x7f).expect("seven bits fit")
}

/// Reads kept values, slicing what it is given.
#[derive(Clone, Debug)]
pub struct Reader {
    data: Bytes,
    at: usize,
}

impl Reader {
    /// Reads from the start of `data`.
    pub fn new(data: Bytes) -> Reader {
        Reader { data, at: 0 }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    /// The next `N` bytes.
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let end = self.at.checked_add(N).ok_or(Malformed("length overflows"))?;
        let raw = self.data.get(self.at..end).ok_or(Malformed("ends early"))?;
        self.at = end;
        Ok(raw.try_into().expect("the slice has N bytes"))
    }

    /// A count or length, which is never more than the bytes that remain.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let mut count: u64 = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take()?;
            count |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let count = usize::try_from(count).map_err(|_| Malformed("count too large"))?;
                return if count <= self.remaining() {
                    Ok(count)
                } else {
                    Err(Malformed("count exceeds what remains"))
                };
            }
        }
        Err(Malformed("count too long"))
    }

    /// The next `len` bytes, shared.
    pub fn share(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if len > self.remaining() {
            return Err(Malformed("ends early"));
        }
        let payload = self.data.slice(self.at..self.at + len);
        self.at += len;
        Ok(payload)
    }

    /// Nothing may be left.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(Malformed("bytes left over"))
        }
    }
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Stored for $type {
            fn store(&self, to: &mut Writer) {
                to.put(&self.to_be_bytes());
            }
            fn restore(from: &mut Reader) -> Result<Self, Malformed> {
                Ok(<$type>::from_be_bytes(from.take()?))
            }
        }
    )*};
}
number!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Stored for bool {
    fn store(&self, to: &mut Writer) {
        to.put(&[u8::from(*self)]);
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        match from.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Malformed("not a flag")),
        }
    }
}

impl Stored for () {
    fn store(&self, _to: &mut Writer) {}
    fn restore(_from: &mut Reader) -> Result<Self, Malformed> {
        Ok(())
    }
}

impl Stored for f64 {
    fn store(&self, to: &mut Writer) {
        to.put(&self.to_bits().to_be_bytes());
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        Ok(f64::from_bits(u64::from_be_bytes(from.take()?)))
    }
}

impl<const N: usize> Stored for [u8; N] {
    fn store(&self, to: &mut Writer) {
        to.put(self);
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        from.take()
    }
}

impl Stored for Uuid {
    fn store(&self, to: &mut Writer) {
        to.put(&self.0);
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        Ok(Uuid(from.take()?))
    }
}

impl Stored for crate::effect::LogId {
    fn store(&self, to: &mut Writer) {
        self.0.store(to);
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        Ok(crate::effect::LogId(u32::restore(from)?))
    }
}

impl Stored for String {
    fn store(&self, to: &mut Writer) {
        to.count(self.len());
        to.put(self.as_bytes());
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        let len = from.count()?;
        let raw = from.share(len)?;
        Ok(core::str::from_utf8(&raw)
            .map_err(|_| Malformed("text is not UTF-8"))?
            .into())
    }
}

impl Stored for Bytes {
    fn store(&self, to: &mut Writer) {
        to.count(self.len());
        to.share(self);
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        let len = from.count()?;
        from.share(len)
    }
}

impl Stored for Records {
    fn store(&self, to: &mut Writer) {
        to.count(self.len());
        for chunk in self.chunks() {
            to.share(chunk);
        }
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        Ok(Records::from(Bytes::restore(from)?))
    }
}

impl<T: Stored> Stored for Option<T> {
    fn store(&self, to: &mut Writer) {
        self.is_some().store(to);
        if let Some(value) = self {
            value.store(to);
        }
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        if bool::restore(from)? {
            Ok(Some(T::restore(from)?))
        } else {
            Ok(None)
        }
    }
}

impl<T: Stored> Stored for Vec<T> {
    fn store(&self, to: &mut Writer) {
        to.count(self.len());
        for value in self {
            value.store(to);
        }
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        let count = from.count()?;
        // Grows as elements prove to be there: a count alone reserves little.
        let mut values = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            values.push(T::restore(from)?);
        }
        Ok(values)
    }
}

impl<K: Stored + Ord, V: Stored> Stored for BTreeMap<K, V> {
    fn store(&self, to: &mut Writer) {
        to.count(self.len());
        for (key, value) in self {
            key.store(to);
            value.store(to);
        }
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        let count = from.count()?;
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let key = K::restore(from)?;
            map.insert(key, V::restore(from)?);
        }
        Ok(map)
    }
}

impl<K: Stored + Ord> Stored for alloc::collections::BTreeSet<K> {
    fn store(&self, to: &mut Writer) {
        to.count(self.len());
        for key in self {
            key.store(to);
        }
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        let count = from.count()?;
        let mut set = Self::new();
        for _ in 0..count {
            set.insert(K::restore(from)?);
        }
        Ok(set)
    }
}

macro_rules! tuple {
    ($($type:ident $index:tt),*) => {
        impl<$($type: Stored),*> Stored for ($($type,)*) {
            fn store(&self, to: &mut Writer) {
                $(self.$index.store(to);)*
            }
            fn restore(from: &mut Reader) -> Result<Self, Malformed> {
                Ok(($($type::restore(from)?,)*))
            }
        }
    };
}
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);

/// Declares a kept struct, or a kept enum whose variants carry one value each and name their tag:
/// `pub enum Change { Created(Created) = 1, Deleted(Deleted) = 2, }`.
#[macro_export]
macro_rules! stored {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl $crate::stored::Stored for $name {
            fn store(&self, to: &mut $crate::stored::Writer) {
                $(self.$field.store(to);)*
            }
            fn restore(from: &mut $crate::stored::Reader) -> Result<Self, $crate::stored::Malformed> {
                Ok($name { $($field: <$type as $crate::stored::Stored>::restore(from)?,)* })
            }
        }
    };
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident($type:ty) = $tag:literal,)* }) => {
        $(#[$meta])*
        pub enum $name { $($(#[$variant_meta])* $variant($type),)* }

        impl $crate::stored::Stored for $name {
            fn store(&self, to: &mut $crate::stored::Writer) {
                match self { $($name::$variant(value) => { to.put(&[$tag]); value.store(to); })* }
            }
            fn restore(from: &mut $crate::stored::Reader) -> Result<Self, $crate::stored::Malformed> {
                match from.take()? {
                    $([$tag] => Ok($name::$variant(<$type as $crate::stored::Stored>::restore(from)?)),)*
                    _ => Err($crate::stored::Malformed(concat!("unknown ", stringify!($name)))),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::vec;

    #[test]
    fn a_value_comes_back_as_it_was_kept() {
        let value = (
            vec![Some(String::from("a")), None],
            Bytes::from(vec![7; 4000]),
            (-1i64, true),
        );
        let mut writer = Writer::default();
        value.store(&mut writer);
        assert_eq!(Stored::from_row(&writer.into_bytes()), Ok(value));
    }

    #[test]
    fn a_large_payload_is_shared_both_ways() {
        let payload = Bytes::from(vec![7; 4000]);
        let mut writer = Writer::default();
        payload.store(&mut writer);
        let chunks = writer.into_chunks();
        assert_eq!(chunks[1].as_ptr(), payload.as_ptr());
        let whole = Bytes::from(chunks.concat());
        let read = Bytes::restore(&mut Reader::new(whole.clone())).unwrap();
        assert_eq!(read.as_ptr(), whole[2..].as_ptr());
    }

    #[test]
    fn a_count_beyond_what_remains_is_refused() {
        assert!(Vec::<u8>::from_row(&Bytes::from_static(&[0xff, 0xff, 0x03, 1])).is_err());
    }
}
