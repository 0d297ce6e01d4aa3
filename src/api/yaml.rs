//! Writes a JSON value as YAML in block style, for the API document. Strings stay quoted as in JSON, which is YAML 1.2.

use std::fmt::Write;

use serde_json::Value;

/// Returns the value as YAML.
pub(super) fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

/// Appends a value that begins on a line of its own.
fn block(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let _ = write!(text, "{:1$}{2}:", "", depth * 2, plain_or_quoted(key));
                after_mark(value, depth, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                let _ = write!(text, "{:1$}-", "", depth * 2);
                after_mark(item, depth, text);
            }
        }
        scalar => {
            let _ = writeln!(text, "{scalar}");
        }
    }
}

/// Appends a value after `key:` or `-`: scalars and empty collections on the same line, others on the lines below.
fn after_mark(value: &Value, depth: usize, text: &mut String) {
    let nested = match value {
        Value::Object(object) => !object.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if nested {
        text.push('\n');
        block(value, depth + 1, text);
    } else {
        let _ = writeln!(text, " {value}");
    }
}

/// Returns a key as it is if it has only letters, and quoted if not: `200` would be a number.
fn plain_or_quoted(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphabetic();
    match !key.is_empty() && key.bytes().all(plain) {
        true => key.to_owned(),
        false => Value::from(key).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_has_the_same_values_in_block_style() {
        let value = json!({"a": {"b": [1, "x: y", {"c": null}], "200": {}}, "d": []});
        let text = "a:\n  b:\n    - 1\n    - \"x: y\"\n    -\n      c: null\n  \"200\": {}\nd: []\n";
        assert_eq!(to_yaml(&value), text);
    }
}
