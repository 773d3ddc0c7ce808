//! The daemon and command line.
