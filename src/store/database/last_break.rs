//! When a connection of this process to Postgres was last found broken. A pool checks a connection that has been idle
//! since before that instant when it gives it out: what broke one of them, such as a server that another one replaces,
//! usually broke all.
//!
//! Any pool notes a break, under the lock of the instant; every pool reads it for each connection that it gives out.
//!
//! Must not decide which failure is a break.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgPoolOptions};

/// How long a connection may take to respond when it is checked. A request waits for a connection for 5 s in all.
const CHECK_DEADLINE: Duration = Duration::from_secs(1);

/// The instant of the last break. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct LastBreak(Arc<RwLock<Option<Instant>>>);

impl LastBreak {
    /// Notes that a connection has just been found broken.
    pub fn note(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns whether a break was noted in the last `idle`.
    fn is_within(&self, idle: Duration) -> bool {
        let at = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| at.elapsed() < idle)
    }

    /// Lets the pool drop a connection that has been idle since before a break and does not respond.
    // Not sqlx's own check, which costs a round trip for each connection that is given out.
    pub fn checked(self, options: PgPoolOptions) -> PgPoolOptions {
        options.before_acquire(move |connection, idle| {
            let is_suspect = self.is_within(idle.idle_for);
            Box::pin(async move { Ok(!is_suspect || responds(connection).await) })
        })
    }
}

async fn responds(connection: &mut PgConnection) -> bool {
    let checked = tokio::time::timeout(CHECK_DEADLINE, connection.ping()).await;
    matches!(checked, Ok(Ok(())))
}
