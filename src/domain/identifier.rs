//! Checks the names and texts that callers of the API choose: uids, event types, channels, tags, free text, metadata, custom
//! headers.
//!
//! Each check returns the broken rule as text; its caller adds the name of the field. Must not know requests or tables.

use std::collections::BTreeMap;

use super::id::Prefix;

/// Characters.
const IDENTIFIER_MAX: usize = 256;
/// Characters.
const TEXT_MAX: usize = 4096;
/// Bytes of all names and values as JSON.
const METADATA_MAX: usize = 4096;
/// Characters.
const HEADER_NAME_MAX: usize = 256;
/// Bytes.
const HEADER_VALUE_MAX: usize = 4096;
/// Bytes of all names and values.
// The contract limits each value alone: 50 custom headers of 4 KiB each would be 200 KiB, which claims read along
// with the endpoint.
const HEADERS_MAX: usize = 16_384;
const CONTENT_TYPE_MAX: usize = 256;

/// Headers, in lower case, that an endpoint may not choose.
const REFUSED_HEADERS: [&str; 21] = [
    // These two are not in the contract's list. They would steer our own connection.
    "connection",
    "host",
    // The contract's list.
    "user-agent",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "age",
    "cache-control",
    "clear-site-data",
    "expires",
    "pragma",
    "warning",
    "content-length",
    "content-type",
    "content-encoding",
    "content-language",
    "content-location",
];

/// Beginnings of header names, in lower case, that an endpoint may not choose.
const REFUSED_HEADER_PREFIXES: [&str; 10] = [
    "x-amz-", "x-amzn-", "x-google", "x-goog-", "x-gfe", "x-azure-", "x-fd-", "x-svix-", "svix-", "webhook-",
];

/// Words by which the name of a header that holds a credential is recognized. Each of the six headers that the contract
/// names contains such a word; customers choose other names (`X-Hook-Secret`, `Api_Token`, `Cookie`). A name that
/// contains a word by chance loses little: its value is not shown again.
const SENSITIVE_WORDS: [&str; 11] = [
    "auth",
    "bearer",
    "cookie",
    "credential",
    "jwt",
    "key",
    "pass",
    "secret",
    "session",
    "signature",
    "token",
];

/// Checks an event id, event type name or channel: 1 to 256 characters of `a-z A-Z 0-9 - _ .`.
pub fn check_identifier(text: &str) -> Result<(), String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || text.chars().count() > IDENTIFIER_MAX || !text.bytes().all(known) {
        return Err(format!(
            "must be 1 to {IDENTIFIER_MAX} characters of a-z, A-Z, 0-9, '-', '_' and '.'"
        ));
    }
    Ok(())
}

/// Checks a uid: an identifier that cannot be mistaken for an id. `own` is the prefix of the ids of its resource.
pub fn check_uid(text: &str, own: Prefix) -> Result<(), String> {
    check_identifier(text)?;
    let after_prefix = text.strip_prefix(own.as_str());
    if after_prefix.is_some_and(|rest| rest.starts_with('_')) {
        return Err(format!(
            "must not start with '{}_', the prefix of the ids that the server makes",
            own.as_str()
        ));
    }
    Ok(())
}

/// Checks a tag: 1 to 256 characters of any kind but control characters.
pub fn check_tag(text: &str) -> Result<(), String> {
    if text.is_empty() || text.chars().count() > IDENTIFIER_MAX || text.chars().any(char::is_control) {
        return Err(format!(
            "must be 1 to {IDENTIFIER_MAX} characters, none of them a control character"
        ));
    }
    Ok(())
}

/// Checks free text: at most 4096 characters, none from U+0000 to U+0008.
pub fn check_text(text: &str) -> Result<(), String> {
    if text.chars().count() > TEXT_MAX {
        return Err(format!("must be at most {TEXT_MAX} characters"));
    }
    if text.bytes().any(|byte| byte <= 8) {
        return Err("must not contain characters from U+0000 to U+0008".to_owned());
    }
    Ok(())
}

/// Checks metadata: names and values follow the rule for text, and together have at most 4096 bytes as JSON.
pub fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in metadata {
        check_text(name)?;
        check_text(value)?;
    }
    let json = serde_json::to_vec(metadata).map_err(|error| error.to_string())?;
    if json.len() > METADATA_MAX {
        return Err(format!(
            "must be at most {METADATA_MAX} bytes as JSON, is {}",
            json.len()
        ));
    }
    Ok(())
}

