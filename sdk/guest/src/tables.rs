//! Lookups in topics that the node keeps materialised: the latest value of each key. Read-only, and possibly a little behind the topic.
//!
//! A lookup is a call to the host: ask for the keys of a batch together ([`Table::get_many`]).
use crate::{
    error::Error,
    sys::{self, TableError},
};

/// A table that the manifest declares in `[tables]`.
#[derive(Clone, Debug)]
pub struct Table {
    name: String,
}

/// A table by its name in the manifest. Whether it is declared shows at the first lookup.
#[must_use]
pub fn open(name: &str) -> Table {
    Table { name: name.to_owned() }
}

/// The values of several keys of a table, in their order: one call to the host.
///
/// # Errors
/// [`Error::Fatal`] when the host refuses.
pub fn get_many(table: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    sys::look_up(table, keys).map_err(|e| refused(table, &e))
}

impl Table {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the host refuses.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.get_many(&[key])?.pop().flatten())
    }

    /// The value of a key, from JSON.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the host refuses or the value does not fit `T`.
    pub fn get_json<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, Error> {
        self.get(key)?
            .map(|value| serde_json::from_slice(&value).map_err(Error::fatal))
            .transpose()
    }

    /// The values of several keys, in their order: one call to the host.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the host refuses.
    pub fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        get_many(&self.name, keys)
    }
}

fn refused(table: &str, error: &TableError) -> Error {
    Error::Fatal(match error {
        TableError::AccessDenied => {
            format!("the manifest does not declare the table {table}: add `{table} = \"TOPIC\"` to [tables]")
        }
        TableError::NoSuchTable => format!("the topic of table {table} does not exist"),
        TableError::Other(why) => format!("table {table}: {why}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        batch::Batch,
        error::Ack,
        output::{Message, Output},
        testing::{Bench, Input},
    };

    fn seats(batch: &Batch<'_>) -> Result<Ack, Error> {
        let planes = open("planes");
        let mut out = Output::to("out");
        for record in batch {
            let seats: Option<u32> = planes.get_json(record.key_str()?.as_bytes())?;
            out.push(Message::new().value(Some(format!("{seats:?}").as_bytes())));
        }
        out.send()?;
        Ok(Ack::All)
    }

    fn value(bench: &mut Bench) -> Result<Vec<u8>, Error> {
        let sent = bench.run(&[Input::new("in").key("N1")])?.sent;
        Ok(sent[0].value.clone().unwrap())
    }

    #[test]
    fn a_row_is_seen_from_the_next_call_on_and_deleted_by_none() {
        let mut bench = Bench::new(seats).output("out").table("planes");
        assert_eq!(value(&mut bench).unwrap(), b"None");
        bench.put_row("planes", "N1", Some("55"));
        assert_eq!(value(&mut bench).unwrap(), b"Some(55)");
        bench.put_row("planes", "N1", None::<&str>);
        assert_eq!(value(&mut bench).unwrap(), b"None");
        bench.put_row("planes", "N1", Some("many"));
        assert!(matches!(value(&mut bench), Err(Error::Fatal(_))), "no number");
    }

    #[test]
    fn a_table_that_is_not_declared_is_refused() {
        let error = value(&mut Bench::new(seats).output("out")).unwrap_err();
        assert!(error.to_string().contains("[tables]"), "{error}");
    }
}
