//! Opens Postgres: decides how many connections each part of the process gets, and the settings of their sessions. Each
//! connection is opened when it is first used. Must not query.

use std::str::FromStr;

use sea_orm::SqlxPostgresConnector;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::last_break::LastBreak;
use super::options::ConnectOptions;
use super::pool::{Pool, TURN_DEADLINE};
use super::store::Pools;
use super::turns::{API_PATIENCE, Turns};
use crate::error::{Error, Result};

/// A statement that runs longer than this lost its caller long ago.
const STATEMENT_TIMEOUT: &str = "30s";
/// The same for the API, which responds with 503 after 5 s: a statement ends before its caller is gone.
const API_STATEMENT_TIMEOUT: &str = "4s";
/// Batches, settlements and API writes lock a row for milliseconds. An API write that waits much longer only occupies a
/// connection.
const API_LOCK_TIMEOUT: &str = "2s";
/// A settlement that waits for a locked row delays the outcomes of all other applications, so it is ended soon, and
/// outcomes whose rows are locked wait apart. Claims never wait for a row.
const QUEUE_LOCK_TIMEOUT: &str = "1s";
/// Our transactions never wait for anything but the database. One that idles belongs to a process that hangs.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "10s";

/// Each statement is planned once a connection, without its values, as the plan tests do. Left alone, Postgres plans a list
/// again for each call: without the value of its limit it expects to read a tenth of all rows, so it takes a plan with
/// the values for cheaper. That took 150 of the 470 µs that a page of 50 messages cost the database.
const PLAN_CACHE_MODE: &str = "force_generic_plan";
/// No statement is compiled: the longest take some tens of milliseconds, and compiling one took 500 ms at each call.
const JIT: &str = "off";

/// The connection that listens for notices of other processes that deliveries are due.
const LISTENER: u32 = 1;
/// The heartbeat's own connection: without a beat in time, the other processes declare this one dead.
const BEAT: u32 = 1;
/// Connections of the intake, one for each batch in flight: one batch is filled while the other commits. With three no
/// more was accepted, and the database needed a fifth more processor time.
const INTAKE: u32 = 2;
/// With fewer connections than this, the intake gets only one.
const ENOUGH: u32 = 10;
/// The most connections of the queue. Its usual work at once is a claim, three settlements, two batches that take steps
/// and three lookups of tokens; if all nine come together, one waits for a moment.
const QUEUE_MOST: u32 = 8;

/// How many connections each part of a process may have. Together with the listener and the heartbeat they are as many
/// as the setting says.
#[derive(Debug, Eq, PartialEq)]
struct Split {
    intake: u32,
    queue: u32,
    api: u32,
}

impl Split {
    /// Splits `connections`. Half of what listener, heartbeat and intake leave goes to the queue, up to [`QUEUE_MOST`],
    /// and the rest to the API.
    fn of(connections: u32) -> Self {
        let intake = if connections < ENOUGH { 1 } else { INTAKE };
        let left = connections.saturating_sub(LISTENER + BEAT + intake);
        let queue = left.div_ceil(2).clamp(1, QUEUE_MOST);
        Self {
            intake,
            queue,
            api: left.saturating_sub(queue).max(1),
        }
    }
}

/// Makes the pools for Postgres. Nothing is connected yet.
///
/// # Errors
/// `Config` if the URL is not a valid Postgres URL.
pub(crate) fn open(options: &ConnectOptions) -> Result<Pools> {
    if !options.url.starts_with("postgres://") && !options.url.starts_with("postgresql://") {
        return Err(Error::config("DATABASE_URL must start with sqlite:// or postgresql://"));
    }
    // Without the driver's reason, which may repeat a part of the URL.
    let mut connect = PgConnectOptions::from_str(&options.url)
        .map_err(|_| Error::config("DATABASE_URL is not a valid Postgres URL"))?
        .application_name("postrider")
        .options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
            ("plan_cache_mode", PLAN_CACHE_MODE),
            ("jit", JIT),
        ]);
    if let Some(password) = &options.password {
        connect = connect.password(password);
    }
    let split = Split::of(options.max_connections);
    let last_break = LastBreak::default();
    let pool = |name, connections, connect: &PgConnectOptions| {
        let (connect, checks) = (connect.clone(), last_break.clone());
        Pool::renewed(name, options.answer_deadline, last_break.clone(), move || {
            let pool = checks.clone().checked(sized(connections));
            SqlxPostgresConnector::from_sqlx_postgres_pool(pool.connect_lazy_with(connect.clone()))
        })
    };
    // If an option is given twice, Postgres takes the later one: `statement_timeout` is set above already.
    let short = connect.clone().options([
        ("statement_timeout", API_STATEMENT_TIMEOUT),
        ("lock_timeout", API_LOCK_TIMEOUT),
    ]);
    let turns = || Turns::within(split.api, API_PATIENCE);
    let queue = connect.clone().options([("lock_timeout", QUEUE_LOCK_TIMEOUT)]);
    let queue = pool("queue", split.queue, &queue);
    Ok(Pools::Postgres {
        api: pool("api", split.api, &short).in_turns(turns(), turns()),
        background: queue.one_at_once(),
        queue,
        beat: pool("beat", BEAT, &connect),
        options: Box::new(connect),
        answer_deadline: options.answer_deadline,
        intake: split.intake,
    })
}

fn sized(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(TURN_DEADLINE)
        .test_before_acquire(false)
        // Either one would start sqlx's maintenance task, which can spin without end (sqlx issue 3645; not released
        // yet).
        .idle_timeout(None)
        .max_lifetime(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LEAST_CONNECTIONS, USUAL_CONNECTIONS};

    #[test]
    fn all_connections_together_are_as_many_as_the_setting_says() {
        for connections in LEAST_CONNECTIONS..=100 {
            let Split { intake, queue, api } = Split::of(connections);
            assert_eq!(LISTENER + BEAT + intake + queue + api, connections);
            assert!(queue >= 3 && api >= 2, "{connections}: {queue} and {api}");
        }
        let usual = Split {
            intake: 2,
            queue: 4,
            api: 4,
        };
        assert_eq!(Split::of(USUAL_CONNECTIONS), usual);
    }
}
