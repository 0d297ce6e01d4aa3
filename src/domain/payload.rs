//! Checks that the strict JSON parsers of SDKs can read a payload: how deep it is nested, and that it holds no text or
//! number that such parsers refuse.
//!
//! Must not check that a payload is valid JSON, or an object: callers have done so.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// The most levels of nested arrays and objects. The strictest of the parsers that the SDKs use gives up at 128 levels,
/// and a list response wraps a payload in three more.
pub const DEEPEST: usize = 100;

/// A number with fewer than `DIGITS` digits in a row, and with fewer than `EXPONENT_DIGITS` digits in its exponent, is
/// within the range of a double.
const DIGITS: usize = 200;
const EXPONENT_DIGITS: usize = 3;

/// Bytes that are looked at together. `DIGITS` digits in a row fill at least one block, wherever they begin.
const BLOCK: usize = 64;

/// Checks that strict JSON parsers can read a payload, which must be valid JSON. A payload that an SDK's parser refuses
/// would make the whole page of a list unreadable for its caller. The error is the broken rule.
pub fn check_payload(json: &str) -> Result<(), String> {
    check_depth(json)?;
    check_values(json)
}

/// Checks how deep a JSON text is nested, which must be valid JSON. The error is the broken rule.
pub fn check_depth(json: &str) -> Result<(), String> {
    // The usual text needs no walk: each level takes a bracket, and it has few brackets.
    if json.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count() <= DEEPEST {
        return Ok(());
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        if in_text {
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(format!("must not be nested more than {DEEPEST} levels deep"));
        }
    }
    Ok(())
}

/// Rejects half of a surrogate pair, and a number beyond the range of a double. The syntax check of an incoming body
/// accepts both, because it skips payloads unread. Strict parsers refuse them, among them serde_json, which the Rust
/// SDK uses. serde_json decides here too. Integers of any length within the range of a double are accepted.
fn check_values(json: &str) -> Result<(), String> {
    // The look costs 0.2 µs per payload.
    if !is_worth_reading(json.as_bytes()) {
        return Ok(());
    }
    let rule = match serde_json::from_str::<Read>(json) {
        Ok(Read) => return Ok(()),
        Err(err) if err.to_string().starts_with("number out of range") => {
            "must not hold a number beyond the range of a double, such as 1e999"
        }
        Err(_) => r"must not hold half of a surrogate pair, such as \ud800",
    };
    Err(rule.to_owned())
}

/// Returns whether a text may hold a value that `check_values` rejects, so that the usual text is not parsed again.
/// Half of a surrogate pair needs an escape; a number beyond a double needs a large exponent or many digits.
fn is_worth_reading(json: &[u8]) -> bool {
    (0..json.len()).step_by(BLOCK).any(|start| {
        let block = &json[start..json.len().min(start + BLOCK)];
        let next = &json[start + 1..json.len().min(start + BLOCK + 1)];
        // No early exit from these loops, so that the compiler can vectorize them.
        let digits = block.iter().fold(true, |all, byte| all & byte.is_ascii_digit());
        let (mut escape, mut exponent) = (false, false);
        for (&byte, &next) in block.iter().zip(next) {
            escape |= (byte == b'\\') & (next == b'u');
            exponent |= byte.is_ascii_digit() & (next | 0x20 == b'e');
        }
        let ends = start + block.len();
        escape && has_surrogate(&json[start..json.len().min(ends + 2)])
            || exponent && (start + 1..=ends).any(|at| is_large_exponent(json, at))
            || digits && has_long_number(&json[start.saturating_sub(DIGITS)..json.len().min(ends + DIGITS)])
    })
}

/// Returns whether a text has an escape that begins as surrogates do. A few other escapes, such as `\ud7ff`, begin like
/// that too.
fn has_surrogate(json: &[u8]) -> bool {
    json.windows(3).any(|bytes| matches!(bytes, br"\ud" | br"\uD"))
}

/// Returns whether an exponent of at least `EXPONENT_DIGITS` digits begins at `at`, with the letter `e`. Within strings
/// such bytes are often something else, such as a part of a hash or a UUID. Therefore the bytes before must be a number
/// that stands where a JSON value may stand.
fn is_large_exponent(json: &[u8], at: usize) -> bool {
    let Some((before, [b'e' | b'E', after @ ..])) = json.split_at_checked(at) else {
        return false;
    };
    let after = after.strip_prefix(b"+").unwrap_or(after);
    if !after.iter().take(EXPONENT_DIGITS).all(u8::is_ascii_digit) {
        return false;
    }
    let number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    match before.iter().rposition(|byte| !number(byte)) {
        Some(at) => matches!(before[at], b':' | b'[' | b',' | b' ' | b'\t' | b'\r' | b'\n'),
        None => true,
    }
}

/// Returns whether `DIGITS` digits or more stand in a row.
fn has_long_number(json: &[u8]) -> bool {
    json.split(|byte| !byte.is_ascii_digit())
        .any(|digits| digits.len() >= DIGITS)
}

