//! Makes the ids of every row: sortable text, strictly increasing within one source.
//!
//! Responsible for the encoding and the order. Must not read a clock: the caller gives the instant.
//! Called by the clock, which owns the process's one source.

use std::sync::{Mutex, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};

use super::timestamp::Timestamp;

/// Crockford's base32, lower case: its characters stand in ASCII order, so text order is number order.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 26;
const RANDOM_LEN: usize = 7;
const POOL_LEN: usize = 4096;
const MAX_MICROS: u64 = (1 << 56) - 1;

/// What an id names; gives the text before the underscore.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Prefix {
    Organization,
    Application,
    Endpoint,
    Message,
    Attempt,
    EventType,
    Token,
    Delivery,
    BackgroundTask,
}

impl Prefix {
    /// The prefix without its underscore, such as `msg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "org",
            Self::Application => "app",
            Self::Endpoint => "ep",
            Self::Message => "msg",
            Self::Attempt => "atmpt",
            Self::EventType => "evtype",
            Self::Token => "tok",
            Self::Delivery => "dlv",
            Self::BackgroundTask => "qtask",
        }
    }

    /// The smallest id that could be made at this instant: those made before are smaller, all others are not.
    pub fn first_id_at(self, at: Timestamp) -> String {
        let micros = u64::try_from(at.unix_micros()).unwrap_or(0).min(MAX_MICROS);
        written(self, u128::from(micros) << 72)
    }

    /// Returns the instant that an id begins with; `None` if the text is no id of this kind. What is missing of a text that is
    /// too short counts as zeros, as it does in the order of texts.
    pub fn instant_of(self, id: &str) -> Option<Timestamp> {
        let digits = id.strip_prefix(self.as_str())?.strip_prefix('_')?;
        // Twelve digits are 60 bits, of which the first two are no more than the encoding's, and the last two the sequence's.
        let mut number = 0_u64;
        for digit in digits.bytes().chain(std::iter::repeat(b'0')).take(12) {
            let value = ALPHABET.iter().position(|known| *known == digit)?;
            number = (number << 5) | value as u64;
        }
        i64::try_from(number >> 2).ok().map(Timestamp)
    }

    /// Whether a text has the form of such an id: no uid does.
    pub fn is_of(self, text: &str) -> bool {
        text.strip_prefix(self.as_str())
            .is_some_and(|rest| rest.starts_with('_'))
    }
}

/// A source of ids. Ids of one source increase strictly, whatever the clock does.
pub struct IdSource {
    state: Mutex<State>,
    system: SystemRandom,
}

struct State {
    micros: u64,
    sequence: u16,
    pool: Box<[u8; POOL_LEN]>,
    used: usize,
}

impl Default for IdSource {
    fn default() -> Self {
        Self::new()
    }
}

impl IdSource {
    /// A source that has given no id yet.
    pub fn new() -> Self {
        let state = State {
            micros: 0,
            sequence: 0,
            pool: Box::new([0; POOL_LEN]),
            used: POOL_LEN,
        };
        Self {
            state: Mutex::new(state),
            system: SystemRandom::new(),
        }
    }

    /// A new id: `<prefix>_` and 26 characters for 56 bits of microseconds, 16 of sequence and 56 of chance.
    ///
    /// Where the clock stands still or has stepped back, the id counts on from the last one instead.
    /// Panics when the operating system gives no random bytes.
    pub fn next(&self, prefix: Prefix, at: Timestamp) -> String {
        let number = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let chance = state.draw(&self.system);
            state.step(at);
            (u128::from(state.micros) << 72) | (u128::from(state.sequence) << 56) | u128::from(chance)
        };
        written(prefix, number)
    }
}

fn written(prefix: Prefix, number: u128) -> String {
    let mut id = String::with_capacity(prefix.as_str().len() + 1 + TEXT_LEN);
    id.push_str(prefix.as_str());
    id.push('_');
    id.extend((0..TEXT_LEN).rev().map(|place| {
        let digit = (number >> (5 * place)) & 31;
        char::from(ALPHABET[digit as usize])
    }));
    id
}

impl State {
    fn step(&mut self, at: Timestamp) {
        let micros = u64::try_from(at.unix_micros()).unwrap_or(0).min(MAX_MICROS);
        if micros > self.micros {
            (self.micros, self.sequence) = (micros, 0);
            return;
        }
        let (sequence, full) = self.sequence.overflowing_add(1);
        self.sequence = sequence;
        self.micros += u64::from(full);
    }

