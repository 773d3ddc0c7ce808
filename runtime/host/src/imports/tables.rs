//! `tables`: lookups in topics that are materialised on the node.
//!
//! Nothing is remembered between two calls: a table moves on while the guest runs.
use crate::{
    bindings::tidemill::processor::tables::{Error, Host},
    call::Guest,
    limits,
    log::cut,
};

impl Host for Guest {
    fn get_many(&mut self, table: String, keys: Vec<Vec<u8>>) -> wasmtime::Result<Result<Vec<Option<Vec<u8>>>, Error>> {
        let call = self.tasked()?;
        let Some(view) = call.run.tables.get(&table).copied() else {
            call.hit(format!(
                "table `{0}` is not declared: add `{0} = \"TOPIC\"` to `[tables]` in the manifest",
                cut(&table, 100)
            ));
            return Ok(Err(Error::AccessDenied));
        };
        let Some(view) = view else {
            return Ok(Err(Error::NoSuchTable));
        };
        let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for (n, key) in keys.iter().enumerate() {
            if n % 64 == 0 {
                call.check_time()?;
            }
            let value = call.reader.look_up(view, key);
            bytes += value.as_ref().map_or(0, |value| value.len());
            if limits::HOST_CALL_BYTES_MAX < bytes {
                return Ok(Err(Error::Other(format!(
                    "the answer is larger than {} bytes: ask for fewer keys",
                    limits::HOST_CALL_BYTES_MAX
                ))));
            }
            values.push(value.map(Vec::from));
        }
        Ok(Ok(values))
    }
}
