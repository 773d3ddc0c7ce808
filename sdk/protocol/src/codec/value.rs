//! The layout of every type that a message field can have.

use alloc::{string::String, vec::Vec};
use bytes::Bytes;

use super::{DecodeError, Reader, Sink, reader::Width};
use crate::{error_code::ErrorCode, ids::Uuid, records::Records};

/// Which of a message's layouts is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Version of the API.
    pub version: i16,
    /// Compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
}

/// Something with a layout.
pub trait Value: Sized {
    /// Puts the value. Infallible: a value too long for its length field is reported by [`Sink::fail`].
    fn encode(&self, to: &mut impl Sink, form: Form);
    /// Takes the value.
    fn decode(from: &mut Reader, form: Form) -> Result<Self, DecodeError>;
    /// Makes a value such as this version can carry.
    #[cfg(test)]
    fn arbitrary(chance: &mut crate::arbitrary::Chance, form: Form) -> Self;
}

/// A value that can be null. Its null differs from type to type.
pub trait Nullable: Value + Default {
    /// Puts the value or null.
    fn encode_nullable(value: Option<&Self>, to: &mut impl Sink, form: Form);
    /// Takes the value or null.
    fn decode_nullable(from: &mut Reader, form: Form) -> Result<Option<Self>, DecodeError>;
}

impl<T: Nullable> Value for Option<T> {
    fn encode(&self, to: &mut impl Sink, form: Form) {
        T::encode_nullable(self.as_ref(), to, form);
    }

    fn decode(from: &mut Reader, form: Form) -> Result<Self, DecodeError> {
        T::decode_nullable(from, form)
    }

    #[cfg(test)]
    fn arbitrary(chance: &mut crate::arbitrary::Chance, form: Form) -> Self {
        chance.flip().then(|| T::arbitrary(chance, form))
    }
}

/// Puts a nullable value in a version in which null has no layout: null becomes the empty value, as in Metadata version 0.
pub(crate) fn encode_required<T: Nullable>(value: &Option<T>, to: &mut impl Sink, form: Form) {
    match value {
        Some(value) => value.encode(to, form),
        None => T::default().encode(to, form),
    }
}

macro_rules! fixed_width {
    ($($type:ident)*) => {
        $(
            impl Value for $type {
                fn encode(&self, to: &mut impl Sink, _: Form) {
                    to.put(&self.to_be_bytes());
                }

                fn decode(from: &mut Reader, _: Form) -> Result<Self, DecodeError> {
                    from.$type()
                }

                #[cfg(test)]
                fn arbitrary(chance: &mut crate::arbitrary::Chance, _: Form) -> Self {
                    Self::from_be_bytes(chance.bytes())
                }
            }
        )*
    };
}

fixed_width!(i8 i16 u16 i32 u32 i64);

impl Value for f64 {
    fn encode(&self, to: &mut impl Sink, _: Form) {
        to.put(&self.to_be_bytes());
    }

    fn decode(from: &mut Reader, _: Form) -> Result<Self, DecodeError> {
        from.f64()
    }

    /// Never NaN, which would not equal itself.
    #[cfg(test)]
    fn arbitrary(chance: &mut crate::arbitrary::Chance, _: Form) -> Self {
        f64::from(i32::from_be_bytes(chance.bytes()))
    }
}

impl Value for bool {
    fn encode(&self, to: &mut impl Sink, _: Form) {
        to.put(&[u8::from(*self)]);
    }

    fn decode(from: &mut Reader, _: Form) -> Result<Self, DecodeError> {
        Ok(from.u8()? != 0)
    }

    #[cfg(test)]
    fn arbitrary(chance: &mut crate::arbitrary::Chance, _: Form) -> Self {
        chance.flip()
    }
}

impl Value for ErrorCode {
    fn encode(&self, to: &mut impl Sink, form: Form) {
        self.0.encode(to, form);
    }

    fn decode(from: &mut Reader, form: Form) -> Result<Self, DecodeError> {
        i16::decode(from, form).map(Self)
    }

    #[cfg(test)]
    fn arbitrary(chance: &mut crate::arbitrary::Chance, form: Form) -> Self {
        Self(i16::arbitrary(chance, form))
    }
}

impl Value for Uuid {
    fn encode(&self, to: &mut impl Sink, _: Form) {
        to.put(&self.0);
    }

    fn decode(from: &mut Reader, _: Form) -> Result<Self, DecodeError> {
        from.array().map(Self)
    }

    #[cfg(test)]
    fn arbitrary(chance: &mut crate::arbitrary::Chance, _: Form) -> Self {
        Self(chance.bytes())
    }
}

/// Types that are a length and then content: they differ in the width of the length and in the content only.
trait Sized32: Default {
    const WIDTH: Width;
    fn length(&self) -> usize;
    fn encode_content(&self, to: &mut impl Sink, form: Form);
    fn decode_content(from: &mut Reader, length: usize, form: Form) -> Result<Self, DecodeError>;
    #[cfg(test)]
    fn arbitrary_content(chance: &mut crate::arbitrary::Chance, form: Form) -> Self;
}

