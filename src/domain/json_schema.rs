//! Whether a JSON value is a JSON Schema (json-schema.org, the keywords that drafts 4 to 2020-12 share).
//!
//! Only its form is checked, so that a typing error is told when it is made; no message is ever held against it.
//! Called by the API for the schemas of event types.

use serde_json::{Map, Value};

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
const SCHEMA: [&str; 11] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "else",
    "if",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
const SCHEMAS_BY_NAME: [&str; 5] = [
    "$defs",
    "definitions",
    "dependentSchemas",
    "patternProperties",
    "properties",
];
const LIST_OF_SCHEMAS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const COUNT: [&str; 8] = [
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
];
const NUMBER: [&str; 3] = ["maximum", "minimum", "multipleOf"];
const TEXT: [&str; 8] = [
    "$comment",
    "$id",
    "$ref",
    "$schema",
    "description",
    "format",
    "pattern",
    "title",
];

/// The example with this index in version 1 of an event type's `schemas`, if it is an object, as payloads are.
pub fn example(schemas: &Value, index: usize) -> Option<&Value> {
    let examples = schemas.get("1")?.get("examples")?.as_array()?;
    examples.get(index).filter(|example| example.is_object())
}

/// Checks that this is a schema: an object or a boolean, whose keywords have values of the right kind.
pub fn check_json_schema(schema: &Value) -> Result<(), String> {
    match schema {
        Value::Bool(_) => Ok(()),
        Value::Object(keywords) => keywords
            .iter()
            .try_for_each(|(keyword, value)| check_keyword(keyword, value)),
        _ => Err("a JSON Schema must be an object or a boolean".to_owned()),
    }
}

fn check_keyword(keyword: &str, value: &Value) -> Result<(), String> {
    let is = |right: bool, kind: &str| match right {
        true => Ok(()),
        false => Err(format!("the JSON Schema keyword '{keyword}' must be {kind}")),
    };
    if SCHEMA.contains(&keyword) {
        return check_json_schema(value);
    }
    if SCHEMAS_BY_NAME.contains(&keyword) {
        is(value.is_object(), "an object of schemas")?;
        return value.as_object().map_or(Ok(()), check_each);
    }
    if LIST_OF_SCHEMAS.contains(&keyword) {
        is(value.as_array().is_some_and(|it| !it.is_empty()), "a list of schemas")?;
        return value.as_array().into_iter().flatten().try_for_each(check_json_schema);
    }
    if COUNT.contains(&keyword) {
        return is(
            value.as_f64().is_some_and(|it| it >= 0.0 && it.fract() == 0.0),
            "a count",
        );
    }
    if NUMBER.contains(&keyword) {
        return is(value.is_number(), "a number");
    }
    if TEXT.contains(&keyword) {
        return is(value.is_string(), "text");
    }
    match keyword {
        "type" => is(is_type(value), "a type's name, or a list of them"),
        "required" => is(is_list_of_text(value), "a list of names"),
        "enum" => is(value.is_array(), "a list"),
        "uniqueItems" | "deprecated" | "readOnly" | "writeOnly" => is(value.is_boolean(), "a boolean"),
        "exclusiveMaximum" | "exclusiveMinimum" => is(value.is_number() || value.is_boolean(), "a number"),
        "items" => match value {
            Value::Array(items) => items.iter().try_for_each(check_json_schema),
            one => check_json_schema(one),
        },
        _ => Ok(()),
    }
}

fn check_each(schemas: &Map<String, Value>) -> Result<(), String> {
    schemas.values().try_for_each(check_json_schema)
}

fn is_type(value: &Value) -> bool {
    let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
    known(value)
        || value
            .as_array()
            .is_some_and(|names| !names.is_empty() && names.iter().all(known))
}

fn is_list_of_text(value: &Value) -> bool {
    value.as_array().is_some_and(|names| names.iter().all(Value::is_string))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_of_every_draft_pass() {
        for good in [
            json!({}),
            json!(true),
            json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]}),
            json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "prefixItems": [{}], "items": false}),
            json!({"items": [{"type": "integer"}], "exclusiveMinimum": true, "minimum": 1.5, "x-own": [1]}),
            json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"enum": [1, "b"]}}, "examples": [{"a": 1}]}),
        ] {
            assert_eq!(check_json_schema(&good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_wrong_keyword_is_named_however_deep() {
        for (bad, named) in [
            (json!([]), "must be an object or a boolean"),
            (json!({"type": "strin"}), "'type'"),
            (json!({"type": []}), "'type'"),
            (json!({"properties": {"a": {"minLength": -1}}}), "'minLength'"),
            (json!({"anyOf": []}), "'anyOf'"),
            (json!({"oneOf": [{"required": "a"}]}), "'required'"),
            (json!({"not": 7}), "must be an object or a boolean"),
            (json!({"maximum": "9"}), "'maximum'"),
            (json!({"properties": []}), "'properties'"),
        ] {
            assert!(check_json_schema(&bad).unwrap_err().contains(named), "{bad}");
        }
    }
}
