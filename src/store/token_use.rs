//! Notes in memory which tokens were used.
//!
//! A use is kept to the minute. It is noted when a token is looked up, which happens every few seconds while the token
//! is in use; so a request pays nothing for it. Must not record the notes: token.rs does, when the service asks for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::timestamp::Timestamp;

/// Tokens of which a use is noted at most. Any more are noted at a later look-up.
const MOST: usize = 10_000;
const MINUTE_MICROS: i64 = 60_000_000;

/// The uses that are not recorded yet: the latest minute by the token's id. Look-ups of tokens add notes, the record of
/// uses takes them all; the lock orders them.
#[derive(Debug, Default)]
pub struct TokenUses(Mutex<HashMap<String, Timestamp>>);

/// Returns the minute in which an instant lies.
pub fn minute_of(at: Timestamp) -> Timestamp {
    Timestamp(at.0 - at.0.rem_euclid(MINUTE_MICROS))
}

impl TokenUses {
    /// Notes that a token was used in this minute.
    pub fn note(&self, token_id: &str, minute: Timestamp) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(noted) = notes.get_mut(token_id) {
            *noted = minute.max(*noted);
        } else if notes.len() < MOST {
            notes.insert(token_id.to_owned(), minute);
        }
    }

    /// Returns all notes, and forgets them.
    pub fn take(&self) -> Vec<(String, Timestamp)> {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.drain().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_the_latest_minute_and_notes_are_limited() {
        let uses = TokenUses::default();
        let minute = minute_of(Timestamp(179_999_999));
        assert_eq!(minute, Timestamp(120_000_000));
        uses.note("tok_a", minute);
        uses.note("tok_a", Timestamp(60_000_000));
        assert_eq!(uses.take(), [("tok_a".to_owned(), minute)]);
        for number in 0..=MOST {
            uses.note(&format!("tok_{number}"), minute);
        }
        assert_eq!(uses.take().len(), MOST);
        assert!(uses.take().is_empty());
    }
}
