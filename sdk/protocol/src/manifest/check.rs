//! The rules that make a manifest valid, each with a sentence that names the key, what was found and what is allowed.
use alloc::{borrow::ToOwned, collections::BTreeSet, format, string::String};

use super::{Bucket, Clock, Duration, Manifest, OnPoison, limits};

/// Why a manifest is refused: the key and a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {sentence}")]
pub struct Invalid {
    /// Key in the manifest, dotted.
    pub key: String,
    /// What is wrong and what is allowed.
    pub sentence: String,
}

type Check = Result<(), Invalid>;

/// Whether this is a legal topic name in Kafka: 1 to 249 of `a-z A-Z 0-9 . _ -`, neither `.` nor `..`.
#[must_use]
pub fn is_topic_name(name: &str) -> bool {
    is_name(name, limits::TOPIC_BYTES_MAX) && name != "." && name != ".."
}

impl Manifest {
    /// Checks every rule that serde cannot express.
    pub(super) fn check(&self) -> Check {
        self.check_module()?;
        self.check_topics()?;
        self.check_dead_letter()?;
        self.check_retry()?;
        self.check_batch()?;
        self.check_limits()?;
        self.check_metrics()?;
        self.check_state()?;
        self.check_tables()?;
        self.check_config()
    }

    fn check_module(&self) -> Check {
        let module = &self.module;
        // A name is a directory, a group and a column in tables: a leading dot or dash is trouble in all three.
        let first_ok = module.name.starts_with(|c: char| c.is_ascii_alphanumeric());
        ensure(
            first_ok && is_name(&module.name, limits::NAME_BYTES_MAX),
            "module.name",
            || {
                format!(
                    "{:?} is not 1 to {} of a-z A-Z 0-9 . _ - beginning with a letter or digit",
                    module.name,
                    limits::NAME_BYTES_MAX
                )
            },
        )?;
        let label_ok = module
            .version
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b));
        ensure(
            label_ok && within(module.version.len(), 1, limits::VERSION_BYTES_MAX),
            "module.version",
            || {
                format!(
                    "{:?} is not 1 to {} of a-z A-Z 0-9 . _ - +",
                    module.version,
                    limits::VERSION_BYTES_MAX
                )
            },
        )?;
        let path = module.component.as_deref().unwrap_or("component");
        ensure(
            within(path.len(), 1, limits::COMPONENT_PATH_BYTES_MAX),
            "module.component",
            || "the path is empty or too long".to_owned(),
        )?;
        number("module.members", module.members, 1, limits::MEMBERS_MAX)
    }

    fn check_topics(&self) -> Check {
        count("input", self.input.len(), 1, limits::INPUTS_MAX)?;
        count("output", self.output.len(), 0, limits::OUTPUTS_MAX)?;
        let mut inputs = BTreeSet::new();
        for input in &self.input {
            topic("input.topic", &input.topic)?;
            ensure(inputs.insert(input.topic.as_str()), "input.topic", || {
                format!("{:?} is named twice", input.topic)
            })?;
            if let Some(late) = input.max_out_of_order {
                number("input.max-out-of-order", late, Duration(0), limits::EVENT_TIME_MAX)?;
            }
            number(
                "input.idle-after",
                input.idle_after(),
                limits::IDLE_MIN,
                limits::EVENT_TIME_MAX,
            )?;
            ensure(
                input.idle_after.is_none() || self.has_event_time(),
                "input.idle-after",
                || "nothing waits for an idle input without event time: give an input `max-out-of-order`".to_owned(),
            )?;
        }
        let mut outputs = BTreeSet::new();
        for output in &self.output {
            topic("output.topic", &output.topic)?;
            ensure(outputs.insert(output.topic.as_str()), "output.topic", || {
                format!("{:?} is named twice", output.topic)
            })?;
        }
        if let Some(name) = &self.dead_letter.topic {
            topic("dead-letter.topic", name)?;
        }
        for name in self.writable_topics() {
            ensure(!inputs.contains(name), "output.topic", || {
                format!("{name:?} is an input too: the module would feed itself for ever")
            })?;
        }
        Ok(())
    }

    fn check_dead_letter(&self) -> Check {
        let dead_letter = &self.dead_letter;
        let orphan = dead_letter.on_poison == Some(OnPoison::DeadLetter) && dead_letter.topic.is_none();
        ensure(!orphan, "dead-letter.on-poison", || {
            r#""dead-letter" needs dead-letter.topic"#.to_owned()
        })?;
        let Some(stop_if) = dead_letter.stop_if else {
            return Ok(());
        };
        number(
            "dead-letter.stop-if.of-last",
            stop_if.of_last,
            1,
            limits::STOP_OF_LAST_MAX,
        )?;
        number("dead-letter.stop-if.failed", stop_if.failed, 1, stop_if.of_last)
    }

    fn check_retry(&self) -> Check {
        let retry = &self.retry;
        number("retry.initial", retry.initial, limits::RETRY_MIN, limits::RETRY_MAX)?;
        number("retry.max", retry.max, retry.initial, limits::RETRY_MAX)?;
        let factor_ok = within(retry.factor.0, 1000, limits::RETRY_FACTOR_MAX);
        ensure(factor_ok, "retry.factor", || {
            format!("must be between 1.0 and {}.0", limits::RETRY_FACTOR_MAX / 1000)
        })?;
        number("retry.max-attempts", retry.max_attempts, 1, limits::RETRY_ATTEMPTS_MAX)
    }

    fn check_batch(&self) -> Check {
        let batch = &self.batch;
        number("batch.max-records", batch.max_records, 1, limits::BATCH_RECORDS_MAX)?;
        number(
            "batch.max-bytes",
            batch.max_bytes,
            limits::BATCH_BYTES_MIN,
            limits::BATCH_BYTES_MAX,
        )?;
        number("batch.linger", batch.linger, Duration(0), limits::LINGER_MAX)?;
        number("batch.timeout", batch.timeout, limits::TIMEOUT_MIN, limits::TIMEOUT_MAX)
    }

    fn check_limits(&self) -> Check {
        let limits = &self.limits;
        number("limits.memory", limits.memory, limits::MEMORY_MIN, limits::MEMORY_MAX)?;
        number(
            "limits.output-bytes",
            limits.output_bytes,
            limits::WRITE_MIN,
            limits::WRITE_MAX,
        )?;
        number(
            "limits.state-write-bytes",
            limits.state_write_bytes,
            limits::WRITE_MIN,
            limits::WRITE_MAX,
        )?;
        number(
            "limits.state-bytes",
            limits.state_bytes,
            limits::STATE_MIN,
            limits::STATE_MAX,
        )?;
        number(
            "limits.log-lines-per-second",
            limits.log_lines_per_second,
            1,
            limits::LOG_LINES_MAX,
        )
    }

    fn check_metrics(&self) -> Check {
        let metrics = &self.metrics;
        let names = || {
            metrics
                .counters
                .iter()
                .chain(&metrics.gauges)
                .chain(&metrics.histograms)
        };
        count("metrics", names().count(), 0, limits::METRICS_MAX)?;
        let mut seen = BTreeSet::new();
        for name in names() {
            ensure(is_name(name, limits::METRIC_BYTES_MAX), "metrics", || {
                format!("{name:?} is not a legal name")
            })?;
            ensure(seen.insert(name), "metrics", || format!("{name:?} is named twice"))?;
        }
        Ok(())
    }

    fn check_state(&self) -> Check {
        count("state", self.state.len(), 0, limits::BUCKETS_MAX)?;
        for (name, bucket) in &self.state {
            ensure(is_name(name, limits::BUCKET_BYTES_MAX), "state", || {
                format!(
                    "bucket {name:?} is not 1 to {} of a-z A-Z 0-9 . _ -",
                    limits::BUCKET_BYTES_MAX
                )
            })?;
            ensure(bucket.version == 1, &format!("state.{name}.version"), || {
                "must be 1: which layout the state has is said by the component (`migrator.state-version`)".to_owned()
            })?;
            self.check_ttl(name, bucket)?;
        }
        Ok(())
    }

    fn check_ttl(&self, name: &str, bucket: &Bucket) -> Check {
        let Some(ttl) = bucket.ttl else {
            return ensure(bucket.ttl_clock.is_none(), &format!("state.{name}.ttl-clock"), || {
                "is the clock of `ttl`, which is not given".to_owned()
            });
        };
        number(&format!("state.{name}.ttl"), ttl, limits::TTL_MIN, limits::TTL_MAX)?;
        let has_clock = bucket.ttl_clock != Some(Clock::EventTime) || self.has_event_time();
        ensure(has_clock, &format!("state.{name}.ttl-clock"), || {
            "\"event-time\" needs `max-out-of-order` of an input: without it there is no event time".to_owned()
        })
    }

    fn check_tables(&self) -> Check {
        count("tables", self.tables.len(), 0, limits::TABLES_MAX)?;
        for (name, of) in &self.tables {
            ensure(is_name(name, limits::TABLE_BYTES_MAX), "tables", || {
                format!(
                    "table {name:?} is not 1 to {} of a-z A-Z 0-9 . _ -",
                    limits::TABLE_BYTES_MAX
                )
            })?;
            topic(&format!("tables.{name}"), of)?;
        }
        Ok(())
    }

    fn check_config(&self) -> Check {
        count("config", self.config.len(), 0, limits::CONFIG_KEYS_MAX)?;
        for (key, value) in &self.config {
            let ok =
                within(key.len(), 1, limits::CONFIG_KEY_BYTES_MAX) && value.len() <= limits::CONFIG_VALUE_BYTES_MAX;
            ensure(ok, "config", || {
                let (key_max, value_max) = (limits::CONFIG_KEY_BYTES_MAX, limits::CONFIG_VALUE_BYTES_MAX);
                format!(
                    "a key has 1 to {key_max} bytes and a value at most {value_max}; see {:?}",
                    key.chars().take(40).collect::<String>()
                )
            })?;
        }
        Ok(())
    }
}

fn topic(key: &str, name: &str) -> Check {
    ensure(is_topic_name(name), key, || {
        format!("{name:?} is not a topic name: 1 to 249 of a-z A-Z 0-9 . _ -")
    })?;
    ensure(!name.starts_with("__"), key, || {
        format!("{name:?} is internal to the broker")
    })
}

fn is_name(name: &str, bytes_max: usize) -> bool {
    within(name.len(), 1, bytes_max) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn within<T: PartialOrd>(value: T, min: T, max: T) -> bool {
    min <= value && value <= max
}

fn number<T: PartialOrd + core::fmt::Display + Copy>(key: &str, value: T, min: T, max: T) -> Check {
    ensure(within(value, min, max), key, || {
        format!("{value} is not between {min} and {max}")
    })
}

fn count(key: &str, value: usize, min: usize, max: usize) -> Check {
    ensure(within(value, min, max), key, || {
        format!("there are {value}, allowed are {min} to {max}")
    })
}

fn ensure(ok: bool, key: &str, sentence: impl FnOnce() -> String) -> Check {
    if ok {
        Ok(())
    } else {
        Err(Invalid {
            key: key.to_owned(),
            sentence: sentence(),
        })
    }
}