/// Checks the name of a custom header: a valid HTTP field name that the delivery does not set itself.
pub fn check_header_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > HEADER_NAME_MAX || !name.bytes().all(is_token) {
        return Err(format!(
            "header names must be valid HTTP field names of 1 to {HEADER_NAME_MAX} characters"
        ));
    }
    let lower = name.to_ascii_lowercase();
    if REFUSED_HEADERS.contains(&lower.as_str()) {
        return Err(format!(
            "header '{lower}' is set by the delivery itself and cannot be chosen"
        ));
    }
    if let Some(prefix) = REFUSED_HEADER_PREFIXES
        .iter()
        .find(|prefix| lower.starts_with(**prefix))
    {
        return Err(format!("header names starting with '{prefix}' are reserved"));
    }
    Ok(())
}

/// Checks the value of a custom header: at most 4096 bytes, no control characters except the tab.
pub fn check_header_value(value: &str) -> Result<(), String> {
    if value.len() > HEADER_VALUE_MAX {
        return Err(format!("header values must be at most {HEADER_VALUE_MAX} bytes"));
    }
    if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
        return Err("header values must not contain control characters or line breaks".to_owned());
    }
    Ok(())
}

/// Checks all custom headers of an endpoint together: at most 16384 bytes of names and values.
pub fn check_headers_together(headers: &BTreeMap<String, String>) -> Result<(), String> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > HEADERS_MAX {
        return Err(format!(
            "names and values must be at most {HEADERS_MAX} bytes together, are {bytes}"
        ));
    }
    Ok(())
}

/// Checks a content type: `type/subtype`, with or without parameters, in at most 256 printable ASCII characters.
pub fn check_content_type(value: &str) -> Result<(), String> {
    let token = |part: &str| !part.is_empty() && part.bytes().all(is_token);
    let essence = value.split(';').next().unwrap_or_default().trim_end();
    let named = essence
        .split_once('/')
        .is_some_and(|(kind, sub)| token(kind) && token(sub));
    if !named || value.len() > CONTENT_TYPE_MAX || !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(format!(
            "must be a media type such as text/plain; charset=utf-8, of at most {CONTENT_TYPE_MAX} ASCII characters"
        ));
    }
    Ok(())
}

