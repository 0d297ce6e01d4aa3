//! Patterns of event types: names in which `*` stands for any text, such as `order.*`.
//!
//! Must not know which event types there are.

use super::identifier::check_identifier;

/// Checks a pattern: a name of an event type in which stars may stand. The error is the broken rule.
pub(crate) fn check_pattern(text: &str) -> Result<(), String> {
    check_identifier(&text.replace('*', "x"))
}

/// Returns whether the pattern stands for more than one name.
pub(crate) fn has_star(pattern: &str) -> bool {
    pattern.contains('*')
}

/// Returns whether an event type fits a pattern.
pub(crate) fn fits(pattern: &str, event_type: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = event_type.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_nothing_else_does() {
        for (pattern, event_type, expected) in [
            ("order.paid", "order.paid", true),
            ("order.paid", "order.paid.late", false),
            ("order.*", "order.paid", true),
            ("order.*", "order.paid.late", true),
            ("order.*", "order", false),
            ("order.*", "reorder.paid", false),
            ("*", "anything", true),
            ("*.paid", "order.paid", true),
            ("*.paid", "order.paid.late", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("order.", "orderx", false),
        ] {
            assert_eq!(fits(pattern, event_type), expected, "{pattern} {event_type}");
        }
    }

    #[test]
    fn a_pattern_is_a_name_with_stars() {
        for pattern in ["order.*", "*", "a-b_c.1"] {
            assert_eq!(check_pattern(pattern), Ok(()), "{pattern}");
        }
        for pattern in ["", "order paid", "order/*", &"*".repeat(257)] {
            assert!(check_pattern(pattern).is_err(), "{pattern}");
        }
    }
}
