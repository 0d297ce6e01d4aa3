//! Keeps the record: one JSON line for each injection as soon as it is measured, and one for the verdict on each run.
//!
//! An injection counts once its run has a verdict, so a run that was interrupted is made again. Must not judge.

use super::kind::{Database, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// One fault and how the program recovered from it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Injection {
    pub run: u64,
    /// Its place within the run, from 0 on.
    pub injection: usize,
    pub seed: u64,
    pub database: String,
    pub fault: String,
    /// What exactly was done.
    pub detail: String,
    /// How long the fault lasted.
    pub lasted_s: f64,
    /// How many messages were accepted in that time.
    pub accepted_meanwhile: usize,
    /// From the end of the fault to the first POST that any process accepted.
    pub accepts_s: f64,
    /// From the end of the fault until every process had accepted a POST.
    pub all_accept_s: f64,
    /// From the end of the fault to the last needed arrival of the messages that were accepted by then.
    pub arrived_s: f64,
    /// The id of that message, to look for its attempts in a folder that was kept.
    pub last: String,
    /// Messages that had not arrived when the harness went on.
    pub missing: usize,
    /// Answers other than 202, and failures to get one. The client repeated these requests.
    pub refusals: BTreeMap<String, usize>,
    /// Processes that ended by themselves.
    pub ended: usize,
}

/// What the checks at the end of a run found. The lists have a number for each injection.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Verdict {
    pub run: u64,
    pub database: String,
    pub accepted: Vec<usize>,
    pub lost: Vec<usize>,
    /// Messages that had not arrived when the run ended, and still waited in the queue.
    pub late: Vec<usize>,
    pub twice: Vec<usize>,
    pub arrivals: usize,
    pub attempts: usize,
    /// Arrivals without an attempt in the history, explained by a kill.
    pub forgotten: usize,
    /// Attempts that are not in the statistics, explained by a kill.
    pub uncounted: usize,
    pub polled: usize,
    pub disagreements: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
enum Line {
    Injection(Injection),
    Verdict(Verdict),
    /// A kind that this machine cannot do, and why.
    LeftOut {
        database: String,
        fault: String,
        reason: String,
    },
}

/// The lines of a record file.
pub struct Record {
    path: PathBuf,
    pub injections: Vec<Injection>,
    pub verdicts: Vec<Verdict>,
    /// The reasons, by database and fault.
    pub left_out: BTreeMap<(String, String), String>,
}

impl Record {
    /// Reads the file, which need not exist yet, and makes its folder. A line that is cut off, as by a kill, is passed over.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut record = Self {
            path: path.to_path_buf(),
            injections: Vec::new(),
            verdicts: Vec::new(),
            left_out: BTreeMap::new(),
        };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(line) => record.take(line),
                Err(_) => eprintln!("{}: a line that is none of this tool's is passed over", path.display()),
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            OpenOptions::new().append(true).open(path)?.write_all(b"\n")?;
        }
        Ok(record)
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Injection(injection) => self.injections.push(injection),
            Line::Verdict(verdict) => self.verdicts.push(verdict),
            Line::LeftOut {
                database,
                fault,
                reason,
            } => _ = self.left_out.insert((database, fault), reason),
        }
    }

    fn append(&mut self, line: Line) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        writeln!(file, "{}", serde_json::to_string(&line)?)?;
        self.take(line);
        Ok(())
    }

    pub fn add(&mut self, injection: Injection) -> io::Result<()> {
        self.append(Line::Injection(injection))
    }

    pub fn close(&mut self, verdict: Verdict) -> io::Result<()> {
        self.append(Line::Verdict(verdict))
    }

    /// Notes that this machine cannot do a kind.
    pub fn leave_out(&mut self, database: Database, kind: Kind, reason: &str) -> io::Result<()> {
        let (database, fault) = (database.name().to_owned(), kind.name());
        if self
            .left_out
            .get(&(database.clone(), fault.clone()))
            .is_some_and(|known| known == reason)
        {
            return Ok(());
        }
        let reason = reason.to_owned();
        self.append(Line::LeftOut {
            database,
            fault,
            reason,
        })
    }

    /// Returns the injections of a kind that count, each with its part of the run's verdict.
    pub fn judged(&self, database: Database, kind: Kind) -> impl Iterator<Item = (&Injection, &Verdict)> {
        let name = kind.name();
        let of_kind = move |made: &&Injection| made.fault == name && made.database == database.name();
        self.injections.iter().filter(of_kind).filter_map(|made| {
            let verdict = self.verdicts.iter().find(|verdict| verdict.run == made.run)?;
            (made.injection < verdict.accepted.len()).then_some((made, verdict))
        })
    }

    /// Returns a number for a new run.
    pub fn next_run(&self) -> u64 {
        self.injections.iter().map(|made| made.run + 1).max().unwrap_or(0)
    }
}
