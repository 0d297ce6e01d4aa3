//! Computes when a failed delivery is tried again, from the configured waits, their jitter and the receiver's
//! Retry-After.
//!
//! Must not decide whether a retry is wanted at all: `delivery` does.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::timestamp::Timestamp;

/// The longest wait that a schedule may have.
const LONGEST_WAIT: Duration = Duration::from_hours(30 * 24);
const MOST_WAITS: usize = 50;
/// The part of a wait by which jitter moves it at most.
const JITTER: f64 = 0.2;
/// A longer Retry-After counts as this one.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// The waits between a failed attempt and the next. The text form is whole seconds, separated by commas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetrySchedule(Vec<Duration>);

impl FromStr for RetrySchedule {
    type Err = String;

    /// Reads a text such as `5, 300, 1800`. An empty text means one attempt and no retry. The error is the broken rule.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        let waits: Vec<Duration> = text
            .split(',')
            .map(|entry| parse_wait(entry.trim()))
            .collect::<Result<_, _>>()?;
        if waits.len() > MOST_WAITS {
            return Err(format!(
                "a retry schedule has at most {MOST_WAITS} waits, got {}",
                waits.len()
            ));
        }
        Ok(Self(waits))
    }
}

impl fmt::Display for RetrySchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, wait) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{}", wait.as_secs())?;
        }
        Ok(())
    }
}

impl RetrySchedule {
    /// Returns how long to wait after `failed_attempts` attempts; `None` means no retry is left.
    ///
    /// The scheduled wait is moved by up to 20 %, as `jitter` from -1 to 1 says. A longer Retry-After replaces it, up
    /// to 24 h.
    pub fn next_delay(&self, failed_attempts: u32, retry_after: Option<Duration>, jitter: f64) -> Option<Duration> {
        let place = usize::try_from(failed_attempts.saturating_sub(1)).ok()?;
        let jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(-1.0, 1.0) };
        let scheduled = self.0.get(place)?.mul_f64(1.0 + JITTER * jitter);
        let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        Some(scheduled.max(asked))
    }
}

/// Reads a Retry-After header (RFC 9110, section 10.2.3): seconds, or a date in any of the three forms of HTTP dates
/// (section 5.6.7).
///
/// A date that has passed means no wait. `None` means the text is neither, and counts as no header.
pub fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim_matches([' ', '\t']);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let date = i64::try_from(date.as_micros()).unwrap_or(i64::MAX);
    let micros = date.saturating_sub(now.unix_micros());
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

