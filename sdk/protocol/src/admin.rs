//! The management protocol.

/// An answer to a management request.
#[derive(Clone, Debug)]
pub enum Answer {}
