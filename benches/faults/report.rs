//! Prints a record as a table: one row for each kind of fault and database.

use super::kind::{Database, Kind};
use super::record::Record;
use clap::ValueEnum;
use std::fmt::Write;

/// The sums of the rows of one kind on one database.
struct Row {
    injections: usize,
    accepted: usize,
    lost: usize,
    late: usize,
    twice: usize,
    accepts: Vec<f64>,
    arrived: Vec<f64>,
}

/// Returns the table, its sums and what disagreed.
pub fn markdown(record: &Record) -> String {
    let mut text = String::from(
        "| Fault | Database | Injections | Accepted | Lost | Late | Twice | Accepts again, s | Last needed arrival, s |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let (mut accepted, mut lost, mut arrived) = (0, 0, Vec::new());
    for kind in Kind::value_variants() {
        for &database in Database::value_variants() {
            if !kind.applies_to(database) {
                continue;
            }
            let name = (database.name().to_owned(), kind.name());
            let row = row(record, database, *kind);
            if row.injections == 0 {
                let otherwise = match kind.is_promised_on(database) {
                    true => "not run",
                    false => "not promised",
                };
                let reason = record.left_out.get(&name).map_or(otherwise, String::as_str);
                _ = writeln!(text, "| {} | {} | 0 | {reason} | | | | | |", name.1, name.0);
                continue;
            }
            accepted += row.accepted;
            lost += row.lost;
            arrived.extend(&row.arrived);
            _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                name.1,
                name.0,
                row.injections,
                row.accepted,
                row.lost,
                row.late,
                row.twice,
                median_and_worst(&row.accepts),
                median_and_worst(&row.arrived)
            );
        }
    }
    _ = writeln!(
        text,
        "\n{} messages were accepted, {lost} were lost. Seconds from a fault's end to its last needed arrival, at the \
         median of all injections: {}.",
        thousands(accepted),
        median_and_worst(&arrived)
    );
    text
}

/// Returns the disagreements of all runs, one a line.
pub fn disagreements(record: &Record) -> Vec<String> {
    let of_run = |verdict: &super::record::Verdict| {
        let (run, database) = (verdict.run, verdict.database.clone());
        let all = verdict.disagreements.iter();
        all.map(|what| format!("run {run} on {database}: {what}"))
            .collect::<Vec<_>>()
    };
    record.verdicts.iter().flat_map(of_run).collect()
}

fn row(record: &Record, database: Database, kind: Kind) -> Row {
    let mut row = Row {
        injections: 0,
        accepted: 0,
        lost: 0,
        late: 0,
        twice: 0,
        accepts: Vec::new(),
        arrived: Vec::new(),
    };
    for (made, verdict) in record.judged(database, kind) {
        row.injections += 1;
        row.accepted += verdict.accepted[made.injection];
        row.lost += verdict.lost[made.injection];
        row.late += verdict.late[made.injection];
        row.twice += verdict.twice[made.injection];
        row.accepts.push(made.all_accept_s);
        row.arrived.push(made.arrived_s);
    }
    row
}

/// Returns the median and the largest of these numbers.
pub fn median_and_worst(numbers: &[f64]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(median), Some(worst)) => format!("{median:.1}, worst {worst:.1}"),
        _ => "none".to_owned(),
    }
}

/// Returns the number with a comma after each three digits.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