/// Returns whether a byte may stand in an HTTP token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns whether the value of a custom header must never be shown after it was set. Its name is always shown.
pub fn is_sensitive_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SENSITIVE_WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_1_to_256_letters_digits_dashes_underscores_and_dots() {
        for good in ["a", "0", "user.created", "User-1_x.", "...", &"x".repeat(256)] {
            assert_eq!(check_identifier(good), Ok(()), "{good}");
        }
        for bad in ["", " ", "a b", "a/b", "ä", "a\n", "a\0", "a:b", &"x".repeat(257)] {
            assert!(
                check_identifier(bad).unwrap_err().contains("1 to 256 characters"),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_uid_may_not_look_like_an_id_of_its_own_resource() {
        assert!(check_uid("app_1", Prefix::Application).unwrap_err().contains("'app_'"));
        assert!(check_uid("ep_", Prefix::Endpoint).is_err());
        assert!(check_uid("msg_x", Prefix::Message).is_err());
        for good in ["app", "app1", "App_1", "ep_1", "my_app_1"] {
            assert_eq!(check_uid(good, Prefix::Application), Ok(()), "{good}");
        }
        assert!(check_uid("", Prefix::Application).is_err());
    }

    #[test]
    fn text_may_hold_anything_from_u0009_on() {
        for good in ["", "tab\tline\n", "\u{b}", "Zürich 🚀", "\u{7f}"] {
            assert_eq!(check_text(good), Ok(()), "{good:?}");
        }
        for code in 0..=8_u8 {
            assert!(check_text(&format!("a{}b", char::from(code))).is_err(), "{code}");
        }
    }

    #[test]
    fn text_has_at_most_4096_characters() {
        assert_eq!(check_text(&"ü".repeat(4096)), Ok(()));
        assert!(check_text(&"x".repeat(4097)).unwrap_err().contains("4096 characters"));
    }

    #[test]
    fn metadata_is_measured_as_json() {
        let of_len = |len: usize| BTreeMap::from([("k".to_owned(), "v".repeat(len))]);
        assert_eq!(check_metadata(&BTreeMap::new()), Ok(()));
        assert_eq!(check_metadata(&of_len(4096 - r#"{"k":""}"#.len())), Ok(()));
        assert!(
            check_metadata(&of_len(4097 - r#"{"k":""}"#.len()))
                .unwrap_err()
                .contains("is 4097")
        );
        let quotes = BTreeMap::from([("k".to_owned(), "\"".repeat(2048))]);
        assert!(check_metadata(&quotes).is_err());
        assert!(check_metadata(&BTreeMap::from([("k\0".to_owned(), String::new())])).is_err());
        assert!(check_metadata(&BTreeMap::from([("k".to_owned(), "\u{8}".to_owned())])).is_err());
    }

    #[test]
    fn custom_headers_may_have_any_free_http_name() {
        for good in [
            "X-Api-Key",
            "authorization",
            "accept",
            "x_custom!",
            "X-Request-Id",
            "cookie",
        ] {
            assert_eq!(check_header_name(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "a:b", "ä", "a\r\nb", "(x)", &"x".repeat(257)] {
            assert!(
                check_header_name(bad).unwrap_err().contains("valid HTTP field names"),
                "{bad}"
            );
        }
    }

    #[test]
    fn headers_of_the_delivery_itself_are_refused_in_any_case() {
        for bad in REFUSED_HEADERS {
            assert!(check_header_name(bad).is_err(), "{bad}");
            assert!(check_header_name(&bad.to_uppercase()).is_err(), "{bad}");
        }
        for bad in [
            "X-Amz-Date",
            "x-amzn-trace-id",
            "X-GoogleX",
            "x-goog-y",
            "x-gfe",
            "X-Azure-Ref",
            "x-fd-healthprobe",
        ] {
            assert!(check_header_name(bad).unwrap_err().contains("reserved"), "{bad}");
        }
        for bad in ["X-Svix-Id", "svix-id", "Webhook-Signature", "webhook-anything"] {
            assert!(check_header_name(bad).unwrap_err().contains("reserved"), "{bad}");
        }
        for good in ["x-amz", "webhook", "svix", "my-webhook-id"] {
            assert_eq!(check_header_name(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_content_type_is_a_media_type_of_256_ascii_characters() {
        let longest = format!("text/plain; x={}", "y".repeat(242));
        for good in [
            "text/plain",
            "application/xml; charset=utf-8",
            "Application/X+json ;v=1",
            &longest,
        ] {
            assert_eq!(check_content_type(good), Ok(()), "{good}");
        }
        let too_long = format!("{longest}y");
        for bad in [
            "",
            "text",
            "/",
            "text/",
            "/plain",
            "te xt/plain",
            "text/plain\r\nx: y",
            "text/pl\u{e4}in",
            &too_long,
        ] {
            assert!(check_content_type(bad).unwrap_err().contains("media type"), "{bad}");
        }
    }

    #[test]
    fn header_values_are_4096_bytes_without_control_characters() {
        for good in ["", "Bearer abc", "a\tb", "Zürich", &"v".repeat(4096)] {
            assert_eq!(check_header_value(good), Ok(()), "{good}");
        }
        assert!(
            check_header_value(&"v".repeat(4097))
                .unwrap_err()
                .contains("4096 bytes")
        );
        for bad in ["a\r\nb: c", "a\nb", "\0", "\u{7f}"] {
            assert!(
                check_header_value(bad).unwrap_err().contains("control characters"),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn names_and_values_of_custom_headers_are_16384_bytes_together() {
        let of_len =
            |len: usize| BTreeMap::from([("x-a".to_owned(), "v".repeat(len)), ("x-ü".to_owned(), String::new())]);
        assert_eq!(check_headers_together(&BTreeMap::new()), Ok(()));
        assert_eq!(check_headers_together(&of_len(16_384 - 7)), Ok(()));
        assert!(
            check_headers_together(&of_len(16_385 - 7))
                .unwrap_err()
                .contains("are 16385")
        );
    }

    #[test]
    fn headers_whose_names_look_secret_are_sensitive_in_any_case() {
        for name in [
            "Authorization",
            "X-API-KEY",
            "x-auth-token",
            "www-authenticate",
            "Proxy-Authenticate",
            "proxy-authorization",
            "x-api-key-2",
            "X-Hook-Secret",
            "ApiKey",
            "CLIENT_TOKEN",
            "X-OAuth",
            "Cookie",
            "X-Password",
            "X-Passphrase",
            "X-Hub-Signature-256",
            "x-session-id",
        ] {
            assert!(is_sensitive_header(name), "{name}");
        }
        for name in [
            "accept",
            "X-Region",
            "X-Request-Id",
            "from",
            "X-Tenant",
            "X-Sig",
            "X-Plain",
        ] {
            assert!(!is_sensitive_header(name), "{name}");
        }
    }
}