/// Reads an entry of a schedule.
fn parse_wait(entry: &str) -> Result<Duration, String> {
    let digits = !entry.is_empty() && entry.bytes().all(|byte| byte.is_ascii_digit());
    entry
        .parse()
        .ok()
        .filter(|_| digits)
        .map(Duration::from_secs)
        .filter(|wait| *wait <= LONGEST_WAIT)
        .ok_or_else(|| {
            format!(
                "'{entry}' in the retry schedule: each wait must be a whole number of seconds from 0 to {}",
                LONGEST_WAIT.as_secs()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> RetrySchedule {
        text.parse().unwrap()
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn waits_are_comma_separated_whole_seconds() {
        let usual = schedule("5,300,1800,7200,18000,36000,36000");
        assert_eq!(usual.to_string(), "5, 300, 1800, 7200, 18000, 36000, 36000");
        assert_eq!(schedule(&usual.to_string()), usual);
        assert_eq!(schedule("5,300 , 0").to_string(), "5, 300, 0");
        assert_eq!(schedule("2592000").to_string(), "2592000");
        for empty in ["", "  "] {
            assert_eq!(schedule(empty).next_delay(1, None, 0.0), None);
        }
    }

    #[test]
    fn a_wrong_wait_is_named() {
        for (text, named) in [
            ("5,x", "'x'"),
            ("5,,6", "''"),
            ("1.5", "'1.5'"),
            ("-1", "'-1'"),
            ("+1", "'+1'"),
            ("5,", "''"),
        ] {
            assert!(text.parse::<RetrySchedule>().unwrap_err().starts_with(named), "{text}");
        }
        assert!(
            "2592001"
                .parse::<RetrySchedule>()
                .unwrap_err()
                .contains("from 0 to 2592000")
        );
        assert!("99999999999999999999999".parse::<RetrySchedule>().is_err());
    }

    #[test]
    fn a_schedule_has_at_most_50_waits() {
        assert!(["1"; 50].join(",").parse::<RetrySchedule>().is_ok());
        assert!(
            ["1"; 51]
                .join(",")
                .parse::<RetrySchedule>()
                .unwrap_err()
                .contains("at most 50")
        );
    }

    #[test]
    fn each_failed_attempt_takes_the_next_wait_until_none_is_left() {
        let schedule = schedule("5, 300");
        assert_eq!(schedule.next_delay(1, None, 0.0), seconds(5));
        assert_eq!(schedule.next_delay(2, None, 0.0), seconds(300));
        assert_eq!(schedule.next_delay(3, None, 0.0), None);
        assert_eq!(schedule.next_delay(u32::MAX, seconds(5), 0.0), None);
    }

    #[test]
    fn jitter_moves_a_wait_by_at_most_a_fifth() {
        let schedule = schedule("100");
        assert_eq!(schedule.next_delay(1, None, 1.0), seconds(120));
        assert_eq!(schedule.next_delay(1, None, -1.0), seconds(80));
        assert_eq!(schedule.next_delay(1, None, 0.5), seconds(110));
        assert_eq!(schedule.next_delay(1, None, -9.0), seconds(80));
        assert_eq!(schedule.next_delay(1, None, f64::NAN), seconds(100));
        assert_eq!(self::schedule("0").next_delay(1, None, -1.0), seconds(0));
    }

    #[test]
    fn retry_after_lengthens_a_wait_and_never_shortens_it() {
        let schedule = schedule("100");
        assert_eq!(schedule.next_delay(1, seconds(3600), 1.0), seconds(3600));
        assert_eq!(schedule.next_delay(1, seconds(90), 0.0), seconds(100));
        assert_eq!(schedule.next_delay(1, seconds(90), -1.0), seconds(90));
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_day() {
        let (short, long) = (schedule("5"), schedule("172800"));
        assert_eq!(short.next_delay(1, seconds(86_400), 0.0), seconds(86_400));
        assert_eq!(short.next_delay(1, seconds(u64::MAX), 0.0), seconds(86_400));
        assert_eq!(long.next_delay(1, seconds(u64::MAX), 0.0), seconds(172_800));
    }

    #[test]
    fn retry_after_is_read_as_seconds() {
        let now = Timestamp(0);
        assert_eq!(parse_retry_after("120", now), seconds(120));
        assert_eq!(parse_retry_after(" 0 ", now), seconds(0));
        assert_eq!(parse_retry_after("99999999999999999999999", now), seconds(u64::MAX));
    }

    #[test]
    fn retry_after_is_read_as_a_date() {
        let now = Timestamp::parse_rfc3339("1994-11-06T08:49:30.5Z").unwrap();
        let wait = parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now);
        assert_eq!(wait, Some(Duration::from_millis(6500)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:30 GMT", now), seconds(0));
        assert_eq!(
            parse_retry_after("Fri, 31 Dec 9999 23:59:59 GMT", Timestamp(i64::MIN)),
            Some(Duration::from_micros(i64::MAX as u64))
        );
    }

    #[test]
    fn retry_after_is_read_as_a_date_of_either_obsolete_form_too() {
        let now = Timestamp::parse_rfc3339("1994-11-06T08:49:30Z").unwrap();
        for text in [
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun Nov 06 08:49:37 1994",
        ] {
            assert_eq!(parse_retry_after(text, now), seconds(7), "{text}");
        }
        let later = Timestamp::parse_rfc3339("2026-11-23T04:43:14Z").unwrap();
        assert_eq!(parse_retry_after("Monday, 23-Nov-26 04:44:14 GMT", later), seconds(60));
        assert_eq!(parse_retry_after("Tue Nov 24 04:43:14 2026", later), seconds(86_400));
    }

    #[test]
    fn a_retry_after_that_is_neither_counts_as_absent() {
        for text in [
            "",
            " ",
            "-5",
            "+5",
            "1.5",
            "5s",
            "soon",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Feb 2027 08:49:37 GMT",
            "Sunday, 06-Nov-94",
            "Sun Nov  6 08:49:37 GMT 1994",
            "Wednesday, xxxxxxxxxxxx",
        ] {
            assert_eq!(parse_retry_after(text, Timestamp(0)), None, "{text}");
        }
    }
}
