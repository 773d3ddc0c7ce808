//! Administration: topics, offsets and groups in Kafka's protocol, modules in the management protocol.
//!
//! What changes something is asked once: whether to ask again after an error is the caller's, who can see from
//! [`Error::has_no_side_effects`](crate::Error::has_no_side_effects) whether it may have been done. What only looks is
//! repeated after retriable errors.

mod groups;
mod modules;
mod records;
mod topics;

use std::sync::Arc;
use std::time::Duration;

pub use self::groups::{GroupDescription, GroupListing, GroupMember};
pub use self::modules::{Answers, Deploy};
pub use self::topics::{ConfigChange, ConfigEntry, NewTopic};
use crate::client::Inner;

/// Administers a cluster. Made by [`Client::admin`](crate::Client::admin); clones are equal.
///
/// ```no_run
/// # async fn example(client: tidemill_client::Client) -> tidemill_client::Result<()> {
/// use tidemill_client::NewTopic;
///
/// let admin = client.admin();
/// admin.create_topic(NewTopic::new("clicks", 12).config("retention.ms", "86400000")).await?;
/// for topic in admin.list_topics().await? {
///     println!("{} has {} partitions", topic.name, topic.partitions.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Admin {
    client: Arc<Inner>,
}

impl Admin {
    pub(crate) fn new(client: Arc<Inner>) -> Admin {
        Admin { client }
    }

    /// How long the broker may take over a change.
    fn timeout_ms(&self) -> i32 {
        let timeout: Duration = self.client.network.request_timeout;
        i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}
