//! Optional: moves state from the layout of one version to that of the next, during an upgrade.
use crate::error::Error;

pub use crate::{
    bindings::tidemill::processor::types::Task, exports::migrator::exports::tidemill::processor::migrator::Progress,
};

/// How a module takes over the state of an earlier version. Hand the type that implements it to [`crate::module!`] as
/// `migrator = MyType`.
///
/// State is reached as always, through [`crate::state`], in the buckets that the new version's manifest declares: one that is only read
/// here has to be declared, too. What is read and written is a copy of all of the task's state, which replaces it when the copies of all
/// tasks are done; what is not touched stays as it is, timers among it, and what expires does so when it would have. There are no records,
/// timers or outputs. A crash loses at most the call at hand: the next one has the same cursor, over what the calls before it left.
///
/// ```
/// use tidemill_guest::{lifecycle::Task, prelude::*};
///
/// struct Next;
///
/// impl Migrator for Next {
///     const STATE_VERSION: u32 = 2;
///
///     /// Values get a prefix, a hundred keys a call.
///     fn migrate(_task: &Task, from_version: u32, cursor: Option<Vec<u8>>) -> Result<Progress, Error> {
///         if from_version != 1 {
///             return Err(Error::fatal(format!("there is no way from layout {from_version}")));
///         }
///         let names = state::open("names")?;
///         for (n, (key, value)) in names.scan(&cursor.unwrap_or_default(), b"", 101)?.into_iter().enumerate() {
///             if n == 100 {
///                 return Ok(Progress::More(key));
///             }
///             names.set(&key, &[b"v2:", value.as_slice()].concat())?;
///         }
///         Ok(Progress::Done)
///     }
/// }
///
/// fn process(_: &Batch) -> Result<Ack, Error> {
///     Ok(Ack::All)
/// }
///
/// let mut bench = tidemill_guest::testing::Bench::new(process).bucket("names");
/// bench.set_state("names", b"ann", b"Ann");
/// assert_eq!(bench.migrate::<Next>(1), Ok(1));
/// assert_eq!(bench.state("names", b"ann"), Some(b"v2:Ann".to_vec()));
/// ```
pub trait Migrator {
    /// The layout that this version reads and writes; a module without a migrator has 0.
    const STATE_VERSION: u32;

    /// Rewrites a part of the task's state: as much as fits in `limits.state-write-bytes` and `batch.timeout`.
    /// [`Progress::More`] has it committed and called again with that cursor.
    ///
    /// # Errors
    /// The upgrade is given up, and the earlier version goes on with its state as it was.
    fn migrate(task: &Task, from_version: u32, cursor: Option<Vec<u8>>) -> Result<Progress, Error>;
}