/// A JSON value that has been read to its end. Nothing of it is kept.
struct Read;

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Read {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    fn nested(levels: usize) -> String {
        let half = levels / 2;
        let (open, close) = (r#"{"a":["#.repeat(half), "]}".repeat(half));
        match levels % 2 {
            0 => format!("{open}{close}"),
            _ => format!("{open}{{}}{close}"),
        }
    }

    #[test]
    fn a_hundred_levels_pass_and_one_more_is_refused() {
        for levels in [1, 2, 99, 100] {
            assert_eq!(check_depth(&nested(levels)), Ok(()), "{levels}");
        }
        for levels in [101, 102, 200_000] {
            assert!(
                check_depth(&nested(levels)).unwrap_err().contains("100 levels"),
                "{levels}"
            );
        }
    }

    #[test]
    fn what_stands_in_texts_and_side_by_side_does_not_count() {
        let texts = format!(r#"{{"{0}": "{0}\"{0}\\", "b": 1}}"#, "[{".repeat(200));
        assert_eq!(check_depth(&texts), Ok(()));
        let side_by_side = format!(r#"{{"a": [{}{{}}]}}"#, "[],".repeat(1000));
        assert_eq!(check_depth(&side_by_side), Ok(()));
        let after_texts = format!(r#"{{"\\": "\\\"", "b": {}}}"#, nested(100));
        assert!(check_depth(&after_texts).is_err());
    }

    /// Returns objects with `value` in each place where a value may stand, and as a name if it is a string.
    fn objects(value: &str) -> Vec<String> {
        let mut all = vec![
            format!(r#"{{"a":{value}}}"#),
            format!("{{\"a\" : [\t{value} , {value}\r\n] }}"),
            format!(r#"{{"e1":"1e5","a":{{"b":[-0.5,{value}]}}}}"#),
        ];
        if value.starts_with('"') {
            all.push(format!("{{{value}:1}}"));
        }
        all
    }

    #[test]
    fn what_the_sdks_parser_refuses_is_refused_and_nothing_else() {
        let texts = [
            r"\ud800|\uD800|\udbff|\udc00|\uDFFF|\ud800\ud800|\ud800x|\ud83d \ude00|\udc00\ud800|x\ud800\n|\ud800\u0041|\\\ud800",
            r"\ud83d\ude00|\uD83D\uDE00 \ud7ff|\ue000|\u0000|\\ud800|\\\\uD800|ud800|é🚀|1e999|: 1e999|-1e999-",
        ];
        let texts = texts.iter().flat_map(|texts| texts.split('|'));
        let digits = |count: usize| "9".repeat(count);
        let numbers = "1e308 1e309 -1e309 1E309 1e+309 1E+0000309 1e-309 1e-999999 0e999999 -0.0e999999 0.1e309 0.01e310 \
                       1.7976931348623157e308 1.8e308 17.976931348623157e307 0.001e312 1e999999 1e99 123e99 1e0 -1 0.5 \
                       1e99999999999999999999 1e-99999999999999999999 0e99999999999999999999 1.0e400 1e+308 \
                       18446744073709551616 -9223372036854775809 1e00000000000000000001";
        let numbers = numbers
            .split_whitespace()
            .map(str::to_owned)
            .chain([19, 20, 40, 199, 200, 201, 300, 308, 309, 310, 400, 5000].map(digits))
            .chain([198, 199, 200, 250, 308, 309].map(|count| format!("-1{}", "0".repeat(count))))
            .chain([150, 199, 209, 210, 250].map(|count| format!("{}e99", digits(count))))
            .chain([250, 320].map(|count| format!("{}.5e-99", digits(count))))
            .chain([300, 400].map(|count| format!("0.{}", digits(count))))
            .chain([300, 400].map(|count| format!("0.{}1e{}", "0".repeat(count), count + 100)));
        let (mut refused, mut taken) = (0, 0);
        for value in texts.map(|text| format!("\"{text}\"")).chain(numbers) {
            for json in objects(&value) {
                assert!(serde_json::from_str::<&RawValue>(&json).is_ok(), "it comes in: {json}");
                let read = serde_json::from_str::<Value>(&json);
                let checked = check_payload(&json);
                assert_eq!(checked.is_err(), read.is_err(), "{json}: {checked:?}, {read:?}");
                match checked {
                    Ok(()) => taken += 1,
                    Err(rule) if value.starts_with('"') => assert!(rule.contains("surrogate"), "{json}: {rule}"),
                    Err(rule) => assert!(rule.contains("range of a double"), "{json}: {rule}"),
                }
                refused += usize::from(read.is_err());
            }
        }
        assert!(refused > 80 && taken > 120, "{refused} refused, {taken} taken");
    }

    #[test]
    fn a_usual_text_is_not_read() {
        for json in [
            r#"{"id":"3e1e104e-9c1e-4e11-81e4-0e999e1e1234","hash":"9e107d9d372bb6826bd81e3542a419d6","total":1.10}"#,
            r#"{"text":"\u00e9\n\"1\" \u000d","n":[1e5,-2.5E-3,6.02e+23,18446744073709551616],"at":1767225600000000}"#,
            "{}",
            "",
        ] {
            assert!(!is_worth_reading(json.as_bytes()), "{json}");
        }
        for json in [r#"{"a":"\ud83d\ude00"}"#, r#"{"a":1e308}"#, r#"{"a":[-1.5E+100]}"#] {
            assert!(is_worth_reading(json.as_bytes()), "{json}");
        }
    }
}
