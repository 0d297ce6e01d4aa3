//! Checks that a JSON value is a JSON Schema (json-schema.org; the keywords that drafts 4 to 2020-12 share).
//!
//! Only the form is checked, so that a typing error in an event type's schema is reported when the schema comes in.
//! Messages are never validated against schemas.
//!
//! Must not resolve references or compile patterns.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The values of `type`.
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
/// Keywords whose value is a schema.
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
/// Keywords whose value is an object of schemas.
const SCHEMAS_BY_NAME: [&str; 5] = [
    "$defs",
    "definitions",
    "dependentSchemas",
    "patternProperties",
    "properties",
];
/// Keywords whose value is a list of schemas.
const LIST_OF_SCHEMAS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value is a whole number that is not negative.
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
/// Keywords whose value is a number.
const NUMBER: [&str; 3] = ["maximum", "minimum", "multipleOf"];
/// Keywords whose value is text.
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

/// Returns the text of the example with this index from version 1 of an event type's `schemas`. `None` means there is no
/// such example, or it is not an object, as payloads are.
pub fn example(schemas: &str, index: usize) -> Option<&str> {
    let versions: BTreeMap<String, &RawValue> = serde_json::from_str(schemas).ok()?;
    let keywords: BTreeMap<String, &RawValue> = serde_json::from_str(versions.get("1")?.get()).ok()?;
    let examples: Vec<&RawValue> = serde_json::from_str(keywords.get("examples")?.get()).ok()?;
    let example = examples.get(index)?.get();
    example.starts_with('{').then_some(example)
}

/// Checks that a value is a schema: a boolean, or an object whose keywords have values of the right kind. Unknown
/// keywords are accepted. The error names the keyword and the rule.
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
        is(
            value.as_array().is_some_and(|items| !items.is_empty()),
            "a list of schemas",
        )?;
        return value.as_array().into_iter().flatten().try_for_each(check_json_schema);
    }
    if COUNT.contains(&keyword) {
        return is(
            value
                .as_f64()
                .is_some_and(|number| number >= 0.0 && number.fract() == 0.0),
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
        // A boolean in draft 4, a number since draft 6.
        "exclusiveMaximum" | "exclusiveMinimum" => is(value.is_number() || value.is_boolean(), "a number"),
        // A list of schemas up to draft 2019-09, which later drafts call `prefixItems`.
        "items" => match value {
            Value::Array(items) => items.iter().try_for_each(check_json_schema),
            schema => check_json_schema(schema),
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