    fn draw(&mut self, system: &SystemRandom) -> u64 {
        if self.used + RANDOM_LEN > POOL_LEN {
            system
                .fill(&mut self.pool[..])
                .expect("the operating system gives random bytes");
            self.used = 0;
        }
        let mut bytes = [0; 8];
        bytes[1..].copy_from_slice(&self.pool[self.used..self.used + RANDOM_LEN]);
        self.used += RANDOM_LEN;
        u64::from_be_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;

    const NOW: i64 = 1_795_408_994_464_929;

    fn assert_strictly_increasing(ids: &[String]) {
        for pair in ids.windows(2) {
            assert!(pair[0] < pair[1], "{} before {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn an_id_is_its_prefix_and_26_lower_case_characters() {
        let source = IdSource::new();
        for (prefix, text) in [
            (Prefix::Organization, "org_"),
            (Prefix::Application, "app_"),
            (Prefix::Endpoint, "ep_"),
            (Prefix::Message, "msg_"),
            (Prefix::Attempt, "atmpt_"),
            (Prefix::EventType, "evtype_"),
            (Prefix::Token, "tok_"),
            (Prefix::Delivery, "dlv_"),
            (Prefix::BackgroundTask, "qtask_"),
        ] {
            let id = source.next(prefix, Timestamp(NOW));
            let rest = id.strip_prefix(text).expect(text);
            assert_eq!(rest.len(), 26);
            assert!(rest.bytes().all(|byte| ALPHABET.contains(&byte)), "{rest}");
        }
    }

    #[test]
    fn the_first_characters_hold_the_time() {
        let id = IdSource::new().next(Prefix::Message, Timestamp(NOW));
        let number = id["msg_".len()..].bytes().fold(0_u128, |number, byte| {
            let digit = ALPHABET.iter().position(|&known| known == byte).unwrap();
            (number << 5) | digit as u128
        });
        assert_eq!((number >> 72) as i64, NOW);
        assert_eq!((number >> 56) as u16, 0);
    }

    #[test]
    fn the_instant_of_an_id_is_read_from_it() {
        let id = IdSource::new().next(Prefix::Message, Timestamp(NOW));
        assert_eq!(Prefix::Message.instant_of(&id), Some(Timestamp(NOW)));
        let last = Prefix::Message.first_id_at(Timestamp(i64::MAX));
        assert_eq!(Prefix::Message.instant_of(&last), Some(Timestamp(MAX_MICROS as i64)));
        assert_eq!(Prefix::Message.instant_of("msg_0"), Some(Timestamp(0)));
        for other in [id.replace("msg", "dlv"), "msg".to_owned(), "msg_u".to_owned()] {
            assert_eq!(Prefix::Message.instant_of(&other), None, "{other}");
        }
    }

    #[test]
    fn ids_increase_while_the_clock_stands_still() {
        let source = IdSource::new();
        let ids: Vec<_> = (0..100_000)
            .map(|_| source.next(Prefix::Attempt, Timestamp(NOW)))
            .collect();
        assert_strictly_increasing(&ids);
    }

    #[test]
    fn ids_increase_while_the_clock_steps_back() {
        let source = IdSource::new();
        let ids: Vec<_> = (0..1000)
            .map(|step| source.next(Prefix::Message, Timestamp(NOW - step * 1_000_000)))
            .collect();
        assert_strictly_increasing(&ids);
    }

    #[test]
    fn text_order_is_time_order_across_sources() {
        let mut at = 0;
        let mut ids = Vec::new();
        while at < NOW * 20 {
            ids.push(IdSource::new().next(Prefix::Message, Timestamp(at)));
            at = at * 2 + 1;
        }
        ids.extend((1..1000).map(|step| IdSource::new().next(Prefix::Message, Timestamp(NOW * 30 + step))));
        assert_strictly_increasing(&ids);
    }

    #[test]
    fn sources_with_the_same_clock_give_different_ids() {
        let ids: HashSet<_> = (0..1000)
            .map(|_| IdSource::new().next(Prefix::Message, Timestamp(NOW)))
            .collect();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn threads_sharing_a_source_get_100000_different_ids_each_in_order() {
        let source = Arc::new(IdSource::new());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let source = Arc::clone(&source);
                std::thread::spawn(move || -> Vec<_> {
                    (0..25_000)
                        .map(|step| source.next(Prefix::Delivery, Timestamp(NOW + step)))
                        .collect()
                })
            })
            .collect();
        let mut all = HashSet::new();
        for thread in threads {
            let ids = thread.join().unwrap();
            assert_strictly_increasing(&ids);
            all.extend(ids);
        }
        assert_eq!(all.len(), 100_000);
    }

    #[test]
    fn an_instant_before_the_epoch_or_past_56_bits_still_gives_increasing_ids() {
        let source = IdSource::new();
        let ids: Vec<_> = [i64::MIN, -1, 0, 1]
            .map(|at| source.next(Prefix::Token, Timestamp(at)))
            .into();
        assert_strictly_increasing(&ids);
        let last = IdSource::new().next(Prefix::Token, Timestamp(i64::MAX));
        assert!(last > ids[3] && last.len() == ids[3].len());
    }

    #[test]
    fn the_first_id_of_an_instant_parts_what_was_made_before_from_the_rest() {
        let source = IdSource::new();
        let before = source.next(Prefix::Message, Timestamp(1_795_408_994_464_928));
        let at = source.next(Prefix::Message, Timestamp(1_795_408_994_464_929));
        let bound = Prefix::Message.first_id_at(Timestamp(1_795_408_994_464_929));
        assert!(before < bound && bound <= at, "{before} {bound} {at}");
        assert_eq!(bound.len(), at.len());
        assert!(Prefix::Message.first_id_at(Timestamp(-5)) < before);
    }
}
