//! The macro that describes messages once.

/// Defines structs and their layout in every version.
///
/// ```text
/// messages! {
///     /// What it is.
///     pub struct FetchRequest {
///         /// Prose.
///         session_id: i32 = 0, in 7..;
///            |         |    |     `- versions that have the field (all, if absent)
///            |         |    `------- default (the type's, if absent)
///            |         `------------ type; an `Option` can be null
///            `---------------------- name, as in Kafka's specification, in snake_case
///         name: Option<String>, nullable 10..;                 null has a layout in these versions only
///         cluster_id: Option<String> = None, in 12.., tag 0;   tagged field, absent when it has its default
///     }
/// }
/// ```
///
/// Fields come in the order of their layout; tagged fields in the order of their tags. Fields that a version lacks are not written, and have
/// their defaults when read.
macro_rules! messages {
    (
        $(
            $(#[$meta:meta])*
            pub struct $name:ident {
                $(
                    $(#[$field_meta:meta])*
                    $field:ident: $type:ty
                    $(= $default:expr)?
                    $(, in $versions:expr)?
                    $(, nullable $nullable:expr)?
                    $(, tag $tag:literal)?
                    ;
                )*
            }
        )*
    ) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $name {
                $($(#[$field_meta])* pub $field: $type,)*
            }

            impl Default for $name {
                fn default() -> Self {
                    Self { $($field: $crate::codec::macros::default!($($default)?),)* }
                }
            }

            #[allow(unused_variables, unused_mut, reason = "a message may have no fields, or none that differ from version to version")]
            impl $crate::codec::Value for $name {
                fn encode(&self, to: &mut impl $crate::codec::Sink, form: $crate::codec::Form) {
                    $(
                        $crate::codec::macros::positional!([$($tag)?] {
                            if $crate::codec::macros::within!(form $(, $versions)?) {
                                $crate::codec::macros::encode!(self.$field, to, form $(, $nullable)?);
                            }
                        });
                    )*
                    if !form.flexible {
                        return;
                    }
                    let mut count = 0;
                    $(
                        $crate::codec::macros::tagged!([$($tag)?] {
                            let default: $type = $crate::codec::macros::default!($($default)?);
                            if $crate::codec::macros::within!(form $(, $versions)?) && self.$field != default {
                                count += 1;
                            }
                        });
                    )*
                    to.put_unsigned_varint(count);
                    $(
                        $crate::codec::macros::tagged!([$($tag)?] {
                            let default: $type = $crate::codec::macros::default!($($default)?);
                            if $crate::codec::macros::within!(form $(, $versions)?) && self.$field != default {
                                to.put_unsigned_varint(0 $(+ $tag)?);
                                $crate::codec::macros::encode_sized(&self.$field, to, form);
                            }
                        });
                    )*
                }

                fn decode(
                    from: &mut $crate::codec::Reader,
                    form: $crate::codec::Form,
                ) -> Result<Self, $crate::codec::DecodeError> {
                    let mut value = Self::default();
                    $(
                        $crate::codec::macros::positional!([$($tag)?] {
                            if $crate::codec::macros::within!(form $(, $versions)?) {
                                value.$field = $crate::codec::macros::decode!(from, form $(, $nullable)?);
                            }
                        });
                    )*
                    if form.flexible {
                        from.tagged_fields(|tag, from| {
                            $(
                                $crate::codec::macros::tagged!([$($tag)?] {
                                    if tag == 0 $(+ $tag)? && $crate::codec::macros::within!(form $(, $versions)?) {
                                        value.$field = $crate::codec::Value::decode(from, form)?;
                                        return Ok($crate::codec::reader::Tagged::Taken);
                                    }
                                });
                            )*
                            Ok($crate::codec::reader::Tagged::Skipped)
                        })?;
                    }
                    Ok(value)
                }

                #[cfg(test)]
                fn arbitrary(chance: &mut $crate::arbitrary::Chance, form: $crate::codec::Form) -> Self {
                    let mut value = Self::default();
                    $(
                        if $crate::codec::macros::within!(form $(, $versions)?) {
                            value.$field = $crate::codec::macros::arbitrary!(chance, form $(, $nullable)?);
                        }
                    )*
                    value
                }
            }

            impl $crate::codec::Nullable for $name {
                fn encode_nullable(value: Option<&Self>, to: &mut impl $crate::codec::Sink, form: $crate::codec::Form) {
                    $crate::codec::macros::encode_nullable_struct(value, to, form);
                }

                fn decode_nullable(
                    from: &mut $crate::codec::Reader,
                    form: $crate::codec::Form,
                ) -> Result<Option<Self>, $crate::codec::DecodeError> {
                    $crate::codec::macros::decode_nullable_struct(from, form)
                }
            }
        )*
    };
}

/// The default given, or that of the type.
macro_rules! default {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

/// Whether a version is among those given; none given means all.
macro_rules! within {
    ($form:expr) => {
        true
    };
    ($form:expr, $versions:expr) => {
        ($versions).contains(&$form.version)
    };
}

/// Keeps code for a field without a tag.
macro_rules! positional {
    ([] { $($code:tt)* }) => { $($code)* };
    ([$tag:literal] { $($code:tt)* }) => {};
}

/// Keeps code for a field with a tag.
macro_rules! tagged {
    ([] { $($code:tt)* }) => {};
    ([$tag:literal] { $($code:tt)* }) => { $($code)* };
}

/// Puts a field, which may be null in some versions only.
macro_rules! encode {
    ($field:expr, $to:expr, $form:expr) => {
        $crate::codec::Value::encode(&$field, $to, $form)
    };
    ($field:expr, $to:expr, $form:expr, $nullable:expr) => {
        if ($nullable).contains(&$form.version) {
            $crate::codec::Value::encode(&$field, $to, $form)
        } else {
            $crate::codec::value::encode_required(&$field, $to, $form)
        }
    };
}

/// Takes a field, which may be null in some versions only.
macro_rules! decode {
    ($from:expr, $form:expr) => {
        $crate::codec::Value::decode($from, $form)?
    };
    ($from:expr, $form:expr, $nullable:expr) => {
        if ($nullable).contains(&$form.version) {
            $crate::codec::Value::decode($from, $form)?
        } else {
            Some($crate::codec::Value::decode($from, $form)?)
        }
    };
}

/// Makes up a field, which may be null in some versions only.
#[cfg(test)]
macro_rules! arbitrary {
    ($chance:expr, $form:expr) => {
        $crate::codec::Value::arbitrary($chance, $form)
    };
    ($chance:expr, $form:expr, $nullable:expr) => {
        if ($nullable).contains(&$form.version) {
            $crate::codec::Value::arbitrary($chance, $form)
        } else {
            Some($crate::codec::Value::arbitrary($chance, $form))
        }
    };
}

#[cfg(test)]
pub(crate) use arbitrary;
pub(crate) use {decode, default, encode, messages, positional, tagged, within};

use super::{Counter, DecodeError, Form, Reader, Sink, Value};

/// Puts the value of a tagged field behind its size.
pub(crate) fn encode_sized(value: &impl Value, to: &mut impl Sink, form: Form) {
    let mut counter = Counter::default();
    value.encode(&mut counter, form);
    match u32::try_from(counter.total()) {
        Ok(size) if counter.finish().is_ok() => to.put_unsigned_varint(size),
        _ => to.fail(),
    }
    value.encode(to, form);
}

/// Puts a struct behind a byte that says whether it is there.
pub(crate) fn encode_nullable_struct<T: Value>(value: Option<&T>, to: &mut impl Sink, form: Form) {
    let Some(value) = value else {
        return to.put(&(-1i8).to_be_bytes());
    };
    to.put(&1i8.to_be_bytes());
    value.encode(to, form);
}

/// Takes a struct behind a byte that says whether it is there.
pub(crate) fn decode_nullable_struct<T: Value>(from: &mut Reader, form: Form) -> Result<Option<T>, DecodeError> {
    match from.i8()? {
        marker if marker < 0 => Ok(None),
        _ => T::decode(from, form).map(Some),
    }
}
