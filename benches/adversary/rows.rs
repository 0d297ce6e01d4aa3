//! Builds the SQL that fills tables with rows as the program would have written them.
//!
//! Every insert lists its columns by name, so that versions of the program with more columns can be measured too.

use super::site::Database;
use postrider::domain::id::Prefix;
use postrider::domain::timestamp::Timestamp;

/// The digits at the end of an id that number the rows. The digits before them are the instant.
const NUMBER: usize = 14;

/// Completes an `insert … select` whose expressions use `n`, with `n` from 1 to `count`.
pub fn numbered(database: Database, count: u64, insert: &str) -> String {
    match database {
        // Faster by a seventh than the recursion.
        Database::Postgres => format!("{insert} from generate_series(1, {count}) as n"),
        Database::Sqlite => format!(
            "with recursive n(n) as (select 1 union all select n + 1 from n where n < {count}) \
             {insert} from n"
        ),
    }
}

/// Returns the SQL expression of an id as it would be made at an instant (UTC microseconds), with the number
/// `expression` as its last digits. Ids of one instant sort by their numbers.
pub fn id(database: Database, prefix: Prefix, at_micros: i64, expression: &str) -> String {
    let first = prefix.first_id_at(Timestamp(at_micros));
    let instant = &first[..first.len() - NUMBER];
    match database {
        Database::Postgres => format!("'{instant}' || lpad(({expression})::text, {NUMBER}, '0')"),
        Database::Sqlite => format!("'{instant}' || printf('%0{NUMBER}d', {expression})"),
    }
}

/// Returns the time in UTC microseconds.
pub fn now() -> i64 {
    postrider::clock::Clock::system().now().0
}

/// The expiry of rows that are to be kept.
pub const NEVER: i64 = i64::MAX;
/// A day in microseconds.
pub const DAY: i64 = 24 * 3600 * 1_000_000;
