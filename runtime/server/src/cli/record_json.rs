//! Records as lines of JSON, the same in both directions: what `consume --json` prints, `produce --format json` reads.
//!
//! ```text
//! {"topic":"t","partition":0,"offset":7,"timestamp":1359633600000,"key":"k","value":"v","headers":[{"key":"h","value":"x"}]}
//! ```
//!
//! Bytes that are not UTF-8 are in `key_hex`, `value_hex` as hexadecimal digits. Read, a value that is not a string stands
//! for its JSON text, and `topic` and `offset` are ignored.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidemill_client::{ConsumerRecord, Header, Record};

/// A record as one JSON object.
pub(super) fn to_json(record: &ConsumerRecord) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), json!(&*record.topic));
    object.insert("partition".to_owned(), json!(record.partition));
    object.insert("offset".to_owned(), json!(record.offset));
    object.insert("timestamp".to_owned(), json!(record.timestamp));
    put(&mut object, "key", record.key.as_ref());
    put(&mut object, "value", record.value.as_ref());
    if !record.headers.is_empty() {
        let headers = record.headers.iter().map(|header| {
            let mut object = Map::new();
            object.insert("key".to_owned(), json!(header.key));
            put(&mut object, "value", header.value.as_ref());
            Value::Object(object)
        });
        object.insert("headers".to_owned(), Value::Array(headers.collect()));
    }
    Value::Object(object)
}

fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), json!(text)),
        Some(Err(bytes)) => object.insert(
            format!("{name}_hex"),
            json!(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        ),
    };
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    key: Value,
    key_hex: Option<String>,
    #[serde(default)]
    value: Value,
    value_hex: Option<String>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    #[serde(default)]
    headers: Vec<HeaderLine>,
}

#[derive(Deserialize)]
struct HeaderLine {
    key: String,
    #[serde(default)]
    value: Value,
    value_hex: Option<String>,
}

/// Reads a record for a topic from a line.
pub(super) fn from_json(topic: &str, line: &[u8]) -> Result<Record, String> {
    let line: Line = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let mut headers = Vec::new();
    for header in line.headers {
        headers.push(Header {
            key: header.key,
            value: bytes(header.value, header.value_hex)?,
        });
    }
    Ok(Record {
        topic: topic.to_owned(),
        partition: line.partition,
        timestamp: line.timestamp,
        key: bytes(line.key, line.key_hex)?,
        value: bytes(line.value, line.value_hex)?,
        headers,
    })
}

fn bytes(value: Value, hex: Option<String>) -> Result<Option<Bytes>, String> {
    match (value, hex) {
        (Value::Null, None) => Ok(None),
        (Value::Null, Some(hex)) => from_hex(&hex)
            .map(Some)
            .ok_or_else(|| "not hexadecimal digits".to_owned()),
        (Value::String(text), None) => Ok(Some(Bytes::from(text))),
        (value, None) => Ok(Some(Bytes::from(value.to_string()))),
        (_, Some(_)) => Err("both as text and as hexadecimal digits".to_owned()),
    }
}

fn from_hex(hex: &str) -> Option<Bytes> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    if rest.is_empty() {
        pairs.iter().map(byte).collect()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let header = |value: Option<&'static [u8]>| Header {
            key: "h".to_owned(),
            value: value.map(Bytes::from_static),
        };
        let record = ConsumerRecord {
            topic: "t".into(),
            partition: 3,
            offset: 9,
            timestamp: 5,
            key: Some(Bytes::from_static(b"\xff\x00")),
            value: None,
            headers: vec![header(Some(b"1")), header(None)],
        };
        let line = to_json(&record).to_string();
        let back = from_json("t", line.as_bytes()).expect("it is what was written");
        assert_eq!(
            (back.key, back.value, back.headers),
            (record.key, record.value, record.headers)
        );
        assert_eq!((back.partition, back.timestamp), (Some(3), Some(5)));
    }

    #[test]
    fn a_value_may_be_any_json() {
        let record = from_json("t", br#"{"key":42,"value":{"a":[1]}}"#).expect("it is a record");
        assert_eq!(record.key.as_deref(), Some(b"42".as_slice()));
        assert_eq!(record.value.as_deref(), Some(br#"{"a":[1]}"#.as_slice()));
        assert!(from_json("t", b"not json").is_err());
        assert!(from_json("t", br#"{"value_hex":"abc"}"#).is_err());
    }
}
