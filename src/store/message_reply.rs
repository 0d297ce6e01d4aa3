//! The reply that is stored under the idempotency key of an accepted message.
//!
//! It holds only ids and an instant, so it is known before the message is stored, and it is not sealed. Must not know
//! how keys are claimed.

use std::fmt;

use crate::domain::timestamp::Timestamp;

/// The reply to an accepted message. Its text is `app_id/message_id/created_at`, the instant in microseconds since 1970.
///
/// A sealed reply is never such a text, because base64url has no `/`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct MessageReply<'a> {
    pub app_id: &'a str,
    pub message_id: &'a str,
    pub created_at: Timestamp,
}

impl MessageReply<'_> {
    /// The SQL that makes the text from a row of `message`.
    pub const SQL: &'static str = "app_id || '/' || id || '/' || created_at";
}

impl fmt::Display for MessageReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.app_id, self.message_id, self.created_at.0)
    }
}

/// The error if a text is not the reply of a message.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Malformed;

// Not `FromStr`, which cannot borrow: each message with a key would cost two more allocations.
impl<'a> TryFrom<&'a str> for MessageReply<'a> {
    type Error = Malformed;

    fn try_from(text: &'a str) -> Result<Self, Malformed> {
        let mut parts = text.split('/');
        match [parts.next(), parts.next(), parts.next(), parts.next()] {
            [Some(app_id), Some(message_id), Some(created_at), None]
                if !app_id.is_empty() && !message_id.is_empty() =>
            {
                Ok(Self {
                    app_id,
                    message_id,
                    created_at: Timestamp(created_at.parse().map_err(|_| Malformed)?),
                })
            }
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_as_it_was_written() {
        for micros in [0, 1, 1_764_500_000_123_456, -1, i64::MIN, i64::MAX] {
            let reply = MessageReply {
                app_id: "app_1",
                message_id: "msg_2",
                created_at: Timestamp(micros),
            };
            let text = reply.to_string();
            assert_eq!(text, format!("app_1/msg_2/{micros}"));
            assert_eq!(MessageReply::try_from(&*text), Ok(reply));
        }
    }

    #[test]
    fn malformed_texts_are_refused() {
        for text in [
            "",
            "/",
            "//",
            "//5",
            "app_1",
            "app_1/msg_2",
            "app_1/msg_2/",
            "app_1//5",
            "/msg_2/5",
            "app_1/msg_2/5/",
            "app_1/msg_2/5/6",
            "app_1/msg_2/five",
            "app_1/msg_2/ 5",
            "app_1/msg_2/9223372036854775808",
            "v1:c2VhbGVk_-",
        ] {
            assert_eq!(MessageReply::try_from(text), Err(Malformed), "{text}");
        }
    }
}
