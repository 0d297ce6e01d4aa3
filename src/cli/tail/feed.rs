//! Reads the attempts at one endpoint as they are recorded: each once, and none is missed.
//!
//! The list of attempts is in the order of their beginnings, and an attempt appears in it when it has ended. A slow
//! attempt therefore appears behind faster ones that began later. So a feed reads not only what is behind the last row,
//! but also, again and again, all rows since an instant, the floor, and leaves out those that it has seen. The floor is
//! so far back that every attempt from before it has ended.
//!
//! Must not print anything.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::cli::server::{Server, escape};
use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};

/// How far back the floor is: an attempt takes 60 s at most, and is then recorded within seconds.
const BACK: Duration = Duration::from_secs(120);
/// The rows of a page: the most that the API allows.
const PAGE: usize = 250;
/// The longest time between two readings from the floor, if they take many pages.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The most ids that are remembered: 40 MB.
const MOST_SEEN: usize = 500_000;

/// A page of attempts, newest first.
#[derive(Deserialize)]
struct Page {
    data: Vec<Value>,
    done: bool,
}

/// The attempts at one endpoint.
pub(super) struct Feed {
    pub app: String,
    pub endpoint: String,
    /// The floor.
    floor: Timestamp,
    /// The newest attempt that was read.
    newest: Option<String>,
    /// The attempts since the floor that were read.
    seen: HashSet<String>,
    /// When to read from the floor again.
    again_at: Instant,
}

/// Until when floors stay where they are, because the server was away: attempts from before may end late.
#[derive(Default)]
pub(super) struct Hold(Option<(Timestamp, Timestamp)>);

impl Hold {
    /// Keeps floors from passing what had not ended for sure at `since`, the last response before the outage.
    pub fn keep(&mut self, since: Timestamp, now: Timestamp) {
        let limit = since.minus(BACK);
        let limit = self.0.map_or(limit, |(earlier, _)| earlier.min(limit));
        self.0 = Some((limit, now.plus(BACK)));
    }

    /// Returns the floor for a reading that began at `begun`.
    fn floor(&mut self, begun: Timestamp) -> Timestamp {
        self.0 = self.0.filter(|(_, until)| begun < *until);
        let floor = begun.minus(BACK);
        self.0.map_or(floor, |(limit, _)| floor.min(limit))
    }
}

impl Feed {
    /// Returns a feed that has read nothing. It begins with the attempts from after `since`.
    pub fn since(since: Timestamp, app: &str, endpoint: &str) -> Self {
        Self {
            app: app.to_owned(),
            endpoint: endpoint.to_owned(),
            floor: since,
            newest: None,
            seen: HashSet::new(),
            again_at: Instant::now(),
        }
    }

    /// As [`Feed::since`], for attempts that are recorded from now on: those that are recorded already count as seen.
    pub async fn from_now(server: &Server, app: &str, endpoint: &str, failed: bool) -> Result<Self> {
        let mut feed = Self::since(server.now().minus(BACK), app, endpoint);
        feed.read(server, failed, &mut Hold::default()).await?;
        Ok(feed)
    }

    /// Returns the attempts that were recorded since the last reading, in the order of their beginnings; with `failed`
    /// only those that failed.
    ///
    /// # Errors
    /// As [`Server::get`]; attempts that were read before the failure are returned by a later reading. `Config` if there
    /// are too many attempts to remember.
    pub async fn read(&mut self, server: &Server, failed: bool, hold: &mut Hold) -> Result<Vec<Value>> {
        let newest = self.newest.as_ref().filter(|_| Instant::now() < self.again_at);
        let begun = server.now();
        let is_whole = newest.is_none();
        let mut place = match newest {
            Some(id) => format!("iterator=-{id}"),
            None => format!("after={}", escape(&self.floor.to_rfc3339())),
        };
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let path = format!("/app/{}/attempt/endpoint/{}", self.app, self.endpoint);
            let status = if failed { "&status=2" } else { "" };
            let query = format!("limit={PAGE}&with_content=false{status}&{place}");
            let page: Page = server.get(&format!("{path}?{query}")).await?;
            pages += 1;
            if let Some(id) = page.data.first().and_then(|row| row["id"].as_str()) {
                place = format!("iterator=-{id}");
            }
            found.extend(page.data.into_iter().rev());
            if page.done {
                break;
            }
            if found.len() > MOST_SEEN {
                return Err(self.too_many());
            }
        }
        found.retain(|row| self.seen.insert(id_of(row).to_owned()));
        let last = found.iter().map(id_of).max().unwrap_or_default();
        if self.newest.as_deref().is_none_or(|newest| last > newest) && !last.is_empty() {
            self.newest = Some(last.to_owned());
        }
        if is_whole {
            self.again_at = Instant::now() + Duration::from_secs(pages).min(LONGEST_PAUSE);
            self.floor = hold.floor(begun).max(self.floor);
            let first = Prefix::Attempt.first_id_at(self.floor);
            self.seen.retain(|id| *id >= first);
        }
        match self.seen.len() > MOST_SEEN {
            true => Err(self.too_many()),
            false => Ok(found),
        }
    }

    fn too_many(&self) -> Error {
        Error::config(format!(
            "{} has more than {MOST_SEEN} attempts in two minutes: name another with --endpoint, or use --failed",
            self.endpoint
        ))
    }
}

fn id_of(row: &Value) -> &str {
    row["id"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn a_floor_follows_two_minutes_behind_and_stays_for_two_minutes_after_an_outage() {
        let mut hold = Hold::default();
        assert_eq!(hold.floor(at(1_000)), at(880));
        hold.keep(at(1_000), at(1_600));
        assert_eq!(hold.floor(at(1_600)), at(880));
        assert_eq!(hold.floor(at(1_719)), at(880));
        assert_eq!(hold.floor(at(1_720)), at(1_600));
        assert_eq!(hold.floor(at(1_721)), at(1_601));
    }

    #[test]
    fn a_second_outage_within_two_minutes_keeps_the_floor_of_the_first() {
        let mut hold = Hold::default();
        hold.keep(at(1_000), at(1_600));
        hold.keep(at(1_650), at(1_700));
        assert_eq!(hold.floor(at(1_819)), at(880));
        assert_eq!(hold.floor(at(1_820)), at(1_700));
    }
}
