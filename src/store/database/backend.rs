//! Holds what differs between SQLite and Postgres: pieces of SQL, and the meaning of their errors.
//!
//! `From<DbErr>` sorts each error of a driver into a conflict, a failure that may pass (`Kind::Database`) or a fault of
//! ours (`Kind::Internal`). The other functions say more of an error: whether the work took too long, whether the
//! database was away.
//!
//! Must not open a database (connect.rs, postgres.rs and sqlite.rs do), or begin or end a transaction (tx.rs does).

use std::borrow::Cow;
use std::fmt;

use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlErr};
use sqlx::postgres::PgDatabaseError;

use super::turns::BUSY;
use crate::error::{Error, Kind};
use crate::telemetry::metrics::{DATABASE_REFUSALS, DATABASE_TIMEOUTS};

/// The kind of database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    pub(crate) fn orm(self) -> sea_orm::DbBackend {
        match self {
            Backend::Sqlite => sea_orm::DbBackend::Sqlite,
            Backend::Postgres => sea_orm::DbBackend::Postgres,
        }
    }

    /// Returns the end of a query for rows that the transaction is going to change: Postgres locks them, and leaves out
    /// rows that other transactions have locked. SQLite has a single writer and needs neither.
    pub(crate) fn skip_locked(self) -> &'static str {
        match self {
            Backend::Sqlite => "",
            Backend::Postgres => "for update skip locked",
        }
    }

    /// Returns the SQL condition that `column` is among the results of `query`.
    // An array for Postgres, which plans `in` as a join, and reads the whole table for it if the query ends in a limit.
    pub(crate) fn is_among(self, column: &str, query: &str) -> String {
        match self {
            Backend::Sqlite => format!("{column} in ({query})"),
            Backend::Postgres => format!("{column} = any(array({query}))"),
        }
    }
}

/// Returns the condition that a text column contains `text`, letter for letter.
// Not `like`: it takes `_` for any character, and on SQLite `A` for `a`.
pub(crate) fn contains(backend: Backend, column: Expr, text: &str) -> Expr {
    let find = match backend {
        Backend::Sqlite => "instr",
        Backend::Postgres => "strpos",
    };
    Expr::expr(Func::cust(find).arg(column).arg(text)).gt(0)
}

/// SQLSTATE classes and codes of failures that may pass, so that the same work can be tried again: connection (08),
/// resources (53), operator intervention (57), rollback by a conflict (40), an idle or a long transaction that was
/// ended (25P03, 25P04), a lock that was not available (55P03), a server that is read-only while another one takes
/// over, and errors of the system below Postgres (58). PostgreSQL documentation, appendix A.
const TRANSIENT: [&str; 9] = ["08", "53", "57", "40", "25P03", "25P04", "55P03", READ_ONLY, "58"];
/// Postgres' code for a write in a session that can only read.
const READ_ONLY: &str = "25006";
/// SQLite's result codes of failures that may pass: busy, locked, interrupted at its deadline, I/O error, disk full.
const TRANSIENT_SQLITE: [i32; 5] = [5, 6, 9, 10, 13];

impl From<DbErr> for Error {
    fn from(err: DbErr) -> Self {
        if let Some(SqlErr::UniqueConstraintViolation(_)) = err.sql_err() {
            return Error::new(Kind::Conflict, "it exists already").because(Cause(err));
        }
        if matches!(&err, DbErr::Custom(reason) if reason == BUSY) {
            DATABASE_REFUSALS.add(1);
            return Error::unavailable(BUSY);
        }
        if matches!(err, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) {
            DATABASE_TIMEOUTS.add(1);
        }
        let kind = if is_transient(&err) {
            Kind::Database
        } else {
            Kind::Internal
        };
        Error::new(kind, "the database did not do what was asked").because(Cause(err))
    }
}

/// The driver's error, as the source of an [`Error`].
#[derive(Debug)]
struct Cause(DbErr);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let shown = driver_error(&self.0).map_or(text.as_str(), |err| without_line(&text, err));
        f.write_str(shown)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Removes the line in the server's own source code, which the driver appends, from the text of a Postgres error.
pub(crate) fn without_line<'t>(text: &'t str, err: &sqlx::Error) -> &'t str {
    let database = err.as_database_error();
    let postgres = database.and_then(|err| err.try_downcast_ref::<PgDatabaseError>());
    let line = postgres.and_then(PgDatabaseError::line);
    line.and_then(|line| text.strip_suffix(&format!(" at line {line}")))
        .unwrap_or(text)
}

/// Postgres' codes for work that it ended because it took too long: a statement, a transaction, the wait for a lock.
const TOO_LONG: [&str; 3] = ["57014", "25P04", "55P03"];

/// Returns whether Postgres ended a statement that ran for too long.
pub fn ran_too_long(err: &Error) -> bool {
    code(err).is_some_and(|code| code == TOO_LONG[0])
}

