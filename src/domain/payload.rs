//! What a payload may look like beyond being a JSON object. Called by the services that take one, and by the API.

/// Levels of arrays and objects in one another. Parsers of answers give up some way beyond: the strictest of those that
/// the SDKs use at 128, and a list wraps a payload in three more.
pub const DEEPEST: usize = 100;

/// Checks how deep a JSON text is nested. It must be valid JSON.
pub fn check_depth(json: &str) -> Result<(), String> {
    // The usual text is not worth a walk: a level takes a bracket.
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

#[cfg(test)]
mod tests {
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
}
