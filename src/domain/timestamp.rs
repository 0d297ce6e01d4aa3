//! The only type for an instant: UTC microseconds since the Unix epoch.
//!
//! Responsible for the text form on the wire, and for cutting finer fractions off once, when a text is read. Must not
//! read a clock.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// An instant in UTC microseconds since 1970-01-01T00:00:00Z. Both databases store it as a 64-bit integer.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, sea_orm::DeriveValueType)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the instant `micros` microseconds after the Unix epoch.
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the Unix epoch.
    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since the Unix epoch, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns the instant that is `duration` later, or the last representable instant if that would overflow.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_micros(duration)))
    }

    /// Returns the instant that is `duration` earlier, or the first representable instant if that would overflow.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_micros(duration)))
    }

    /// Returns the last instant at or before this one that is a multiple of `step` after the Unix epoch: the beginning of
    /// its hour or day (UTC).
    pub fn begin_of(self, step: Duration) -> Self {
        let step = whole_micros(step).max(1);
        Self(self.0.div_euclid(step).saturating_mul(step))
    }

    /// Reads RFC 3339 text. The zone is required and may also be written as ISO 8601 allows (`+0000`, `+00`). Digits
    /// beyond microseconds are cut off. The error is the broken rule.
    pub fn parse_rfc3339(text: &str) -> Result<Self, String> {
        DateTime::parse_from_rfc3339(text)
            .or_else(|_| DateTime::parse_from_rfc3339(&with_whole_zone(text)))
            .map(|instant| Self(instant.timestamp_micros()))
            .map_err(|_| {
                "must be an RFC 3339 date and time with a zone, such as 2026-11-23T04:43:14.464929Z".to_owned()
            })
    }

    /// Returns RFC 3339 text in UTC, always with six fraction digits: `2026-11-23T04:43:14.464929Z`. An instant beyond
    /// the years that chrono knows becomes the nearest that it knows.
    pub fn to_rfc3339(self) -> String {
        let nearest = if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        };
        DateTime::from_timestamp_micros(self.0)
            .unwrap_or(nearest)
            .to_rfc3339_opts(SecondsFormat::Micros, true)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// Returns the text with a zone `+0000` or `+00` at its end written as `+00:00`, and any other text unchanged.
fn with_whole_zone(text: &str) -> String {
    let zone = text.rfind(['+', '-']).map_or("", |sign| &text[sign + 1..]);
    if !zone.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.to_owned();
    }
    match zone.len() {
        2 => format!("{text}:00"),
        4 => {
            let (hours, minutes) = text.split_at(text.len() - 2);
            format!("{hours}:{minutes}")
        }
        _ => text.to_owned(),
    }
}

/// Returns the whole microseconds of a duration, at most `i64::MAX`.
fn whole_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> i64 {
        Timestamp::parse_rfc3339(text).unwrap().unix_micros()
    }

    #[test]
    fn text_always_has_six_fraction_digits_and_z() {
        assert_eq!(
            Timestamp(1_795_408_994_464_929).to_string(),
            "2026-11-23T04:43:14.464929Z"
        );
        assert_eq!(
            Timestamp(1_795_408_994_000_000).to_rfc3339(),
            "2026-11-23T04:43:14.000000Z"
        );
        assert_eq!(Timestamp(0).to_rfc3339(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp(-1).to_rfc3339(), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn every_zone_spelling_of_an_instant_is_the_same_instant() {
        for text in [
            "2026-11-23T04:43:14.464929Z",
            "2026-11-23T04:43:14.464929+00:00",
            "2026-11-23T05:43:14.464929+01:00",
            "2026-11-22T23:13:14.464929-05:30",
            "2026-11-23t04:43:14.464929z",
            "2026-11-23 04:43:14.464929+00:00",
            "2026-11-23T04:43:14.464929+0000",
            "2026-11-23T04:43:14.464929-0000",
            "2026-11-23T05:43:14.464929+01",
            "2026-11-22T23:13:14.464929-0530",
        ] {
            assert_eq!(parsed(text), 1_795_408_994_464_929, "{text}");
        }
    }

    #[test]
    fn what_is_finer_than_a_microsecond_is_cut_off() {
        assert_eq!(parsed("2026-11-23T04:43:14.464929999Z"), 1_795_408_994_464_929);
        assert_eq!(parsed("1969-12-31T23:59:59.9999999Z"), -1);
        assert_eq!(parsed("2026-11-23T04:43:14Z"), 1_795_408_994_000_000);
    }

    #[test]
    fn text_without_a_zone_or_that_is_no_time_is_refused() {
        for text in [
            "",
            "2026-11-23",
            "2026-11-23T04:43:14",
            "2026-13-23T04:43:14Z",
            "1795408994",
            "now",
            "2026-11-23T04:43:14+000",
            "2026-11-23T04:43:14+00000",
            "2026-11-23T04:43:14+9900",
            "2026-11-23T04:43:14+00é",
            "2026-11-23T04:43:14 0000",
            "+0000",
        ] {
            assert!(
                Timestamp::parse_rfc3339(text).unwrap_err().contains("RFC 3339"),
                "{text}"
            );
        }
    }

    #[test]
    fn text_form_round_trips() {
        for micros in [0, 1, -1, 1_795_408_994_464_929, 253_402_300_799_999_999] {
            assert_eq!(parsed(&Timestamp(micros).to_rfc3339()), micros);
        }
    }

    #[test]
    fn arithmetic_is_exact_and_never_overflows() {
        let at = Timestamp::from_unix_micros(1_000_000);
        assert_eq!(at.plus(Duration::from_millis(1)).unix_micros(), 1_001_000);
        assert_eq!(at.minus(Duration::from_secs(2)).unix_micros(), -1_000_000);
        assert_eq!(at.plus(Duration::MAX), Timestamp(i64::MAX));
        assert_eq!(Timestamp(i64::MIN).minus(Duration::MAX), Timestamp(i64::MIN));
        assert!(Timestamp(i64::MAX).to_rfc3339().ends_with('Z'));
    }

    #[test]
    fn an_hour_begins_at_or_before_each_of_its_instants() {
        let hour = Duration::from_hours(1);
        for (at, begin) in [
            (0, 0),
            (3_599_999_999, 0),
            (3_600_000_000, 3_600_000_000),
            (-1, -3_600_000_000),
        ] {
            assert_eq!(Timestamp(at).begin_of(hour), Timestamp(begin), "{at}");
        }
    }

    #[test]
    fn seconds_are_rounded_down() {
        assert_eq!(Timestamp(1_999_999).unix_seconds(), 1);
        assert_eq!(Timestamp(-1).unix_seconds(), -1);
    }
}
