//! Watches the heartbeats of the program's processes in the database.
//!
//! It reads rows and not log lines: the lines differ between versions of the program, the rows do not.

use super::report::Figures;
use super::site::Site;
use crate::Failure;
use sqlx::PgConnection;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often to look: several times between two of a process's four beats a second.
pub const SAMPLE: Duration = Duration::from_millis(100);

/// The beats that were seen so far.
pub struct Beats {
    connection: PgConnection,
    /// The latest beat of each owner id, and when it was first seen.
    latest: HashMap<String, (i64, Instant)>,
    /// The longest time that a beat stood still.
    longest: Duration,
}

impl Beats {
    /// Opens a connection for the reads. Postgres only: on SQLite there are no beats.
    pub async fn watch(site: &Site<'_>) -> Result<Self, Failure> {
        Ok(Self {
            connection: site.connect().await?,
            latest: HashMap::new(),
            longest: Duration::ZERO,
        })
    }

    /// Reads the beats once. If that fails, the next read sees a longer time.
    pub async fn look(&mut self) {
        let rows: Vec<(String, i64)> = sqlx::query_as("select owner, beat from process")
            .fetch_all(&mut self.connection)
            .await
            .unwrap_or_default();
        let now = Instant::now();
        for (owner, beat) in rows {
            let (last, since) = self.latest.entry(owner).or_insert((beat, now));
            if *last != beat {
                (*last, *since) = (beat, now);
            }
            self.longest = self.longest.max(now - *since);
        }
    }

    /// Adds the longest time that a beat stood still, and the number of owner ids beyond one per process.
    pub fn add_to(&self, figures: &mut Figures, processes: usize) {
        figures.add("longest_without_beat_s", self.longest.as_secs_f64());
        let changes = self.latest.len().saturating_sub(processes);
        figures.add("owner_changes", changes as f64);
    }
}
