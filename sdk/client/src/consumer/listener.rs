//! What an application may do when partitions come and go.

use std::future::{Future, ready};
use std::pin::Pin;

use super::handle::ConsumerHandle;
use crate::record::TopicPartition;

/// What a callback returns: a boxed future, so that the trait can be used as an object.
pub type Callback<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Told of rebalances. Callbacks run on the consumer's group task while heartbeats go on; the handle they get may be
/// used to seek, pause and commit.
///
/// ```
/// use tidemill_client::{Callback, ConsumerHandle, RebalanceListener, TopicPartition};
///
/// struct CommitOnRevoke;
///
/// impl RebalanceListener for CommitOnRevoke {
///     fn revoked<'a>(&'a self, consumer: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Callback<'a> {
///         Box::pin(async move {
///             if let Err(error) = consumer.commit().await {
///                 eprintln!("{} partitions go without a commit: {error}", partitions.len());
///             }
///         })
///     }
/// }
/// ```
pub trait RebalanceListener: Send + Sync + 'static {
    /// These came. Nothing of them is read before the callback ends, so it may seek.
    fn assigned<'a>(&'a self, _consumer: &'a ConsumerHandle, _partitions: &'a [TopicPartition]) -> Callback<'a> {
        Box::pin(ready(()))
    }

    /// These go, in good order: they are no longer delivered, the application is done with what it had, and the next
    /// owner starts only after this callback and the commit that follows it (with auto-commit) are done.
    fn revoked<'a>(&'a self, _consumer: &'a ConsumerHandle, _partitions: &'a [TopicPartition]) -> Callback<'a> {
        Box::pin(ready(()))
    }

    /// These are gone: the group took this member for dead, another may own them already, and commits are refused.
    fn lost<'a>(&'a self, _consumer: &'a ConsumerHandle, _partitions: &'a [TopicPartition]) -> Callback<'a> {
        Box::pin(ready(()))
    }
}
