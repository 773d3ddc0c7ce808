//! The part of JSON Schema (draft 2020-12) that keeps a topic clean: types, required and closed objects, ranges, lengths, choices.
//!
//! A keyword that is not served is an error when the schema is read, never ignored: a door that looks closed must be closed. Not here:
//! references, combinations (`allOf`, `anyOf`), and patterns, which would bring a regular expression engine into the module.
use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

/// Objects and lists in one another.
const DEPTH_MAX: usize = 64;

/// What a value must be.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    types: Vec<Type>,
    choices: Option<Vec<Value>>,
    properties: BTreeMap<String, Schema>,
    required: Vec<String>,
    closed: bool,
    items: Option<Box<Schema>>,
    /// Of numbers.
    range: (Option<f64>, Option<f64>),
    /// Characters of strings.
    length: (Option<u64>, Option<u64>),
    /// Elements of lists.
    count: (Option<u64>, Option<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

/// What is wrong with a record: where, and by which rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// For counting.
    pub(crate) code: &'static str,
    /// JSON pointer (RFC 6901); empty is the whole value.
    pointer: String,
    rule: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => f.write_str(&self.rule),
            pointer => write!(f, "{pointer} {}", self.rule),
        }
    }
}

impl Schema {
    /// Reads a schema.
    pub(crate) fn parse(text: &str) -> Result<Schema, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
        Schema::read(&value, 0)
    }

    fn read(value: &Value, depth: usize) -> Result<Schema, String> {
        let Value::Object(keywords) = value else {
            return Err("a schema is an object".to_owned());
        };
        if DEPTH_MAX < depth {
            return Err(format!("deeper than {DEPTH_MAX}"));
        }
        let mut schema = Schema::default();
        for (keyword, value) in keywords {
            let inner = |value: &Value| Schema::read(value, depth + 1).map_err(|why| format!("{keyword}: {why}"));
            let unfit = || format!("`{keyword}` cannot be {value}");
            match keyword.as_str() {
                "$schema" | "$id" | "title" | "description" | "examples" => {}
                "type" => schema.types = types(value).ok_or_else(unfit)?,
                "enum" => schema.choices = Some(value.as_array().ok_or_else(unfit)?.clone()),
                "const" => schema.choices = Some(vec![value.clone()]),
                "required" => schema.required = strings(value).ok_or_else(unfit)?,
                "additionalProperties" => schema.closed = !value.as_bool().ok_or_else(unfit)?,
                "items" => schema.items = Some(Box::new(inner(value)?)),
                "properties" => {
                    for (name, property) in value.as_object().ok_or_else(unfit)? {
                        let read = inner(property).map_err(|why| format!("{name}: {why}"))?;
                        schema.properties.insert(name.clone(), read);
                    }
                }
                "minimum" => schema.range.0 = Some(value.as_f64().ok_or_else(unfit)?),
                "maximum" => schema.range.1 = Some(value.as_f64().ok_or_else(unfit)?),
                "minLength" => schema.length.0 = Some(value.as_u64().ok_or_else(unfit)?),
                "maxLength" => schema.length.1 = Some(value.as_u64().ok_or_else(unfit)?),
                "minItems" => schema.count.0 = Some(value.as_u64().ok_or_else(unfit)?),
                "maxItems" => schema.count.1 = Some(value.as_u64().ok_or_else(unfit)?),
                other => return Err(format!("the keyword `{other}` is not checked by this module")),
            }
        }
        Ok(schema)
    }

    /// Checks a record's value.
    pub(crate) fn check_text(&self, text: &[u8]) -> Result<(), Wrong> {
        let value: Value = serde_json::from_slice(text).map_err(|e| Wrong {
            code: "bad-json",
            pointer: String::new(),
            // The error itself may quote the value.
            rule: format!("is not JSON at line {} column {}", e.line(), e.column()),
        })?;
        self.check(&value, &mut Vec::new())
    }

    fn check<'v>(&'v self, value: &'v Value, path: &mut Vec<&'v str>) -> Result<(), Wrong> {
        if !self.types.is_empty() && !self.types.iter().any(|ty| ty.fits(value)) {
            let allowed: Vec<&str> = self.types.iter().map(|ty| ty.name()).collect();
            return Err(wrong(
                "wrong-type",
                path,
                format!("must be of type {}", allowed.join(" or ")),
            ));
        }
        if self.choices.as_ref().is_some_and(|choices| !choices.contains(value)) {
            return Err(wrong("not-allowed", path, "is none of the values allowed".to_owned()));
        }
        match value {
            Value::Number(number) => within("out-of-range", self.range, number.as_f64(), path, "be"),
            Value::String(text) => within(
                "bad-length",
                self.length,
                Some(text.chars().count() as u64),
                path,
                "have characters",
            ),
            Value::Array(items) => self.check_items(items, path),
            Value::Object(fields) => self.check_fields(fields, path),
            Value::Null | Value::Bool(_) => Ok(()),
        }
    }

    fn check_items<'v>(&'v self, items: &'v [Value], path: &mut Vec<&'v str>) -> Result<(), Wrong> {
        within("bad-length", self.count, Some(items.len() as u64), path, "have items")?;
        let Some(schema) = &self.items else { return Ok(()) };
        path.push("*");
        items.iter().try_for_each(|item| schema.check(item, path))?;
        path.pop();
        Ok(())
    }

    fn check_fields<'v>(&'v self, fields: &'v Map<String, Value>, path: &mut Vec<&'v str>) -> Result<(), Wrong> {
        for name in &self.required {
            if !fields.contains_key(name) {
                path.push(name);
                return Err(wrong("missing-field", path, "is missing".to_owned()));
            }
        }
        for (name, value) in fields {
            path.push(name);
            match self.properties.get(name) {
                Some(schema) => schema.check(value, path)?,
                None if self.closed => {
                    return Err(wrong("unknown-field", path, "is not part of the schema".to_owned()));
                }
                None => {}
            }
            path.pop();
        }
        Ok(())
    }
}

