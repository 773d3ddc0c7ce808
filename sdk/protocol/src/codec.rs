//! How Kafka lays values out in bytes, and the macro that describes a message once.
//!
//! A message is a struct given to `messages!`: each field with its type, default, versions, and tag. From that one description
//! come the struct, its `Default`, and its [`Value`]: encoding and decoding for every version. The size of a message is its encoding into a
//! [`Counter`].
//!
//! Guarantees: decoding never panics, and never allocates more than a small multiple of the bytes given, because every count is checked against
//! the bytes that remain before anything is allocated. Encoding never copies large payloads: they are shared into the [`Rope`].
//!
//! It does not keep unknown tagged fields: they are skipped.

mod error;
pub(crate) mod macros;
pub(crate) mod reader;
mod sink;
pub(crate) mod value;

pub use error::{DecodeError, EncodeError};
pub(crate) use macros::messages;
pub use reader::Reader;
pub use sink::{Counter, Rope, Sink, Size, Writer};
pub use value::{Form, Nullable, Value};

/// Something that can be encoded without being told how.
pub(crate) trait Put {
    /// Puts all of it.
    fn put(&self, to: &mut impl Sink);
}

/// Size of an encoding.
pub(crate) fn measure(what: &impl Put) -> Result<Size, EncodeError> {
    let mut counter = Counter::default();
    what.put(&mut counter);
    counter.finish()
}

/// Encodes in one pass over the size and one over the bytes, so that everything but shared payloads lies in a single allocation.
pub(crate) fn to_rope(what: &impl Put) -> Result<Rope, EncodeError> {
    let mut writer = Writer::for_size(measure(what)?);
    what.put(&mut writer);
    Ok(writer.finish())
}

/// Takes tagged fields none of which is known.
pub(crate) fn skip_tagged_fields(from: &mut Reader) -> Result<(), DecodeError> {
    from.tagged_fields(|_, _| Ok(reader::Tagged::Skipped))
}