/// The class of Postgres' codes for failures of the system below it, such as a damaged block that cannot be read.
const SYSTEM_ERROR: &str = "58";

/// Returns whether the database ended the work because it took too long. The next try should be for less at once.
pub fn took_too_long(err: &Error) -> bool {
    code(err).is_some_and(|code| TOO_LONG.contains(&&*code))
}

/// Returns whether the system below Postgres failed. If the reason is one damaged block, statements that do not touch
/// its rows still succeed.
pub fn is_system_error(err: &Error) -> bool {
    code(err).is_some_and(|code| code.starts_with(SYSTEM_ERROR))
}

/// SQLSTATE classes and codes of a server that is away: it starts or stops, has no connection, memory or disk left, or
/// is read-only.
const ABSENT: [&str; 4] = ["08", "57P", "53", READ_ONLY];
/// SQLite's result codes of a disk that fails or is full.
const ABSENT_SQLITE: [i32; 2] = [10, 13];

/// Returns whether the work failed because the database was away, and not because of the work itself. `None` means that
/// the error does not show it: no connection was available in time, because all were busy or none could be opened.
pub(crate) fn is_absent(err: &Error) -> Option<bool> {
    if err.kind != Kind::Database {
        return Some(false);
    }
    // If the error is not a driver's, the transaction that SQLite's writers share was lost.
    cause(err).map_or(Some(true), shows_absence)
}

/// Returns the same for an error that may pass.
fn shows_absence(err: &DbErr) -> Option<bool> {
    match err {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => None,
        // Connecting failed, whatever the reason.
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Some(true),
        _ => Some(match driver_error(err) {
            Some(sqlx::Error::Database(database)) => is_coded(&**database, &ABSENT, &ABSENT_SQLITE),
            _ => true,
        }),
    }
}

/// Returns whether the error shows that a connection is broken, or could not be opened.
pub(crate) fn is_break(err: &DbErr) -> bool {
    is_transient(err) && shows_absence(err) == Some(true)
}

fn cause(err: &Error) -> Option<&DbErr> {
    let cause = std::error::Error::source(err)?.downcast_ref::<Cause>()?;
    Some(&cause.0)
}

/// Returns the SQLSTATE of a Postgres error. `None` for SQLite, whose codes are numbers with other meanings.
fn code(err: &Error) -> Option<Cow<'_, str>> {
    let database = cause(err).and_then(driver_error)?.as_database_error()?;
    database.try_downcast_ref::<PgDatabaseError>()?;
    database.code()
}

/// Returns whether the code of a Postgres error begins with one of `classes`, or that of an SQLite error is in
/// `sqlite`.
fn is_coded(database: &dyn sqlx::error::DatabaseError, classes: &[&str], sqlite: &[i32]) -> bool {
    let code = database.code().unwrap_or_default();
    match database.try_downcast_ref::<PgDatabaseError>() {
        Some(_) => classes.iter().any(|class| code.starts_with(class)),
        None => code.parse::<i32>().is_ok_and(|code| sqlite.contains(&(code & 0xff))),
    }
}

/// Postgres' code for a transaction that it has ended because it and another one waited for each other.
const DEADLOCK: &str = "40P01";

/// Returns whether Postgres has ended the transaction because it and another one waited for each other. Nothing of it
/// is stored.
pub fn is_deadlock(err: &Error) -> bool {
    let cause = std::error::Error::source(err).and_then(|source| source.downcast_ref::<Cause>());
    let driver = cause.and_then(|cause| driver_error(&cause.0));
    let database = driver.and_then(sqlx::Error::as_database_error);
    database.is_some_and(|err| is_coded(err, &[DEADLOCK], &[]))
}

/// Returns whether the error says that the Postgres session can only read.
pub(crate) fn is_read_only(err: &DbErr) -> bool {
    let database = driver_error(err).and_then(sqlx::Error::as_database_error);
    database
        .and_then(|err| err.code())
        .is_some_and(|code| code == READ_ONLY)
}

fn driver_error(err: &DbErr) -> Option<&sqlx::Error> {
    match err {
        DbErr::Query(RuntimeErr::SqlxError(inner))
        | DbErr::Exec(RuntimeErr::SqlxError(inner))
        | DbErr::Conn(RuntimeErr::SqlxError(inner)) => Some(&**inner),
        _ => None,
    }
}

fn is_transient(err: &DbErr) -> bool {
    // If there was no connection, the work itself was not refused, whatever the reason.
    if matches!(err, DbErr::ConnectionAcquire(_) | DbErr::Conn(_)) {
        return true;
    }
    let Some(inner) = driver_error(err) else {
        return false;
    };
    match inner {
        sqlx::Error::Database(database) => is_coded(&**database, &TRANSIENT, &TRANSIENT_SQLITE),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}
