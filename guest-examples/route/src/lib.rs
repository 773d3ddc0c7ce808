//! One firehose, many teams: a record goes to the topic that `[config]` names for its key's prefix, unchanged.
//!
//! Only keys enter the sandbox. The records themselves are forwarded by the host, which never shows their bytes to the module.
use std::collections::BTreeMap;

use tidemill_guest::prelude::*;

fn process(batch: &Batch) -> Result<Ack, Error> {
    let keys = batch.keys_only();
    let mut topics: Vec<(String, Vec<u32>)> = Vec::new();
    // Which of the topics: asked once for each prefix, not for each record.
    let mut routes: BTreeMap<&[u8], usize> = BTreeMap::new();
    for record in &keys {
        let key = record.key().unwrap_or_default();
        let prefix = key.split(|b| *b == b'.').next().unwrap_or(key);
        let at = match routes.get(prefix) {
            Some(at) => *at,
            None => {
                let topic = route(prefix)?;
                let known = topics.iter().position(|(name, _)| *name == topic);
                let at = known.unwrap_or(topics.len());
                if known.is_none() {
                    topics.push((topic, Vec::new()));
                }
                routes.insert(prefix, at);
                at
            }
        };
        topics[at].1.push(record.index());
    }
    for (topic, indexes) in &topics {
        batch.forward(topic, indexes)?;
    }
    Ok(Ack::All)
}

tidemill_guest::module!(process);

/// The topic for a prefix; what nobody asked for goes to the topic named by `otherwise`.
fn route(prefix: &[u8]) -> Result<String, Error> {
    let named = std::str::from_utf8(prefix)
        .ok()
        .filter(|p| *p != "otherwise")
        .and_then(context::config);
    named
        .or_else(|| context::config("otherwise"))
        .ok_or_else(|| Error::fatal("[config] needs `otherwise`, the topic for keys that have no route"))
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{Bench, Input};

    use super::*;

    fn bench() -> Bench {
        let bench = Bench::new(process)
            .output("team.orders")
            .output("team.users")
            .output("team.rest");
        bench
            .config("orders", "team.orders")
            .config("users", "team.users")
            .config("otherwise", "team.rest")
    }

    #[test]
    fn records_go_to_the_topic_of_their_prefix_in_order() {
        let keys = ["orders.1", "users.9", "orders.2", "weather.3"];
        let inputs: Vec<Input> = keys.iter().map(|k| Input::new("firehose").key(k).value(k)).collect();
        let sent = bench().run(&inputs).unwrap().sent;
        let of = |topic: &str| -> Vec<Vec<u8>> {
            sent.iter()
                .filter(|s| s.topic == topic)
                .map(|s| s.key.clone().unwrap())
                .collect()
        };
        assert_eq!(of("team.orders"), [b"orders.1".to_vec(), b"orders.2".to_vec()]);
        assert_eq!(of("team.users"), [b"users.9".to_vec()]);
        assert_eq!(of("team.rest"), [b"weather.3".to_vec()]);
    }

    #[test]
    fn a_record_without_a_key_goes_otherwise() {
        let sent = bench().run(&[Input::new("firehose").value("x")]).unwrap().sent;
        assert_eq!(
            (sent[0].topic.as_str(), sent[0].value.as_deref()),
            ("team.rest", Some(&b"x"[..]))
        );
    }

    #[test]
    fn without_a_route_the_module_stops() {
        let error = Bench::new(process)
            .run(&[Input::new("firehose").key("a.1")])
            .unwrap_err();
        assert!(matches!(error, Error::Fatal(why) if why.contains("otherwise")));
    }
}
