//! The iterators of polls: where in the messages of a poller the next page begins, and how that is written as a text.
//!
//! A place is the number of a transaction with the id of a message. The number holds an epoch in its upper bits, so that
//! places of all epochs have one order. Must not know how messages are stored, or whether a place still exists.

use ring::digest::{SHA256, digest};

use super::id::Prefix;
use super::identifier::check_identifier;
use super::timestamp::Timestamp;

/// The bits of a number of a transaction. Postgres has used 2^48 of them after nine years at a million a second.
pub const TX_BITS: u32 = 48;
/// Bytes of the mark of an epoch; as text each is two digits.
const MARK_BYTES: usize = 4;

/// Where a page begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cursor {
    /// With the first message that is not before the instant.
    Since(Timestamp),
    /// Behind a message, or with it.
    At(Place),
}

/// A place in the messages of a poller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The mark of the epoch of `tx`, by [`mark`].
    pub mark: String,
    /// The number of the transaction, with the number of its epoch in the bits above [`TX_BITS`].
    pub tx: i64,
    pub message_id: String,
    /// Whether the message itself is still to be read.
    pub includes: bool,
}

impl Cursor {
    /// The place before all messages of a poller.
    pub const START: Self = Self::Since(Timestamp(0));

    /// Returns the cursor for an instant. All from before 1970 count as its beginning.
    pub fn since(at: Timestamp) -> Self {
        Self::Since(Timestamp(at.0.max(0)))
    }

    /// Reads the text of [`Cursor::to_text`]; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('.')?;
        if kind == "s" {
            let micros = rest.parse().ok().filter(|micros| *micros >= 0)?;
            return Some(Self::Since(Timestamp(micros)));
        }
        let (mark, rest) = rest.split_once('.')?;
        let (tx, message_id) = rest.split_once('.')?;
        let tx = tx.parse().ok().filter(|tx| *tx >= 0)?;
        let is_mark = mark.len() == 2 * MARK_BYTES && mark.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_id = Prefix::Message.instant_of(message_id).is_some() && check_identifier(message_id).is_ok();
        (["a", "f"].contains(&kind) && is_mark && is_id).then(|| {
            Self::At(Place {
                mark: mark.to_owned(),
                tx,
                message_id: message_id.to_owned(),
                includes: kind == "f",
            })
        })
    }

    /// Returns whether a message of this transaction is before the cursor, so that it is not read any more.
    pub fn has_passed(&self, tx: i64, message_id: &str) -> bool {
        match self {
            Self::Since(at) => Prefix::Message.instant_of(message_id) < Some(*at),
            Self::At(place) if place.includes => (tx, message_id) < (place.tx, place.message_id.as_str()),
            Self::At(place) => (tx, message_id) <= (place.tx, place.message_id.as_str()),
        }
    }

    /// Returns the text by which callers name the cursor. It is never empty.
    pub fn to_text(&self) -> String {
        match self {
            Self::Since(at) => format!("s.{}", at.0),
            Self::At(place) => {
                let kind = if place.includes { "f" } else { "a" };
                format!("{kind}.{}.{}.{}", place.mark, place.tx, place.message_id)
            }
        }
    }
}

impl Place {
    /// Returns the instant with which the message's id begins.
    pub fn instant(&self) -> Timestamp {
        Prefix::Message.instant_of(&self.message_id).unwrap_or(Timestamp(0))
    }
}

/// Returns the mark of an epoch: eight hex digits that follow from its identity. A number alone would not do, because two
/// databases that were restored from the same dump give the same number to different epochs.
pub fn mark(identity: &str) -> String {
    let hash = digest(&SHA256, identity.as_bytes());
    hash.as_ref()[..MARK_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_01k9qqqqqqqqqqqqqqqqqqqqqq";

    #[test]
    fn a_cursor_is_read_back_from_its_text() {
        let place = Place {
            mark: mark("sqlite"),
            tx: (3 << TX_BITS) | 17,
            message_id: ID.to_owned(),
            includes: false,
        };
        assert_eq!(place.tx >> TX_BITS, 3);
        let with = Place {
            includes: true,
            ..place.clone()
        };
        for cursor in [
            Cursor::START,
            Cursor::Since(Timestamp(1_795_408_994_464_929)),
            Cursor::At(place),
            Cursor::At(with),
        ] {
            let text = cursor.to_text();
            assert_eq!(Cursor::parse(&text), Some(cursor), "{text}");
        }
    }

    #[test]
    fn a_cursor_has_passed_what_is_before_it() {
        let at = |includes| {
            Cursor::At(Place {
                mark: mark("sqlite"),
                tx: 5,
                message_id: ID.to_owned(),
                includes,
            })
        };
        let instant = Prefix::Message.instant_of(ID).expect("an instant");
        for (cursor, tx, passed) in [
            (at(false), 4, true),
            (at(false), 5, true),
            (at(true), 5, false),
            (at(true), 4, true),
            (at(false), 6, false),
            (Cursor::Since(instant), 9, false),
            (Cursor::Since(instant.plus(std::time::Duration::from_secs(1))), 9, true),
            (Cursor::START, 0, false),
        ] {
            assert_eq!(cursor.has_passed(tx, ID), passed, "{cursor:?}, {tx}");
        }
    }

    #[test]
    fn any_other_text_is_no_cursor() {
        for text in [
            "",
            "s",
            "s.",
            "s.-1",
            "s.1.2",
            ID,
            "a.0123abcd.1",
            "a.0123abcd.x.msg_1",
            "a.0123abcd.-1.msg_1",
            "a.0123abcd.1.ep_1",
            "a.0123abcd.1.msg_1'",
            "a.0123abcz.1.msg_1",
            "a.0123.1.msg_1",
            "b.0123abcd.1.msg_1",
            "a.0123abcd.99999999999999999999.msg_1",
        ] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn epochs_with_different_identities_have_different_marks() {
        assert_eq!(mark("7/00000001"), mark("7/00000001"));
        assert_ne!(mark("7/00000001"), mark("7/00000002"));
        assert_eq!(mark("").len(), 8);
    }
}
