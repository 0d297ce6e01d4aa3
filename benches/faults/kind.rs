//! Lists the kinds of faults: their names, what each does, and on which database it is injected.

use clap::ValueEnum;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Database {
    Postgres,
    Sqlite,
}

impl Database {
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "Postgres",
            Self::Sqlite => "SQLite",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// kill -9 of one process, which is started again at once
    KillOne,
    /// kill -9 of all processes at the same moment
    KillAll,
    /// kill -9 of all of Postgres' processes, and a start after it
    KillPostgres,
    /// SIGSTOP of a process beyond the time after which it counts as dead, now and then beyond its lease, and SIGCONT
    Suspend,
    /// The connections to Postgres are cut, several times
    Cut,
    /// Every part of a request to Postgres and of its answer is delayed
    Delay,
    /// Every commit takes 2 s longer
    SlowCommit,
    /// The connections to Postgres are half-closed: some towards the program, some towards Postgres
    HalfClose,
    /// Commits reach Postgres, and their answers are lost with the connection
    LoseCommit,
    /// No block is left on the database's disk
    FullDisk,
    /// The clock of a process steps an hour forward or back, and later to the right time
    ClockHour,
    /// The clock of a process steps five seconds forward or back, and later to the right time
    ClockSeconds,
    /// All receivers reset their connections in the middle of their answers
    ReceiversDie,
    /// Others take all connections of Postgres
    NoConnections,
    /// Postgres refuses writes, as a leader that was demoted
    ReadOnly,
}

impl Kind {
    pub fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Returns the description of the kind, which is the comment of its variant.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        value
            .and_then(|value| Some(value.get_help()?.to_string()))
            .unwrap_or_default()
    }

    /// Returns whether the kind exists on this database. SQLite has one process, no server and no network.
    pub fn applies_to(self, database: Database) -> bool {
        let everywhere = matches!(
            self,
            Self::KillOne | Self::Suspend | Self::FullDisk | Self::ClockHour | Self::ClockSeconds | Self::ReceiversDie
        );
        everywhere || database == Database::Postgres
    }

    /// Returns whether the program promises that nothing is late after the fault. On SQLite it goes by the machine's clock:
    /// a retry that was scheduled while that was an hour ahead waits for the hour.
    pub fn is_promised_on(self, database: Database) -> bool {
        (self, database) != (Self::ClockHour, Database::Sqlite)
    }

    /// Returns whether the fault needs a process with a clock of the harness's.
    pub fn needs_clock(self) -> bool {
        matches!(self, Self::ClockHour | Self::ClockSeconds)
    }
}
