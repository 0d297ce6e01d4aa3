//! Everything that differs between SQLite and Postgres, apart from opening them (connect.rs) and from how a
//! transaction begins and ends (tx.rs). Called by the rest of store only.

use std::borrow::Cow;
use std::fmt;

use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, SqlErr};
use sqlx::postgres::PgDatabaseError;

use super::turns::BUSY;
use crate::error::{Error, Kind};
use crate::telemetry::metrics::{DATABASE_REFUSALS, DATABASE_TIMEOUTS};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    pub fn name(self) -> &'static str {
        match self {
            Backend::Sqlite => "sqlite",
            Backend::Postgres => "postgres",
        }
    }

    pub(crate) fn orm(self) -> sea_orm::DbBackend {
        match self {
            Backend::Sqlite => sea_orm::DbBackend::Sqlite,
            Backend::Postgres => sea_orm::DbBackend::Postgres,
        }
    }

    /// Ends a query whose rows this transaction is going to change, others' locked rows left out.
    pub(crate) fn skip_locked(self) -> &'static str {
        match self {
            Backend::Sqlite => "",
            Backend::Postgres => "for update skip locked",
        }
    }

    /// Whether `column` is among what `query` finds. Postgres gets an array: it would plan a join with a query that ends
    /// in a limit by reading the whole table.
    pub(crate) fn is_among(self, column: &str, query: &str) -> String {
        match self {
            Backend::Sqlite => format!("{column} in ({query})"),
            Backend::Postgres => format!("{column} = any(array({query}))"),
        }
    }
}

/// Whether a text column contains a text, letter for letter. (`like` takes `_` for any character, and on SQLite `A` for `a`.)
pub(crate) fn contains(backend: Backend, column: Expr, text: &str) -> Expr {
    let find = match backend {
        Backend::Sqlite => "instr",
        Backend::Postgres => "strpos",
    };
    Expr::expr(Func::cust(find).arg(column).arg(text)).gt(0)
}

/// SQLSTATE classes and codes that say "not now", not "not so": connection, resources, operator intervention,
/// rollback by conflict, an idle or a long transaction ended, a lock not to be had, a server that is read-only while another
/// takes over. (PostgreSQL documentation, appendix A.)
const TRANSIENT: [&str; 9] = ["08", "53", "57", "40", "25P03", "25P04", "55P03", READ_ONLY, "58"];
/// Postgres's code for a write over a session that can only read.
const READ_ONLY: &str = "25006";
/// SQLite result codes: busy, locked, interrupted at its deadline, I/O error, disk full.
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

/// The driver's error, as the source of ours.
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

/// Removes from the text of an error of Postgres what the driver adds: the line in the server's own source.
pub(crate) fn without_line<'t>(text: &'t str, err: &sqlx::Error) -> &'t str {
    let database = err.as_database_error();
    let postgres = database.and_then(|err| err.try_downcast_ref::<PgDatabaseError>());
    let line = postgres.and_then(PgDatabaseError::line);
    line.and_then(|line| text.strip_suffix(&format!(" at line {line}")))
        .unwrap_or(text)
}

/// Postgres's codes for work that it has ended as it took too long: a statement, a transaction, the wait for a lock.
const TOO_LONG: [&str; 3] = ["57014", "25P04", "55P03"];

/// Whether Postgres ended a statement that has run for too long.
pub fn ran_too_long(err: &Error) -> bool {
    code(err).is_some_and(|code| code == TOO_LONG[0])
}

/// The class of Postgres's codes for what the system below it cannot do, such as reading a block that is damaged.
const SYSTEM_ERROR: &str = "58";

/// Whether the database ended what was asked as it took too long: what is asked next should be less.
pub fn took_too_long(err: &Error) -> bool {
    code(err).is_some_and(|code| TOO_LONG.contains(&&*code))
}

/// Whether the system below Postgres failed. If that is one damaged block, a statement that leaves its rows alone succeeds.
pub fn is_system_error(err: &Error) -> bool {
    code(err).is_some_and(|code| code.starts_with(SYSTEM_ERROR))
}

/// SQLSTATE classes and codes that say that the server starts, stops, has no connection or no room left, or is read-only.
const ABSENT: [&str; 4] = ["08", "57P", "53", READ_ONLY];
/// Result codes of SQLite that say that its disk fails, or is full.
const ABSENT_SQLITE: [i32; 2] = [10, 13];

/// Whether the database itself was away, and not what was asked is to blame. `None` if that cannot be told: the wait for a
/// connection ended, as all were busy or none could be had.
pub(crate) fn is_absent(err: &Error) -> Option<bool> {
    if err.kind != Kind::Database {
        return Some(false);
    }
    let Some(cause) = cause(err) else {
        // The transaction that SQLite's writers share was lost.
        return Some(true);
    };
    match cause {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => None,
        // Whatever the reason, connecting was refused.
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Some(true),
        _ => Some(match driver_error(cause) {
            Some(sqlx::Error::Database(database)) => is_coded(&**database, &ABSENT, &ABSENT_SQLITE),
            _ => true,
        }),
    }
}

fn cause(err: &Error) -> Option<&DbErr> {
    let cause = std::error::Error::source(err)?.downcast_ref::<Cause>()?;
    Some(&cause.0)
}

/// Postgres's code for an error; SQLite's are numbers of other meanings.
fn code(err: &Error) -> Option<Cow<'_, str>> {
    let database = cause(err).and_then(driver_error)?.as_database_error()?;
    database.try_downcast_ref::<PgDatabaseError>()?;
    database.code()
}

/// Whether an error's code begins with one of these, or on SQLite is one of those.
fn is_coded(database: &dyn sqlx::error::DatabaseError, classes: &[&str], sqlite: &[i32]) -> bool {
    let code = database.code().unwrap_or_default();
    match database.try_downcast_ref::<PgDatabaseError>() {
        Some(_) => classes.iter().any(|class| code.starts_with(class)),
        None => code.parse::<i32>().is_ok_and(|code| sqlite.contains(&(code & 0xff))),
    }
}

/// Whether this session of Postgres can only read.
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
    // Whatever the reason, a connection that could not be had says nothing of what was asked.
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
