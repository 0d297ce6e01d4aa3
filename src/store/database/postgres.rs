//! Opens Postgres: how many connections a process has, how they are split, and what their sessions are set to. Each is opened
//! when it is first used. Must not query.

use std::str::FromStr;

use sea_orm::SqlxPostgresConnector;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::options::ConnectOptions;
use super::pool::{Pool, TURN_DEADLINE};
use super::store::Pools;
use super::turns::{API_PATIENCE, Turns};
use crate::error::{Error, Result};

/// A statement of ours that runs longer than this has lost its caller long ago.
const STATEMENT_TIMEOUT: &str = "30s";
/// The same of the API, which answers 503 after 5 s: a statement ends before its caller is gone.
const API_STATEMENT_TIMEOUT: &str = "4s";
/// Accepts, settles and writes hold a row for milliseconds; a write of the API that waits longer would only hold a connection.
const API_LOCK_TIMEOUT: &str = "2s";
/// A settle that waits for a row holds up the outcomes of all others: it is ended soon, and what is locked waits apart. Claims
/// wait for no row.
const QUEUE_LOCK_TIMEOUT: &str = "1s";
/// A transaction of ours never waits for anything but the database; one that idles belongs to a stopped process.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "10s";

/// It hears that another process has left deliveries due.
const LISTENER: u32 = 1;
/// Only the heartbeat has it: without a beat in time, the other processes declare this one dead.
const BEAT: u32 = 1;
/// Batches under way: one is filled while the other commits. Three accepted no more and cost the database a fifth more
/// processor time.
const INTAKE: u32 = 2;
/// Of fewer connections than this the intake takes one.
const ENOUGH: u32 = 10;
/// A claim, three settles, two batches that take steps, and three look-ups of tokens are all that the queue does at once.
const QUEUE_MOST: u32 = 8;

/// What each part of a process may have of the connections. Together they are never more than the setting says.
#[derive(Debug, Eq, PartialEq)]
struct Split {
    intake: u32,
    queue: u32,
    api: u32,
}

impl Split {
    /// Half of what is left beside listener, beat and intake is the queue's, the rest the API's.
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
        ]);
    if let Some(password) = &options.password {
        connect = connect.password(password);
    }
    let split = Split::of(options.max_connections);
    let pool = |name, connections, connect: &PgConnectOptions| {
        let connect = connect.clone();
        Pool::renewed(name, options.answer_deadline, move || {
            SqlxPostgresConnector::from_sqlx_postgres_pool(sized(connections).connect_lazy_with(connect.clone()))
        })
    };
    // The later of two options of one name counts.
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
        // Either would start sqlx's maintenance task, which may spin for ever (sqlx issue 3645; not released yet).
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
