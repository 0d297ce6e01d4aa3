//! Reports the figures: a JSON line for each case as soon as it is measured, and one table at the end.
//!
//! Must not measure or compare.

use super::site::Ground;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The figures of one case, in the order of the table. Names end with their units (`accepted_per_s`, `p99_ms`).
#[derive(Default)]
pub struct Figures(Vec<(String, f64)>);

impl Figures {
    pub fn add(&mut self, name: impl Into<String>, value: f64) {
        self.0.push((name.into(), value));
    }
}

/// The cases that were measured so far.
pub struct Report {
    program: String,
    quick: bool,
    /// Scenario, case and figures.
    rows: Vec<(String, String, Figures)>,
    /// The scenarios that could not be measured, each with the reason.
    pub failures: Vec<String>,
}

impl Report {
    pub fn new(ground: &Ground) -> Self {
        Self {
            program: ground.program.display().to_string(),
            quick: ground.quick,
            rows: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds a case and prints its JSON line.
    pub fn add(&mut self, scenario: &str, case: impl Into<String>, figures: Figures) {
        let case = case.into();
        let numbers: Map<String, Value> = figures
            .0
            .iter()
            .map(|(name, value)| (name.clone(), json!(rounded(*value))))
            .collect();
        let line = json!({
            "scenario": scenario,
            "case": case,
            "program": self.program,
            "quick": self.quick,
            "figures": numbers,
        });
        println!("{line}");
        self.rows.push((scenario.to_owned(), case, figures));
    }

    /// Returns all cases as one table.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| Scenario | Case | Figures |\n|---|---|---|\n");
        for (scenario, case, figures) in &self.rows {
            let figures: Vec<_> = figures
                .0
                .iter()
                .map(|(name, value)| format!("{name} {}", rounded(*value)))
                .collect();
            _ = writeln!(text, "| {scenario} | {case} | {} |", figures.join(", "));
        }
        text
    }
}

/// Returns the upper median; zero if there are no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Rounds to three digits, or to all digits before the point: the rest is noise.
fn rounded(value: f64) -> f64 {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
