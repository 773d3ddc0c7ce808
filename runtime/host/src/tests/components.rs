//! What well-behaved guests see and leave behind.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tidemill_broker::module::run::{GiveUp, Run, Verdict};

use super::fixture::{Fixture, batch, component, config, input, sent};
use crate::{compile, delivery::Delivery, sandbox::place};

const ROUTES: [(&str, &str); 3] = [
    ("orders", "team.orders"),
    ("users", "team.users"),
    ("otherwise", "team.rest"),
];

#[test]
fn records_are_forwarded_unchanged_and_acknowledged() {
    let route = Fixture::new("route");
    let records = batch(
        10,
        &[
            (Some("orders.1"), "a"),
            (Some("users.2"), "b"),
            (None, "c"),
            (Some("orders.3"), "d"),
        ],
    );
    let mut run = route.run_of(records);
    run.config = config(&ROUTES);
    let processed = route.run(run);
    assert_eq!(processed.verdict, Verdict::Ack);
    assert_eq!(processed.next, [("wild".to_owned(), 3, 14)]);
    assert_eq!(processed.output_records, 4);
    let sent = sent(&processed);
    let of = |topic: &str| -> Vec<(Option<&str>, Option<&str>, i64)> {
        let of = sent.iter().filter(|sent| sent.topic == topic);
        of.map(|sent| (sent.key.as_deref(), sent.value.as_deref(), sent.timestamp))
            .collect()
    };
    assert_eq!(of("team.rest"), [(None, Some("c"), 1_002)]);
    assert_eq!(of("team.users"), [(Some("users.2"), Some("b"), 1_001)]);
    let mut orders = of("team.orders");
    orders.sort_unstable();
    assert_eq!(
        orders,
        [
            (Some("orders.1"), Some("a"), 1_000),
            (Some("orders.3"), Some("d"), 1_003)
        ]
    );
    assert_eq!((processed.usage.records, processed.generation), (4, 5));
}

#[test]
fn the_same_batch_gives_the_same_bytes_in_any_instance() {
    let values: Vec<(String, String)> = (0..500)
        .map(|n| (format!("orders.{}", n % 17), format!("value {n}")))
        .collect();
    let records: Vec<_> = values
        .iter()
        .map(|(key, value)| (Some(key.as_str()), value.as_str()))
        .collect();
    let outputs: Vec<_> = (0..3)
        .map(|_| {
            let route = Fixture::new("route");
            let mut run = route.run_of(batch(0, &records));
            run.config = config(&ROUTES);
            let again = run.clone();
            let first = route.run(run);
            assert_eq!(first.outputs, route.run(again).outputs);
            first.outputs
        })
        .collect();
    assert!(outputs[0] == outputs[1] && outputs[1] == outputs[2]);
}

#[test]
fn a_batch_is_cut_by_records_bytes_and_offsets() {
    let route = Fixture::new("route");
    let values: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let records: Vec<_> = values.iter().map(|value| (None, value.as_str())).collect();
    let cut = |change: &dyn Fn(&mut Run)| {
        let mut run = route.run_of(batch(100, &records));
        run.config = config(&ROUTES);
        run.inputs[0].from = 102;
        change(&mut run);
        let processed = route.run(run);
        assert_eq!(processed.verdict, Verdict::Ack);
        let values: String = sent(&processed).into_iter().map(|sent| sent.value.unwrap()).collect();
        (values, processed.next[0].2)
    };
    assert_eq!(cut(&|_| {}), ("23456789".into(), 110));
    assert_eq!(cut(&|run| run.limits.records_max = 3), ("234".into(), 105));
    assert_eq!(cut(&|run| run.limits.bytes_max = 1), ("2".into(), 103));
    assert_eq!(cut(&|run| run.inputs[0].until = 107), ("23456".into(), 107));
    assert_eq!(cut(&|run| run.inputs[0].from = 108), ("89".into(), 110));
    // An input with nothing left in it is acknowledged without the guest.
    assert_eq!(cut(&|run| run.inputs[0].from = 110), (String::new(), 110));
}

