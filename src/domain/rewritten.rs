//! What programs do to the body of a webhook before they verify it, undone: line breaks, space around it, JSON that was
//! parsed and written again.
//!
//! Must not verify anything: `verification` tries each of these bodies.

use serde_json::{Number, Value};

/// From this value on JavaScript writes numbers with an exponent.
const LARGE: f64 = 1e21;
/// Below this value JavaScript writes numbers with an exponent.
const SMALL: f64 = 1e-6;

/// Returns bodies from which a program may have made this one, each with what has to be done to get it, in words that
/// follow "the signature holds once". The portal's page for signatures has the same words, but does not tell line breaks
/// at the end from other space, and knows fewer ways to write JSON.
pub(crate) fn variants(body: &str) -> Vec<(&'static str, String)> {
    let compact = without_space(body);
    let mut found = vec![
        (
            "the line breaks at its end are removed",
            body.trim_end_matches(['\r', '\n']).to_owned(),
        ),
        ("the space around it is removed", body.trim().to_owned()),
        ("a line break at its end is added", format!("{body}\n")),
        ("its line breaks are those of Unix", body.replace("\r\n", "\n")),
        ("its line breaks are those of Windows", body.replace('\n', "\r\n")),
        ("its JSON is written without spaces", compact.clone()),
    ];
    if let Ok(value) = serde_json::from_str::<Value>(body) {
        let mut written = String::new();
        stringify(&value, &mut written);
        found.push(("its JSON is written by JSON.stringify", written));
        found.push(("its JSON is written by json.dumps", with_spaces(&compact)));
        let indented = serde_json::to_string_pretty(&value).unwrap_or_default();
        found.push(("its JSON is indented by two spaces", indented));
    }
    found.retain(|(_, text)| text != body);
    found
}

/// Iterates over the characters of a JSON text, each with whether it belongs to a string.
fn letters(json: &str) -> impl Iterator<Item = (char, bool)> {
    let (mut inside, mut escaped) = (false, false);
    json.chars().map(move |letter| {
        let ends = inside && !escaped && letter == '"';
        let begins = !inside && letter == '"';
        escaped = inside && !escaped && letter == '\\';
        let belongs = inside || begins;
        inside = belongs && !ends;
        (letter, belongs)
    })
}

/// Removes white space outside of strings, so that nothing but the layout changes.
fn without_space(json: &str) -> String {
    let kept = letters(json).filter(|(letter, in_string)| *in_string || !letter.is_whitespace());
    kept.map(|(letter, _)| letter).collect()
}

/// Adds a space after each comma and colon outside of strings, and escapes what is not ASCII, as Python does.
fn with_spaces(compact: &str) -> String {
    let mut text = String::with_capacity(compact.len() * 2);
    for (letter, in_string) in letters(compact) {
        match letter.is_ascii() {
            true => text.push(letter),
            false => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        if !in_string && matches!(letter, ',' | ':') {
            text.push(' ');
        }
    }
    text
}

/// Writes a value as JavaScript does: as serde_json does, but for numbers.
fn stringify(value: &Value, into: &mut String) {
    match value {
        Value::Number(number) => into.push_str(&number_text(number)),
        Value::Array(values) => {
            into.push('[');
            for (place, value) in values.iter().enumerate() {
                separate(place, into);
                stringify(value, into);
            }
            into.push(']');
        }
        Value::Object(members) => {
            into.push('{');
            for (place, (name, value)) in members.iter().enumerate() {
                separate(place, into);
                into.push_str(&Value::from(name.as_str()).to_string());
                into.push(':');
                stringify(value, into);
            }
            into.push('}');
        }
        other => into.push_str(&other.to_string()),
    }
}

fn separate(place: usize, into: &mut String) {
    if place > 0 {
        into.push(',');
    }
}

/// Returns a number as JavaScript writes it: every number is a double there.
fn number_text(number: &Number) -> String {
    let value = number.as_f64().unwrap_or_default();
    match value.abs() {
        0.0 => "0".to_owned(),
        SMALL..LARGE => value.to_string(),
        size => {
            let text = format!("{value:e}");
            if size < 1.0 { text } else { text.replace('e', "e+") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_written_as_javascript_and_python_write_it() {
        let body = r#"{ "a b" : [1.10, 1.0, 1e21, 12345678901234567890, -2.5e-7, 0], "q\" ,": "ü🚀", "e": {} }"#;
        let found = variants(body);
        let text = |words: &str| {
            &found
                .iter()
                .find(|(known, _)| known.contains(words))
                .expect("a variant")
                .1
        };
        let compact = r#"{"a b":[1.10,1.0,1e21,12345678901234567890,-2.5e-7,0],"q\" ,":"ü🚀","e":{}}"#;
        assert_eq!(text("without spaces"), compact);
        let stringified = r#"{"a b":[1.1,1,1e+21,12345678901234567000,-2.5e-7,0],"q\" ,":"ü🚀","e":{}}"#;
        assert_eq!(text("JSON.stringify"), stringified);
        let dumped = concat!(
            r#"{"a b": [1.10, 1.0, 1e21, 12345678901234567890, -2.5e-7, 0], "#,
            r#""q\" ,": "\u00fc\ud83d\ude80", "e": {}}"#
        );
        assert_eq!(text("json.dumps"), dumped);
    }

    #[test]
    fn a_body_is_no_variant_of_itself_and_a_text_has_none_of_json() {
        assert!(variants("{}").iter().all(|(_, text)| text != "{}"));
        assert!(
            variants("total=1\n")
                .iter()
                .all(|(words, _)| !words.contains("written by"))
        );
    }
}
