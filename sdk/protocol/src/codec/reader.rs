//! Takes primitive values off the front of a byte string, without copying and without trusting it.

use bytes::{Buf, Bytes};

use super::DecodeError;

/// A cursor over bytes that came from elsewhere. Every method either takes a whole value or fails.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
}

macro_rules! fixed_width {
    ($($name:ident: $type:ty = $get:ident;)*) => {
        $(
            #[doc = concat!("Takes a big-endian `", stringify!($type), "`.")]
            pub fn $name(&mut self) -> Result<$type, DecodeError> {
                if self.bytes.len() < size_of::<$type>() {
                    return Err(DecodeError::Truncated);
                }
                Ok(self.bytes.$get())
            }
        )*
    };
}

impl Reader {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    fixed_width! {
        u8: u8 = get_u8;
        i8: i8 = get_i8;
        i16: i16 = get_i16;
        u16: u16 = get_u16;
        i32: i32 = get_i32;
        u32: u32 = get_u32;
        i64: i64 = get_i64;
        f64: f64 = get_f64;
    }

    /// Bytes not yet taken.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// All bytes not yet taken.
    pub fn into_rest(self) -> Bytes {
        self.bytes
    }

    /// Takes the next `len` bytes. They share memory with the whole.
    pub fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if self.bytes.len() < len {
            return Err(DecodeError::Truncated);
        }
        Ok(self.bytes.split_to(len))
    }

    /// Takes `N` bytes by value.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(&array) = self.bytes.first_chunk::<N>() else {
            return Err(DecodeError::Truncated);
        };
        self.bytes.advance(N);
        Ok(array)
    }

    /// Takes an unsigned variable-length integer: seven bits a byte, lowest first.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(DecodeError::VarintTooLong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// Takes the length of a string, byte string or array; `None` is null. `Width` is the width of the length in inflexible versions.
    pub(super) fn length(&mut self, width: Width, flexible: bool) -> Result<Option<usize>, DecodeError> {
        let length = match (flexible, width) {
            (true, _) => i64::from(self.unsigned_varint()?) - 1,
            (false, Width::Two) => i64::from(self.i16()?),
            (false, Width::Four) => i64::from(self.i32()?),
        };
        if length == -1 {
            return Ok(None);
        }
        usize::try_from(length)
            .map(Some)
            .map_err(|_| DecodeError::InvalidLength(length))
    }

    /// Takes tagged fields, giving each to `known`, which says whether it took the value. Others are skipped.
    pub(crate) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader) -> Result<Tagged, DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = usize::try_from(self.unsigned_varint()?).map_err(|_| DecodeError::Truncated)?;
            let mut value = Reader::new(self.take(size)?);
            if known(tag, &mut value)? == Tagged::Taken && value.remaining() > 0 {
                return Err(DecodeError::TaggedFieldSize(tag));
            }
        }
        Ok(())
    }
}

/// What became of a tagged field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tagged {
    /// Its value was taken.
    Taken,
    /// Nobody here knows it.
    Skipped,
}

/// Width of a length field in inflexible versions.
#[derive(Clone, Copy)]
pub(crate) enum Width {
    /// Strings.
    Two,
    /// Byte strings and arrays.
    Four,
}

impl Width {
    /// The largest length that such a field can say.
    pub(super) const fn length_max(self, flexible: bool) -> usize {
        match (flexible, self) {
            (false, Self::Two) => i16::MAX as usize,
            _ => i32::MAX as usize - 1,
        }
    }
}
