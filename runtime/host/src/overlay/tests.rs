//! Reads and scans are the model's, whatever was committed and written; sizes are what the rows say.
#![allow(clippy::unwrap_used)]
use tidemill_broker::module::view::ViewId;

use super::*;

/// Committed state for tests.
struct Rows(BTreeMap<Vec<u8>, Bytes>);

impl StateReader for Rows {
    fn get(&self, _: &TaskKey, _: &str, key: &[u8]) -> Option<Bytes> {
        self.0.get(key).cloned()
    }

    fn scan(&self, scan: StateScan<'_>) -> Vec<(Bytes, Bytes)> {
        let inside = self
            .0
            .iter()
            .filter(|(key, _)| scan.start <= key.as_slice() && (scan.end.is_empty() || key.as_slice() < scan.end));
        let mut rows: Vec<_> = inside
            .map(|(key, value)| (Bytes::from(key.clone()), value.clone()))
            .collect();
        if scan.reverse {
            rows.reverse();
        }
        rows.truncate(scan.entries_max);
        rows
    }

    fn look_up(&self, _: ViewId, _: &[u8]) -> Option<Bytes> {
        None
    }

    fn rows(&self, _: &TaskKey, _: &[u8], _: usize) -> Vec<(Bytes, Bytes)> {
        unreachable!("only a migration copies rows")
    }
}

fn key(n: u32) -> Vec<u8> {
    n.to_be_bytes()[2..].to_vec()
}

#[test]
fn pages_of_a_scan_are_the_model_in_order() {
    let task = task();
    let rows = Rows(
        (0..1_500)
            .step_by(2)
            .map(|n| (key(n), Bytes::from_static(b"old")))
            .collect(),
    );
    let committed = Committed {
        reader: &rows,
        task: &task,
        bucket: "b",
    };
    let (mut overlay, mut quota) = (Overlay::default(), quota(1 << 20));
    let mut model = rows.0.clone();
    for n in (0..1_500).step_by(3) {
        let value = (n % 2 == 0).then(|| Bytes::from_static(b"new"));
        overlay
            .write(committed, key(n).into(), value.clone(), &mut quota)
            .unwrap();
        match value {
            Some(value) => model.insert(key(n), value),
            None => model.remove(&key(n)),
        };
    }
    overlay
        .write(
            committed,
            Bytes::new(),
            Some(Bytes::from_static(b"empty key")),
            &mut quota,
        )
        .unwrap();
    model.insert(Vec::new(), Bytes::from_static(b"empty key"));
    for (reverse, start, end) in [
        (false, vec![], vec![]),
        (true, vec![], vec![]),
        (false, key(7), key(1_000)),
        (true, key(7), key(1_000)),
    ] {
        let mut expected: Vec<_> = model
            .iter()
            .filter(|(k, _)| start <= **k && (end.is_empty() || **k < end))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if reverse {
            expected.reverse();
        }
        let (mut found, mut range) = (Vec::new(), KeyRange { start, end, reverse });
        loop {
            let page = overlay.scan(committed, &range, 37, 1 << 20);
            found.extend(page.entries.into_iter().map(|(k, v)| (k.to_vec(), v)));
            match page.next {
                Some(next) if reverse => range.end = next,
                Some(next) => range.start = next,
                None => break,
            }
        }
        assert_eq!(found, expected);
    }
    let deleted = overlay
        .delete_range(
            committed,
            KeyRange {
                start: key(1),
                ..KeyRange::default()
            },
            &mut quota,
            || true,
        )
        .unwrap();
    assert_eq!(deleted, model.len() as u64 - 2);
    assert_eq!(overlay.scan(committed, &KeyRange::default(), 10, 100).entries.len(), 2);
}

fn quota(max: usize) -> Quota {
    Quota {
        max,
        state_max: u64::MAX,
        ..Quota::default()
    }
}

fn task() -> TaskKey {
    TaskKey {
        module: "m".into(),
        deployment: 1,
        number: 0,
    }
}

#[test]
fn a_key_written_again_counts_once() {
    let (rows, task) = (Rows(BTreeMap::new()), task());
    let committed = Committed {
        reader: &rows,
        task: &task,
        bucket: "b",
    };
    let (mut overlay, mut quota) = (Overlay::default(), quota(100));
    for _ in 0..1_000 {
        let value = Some(Bytes::from_static(b"value"));
        overlay
            .write(committed, Bytes::from_static(b"k"), value, &mut quota)
            .unwrap();
    }
    let large = Some(Bytes::from(vec![0; 100]));
    let refused = overlay.write(committed, Bytes::from_static(b"l"), large, &mut quota);
    assert_eq!(refused, Err(Refused::Writes));
}

#[test]
fn growth_is_what_the_rows_say() {
    let task = task();
    let mut rows = Rows([(b"old".to_vec(), Bytes::from_static(b"1234"))].into());
    let committed = Committed {
        reader: &rows,
        task: &task,
        bucket: "b",
    };
    let (mut overlay, mut quota) = (Overlay::default(), quota(1 << 20));
    quota.state = 39;
    quota.state_max = 39 + 34;
    let mut write = |key: &'static [u8], value: Option<&'static [u8]>| {
        let value = value.map(Bytes::from_static);
        overlay.write(committed, Bytes::from_static(key), value, &mut quota)?;
        Ok(quota.growth)
    };
    assert_eq!(write(b"old", Some(b"12")), Ok(-2));
    assert_eq!(write(b"none", None), Ok(-2));
    assert_eq!(write(b"n", Some(b"1")), Ok(32));
    assert_eq!(write(b"n", Some(b"12345")), Err(Refused::State));
    assert_eq!(write(b"n", Some(b"123")), Ok(34));
    assert_eq!(write(b"m", Some(b"")), Err(Refused::State));
    assert_eq!(write(b"old", None), Ok(-39 + 36));
    assert_eq!(write(b"m", Some(b"")), Ok(-39 + 36 + 33));
    let mut written = Vec::new();
    overlay.finish("b", &mut written);
    let before: u64 = rows.0.iter().map(|(key, row)| size(key, Some(row.len()))).sum();
    for (_, key, value) in written {
        match value {
            Some(value) => rows.0.insert(key.to_vec(), value),
            None => rows.0.remove(key.as_ref()),
        };
    }
    let after: u64 = rows.0.iter().map(|(key, row)| size(key, Some(row.len()))).sum();
    assert_eq!(after.cast_signed() - before.cast_signed(), quota.growth);
}
