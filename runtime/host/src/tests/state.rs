//! State of a task: read over what is committed, written in the outcome.
use tidemill_broker::module::run::{Bucket, Run, Verdict};
use tidemill_protocol::{
    batch::{Builder, Codec, patch},
    records::Records,
};

use super::fixture::{Fixture, batch, config, sent};

fn sessionize(fixture: &Fixture, records: Records, from: i64) -> Run {
    let mut run = fixture.run_of(records);
    run.inputs[0].from = from;
    run.buckets = std::sync::Arc::new(vec![Bucket {
        name: "open".into(),
        rows: "open".into(),
        ttl: None,
    }]);
    run.config = config(&[("output", "tame"), ("gap-ms", "10"), ("label", "event")]);
    run.limits.timeout_ms = 5_000;
    run
}

/// Events of two keys; each batch is later than the gap after the one before.
fn events(base_offset: i64, begin: i64) -> Builder {
    let mut builder = Builder::new();
    for (n, key) in (0..).zip(["a", "b", "a", "b", "a"]) {
        let value = format!(r#"{{"event":"{key}{}"}}"#, base_offset + n);
        builder.append(begin + n, Some(key.as_bytes()), Some(value.as_bytes()), []);
    }
    builder
}

#[test]
fn what_one_batch_wrote_the_next_one_reads_once_it_is_committed() {
    let fixture = Fixture::new("sessionize");
    let place = |builder: Builder, offset| {
        patch(&builder.finish(), offset, 0)
            .unwrap()
            .into_iter()
            .collect::<Records>()
    };
    let first = fixture.run(sessionize(&fixture, place(events(0, 1_000), 0), 0));
    assert_eq!((&first.verdict, first.outputs.len()), (&Verdict::Ack, 0));
    let mut keys: Vec<_> = first
        .state
        .iter()
        .map(|(bucket, key, _)| (&bucket[..], &key[..]))
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, [(&b"open"[..], &b"a"[..]), (&b"open"[..], &b"b"[..])]);

    // Not committed: the same batch again begins from nothing, and gives the same.
    let again = fixture.run(sessionize(&fixture, place(events(0, 1_000), 0), 0));
    assert_eq!((&again.state, &again.outputs), (&first.state, &first.outputs));

    fixture.rows.commit(&first);
    let second = fixture.run(sessionize(&fixture, place(events(5, 2_000), 5), 5));
    let sessions: Vec<_> = sent(&second).into_iter().map(|sent| sent.value.unwrap()).collect();
    assert_eq!(sessions.len(), 2, "{:?}", second.verdict);
    assert!(
        sessions.iter().any(|session| session.contains(r#"["a0","a2","a4"]"#)),
        "{sessions:?}"
    );
}

#[test]
fn every_codec_is_opened() {
    let fixture = Fixture::new("sessionize");
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let compressed = events(0, 1_000).finish_compressed(codec).unwrap();
        let processed = fixture.run(sessionize(
            &fixture,
            patch(&compressed, 0, 0).unwrap().into_iter().collect(),
            0,
        ));
        assert_eq!(
            (&processed.verdict, processed.state.len(), processed.next[0].2),
            (&Verdict::Ack, 2, 5),
            "{codec:?}"
        );
    }
}

#[test]
fn writes_beyond_the_quota_are_refused_and_named() {
    let fixture = Fixture::new("sessionize");
    let mut run = sessionize(&fixture, batch(0, &[(Some("k"), r#"{"event":"x"}"#)]), 0);
    run.limits.state_write_bytes_max = 10;
    let processed = fixture.run(run);
    assert!(processed.verdict != Verdict::Ack && processed.state.is_empty());
    assert!(
        processed
            .logs
            .iter()
            .any(|line| line.message.contains("`limits.state-write-bytes` = 10")),
        "{:?}",
        processed.logs
    );
}

#[test]
fn a_record_that_the_guest_gives_up_on_is_in_the_dead_letters() {
    let fixture = Fixture::new("sessionize");
    let mut builder = Builder::new();
    builder.append(1_000, Some(b"k"), Some(br#"{"event":"x"}"#), []);
    builder.append(100, Some(b"k"), Some(br#"{"event":"y"}"#), []);
    let processed = fixture.run(sessionize(
        &fixture,
        patch(&builder.finish(), 0, 0).unwrap().into_iter().collect(),
        0,
    ));
    assert_eq!(
        (&processed.verdict, processed.given_up, processed.output_records),
        (&Verdict::Ack, 1, 1)
    );
    let letters = sent(&processed);
    assert_eq!((letters[0].topic.as_str(), letters[0].timestamp), ("wild.dlq", 100));
    assert!(
        letters[0]
            .headers
            .contains(&("tidemill.code".to_owned(), "late".to_owned())),
        "{letters:?}"
    );
}
