//! Bounds of groups. What a client sends is refused above them, before it is kept.

/// Groups with members, and groups that somebody is joining.
pub const GROUPS_MAX: usize = 100_000;

/// Members of one group, as Kafka's `group.max.size`. Ids given out and not used yet are counted too.
pub const MEMBERS_MAX: usize = 2_000;

/// Bytes that one member may say about itself (its protocols' metadata, its subscription), and that a leader may assign to it.
pub const MEMBER_BYTES_MAX: usize = 256 * 1024;

/// Protocols that one member may name, and topics.
pub const MEMBER_NAMES_MAX: usize = 10_000;

/// Bytes of a member id, an instance id, a client id, a rack.
pub const NAME_BYTES_MAX: usize = 1024;

/// Bytes of a pattern of topic names.
pub const REGEX_BYTES_MAX: usize = 512;

/// Bytes that a compiled pattern may take.
pub const REGEX_SIZE_MAX: usize = 64 * 1024;

/// How long a new member of a classic group may wait in its first join, whatever its session timeout: it cannot heartbeat yet.
pub const FIRST_JOIN_MS_MAX: i64 = 5 * 60 * 1000;

/// The longest a member may take to rebalance.
pub const REBALANCE_TIMEOUT_MS_MAX: i32 = 60 * 60 * 1000;

/// How long after a refused proposal the coordinator tries again.
pub const RETRY_MS: i64 = 1000;
