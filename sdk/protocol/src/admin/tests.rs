//! The wire shape of calls and answers, as documented at the top of `mod.rs`.
#![allow(clippy::unwrap_used)]
use alloc::{
    string::{String, ToString},
    vec,
};

use super::*;

fn answer_json(answer: &Answer) -> String {
    let json = serde_json::to_string(answer).unwrap();
    assert_eq!(&serde_json::from_str::<Answer>(&json).unwrap(), answer);
    assert!(!json.contains('\n'));
    json
}

#[test]
fn calls_have_the_documented_shape() {
    let call: Call =
        serde_json::from_str(r#"{"call":"module-logs","module":"sessions","follow":true,"tail":100}"#).unwrap();
    assert_eq!(
        call,
        Call::ModuleLogs {
            module: "sessions".into(),
            follow: true,
            tail: 100,
            level: None,
        }
    );
    assert_eq!(
        serde_json::to_string(&Call::NodeStatus).unwrap(),
        r#"{"call":"node-status"}"#
    );
    let manifest: Manifest = toml::from_str("module = { name = \"m\" }\ninput = [{ topic = \"in\" }]").unwrap();
    let deploy = Call::ModuleDeploy {
        manifest: manifest.into(),
        component_bytes: 8,
        digest: Digest([0xab; 32]),
        wait: true,
        canary: None,
    };
    let json = serde_json::to_string(&deploy).unwrap();
    assert_eq!(serde_json::from_str::<Call>(&json).unwrap(), deploy);
}

#[test]
fn an_invalid_manifest_in_a_call_says_why() {
    let json =
        r#"{"call":"module-deploy","manifest":{"module":{"name":"m"},"input":[]},"component_bytes":8,"digest":"00"}"#;
    let error = serde_json::from_str::<Call>(json).unwrap_err().to_string();
    assert!(error.contains("input: there are 0, allowed are 1 to 16"), "{error}");
}

#[test]
fn answers_have_the_documented_shape() {
    assert_eq!(answer_json(&Answer::Done), r#"{"answer":"done"}"#);
    let error = Answer::error_with_hint(ErrorCode::UnknownModule, "no module \"x\"", "tidemill module list");
    assert_eq!(
        answer_json(&error),
        r#"{"answer":"error","code":"unknown-module","message":"no module \"x\"","hint":"tidemill module list"}"#
    );
    let task = TaskStatus {
        number: 3,
        phase: Phase::Running,
        version: 1,
        generation: 7,
        member: Some("sessions-0".into()),
        attempt: 1,
        last_error: None,
        inputs: vec![InputStatus {
            topic: "clicks".into(),
            position: 5,
            high_watermark: 9,
            lag: 4,
        }],
        usage: Usage::default(),
        state_bytes: 40,
        watermark: Some(-1),
    };
    let status = ModuleStatus {
        module: "sessions".into(),
        version: "1.0.0".into(),
        digest: Digest([1; 32]),
        number: 1,
        state: ModuleState::Running,
        rollout: None,
        reason: None,
        deployed_at: 1,
        dead_letter: None,
        counters: Counters::default(),
        usage: Usage::default(),
        state_bytes: 40,
        tables: vec![TableStatus {
            name: "users".into(),
            topic: "people".into(),
            behind: 2,
            behind_ms: Some(3),
            left_out: 0,
        }],
        tasks: vec![task],
    };
    let json = answer_json(&Answer::Module(status.into()));
    assert!(
        json.starts_with(r#"{"answer":"module","module":"sessions","version":"1.0.0","digest":"0101"#),
        "{json}"
    );
    answer_json(&Answer::Node(Box::default()));
}

#[test]
fn a_digest_is_64_hexadecimal_digits() {
    let digest = Digest(core::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
    assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
    for text in ["", "0", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64)] {
        assert_eq!(Digest::parse(text), None, "{text}");
    }
}
