//! Components that were built against a released version of the contract go on running, as they are.
use std::{fs, path::Path};

use tidemill_broker::module::run::Verdict;

use super::fixture::{Fixture, batch, sent};

#[test]
fn a_component_of_every_release_runs() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut count = 0;
    for file in fs::read_dir(kept).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let fixture = Fixture::of(&fs::read(&path).unwrap());
        let mut run = fixture.run_of(batch(0, &[(Some("k"), "task"), (Some("k"), "hello")]));
        run.limits.timeout_ms = 5_000;
        let processed = fixture.run(run);
        assert_eq!(processed.verdict, Verdict::Ack, "{}", path.display());
        let answers: Vec<_> = sent(&processed).into_iter().map(|sent| sent.value.unwrap()).collect();
        assert_eq!(answers, ["Some(3)", "hello"], "{}", path.display());
        count += 1;
    }
    assert!(count != 0, "there is a component of each release");
}
