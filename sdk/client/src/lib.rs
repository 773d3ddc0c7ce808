//! Async client of Tidemill over QUIC: producer, consumer, admin, modules.
