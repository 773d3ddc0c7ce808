//! What one manifest grants and another does not, for whoever deploys: topics, state, settings and limits, a line each.
use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{Manifest, OnPoison};

impl Manifest {
    /// What differs from the manifest `before`, a line for each difference: `+` is granted anew, `-` is taken away, `~` is changed.
    #[must_use]
    pub fn changes_from(&self, before: &Manifest) -> Vec<String> {
        let mut lines = Vec::new();
        let now = self.grants();
        let then = before.grants();
        for (grant, value) in &now {
            match then.get(grant) {
                None => lines.push(line('+', grant, value)),
                Some(other) if other != value => lines.push(format!("~ {grant}: {other} -> {value}")),
                Some(_) => {}
            }
        }
        let gone = then.iter().filter(|(grant, _)| !now.contains_key(*grant));
        lines.extend(gone.map(|(grant, value)| line('-', grant, value)));
        lines
    }

    /// Everything that the manifest grants or sets, each by a name of its own.
    fn grants(&self) -> BTreeMap<String, String> {
        let mut grants = BTreeMap::new();
        for input in &self.input {
            grants.insert(format!("reads topic {}", input.topic), String::new());
        }
        for topic in self.writable_topics() {
            grants.insert(format!("writes topic {topic}"), String::new());
        }
        for (name, bucket) in &self.state {
            grants.insert(format!("keeps state {name}"), format!("layout {}", bucket.version));
        }
        for (name, topic) in &self.tables {
            grants.insert(format!("reads table {name}"), format!("topic {topic}"));
        }
        if let Some(topic) = &self.dead_letter.topic {
            grants.insert("dead-letter.topic".into(), topic.clone());
        }
        let on_poison = match self.on_poison() {
            OnPoison::DeadLetter => "dead-letter",
            OnPoison::Skip => "skip",
            OnPoison::Stop => "stop",
        };
        grants.insert("dead-letter.on-poison".into(), on_poison.into());
        let stop_if = self.dead_letter.stop_if;
        let stop_if = stop_if.map_or_else(
            || "never".into(),
            |rule| format!("{} of the last {}", rule.failed, rule.of_last),
        );
        grants.insert("dead-letter.stop-if".into(), stop_if);
        let numbers = [
            ("module.members", self.module.members.to_string()),
            ("batch.max-records", self.batch.max_records.to_string()),
            ("batch.max-bytes", self.batch.max_bytes.to_string()),
            ("batch.linger", self.batch.linger.to_string()),
            ("batch.timeout", self.batch.timeout.to_string()),
            ("retry.max-attempts", self.retry.max_attempts.to_string()),
            ("limits.memory", self.limits.memory.to_string()),
            ("limits.output-bytes", self.limits.output_bytes.to_string()),
            ("limits.state-write-bytes", self.limits.state_write_bytes.to_string()),
            (
                "limits.log-lines-per-second",
                self.limits.log_lines_per_second.to_string(),
            ),
        ];
        grants.extend(numbers.map(|(name, value)| (name.into(), value)));
        // Settings may be secrets: that they changed is said, not what they are.
        for (key, value) in &self.config {
            grants.insert(format!("config.{key}"), masked(value));
        }
        grants
    }
}

fn line(sign: char, grant: &str, value: &str) -> String {
    match value {
        "" => format!("{sign} {grant}"),
        value => format!("{sign} {grant}: {value}"),
    }
}

/// Tells two values apart without showing them.
fn masked(value: &str) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in value.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("({} bytes, {:04x})", value.len(), hash >> 16)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manifest(more: &str) -> Manifest {
        toml::from_str(&format!(
            "module = {{ name = \"m\" }}\ninput = [{{ topic = \"in\" }}]\n{more}"
        ))
        .unwrap()
    }

    #[test]
    fn what_is_granted_anew_taken_away_and_changed_is_told() {
        let before =
            manifest("output = [{ topic = \"out\" }]\nlimits = { memory = \"16MiB\" }\nconfig = { key = \"a\" }");
        let after = manifest(
            "output = [{ topic = \"else\" }]\nlimits = { memory = \"32MiB\" }\nconfig = { key = \"b\" }\ntables = { t = \"facts\" }\n[state.s]",
        );
        let changes = after.changes_from(&before);
        assert!(changes.contains(&"+ writes topic else".into()), "{changes:?}");
        assert!(changes.contains(&"- writes topic out".into()));
        assert!(changes.contains(&"+ keeps state s: layout 1".into()));
        assert!(changes.contains(&"+ reads table t: topic facts".into()));
        assert!(changes.contains(&"~ limits.memory: 16MiB -> 32MiB".into()));
        assert!(
            changes
                .iter()
                .any(|change| change.starts_with("~ config.key: (1 bytes"))
        );
        assert_eq!(changes.len(), 6);
        assert_eq!(after.changes_from(&after), Vec::<String>::new());
    }
}
