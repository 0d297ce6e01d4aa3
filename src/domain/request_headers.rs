//! The headers of a delivery: their names, and which of them a custom header may replace. Also the headers that are shown
//! of a request that was sent before.
//!
//! Must not sign, and must not open secrets or custom headers.

use super::timestamp::Timestamp;

/// The header names of id, timestamp and signatures: those of Standard Webhooks, and older ones, because some receivers
/// know no others.
const SIGNATURE_HEADERS: [[&str; 3]; 2] = [
    ["webhook-id", "webhook-timestamp", "webhook-signature"],
    ["svix-id", "svix-timestamp", "svix-signature"],
];
pub const AGENT: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));
pub const ACCEPT_ALL: &str = "*/*";
/// The media type of a payload that has none of its own.
pub const PAYLOAD_TYPE: &str = "application/json";

/// Returns the names under which id, timestamp and signatures are sent; with `svix` the older ones too.
pub fn signature_headers(svix: bool) -> impl Iterator<Item = [&'static str; 3]> {
    SIGNATURE_HEADERS.into_iter().take(1 + usize::from(svix))
}

/// Returns whether a custom header is sent. It may replace Accept, and no other header of ours. `name` is in lower case.
pub fn is_sent(name: &str, is_ours: bool) -> bool {
    name == "accept" || !is_ours
}

/// What the headers of a request follow from.
pub struct Sent<'a> {
    pub host: &'a str,
    /// `None` means [`PAYLOAD_TYPE`].
    pub content_type: Option<&'a str>,
    pub message_id: &'a str,
    pub at: Timestamp,
    pub svix: bool,
}

impl Sent<'_> {
    /// Returns the headers in the order in which they are sent, with names in lower case. `None` in place of a value
    /// means that it is not shown: signatures, and the values of custom headers, of which `custom` has the names.
    /// Without Content-Length.
    pub fn shown<'a>(&self, custom: impl IntoIterator<Item = &'a str>) -> Vec<(String, Option<String>)> {
        let shown = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let mut headers = vec![
            shown("host", self.host),
            shown("accept", ACCEPT_ALL),
            shown("user-agent", AGENT),
            shown("content-type", self.content_type.unwrap_or(PAYLOAD_TYPE)),
        ];
        for [id, timestamp, signatures] in signature_headers(self.svix) {
            headers.push(shown(id, self.message_id));
            headers.push(shown(timestamp, &self.at.unix_seconds().to_string()));
            headers.push((signatures.to_owned(), None));
        }
        for name in custom {
            let name = name.to_ascii_lowercase();
            let ours = headers.iter_mut().find(|(other, _)| *other == name);
            match ours {
                Some((_, value)) if is_sent(&name, true) => *value = None,
                Some(_) => {}
                None => headers.push((name, None)),
            }
        }
        headers
    }
}
