//! Makes entries durable in a journal and keeps partitions and state in redb.
