//! Rewrites those parts of the API document at which generators of clients fail.
//!
//! Must not add or remove operations or fields.

use serde_json::{Map, Value};

/// Rewrites a part of the document in place. A second call changes nothing more.
pub(crate) fn clean(value: &mut Value) {
    match value {
        Value::Object(object) => clean_object(object),
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}

/// Objects whose keys are names of fields and schemas, not words of OpenAPI.
const NAMED: [&str; 2] = ["properties", "schemas"];

fn clean_object(object: &mut Map<String, Value>) {
    for name in ["content", "headers"] {
        if let Some(Value::Object(inner)) = object.get_mut(name) {
            *inner = std::mem::take(inner)
                .into_iter()
                .map(|(key, value)| (plain_key(name, &key), value))
                .collect();
        }
    }
    whole_bounds(object);
    signed_format(object);
    for flag in ["readOnly", "writeOnly", "deprecated", "nullable"] {
        if object.get(flag) == Some(&Value::Bool(false)) {
            object.remove(flag);
        }
    }
    plain_reference(object);
    for (key, value) in object {
        match value {
            _ if key == "example" => {}
            Value::Object(named) if NAMED.contains(&key.as_str()) => named.values_mut().for_each(clean),
            other => clean(other),
        }
    }
}

/// Returns a key of the object `map`: a media type without its parameters, or the name of a header in lower case.
fn plain_key(map: &str, key: &str) -> String {
    match map {
        "content" => key.split(';').next().unwrap_or(key).trim().to_owned(),
        _ => key.to_ascii_lowercase(),
    }
}

/// Moves the notes in `allOf: [{$ref}, {description, nullable: true}]` beside the `allOf`: it means a `$ref` that is
/// described and may be null. A `$ref` without notes needs no `allOf`.
fn plain_reference(object: &mut Map<String, Value>) {
    let Some(Value::Array(members)) = object.get_mut("allOf") else {
        return;
    };
    let is_note = |member: &Value| member["$ref"].is_null() && member["type"].is_null();
    if members.iter().filter(|member| !is_note(member)).count() != 1 {
        return;
    }
    let (notes, mut reference): (Vec<_>, Vec<_>) = std::mem::take(members).into_iter().partition(is_note);
    for note in notes {
        object.extend(note.as_object().cloned().unwrap_or_default());
    }
    match reference.pop() {
        Some(Value::Object(alone)) if object.len() == 1 => *object = alone,
        kept => object["allOf"] = kept.into_iter().collect(),
    }
}

/// Writes bounds that are whole numbers without a fraction: `65535`, not `65535.0`.
fn whole_bounds(object: &mut Map<String, Value>) {
    for bound in ["minimum", "maximum", "multipleOf"] {
        let Some(number) = object.get(bound).and_then(Value::as_f64) else {
            continue;
        };
        if number.fract() == 0.0 && number.abs() < 9e15 {
            object.insert(bound.to_owned(), Value::from(number as i64));
        }
    }
}

/// Replaces formats that OpenAPI does not have by `int32` or `int64`. Unsigned formats also get a minimum of 0.
fn signed_format(object: &mut Map<String, Value>) {
    let signed = match object.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16" | "int8" | "int16") => "int32",
        Some("uint32" | "uint64") => "int64",
        _ => return,
    };
    let unsigned = object
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| format.starts_with('u'));
    object.insert("format".to_owned(), signed.into());
    if unsigned {
        object.entry("minimum").or_insert_with(|| 0.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cleaning_mends_what_generators_stumble_over() {
        let mut document = json!({
            "content": {"application/json; charset=utf-8": {"schema": {"format": "uint16", "maximum": 65535.0}}},
            "headers": {"RETRY-AFTER": {"deprecated": false}},
            "properties": {"headers": {"additionalProperties": {"nullable": false}}},
            "either": {"allOf": [{"$ref": "#/x"}, {"nullable": true}], "nullable": true},
            "noted": {"allOf": [{"$ref": "#/x"}, {"description": "It.", "nullable": true}]},
            "alone": {"allOf": [{"$ref": "#/x"}]},
        });
        clean(&mut document);
        let clear = json!({
            "content": {"application/json": {"schema": {"format": "int32", "maximum": 65535, "minimum": 0}}},
            "headers": {"retry-after": {}},
            "properties": {"headers": {"additionalProperties": {}}},
            "either": {"allOf": [{"$ref": "#/x"}], "nullable": true},
            "noted": {"allOf": [{"$ref": "#/x"}], "description": "It.", "nullable": true},
            "alone": {"$ref": "#/x"},
        });
        assert_eq!(document, clear);
    }

    #[test]
    fn cleaning_twice_changes_nothing_more() {
        let once: Value = serde_json::from_str(&crate::api::document()).unwrap();
        let mut twice = once.clone();
        clean(&mut twice);
        assert_eq!(once, twice);
    }
}
