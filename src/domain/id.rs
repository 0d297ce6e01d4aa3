//! Makes the ids of rows: sortable text that begins with an instant and strictly increases within one source.
//!
//! Responsible for the encoding and the order. Must not read a clock: the caller gives the instant. The process's clock
//! owns its only source.

use std::sync::{Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use super::timestamp::Timestamp;

/// Crockford's base32, lower case: its characters stand in ASCII order, so text order is number order.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters behind the underscore: 130 bits, of which an id uses the lower 128.
const TEXT_LEN: usize = 26;
/// The most bytes of an id: no prefix has more than 13 with its underscore.
const MOST_LEN: usize = 40;
/// Random bytes of one id.
const RANDOM_LEN: usize = 7;
/// Random bytes that are taken from the operating system at once: enough for some 585 ids.
const POOL_LEN: usize = 4096;
/// The last instant that 56 bits hold, in the year 4253.
const MAX_MICROS: u64 = (1 << 56) - 1;

/// The kind of thing that an id names. It determines the text before the underscore.
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
    AuditEntry,
    Poller,
    /// A request to the API, which has no row.
    Request,
}

impl Prefix {
    /// Returns the prefix without its underscore, such as `msg`.
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
            Self::AuditEntry => "audit",
            Self::Poller => "poll",
            Self::Request => "req",
        }
    }

    /// Returns the smallest id that could be made at this instant: ids of earlier instants are smaller, all others are
    /// not.
    pub fn first_id_at(self, at: Timestamp) -> String {
        let micros = u64::try_from(at.unix_micros()).unwrap_or(0).min(MAX_MICROS);
        written(self, u128::from(micros) << 72, str::to_owned)
    }

    /// Returns the only id of this kind that `name` has at this instant. No two names have the same one.
    pub fn named_id_at(self, at: Timestamp, name: &str) -> String {
        let micros = u64::try_from(at.unix_micros()).unwrap_or(0).min(MAX_MICROS);
        let hash = digest(&SHA256, name.as_bytes());
        // The 72 bits behind the instant.
        let rest = hash.as_ref()[..9].iter();
        let rest = rest.fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
        written(self, (u128::from(micros) << 72) | rest, str::to_owned)
    }

    /// Returns the instant with which an id begins. `None` means the text is no id of this kind. Missing digits of a
    /// text that is too short count as zeros, which agrees with the order of texts.
    pub fn instant_of(self, id: &str) -> Option<Timestamp> {
        let digits = id.strip_prefix(self.as_str())?.strip_prefix('_')?;
        // Twelve digits are 60 bits: the two unused bits of the encoding, 56 bits of microseconds, and the first two
        // bits of the sequence.
        let mut number = 0_u64;
        for digit in digits.bytes().chain(std::iter::repeat(b'0')).take(12) {
            let value = ALPHABET.iter().position(|known| *known == digit)?;
            number = (number << 5) | value as u64;
        }
        i64::try_from(number >> 2).ok().map(Timestamp)
    }

    /// Returns whether a text begins as the ids of this kind do. No uid of this kind does: `check_uid` refuses it.
    pub fn is_of(self, text: &str) -> bool {
        text.strip_prefix(self.as_str())
            .is_some_and(|rest| rest.starts_with('_'))
    }
}

/// A type of ids.
pub trait Id: for<'a> From<&'a str> {
    /// The kind of thing that these ids name.
    const PREFIX: Prefix;
}

/// A source of ids. Ids of one source strictly increase, whatever the clock does.
pub struct IdSource {
    /// Every thread that makes an id locks it, so that ids strictly increase across threads too.
    state: Mutex<State>,
    system: SystemRandom,
}

struct State {
    /// The instant of the last id, in microseconds since the Unix epoch.
    micros: u64,
    /// The sequence number of the last id within that microsecond.
    sequence: u16,
    /// Random bytes, so that not every id needs a system call.
    pool: Box<[u8; POOL_LEN]>,
    /// Bytes of the pool that ids have used.
    used: usize,
}

impl Default for IdSource {
    fn default() -> Self {
        Self::new()
    }
}

impl IdSource {
    /// Returns a source that has made no id yet.
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

    /// Returns a new id: `<prefix>_` and 26 characters for 56 bits of microseconds, 16 bits of sequence and 56 random
    /// bits.
    ///
    /// If the clock stands still or has stepped back, the sequence of the last id is counted on instead, and after
    /// 65,536 ids its microsecond. Panics if the operating system gives no random bytes.
    pub fn next(&self, prefix: Prefix, at: Timestamp) -> String {
        written(prefix, self.number(at), str::to_owned)
    }

    /// Returns a new id of its type, as [`IdSource::next`] does.
    pub fn next_typed<I: Id>(&self, at: Timestamp) -> I {
        written(I::PREFIX, self.number(at), |text| I::from(text))
    }

    /// Returns the number of a new id.
    fn number(&self, at: Timestamp) -> u128 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let chance = state.draw(&self.system);
        state.step(at);
        (u128::from(state.micros) << 72) | (u128::from(state.sequence) << 56) | u128::from(chance)
    }
}

/// Makes an id of its text, most significant digit first. The text is on the stack, so the id is the only allocation.
fn written<T>(prefix: Prefix, number: u128, make: impl FnOnce(&str) -> T) -> T {
    let (mut text, name) = ([b'_'; MOST_LEN], prefix.as_str().as_bytes());
    text[..name.len()].copy_from_slice(name);
    let end = name.len() + 1 + TEXT_LEN;
    let mut rest = number;
    for digit in text[name.len() + 1..end].iter_mut().rev() {
        *digit = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    make(str::from_utf8(&text[..end]).unwrap_or_default())
}

impl State {
    /// Moves on to the instant and sequence number of the next id.
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

    /// Takes 56 random bits from the pool, and fills the pool first if it is used up.
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
            (Prefix::AuditEntry, "audit_"),
            (Prefix::Poller, "poll_"),
            (Prefix::Request, "req_"),
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
    fn a_name_has_one_id_at_an_instant_and_another_name_another() {
        let id = |name| Prefix::AuditEntry.named_id_at(Timestamp(NOW), name);
        assert_eq!(id("app_1"), id("app_1"));
        assert_ne!(id("app_1"), id("app_2"));
        assert_eq!(Prefix::AuditEntry.instant_of(&id("app_1")), Some(Timestamp(NOW)));
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
