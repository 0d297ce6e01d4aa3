//! Collects the figures of all rounds, and writes their medians and ratios as the Markdown of BENCHMARKS.md.
//!
//! Must not measure.

use std::fmt::Write;

pub const POSTGRES: &str = "Postgres";
pub const SQLITE: &str = "SQLite";
pub const SINGLE: &str = "SQLite, batches of one";
pub const GIVEN: &str = "server at --url";
const GROUPS: [&str; 4] = [POSTGRES, SQLITE, SINGLE, GIVEN];

/// Each figure's name, its text in the table, and its unit. A figure without a unit is a count, shown as the sum of all
/// rounds.
const ROWS: [(&str, &str, &str); 23] = [
    (
        "pgbench 16",
        "pgbench, two inserts of 600 bytes a transaction, 16 clients",
        "/s",
    ),
    ("pgbench 64", "the same, 64 clients", "/s"),
    ("accepted", "accepted", "/s"),
    ("delivered", "accepted and delivered to one endpoint", "/s"),
    ("arrival p50", "steady rate: arrival after the answer, median", "ms"),
    ("arrival p99", "the same, 99th percentile", "ms"),
    ("steady answer p50", "steady rate: time to the answer, median", "ms"),
    ("steady answer p99", "the same, 99th percentile", "ms"),
    ("answer p50", "accepted: time to the answer, median", "ms"),
    ("answer p99", "the same, 99th percentile", "ms"),
    (
        "pgbench 16, database",
        "pgbench, 16 clients: processor time a transaction, database",
        "µs",
    ),
    ("pgbench 64, database", "the same, 64 clients", "µs"),
    ("accepted, program", "accepted: processor time a message, program", "µs"),
    ("accepted, database", "the same, database", "µs"),
    ("accepted, tool", "the same, this tool", "µs"),
    ("accepted, idle", "accepted: processors idle", "%"),
    (
        "delivered, program",
        "delivered: processor time a message, program",
        "µs",
    ),
    ("delivered, database", "the same, database", "µs"),
    ("delivered, tool", "the same, this tool (load and receiver)", "µs"),
    ("delivered, idle", "delivered: processors idle", "%"),
    ("memory", "resident memory of the program after the load", "MB"),
    ("duplicates", "messages that arrived once more", ""),
    ("missing", "messages answered 202 that never arrived", ""),
];

/// The figures and faults of a run.
#[derive(Default)]
pub struct Report {
    /// Column, name and values of each figure, one value per round.
    figures: Vec<(&'static str, String, Vec<f64>)>,
    /// The faults, each of which makes the run a failure.
    pub faults: Vec<String>,
}

impl Report {
    /// Adds the value of one round.
    pub fn add(&mut self, group: &'static str, name: &str, value: f64) {
        let place = self
            .figures
            .iter_mut()
            .find(|(column, figure, _)| *column == group && figure == name);
        match place {
            Some((_, _, values)) => values.push(value),
            None => self.figures.push((group, name.to_owned(), vec![value])),
        }
    }

    /// Prints and adds a fault, which makes the whole run a failure.
    pub fn fault(&mut self, text: String) {
        eprintln!("FAULT: {text}");
        self.faults.push(text);
    }

    /// Returns the table of goals, then a table with a column for each server that was measured.
    pub fn markdown(&self) -> String {
        let mut text = self.goals();
        let columns: Vec<_> = GROUPS
            .into_iter()
            .filter(|group| self.figures.iter().any(|row| row.0 == *group))
            .collect();
        _ = writeln!(
            text,
            "| | {} |\n|---|{}",
            columns.join(" | "),
            "---|".repeat(columns.len())
        );
        for (name, says, unit) in ROWS {
            let cells: Vec<_> = columns.iter().map(|group| self.cell(group, name, unit)).collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                _ = writeln!(text, "| {says} | {} |", cells.join(" | "));
            }
        }
        text
    }

    /// Returns the table of goals, with those that this run has measured; empty if it has measured none.
    fn goals(&self) -> String {
        let mut text = String::new();
        let pgbench = self
            .median(POSTGRES, "pgbench 16")
            .zip(self.median(POSTGRES, "pgbench 64"));
        let pgbench = pgbench.map(|(few, many)| few.max(many));
        let single = self.median(SINGLE, "accepted");
        let arrival = self.median(POSTGRES, "arrival p50");
        let ratio = |group, name, yardstick: Option<f64>| Some(self.median(group, name)? / yardstick?);
        let lines = [
            (
                "Postgres: accepted ÷ pgbench",
                ratio(POSTGRES, "accepted", pgbench),
                "at least 2 (aim: 4)",
                2.0,
            ),
            (
                "Postgres: delivered ÷ pgbench",
                ratio(POSTGRES, "delivered", pgbench),
                "at least 0.5 (aim: 1)",
                0.5,
            ),
            (
                "SQLite: accepted ÷ with batches of one",
                ratio(SQLITE, "accepted", single),
                "at least 5",
                5.0,
            ),
        ];
        for (says, value, goal, least) in lines {
            if let Some(value) = value {
                _ = writeln!(text, "| {says} | {value:.2} | {goal} | {} |", verdict(value >= least));
            }
        }
        if let Some(value) = arrival {
            let met = verdict(value <= 1.0);
            _ = writeln!(
                text,
                "| Postgres: arrival after the answer, median | {value:.2} ms | at most 1 ms | {met} |"
            );
        }
        match text.is_empty() {
            true => text,
            false => format!("| Goal | measured | wanted | |\n|---|---|---|---|\n{text}\n"),
        }
    }

    fn values(&self, group: &str, name: &str) -> &[f64] {
        let row = self
            .figures
            .iter()
            .find(|(column, figure, _)| *column == group && figure == name);
        row.map_or(&[], |(_, _, values)| values)
    }

    fn median(&self, group: &str, name: &str) -> Option<f64> {
        let mut values = self.values(group, name).to_vec();
        values.sort_by(f64::total_cmp);
        let (low, high) = (
            values.get(values.len().saturating_sub(1) / 2)?,
            values.get(values.len() / 2)?,
        );
        Some((low + high) / 2.0)
    }

    /// Returns a table's cell: a count's sum, or the median with the values of all rounds; empty if nothing was
    /// measured.
    fn cell(&self, group: &str, name: &str, unit: &str) -> String {
        let values = self.values(group, name);
        match (self.median(group, name), unit) {
            (None, _) => String::new(),
            (_, "") => number(values.iter().sum(), unit),
            (Some(median), _) if values.len() == 1 => number(median, unit),
            (Some(median), _) => {
                let rounds: Vec<_> = values.iter().map(|value| number(*value, "")).collect();
                format!("**{}** ({})", number(median, unit), rounds.join(", "))
            }
        }
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// Formats a value with as many digits as are meaningful: 12 345, 123, 12.3, 1.23.
fn number(value: f64, unit: &str) -> String {
    let text = match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => {
            let whole = value.round() as i64;
            format!("{} {:03}", whole / 1000, (whole % 1000).abs())
        }
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    match unit {
        "" | "/s" => format!("{text}{unit}"),
        _ => format!("{text} {unit}"),
    }
}
