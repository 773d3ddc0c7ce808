//! Kafka's wire protocol: frames, every served API and version, record batches. No IO.
