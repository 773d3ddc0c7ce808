//! From sockets to typed calls: endpoints, connections, ordered streams, request and response messages.

pub(crate) mod broker;
pub(crate) mod endpoint;
pub(crate) mod faults;
pub(crate) mod stream;
pub(crate) mod wire;
