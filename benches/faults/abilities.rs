//! Finds out which kinds of faults this machine can do. What it cannot do is left out, and the record says so.

use super::clock::FakeClock;
use super::disk::Disk;
use super::kind::{Database, Kind};
use super::record::Record;
use super::site::Scratch;
use crate::machine;
use clap::ValueEnum;
use std::path::Path;

pub struct Abilities {
    /// Whether a small file system can be mounted.
    disk: bool,
    clock: bool,
    postgres: bool,
}

impl Abilities {
    /// Tries what can be tried below `directory`.
    pub fn of_machine(directory: &Path) -> std::io::Result<Self> {
        let scratch = Scratch::new(directory, "trial")?;
        Ok(Self {
            disk: Disk::mount(&scratch.folder)?.is_some(),
            clock: FakeClock::library().is_some(),
            postgres: machine::directory_with(&["initdb", "postgres"]).is_some(),
        })
    }

    /// Returns why a kind must be left out on this database; `None` means that it can be injected.
    pub fn obstacle(&self, database: Database, kind: Kind) -> Option<&'static str> {
        match (database, kind) {
            (Database::Postgres, _) if !self.postgres => Some("left out: no programs of a Postgres server"),
            (_, Kind::FullDisk) if !self.disk => Some("left out: no small file system can be mounted"),
            (_, kind) if kind.needs_clock() && !self.clock => Some("left out: no libfaketime"),
            _ => None,
        }
    }

    /// Writes into the record what is left out.
    pub fn note(&self, record: &mut Record) -> std::io::Result<()> {
        for &database in Database::value_variants() {
            for &kind in Kind::value_variants() {
                if let Some(reason) = self.obstacle(database, kind).filter(|_| kind.applies_to(database)) {
                    record.leave_out(database, kind, reason)?;
                }
            }
        }
        Ok(())
    }
}
