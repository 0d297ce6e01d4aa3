//! The counts of the security corpora, for a tool that prints them: `POSTRIDER_CORPORA` names the file.

use std::io::Write;

use serde_json::{Value, json};

/// Appends the counts of a corpus as one line of JSON, if the variable is set.
pub fn record(corpus: &str, counts: &Value) {
    let Some(path) = std::env::var_os("POSTRIDER_CORPORA") else {
        return;
    };
    let line = format!("{}\n", json!({ corpus: counts }));
    // One write: tests of other processes append to the same file.
    let file = std::fs::File::options().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("the file of POSTRIDER_CORPORA can be written");
}
