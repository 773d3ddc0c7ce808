//! Makes entries durable in a journal, and keeps partitions and state in redb: "commit fast, settle well".
//!
//! ```text
//!   entry --> journal (one write, one sync for all who wait) --> acknowledged
//!     |                                                            |
//!     +-- apply --> publish --> tail of each log, overlay of rows  | recycled
//!                                   |                              |
//!                                   +-- settle --> segments/<n>.redb, then state.redb
//! ```
//! Guarantees: an acknowledged entry is on stable storage; what a restart finds is a prefix of the entries that has every acknowledged one; rows and
//! logs are the fold of exactly that prefix; damage is reported with its place and never repaired silently.
//! Does not do: know what an entry means (bytes), what a row means (bytes), or what a record is (a batch is a header and bytes); decide what
//! may be read or deleted; talk to the network.

mod ahead;
mod batch;
mod clock;
mod database;
pub mod disk;
mod error;
mod gather;
pub mod journal;
pub mod limits;
mod log;
mod open;
mod overlay;
mod segments;
mod settle;
mod stage;
mod state;
mod storage;

pub use error::Error;
pub use journal::{CommitError, Journal, Writer, Written};
pub use open::{Opened, Options};
pub use settle::{Settled, Settler, Settling};
pub use storage::{Found, Scan, Storage, Usage};
pub use tidemill_broker::effect::{Append, Changes, LogId, LogRead, ReadError, RetentionQuery, Row, Table};
pub use tidemill_protocol::records::Records;
