//! The binary `tidemill`.
fn main() {}