#[test]
fn several_inputs_are_merged_by_timestamp() {
    let route = Fixture::new("route");
    let mut run = route.run_of(batch(0, &[(None, "a0"), (None, "a1"), (None, "a2")]));
    run.config = config(&ROUTES);
    run.inputs
        .push(input("other", 50, batch(50, &[(None, "b0"), (None, "b1")])));
    run.limits.records_max = 4;
    let processed = route.run(run);
    let values: Vec<_> = sent(&processed).into_iter().map(|sent| sent.value.unwrap()).collect();
    assert_eq!(values, ["a0", "b0", "a1", "b1"]);
    assert_eq!(processed.next, [("wild".to_owned(), 3, 2), ("other".to_owned(), 3, 52)]);
}

#[test]
fn what_is_given_up_goes_to_the_dead_letters_and_not_to_the_guest() {
    let route = Fixture::new("route");
    let mut run = route.run_of(batch(0, &[(None, "a"), (Some("k"), "bad"), (None, "c")]));
    run.config = config(&ROUTES);
    let give_up = GiveUp {
        offset: 1,
        dead_letter: true,
        code: "trap".into(),
        reason: "broken".into(),
        attempt: 4,
    };
    run.inputs[0].give_up = vec![
        give_up,
        GiveUp {
            offset: 9,
            dead_letter: true,
            code: String::new(),
            reason: String::new(),
            attempt: 1,
        },
    ];
    let processed = route.run(run);
    assert_eq!(
        (processed.next[0].2, processed.output_records, processed.given_up),
        (3, 3, 0)
    );
    let sent = sent(&processed);
    let letter = sent.iter().find(|sent| sent.topic == "wild.dlq").unwrap();
    assert_eq!(
        (letter.key.as_deref(), letter.value.as_deref(), letter.timestamp),
        (Some("k"), Some("bad"), 1_001)
    );
    let headers: Vec<_> = letter
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        headers,
        [
            ("__dlq.errors.topic", "wild"),
            ("__dlq.errors.partition", "3"),
            ("__dlq.errors.offset", "1"),
            ("tidemill.code", "trap"),
            ("__dlq.errors.message", "broken"),
            ("__dlq.errors.delivery.count", "4"),
            ("__dlq.errors.group", "m"),
            ("tidemill.version", "1.2.3"),
        ]
    );
}

#[test]
fn what_is_given_up_counts_against_the_limits() {
    let fixture = Fixture::new("route");
    let large = "x".repeat(1_000);
    let records: Vec<_> = (0..10).map(|_| (Some("orders-1"), large.as_str())).collect();
    let mut run = fixture.run_of(batch(0, &records));
    run.config = config(&ROUTES);
    run.limits.bytes_max = 4_500;
    run.inputs[0].give_up = (0..10)
        .map(|offset| GiveUp {
            offset,
            dead_letter: true,
            code: "trap".into(),
            reason: "broken".into(),
            attempt: 1,
        })
        .collect();
    let processed = fixture.run(run);
    assert_eq!(processed.verdict, Verdict::Ack);
    assert_eq!(
        (processed.next[0].2, processed.output_records),
        (4, 4),
        "the rest comes with the next run"
    );
}

#[test]
fn runs_of_a_task_are_told_apart_and_are_the_same_when_done_again() {
    let fixture = Fixture::new("route");
    let place_of = |topic: &str, offset, firings| {
        let records = match offset {
            Some(offset) => vec![input(topic, 0, batch(offset, &[(None, "a")]))],
            None => Vec::new(),
        };
        let run = Run {
            inputs: records,
            firings,
            ..fixture.run_of(batch(0, &[(None, "a")]))
        };
        place(&run, &Delivery::cut(&run.inputs, &run.limits))
    };
    let places = [
        place_of("left", Some(5), 0),
        place_of("right", Some(5), 0),
        place_of("left", Some(6), 0),
        place_of("", None, 5),
        place_of("", None, 6),
    ];
    assert_eq!(BTreeSet::from(places).len(), places.len());
    assert_eq!(places[0], place_of("left", Some(5), 9));
    assert_eq!(places[3], place_of("", None, 5));
}