impl Type {
    const ALL: [Type; 7] = [
        Type::Null,
        Type::Boolean,
        Type::Integer,
        Type::Number,
        Type::String,
        Type::Array,
        Type::Object,
    ];

    fn name(self) -> &'static str {
        match self {
            Type::Null => "null",
            Type::Boolean => "boolean",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::String => "string",
            Type::Array => "array",
            Type::Object => "object",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            Type::Null => value.is_null(),
            Type::Boolean => value.is_boolean(),
            // 3.0 is an integer, says the specification.
            Type::Integer => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            Type::Number => value.is_number(),
            Type::String => value.is_string(),
            Type::Array => value.is_array(),
            Type::Object => value.is_object(),
        }
    }
}

fn types(value: &Value) -> Option<Vec<Type>> {
    let named = |name: &str| Type::ALL.into_iter().find(|ty| ty.name() == name);
    match value {
        Value::String(name) => named(name).map(|ty| vec![ty]),
        _ => strings(value)?.iter().map(|name| named(name)).collect(),
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value
        .as_array()?
        .iter()
        .map(|item| item.as_str().map(str::to_owned))
        .collect()
}

fn wrong(code: &'static str, path: &[&str], rule: String) -> Wrong {
    let escaped = |name: &&str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    Wrong {
        code,
        pointer: path.iter().map(escaped).collect(),
        rule,
    }
}

fn within<T: PartialOrd + fmt::Display + Copy>(
    code: &'static str,
    (min, max): (Option<T>, Option<T>),
    value: Option<T>,
    path: &[&str],
    must: &str,
) -> Result<(), Wrong> {
    if let Some(min) = min.filter(|min| value.is_some_and(|value| value < *min)) {
        return Err(wrong(code, path, format!("must {must}: {min} or more")));
    }
    if let Some(max) = max.filter(|max| value.is_some_and(|value| *max < value)) {
        return Err(wrong(code, path, format!("must {must}: {max} or less")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{
        "type": "object", "required": ["id", "lines"], "additionalProperties": false,
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": 3},
            "currency": {"enum": ["EUR", "USD"]},
            "lines": {"type": "array", "minItems": 1, "items": {
                "type": "object", "required": ["sku"],
                "properties": {"sku": {"type": ["string", "integer"]}, "price/net": {"type": "number", "minimum": 0}}
            }}
        }
    }"#;

    #[test]
    fn every_rule_has_its_code_and_its_place() {
        let schema = Schema::parse(ORDER).unwrap();
        let cases = [
            (r#"{"id": "a", "lines": [{"sku": 1}], "currency": "EUR"}"#, ""),
            (r#"{"id": "äöü", "lines": [{"sku": "x", "price/net": 0}]}"#, ""),
            ("[]", "wrong-type must be of type object"),
            ("{", "bad-json is not JSON at line 1 column 1"),
            (r#"{"id": "a"}"#, "missing-field /lines is missing"),
            (
                r#"{"id": "", "lines": [{"sku": 1}]}"#,
                "bad-length /id must have characters: 1 or more",
            ),
            (
                r#"{"id": "abcd", "lines": [{"sku": 1}]}"#,
                "bad-length /id must have characters: 3 or less",
            ),
            (
                r#"{"id": "a", "lines": []}"#,
                "bad-length /lines must have items: 1 or more",
            ),
            (r#"{"id": "a", "lines": [{}]}"#, "missing-field /lines/*/sku is missing"),
            (
                r#"{"id": "a", "lines": [{"sku": 1.5}]}"#,
                "wrong-type /lines/*/sku must be of type string or integer",
            ),
            (
                r#"{"id": "a", "lines": [{"sku": 1, "price/net": -1}]}"#,
                "out-of-range /lines/*/price~1net must be: 0 or more",
            ),
            (
                r#"{"id": "a", "lines": [{"sku": 1}], "currency": "DM"}"#,
                "not-allowed /currency is none of the values allowed",
            ),
            (
                r#"{"id": "a", "lines": [{"sku": 1}], "x": 1}"#,
                "unknown-field /x is not part of the schema",
            ),
        ];
        for (text, expected) in cases {
            let said = match schema.check_text(text.as_bytes()) {
                Ok(()) => String::new(),
                Err(wrong) => format!("{} {wrong}", wrong.code),
            };
            assert_eq!(said, expected, "{text}");
        }
    }

    #[test]
    fn a_schema_with_an_unknown_keyword_is_refused_wherever_it_stands() {
        for text in [
            r#"{"properties": {"a": {"format": "date"}}}"#,
            r#"{"items": {"$ref": "x"}}"#,
            r#"{"type": "text"}"#,
            r#"{"minLength": -1}"#,
            "[]",
            "{",
        ] {
            assert!(Schema::parse(text).is_err(), "{text}");
        }
    }
}