fn encode_length(length: usize, width: Width, to: &mut impl Sink, form: Form) {
    if length > width.length_max(form.flexible) {
        return to.fail();
    }
    // Both conversions are exact below `length_max`; the fallback is what an oversized value never reaches.
    if form.flexible {
        return to.put_unsigned_varint(u32::try_from(length + 1).unwrap_or(0));
    }
    match width {
        Width::Two => to.put(&i16::try_from(length).unwrap_or(0).to_be_bytes()),
        Width::Four => to.put(&i32::try_from(length).unwrap_or(0).to_be_bytes()),
    }
}

fn encode_null(width: Width, to: &mut impl Sink, form: Form) {
    match (form.flexible, width) {
        (true, _) => to.put(&[0]),
        (false, Width::Two) => to.put(&(-1i16).to_be_bytes()),
        (false, Width::Four) => to.put(&(-1i32).to_be_bytes()),
    }
}

macro_rules! length_prefixed {
    ($type:ty $(, $($generics:tt)*)?) => {
        impl$(<$($generics)*>)? Value for $type {
            fn encode(&self, to: &mut impl Sink, form: Form) {
                encode_length(self.length(), Self::WIDTH, to, form);
                self.encode_content(to, form);
            }

            fn decode(from: &mut Reader, form: Form) -> Result<Self, DecodeError> {
                Self::decode_nullable(from, form)?.ok_or(DecodeError::InvalidLength(-1))
            }

            #[cfg(test)]
            fn arbitrary(chance: &mut crate::arbitrary::Chance, form: Form) -> Self {
                Self::arbitrary_content(chance, form)
            }
        }

        impl$(<$($generics)*>)? Nullable for $type {
            fn encode_nullable(value: Option<&Self>, to: &mut impl Sink, form: Form) {
                match value {
                    Some(value) => value.encode(to, form),
                    None => encode_null(Self::WIDTH, to, form),
                }
            }

            fn decode_nullable(from: &mut Reader, form: Form) -> Result<Option<Self>, DecodeError> {
                let Some(length) = from.length(Self::WIDTH, form.flexible)? else {
                    return Ok(None);
                };
                Self::decode_content(from, length, form).map(Some)
            }
        }
    };
}

length_prefixed!(String);
length_prefixed!(Bytes);
length_prefixed!(Records);
length_prefixed!(Vec<T>, T: Value);

impl Sized32 for String {
    const WIDTH: Width = Width::Two;

    fn length(&self) -> usize {
        self.len()
    }

    fn encode_content(&self, to: &mut impl Sink, _: Form) {
        to.put(self.as_bytes());
    }

    fn decode_content(from: &mut Reader, length: usize, _: Form) -> Result<Self, DecodeError> {
        let bytes = from.take(length)?;
        let text = core::str::from_utf8(&bytes).map_err(|_| DecodeError::InvalidUtf8)?;
        Ok(text.into())
    }

    #[cfg(test)]
    fn arbitrary_content(chance: &mut crate::arbitrary::Chance, _: Form) -> Self {
        chance.string()
    }
}

impl Sized32 for Bytes {
    const WIDTH: Width = Width::Four;

    fn length(&self) -> usize {
        self.len()
    }

    fn encode_content(&self, to: &mut impl Sink, _: Form) {
        to.share(self);
    }

    fn decode_content(from: &mut Reader, length: usize, _: Form) -> Result<Self, DecodeError> {
        from.take(length)
    }

    #[cfg(test)]
    fn arbitrary_content(chance: &mut crate::arbitrary::Chance, _: Form) -> Self {
        chance.payload()
    }
}

impl Sized32 for Records {
    const WIDTH: Width = Width::Four;

    fn length(&self) -> usize {
        self.len()
    }

    fn encode_content(&self, to: &mut impl Sink, _: Form) {
        for chunk in self.chunks() {
            to.share(chunk);
        }
    }

    fn decode_content(from: &mut Reader, length: usize, _: Form) -> Result<Self, DecodeError> {
        from.take(length).map(Self::from)
    }

    #[cfg(test)]
    fn arbitrary_content(chance: &mut crate::arbitrary::Chance, _: Form) -> Self {
        Self::from(chance.payload())
    }
}

impl<T: Value> Sized32 for Vec<T> {
    const WIDTH: Width = Width::Four;

    fn length(&self) -> usize {
        self.len()
    }

    fn encode_content(&self, to: &mut impl Sink, form: Form) {
        for element in self {
            element.encode(to, form);
        }
    }

    /// An element takes a byte at least, so a count above the remaining bytes is a lie. What is reserved at once is no larger than what remains;
    /// beyond that the vector grows only as elements are really there.
    fn decode_content(from: &mut Reader, count: usize, form: Form) -> Result<Self, DecodeError> {
        let remaining = from.remaining();
        if count > remaining {
            return Err(DecodeError::TooMany { count, remaining });
        }
        let mut elements = Self::with_capacity(count.min(remaining / size_of::<T>().max(1)));
        for _ in 0..count {
            elements.push(T::decode(from, form)?);
        }
        Ok(elements)
    }

    #[cfg(test)]
    fn arbitrary_content(chance: &mut crate::arbitrary::Chance, form: Form) -> Self {
        (0..chance.below(4)).map(|_| T::arbitrary(chance, form)).collect()
    }
}
