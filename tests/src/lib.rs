//! End-to-end tests of Tidemill.
