//! Reading rows: one, or a range in order, from the overlay and the database together.
use std::iter::Peekable;

use bytes::Bytes;

use crate::{Error, Storage, Table};

/// A range of one table's keys.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Which table.
    pub table: Table,
    /// First key.
    pub start: &'a [u8],
    /// Key after the last; `None` to the end of the table.
    pub end: Option<&'a [u8]>,
    /// From the end.
    pub reverse: bool,
    /// Rows at most.
    pub rows_max: usize,
}

impl Storage {
    /// A row as of the last entry published.
    ///
    /// # Errors
    /// If the disk did not give what it should have.
    pub fn get_row(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        // The lock is held while the database is asked: else a row could leave the overlay after it was looked for there, and arrive in the
        // database after it was looked for there.
        let inner = self.shared.read();
        match inner.overlay.get(table, key) {
            Some(value) => Ok(value.clone()),
            None => self.shared.state.get(table, key),
        }
    }

    /// Rows of a range, in order of their keys, as of the last entry published.
    ///
    /// # Errors
    /// If the disk did not give what it should have.
    pub fn scan_rows(&self, scan: Scan<'_>) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let Scan {
            table,
            start,
            end,
            reverse,
            rows_max,
        } = scan;
        let inner = self.shared.read();
        let upper = inner.overlay.upper.range(table, start, end);
        let lower = inner.overlay.lower.range(table, start, end);
        let mut merge = if reverse {
            Merge::new(Box::new(upper.rev()), Box::new(lower.rev()), true, rows_max)
        } else {
            Merge::new(Box::new(upper), Box::new(lower), false, rows_max)
        };
        if 0 < rows_max {
            self.shared
                .state
                .scan(table, start, end, reverse, |key, value| merge.stored(key, value))?;
            merge.finish();
        }
        Ok(merge.rows)
    }
}

type Layered<'a> = Peekable<Box<dyn Iterator<Item = (&'a Bytes, &'a Option<Bytes>)> + 'a>>;

/// Three ordered sources: a key in the upper layer hides the same key in the lower, and that hides the database's.
struct Merge<'a> {
    upper: Layered<'a>,
    lower: Layered<'a>,
    reverse: bool,
    rows_max: usize,
    rows: Vec<(Bytes, Bytes)>,
}

impl<'a> Merge<'a> {
    fn new(
        upper: Box<dyn Iterator<Item = (&'a Bytes, &'a Option<Bytes>)> + 'a>,
        lower: Box<dyn Iterator<Item = (&'a Bytes, &'a Option<Bytes>)> + 'a>,
        reverse: bool,
        rows_max: usize,
    ) -> Self {
        Self {
            upper: upper.peekable(),
            lower: lower.peekable(),
            reverse,
            rows_max,
            rows: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.rows_max <= self.rows.len()
    }

    fn is_before(&self, one: &[u8], other: &[u8]) -> bool {
        if self.reverse { other < one } else { one < other }
    }

    /// The next row of the layers, newest first.
    fn layered(&mut self) -> Option<(Bytes, Option<Bytes>)> {
        let from_upper = match (self.upper.peek(), self.lower.peek()) {
            (Some((upper, _)), Some((lower, _))) => {
                let (upper, lower) = (*upper, *lower);
                if upper == lower {
                    self.lower.next();
                    true
                } else {
                    self.is_before(upper, lower)
                }
            }
            (upper, _) => upper.is_some(),
        };
        let next = if from_upper {
            self.upper.next()
        } else {
            self.lower.next()
        };
        next.map(|(key, value)| (key.clone(), value.clone()))
    }

    fn peek_key(&mut self) -> Option<Bytes> {
        let upper = self.upper.peek().map(|(key, _)| (*key).clone());
        let lower = self.lower.peek().map(|(key, _)| (*key).clone());
        match (upper, lower) {
            (Some(upper), Some(lower)) => Some(if self.is_before(&lower, &upper) { lower } else { upper }),
            (upper, lower) => upper.or(lower),
        }
    }

    fn push_layered(&mut self) {
        if let Some((key, Some(value))) = self.layered() {
            self.rows.push((key, value));
        }
    }

    /// Takes the next row of the database, after all that come before it; false when there are enough.
    fn stored(&mut self, key: &[u8], value: &[u8]) -> bool {
        while !self.is_full() {
            match self.peek_key() {
                Some(layered) if self.is_before(&layered, key) => self.push_layered(),
                Some(layered) if layered == key => {
                    self.push_layered();
                    return !self.is_full();
                }
                _ => {
                    self.rows
                        .push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                    return !self.is_full();
                }
            }
        }
        false
    }

    fn finish(&mut self) {
        while !self.is_full() && self.peek_key().is_some() {
            self.push_layered();
        }
    }
}