#[test]
fn a_dead_letter_topic_that_does_not_take_the_record_is_named() {
    let fixture = Fixture::new("route");
    let mut run = fixture.run_of(batch(0, &[(Some("orders-1"), "one"), (Some("orders-2"), "two")]));
    run.config = config(&ROUTES);
    run.inputs[0].give_up = vec![GiveUp {
        offset: 1,
        dead_letter: true,
        code: "trap".into(),
        reason: "broken".into(),
        attempt: 4,
    }];
    let mut outputs = BTreeMap::clone(&run.outputs);
    outputs.get_mut("wild.dlq").unwrap().batch_bytes_max = 100;
    run.outputs = Arc::new(outputs);
    let processed = fixture.run(run);
    assert!(
        processed.outputs.is_empty() && processed.next.is_empty(),
        "nothing of the batch is left"
    );
    let Verdict::Fatal(why) = processed.verdict else {
        panic!("{:?}", processed.verdict)
    };
    assert!(why.contains("`wild.dlq` does not take record wild-3@1"), "{why}");
}

#[test]
fn a_batch_that_cannot_be_read_is_poison_and_can_be_given_up() {
    let route = Fixture::new("route");
    let good = batch(0, &[(None, "a")]).to_bytes();
    // Two records, the second of which says that it is longer than the batch, under a checksum that is right.
    let whole = batch(1, &[(None, "b"), (None, "c")]).to_bytes();
    let mut damaged = whole.to_vec();
    let second = damaged.len() - 8;
    damaged[second] = 0x7e;
    let crc = crc32c(&damaged[21..]);
    damaged[17..21].copy_from_slice(&crc.to_be_bytes());
    let after = batch(3, &[(None, "d")]).to_bytes();
    let all = [good, damaged.into(), after]
        .into_iter()
        .collect::<tidemill_protocol::records::Records>();
    let mut run = route.run_of(all);
    run.config = config(&ROUTES);
    let first = route.run(run.clone());
    assert_eq!(
        (&first.verdict, first.next[0].2, first.output_records),
        (&Verdict::Ack, 2, 2)
    );
    run.inputs[0].from = 2;
    let second = route.run(run.clone());
    let Verdict::Poison { at, code, .. } = second.verdict else {
        panic!("{:?}", second.verdict)
    };
    assert_eq!((at.offset, code.as_str()), (2, "bad-record-batch"));
    run.inputs[0].give_up = vec![GiveUp {
        offset: 2,
        dead_letter: true,
        code,
        reason: "unreadable".into(),
        attempt: 1,
    }];
    let third = route.run(run);
    assert_eq!(
        (&third.verdict, third.next[0].2, third.output_records),
        (&Verdict::Ack, 4, 2)
    );
}

#[test]
fn a_component_says_what_is_wrong_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |bytes: &[u8]| compile::compile(bytes, directory.path()).unwrap_err().to_string();
    assert!(
        refused(&component("wrong-world")).contains("is a program with `main`"),
        "{}",
        refused(&component("wrong-world"))
    );
    assert!(refused(b"\0asm\x01\0\0\0").contains("core module"));
    assert!(refused(b"\x7fELF").contains("precompiled"));
    assert!(refused(b"hello").contains("not a WebAssembly component"));
    let report = compile::compile(&component("route"), directory.path()).unwrap();
    assert!(
        report
            .imports
            .iter()
            .any(|import| import == "tidemill:processor/producer@0.1.0"),
        "{report:?}"
    );
    let mut line = Vec::new();
    assert!(compile::main_in_child(&component("route")[..], &mut line, directory.path()).unwrap());
    assert_eq!(
        compile::parse_report(std::str::from_utf8(&line).unwrap()),
        Some(Ok(report))
    );
}

#[test]
fn a_damaged_artefact_is_never_run() {
    let directory = tempfile::tempdir().unwrap();
    let component = component("route");
    compile::compile(&component, directory.path()).unwrap();
    let sandbox = crate::Sandbox::new(directory.path(), Arc::new(super::fixture::Rows::default())).unwrap();
    let digest = crate::digest(&component);
    let path = sandbox.artefacts().path(&digest);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(sandbox.load(&digest).unwrap_err().to_string().contains("checksum"));
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x82f6_3b78 };
    !bytes
        .iter()
        .fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
