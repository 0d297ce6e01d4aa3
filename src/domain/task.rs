//! The kinds of background tasks, the window of the past that each may cover, and the filter of a bulk replay.
//!
//! Pure: the caller gives the instant. Must not find or queue messages: the store does.

use std::time::Duration;

use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest window of a recovery: 14 days, and five minutes for clocks that differ.
const RECOVER_MOST: Duration = Duration::from_secs(14 * 24 * 3600 + 5 * 60);

/// The messages that a task queues again.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum TaskKind {
    /// Messages with an attempt in the window that were not delivered.
    #[sea_orm(num_value = 0)]
    Recover,
    /// Messages of the window that the endpoint wants and that were never sent to it.
    #[sea_orm(num_value = 1)]
    ReplayMissing,
    /// Messages of the window that were sent to the endpoint and that pass the filter.
    #[sea_orm(num_value = 2)]
    BulkReplay,
}

/// How far a task has come.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum TaskStatus {
    #[sea_orm(num_value = 0)]
    Running,
    #[sea_orm(num_value = 1)]
    Finished,
    #[sea_orm(num_value = 2)]
    Failed,
}

/// The filter of a bulk replay: a message is queued if all conditions hold.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ReplayFilter {
    /// A channel that the message must have; `None` means any message.
    pub channel: Option<String>,
    /// Event types of which the message must have one; empty means all.
    pub event_types: Vec<String>,
    /// The state that the message must have at the endpoint.
    pub state: ReplayState,
    /// The first status of a hundred, such as 500: an attempt must have had an answer with one of them. 0 means an
    /// attempt must have had no answer, `None` means any attempt.
    pub status_class: Option<i32>,
}

/// The state of a message at the endpoint.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayState {
    #[default]
    Any,
    Delivered,
    /// The last attempt failed, and a retry is scheduled.
    Waiting,
    Failed,
    /// A state of the API that no message has once it was sent; this selects nothing.
    None,
}

impl ReplayFilter {
    /// Returns whether a message of this event type on these channels passes. The other conditions are checked in SQL.
    pub fn accepts(&self, event_type: &str, channels: &[String]) -> bool {
        let type_wanted = self.event_types.is_empty() || self.event_types.iter().any(|name| name == event_type);
        type_wanted && self.channel.as_ref().is_none_or(|channel| channels.contains(channel))
    }
}

/// A part of the past, from `since` up to but not including `until`. It is empty if `since` is not before `until`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Window {
    /// Returns the window from `since` to `until`, or to `now` if `until` is later or not given.
    ///
    /// # Errors
    /// Returns the name of the field that breaks a rule, and the rule.
    pub fn new(
        kind: TaskKind,
        since: Timestamp,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, (&'static str, String)> {
        if until.is_some_and(|until| until < since) {
            return Err(("until", "must not be before since".to_owned()));
        }
        if kind == TaskKind::Recover && since < until.unwrap_or(now).minus(RECOVER_MOST) {
            let days = RECOVER_MOST.as_secs() / DAY.as_secs();
            return Err(("since", format!("must be at most {days} days before until")));
        }
        let until = until.map_or(now, |until| until.min(now));
        Ok(Self { since, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_408_994_464_929);

    fn recover(since: Timestamp, until: Option<Timestamp>) -> Result<Window, &'static str> {
        Window::new(TaskKind::Recover, since, until, NOW).map_err(|(field, _)| field)
    }

    #[test]
    fn a_recover_reaches_14_days_and_5_minutes_back_from_its_end() {
        let oldest = NOW.minus(RECOVER_MOST);
        assert_eq!(
            recover(oldest, None),
            Ok(Window {
                since: oldest,
                until: NOW
            })
        );
        assert_eq!(recover(Timestamp(oldest.0 - 1), None), Err("since"));
        let until = NOW.minus(DAY);
        assert!(recover(until.minus(RECOVER_MOST), Some(until)).is_ok());
        assert_eq!(
            recover(Timestamp(until.minus(RECOVER_MOST).0 - 1), Some(until)),
            Err("since")
        );
    }

    #[test]
    fn a_replay_reaches_back_as_far_as_it_is_asked_to() {
        for kind in [TaskKind::ReplayMissing, TaskKind::BulkReplay] {
            assert!(Window::new(kind, Timestamp(0), None, NOW).is_ok());
        }
    }

    #[test]
    fn a_window_ends_now_at_the_latest() {
        let since = NOW.minus(DAY);
        assert_eq!(recover(since, Some(NOW.plus(DAY))).unwrap().until, NOW);
        let from_now_on = recover(NOW.plus(DAY), None).unwrap();
        assert!(from_now_on.since >= from_now_on.until, "it is empty");
    }

    #[test]
    fn a_window_does_not_end_before_it_begins() {
        assert_eq!(recover(NOW, Some(NOW.minus(DAY))), Err("until"));
        assert!(recover(NOW.minus(DAY), Some(NOW.minus(DAY))).is_ok(), "it is empty");
    }

    #[test]
    fn a_filter_passes_its_types_and_its_channel() {
        let on = |channels: &[&str]| channels.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let filter = ReplayFilter {
            channel: Some("eu".to_owned()),
            event_types: on(&["a", "b"]),
            ..ReplayFilter::default()
        };
        assert!(filter.accepts("a", &on(&["us", "eu"])));
        assert!(!filter.accepts("a", &on(&["us"])));
        assert!(!filter.accepts("c", &on(&["eu"])));
        assert!(ReplayFilter::default().accepts("c", &[]));
    }
}
