//! Decides which faults the next run injects, by what the record still lacks.

use super::abilities::Abilities;
use super::chance::Chance;
use super::kind::{Database, Kind};
use super::record::Record;
use clap::ValueEnum;

/// What shall be in the record in the end.
pub struct Plan {
    pub injections: usize,
    pub kinds: Vec<Kind>,
    /// Whether the kinds were named. Those without a promise are made only then.
    pub are_named: bool,
    pub databases: Vec<Database>,
    pub seed: u64,
}

impl Plan {
    /// Returns the database and the faults of the next run, in an order by chance; `None` means that the record is
    /// complete. A run has each kind once, as long as its kind lacks injections.
    pub fn next(&self, record: &Record, abilities: &Abilities) -> Option<(Database, Vec<Kind>)> {
        let lacking = |database: Database| -> Vec<Kind> {
            let applies = |kind: &&Kind| {
                kind.applies_to(database)
                    && (self.are_named || kind.is_promised_on(database))
                    && abilities.obstacle(database, **kind).is_none()
            };
            let lacks = |kind: &&Kind| record.judged(database, **kind).count() < self.injections;
            self.kinds.iter().filter(applies).filter(lacks).copied().collect()
        };
        let made = |database: Database| {
            record
                .verdicts
                .iter()
                .filter(|run| run.database == database.name())
                .count()
        };
        let open = Database::value_variants()
            .iter()
            .filter(|database| self.databases.contains(database));
        let open = open.map(|database| (*database, lacking(*database)));
        let (database, mut kinds) = open
            .filter(|(_, kinds)| !kinds.is_empty())
            .min_by_key(|(database, _)| made(*database))?;
        Chance::new(self.seed, record.next_run()).shuffle(&mut kinds);
        Some((database, kinds))
    }
}
