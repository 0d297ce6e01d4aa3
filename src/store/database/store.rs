//! The handle on an open database: its pools, and what goes with them in this process (clock, encryption keys, metrics,
//! budget of request bytes, wake-ups, floors of claims, uses of tokens, polls that wait).
//!
//! Must not open a connection or run a statement.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::Notify;

use super::backend::Backend;
use super::budget::Budget;
use super::pool::Pool;
use super::shared::Writer;
use super::sqlite_file::SqliteFile;
use super::sqlite_log::Log;
use crate::clock::Clock;
use crate::domain::encryption_keys::EncryptionKeys;
use crate::error::{Error, Result};
use crate::store::poll::waits::Waits;
use crate::store::queue::floors::Floors;
use crate::store::token_use::TokenUses;
use crate::telemetry::metrics::Metrics;

/// The purpose of a [`Store`] handle, which decides the connections that it takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// The queue, lookups of tokens, and an operator's commands: never waits for connections of the API.
    Queue,
    /// Requests: their statements end soon and are limited for each customer.
    Api,
    /// The heartbeat alone.
    Beat,
    /// Work that can wait: one statement or transaction at a time, over the queue's connections.
    Background,
}

/// The pools of connections, and what goes with them on each kind of database.
pub(crate) enum Pools {
    Sqlite {
        writer: Arc<Writer>,
        /// Connections for reads of the API, which have a deadline.
        readers: Pool,
        /// Connections for all other reads.
        own: Pool,
        /// The connections of `own`, one at a time.
        background: Pool,
        log: Log,
        /// The open file. It holds the lock as long as the pools exist.
        file: Arc<SqliteFile>,
    },
    Postgres {
        api: Pool,
        queue: Pool,
        beat: Pool,
        /// The connections of `queue`, one at a time.
        background: Pool,
        /// The options for connections outside the pools.
        options: Box<PgConnectOptions>,
        /// How long Postgres may take for one answer.
        answer_deadline: Duration,
        /// How many connections outside the pools the intake may have.
        intake: u32,
    },
}

/// A handle on the open database. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    pub(crate) purpose: Purpose,
}

pub(crate) struct Inner {
    pub(crate) pools: Pools,
    clock: Clock,
    /// Notified by [`Store::wake`].
    due: Arc<Notify>,
    /// Notified by [`Store::announce`].
    announced: Notify,
    /// Set once, by [`Store::unlock`].
    keys: OnceLock<EncryptionKeys>,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
    /// When the last heartbeat that committed was sent: microseconds of the monotonic clock, plus 1. 0 means that none
    /// has committed. The heartbeat writes it, the probes read it; `Relaxed`, as no other memory depends on it.
    pub(crate) beat_at: AtomicU64,
    floors: Floors,
    token_uses: TokenUses,
    waits: Arc<Waits>,
}

impl Store {
    /// Makes the first handle on pools that were just opened. It takes the queue's connections.
    pub(crate) fn new(pools: Pools, clock: Clock) -> Self {
        let inner = Arc::new(Inner {
            pools,
            metrics: Arc::new(Metrics::new(clock.now())),
            budget: Arc::default(),
            clock,
            due: Arc::default(),
            announced: Notify::new(),
            keys: OnceLock::new(),
            beat_at: AtomicU64::new(0),
            floors: Floors::default(),
            token_uses: TokenUses::default(),
            waits: Arc::default(),
        });
        Self {
            inner,
            purpose: Purpose::Queue,
        }
    }

    pub fn backend(&self) -> Backend {
        match self.inner.pools {
            Pools::Sqlite { .. } => Backend::Sqlite,
            Pools::Postgres { .. } => Backend::Postgres,
        }
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Returns the counters of the work on this database.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// Returns the budget of the bytes that requests of this process may hold.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.inner.budget
    }

    /// Returns the floors, from which the claims of this process begin to read.
    pub fn floors(&self) -> &Floors {
        &self.inner.floors
    }

    /// Returns the uses of tokens that this process has not recorded yet.
    pub fn token_uses(&self) -> &TokenUses {
        &self.inner.token_uses
    }

    /// Returns the polls of this process that wait.
    pub fn waits(&self) -> &Arc<Waits> {
        &self.inner.waits
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.inner.pools
    }

    /// Returns the keys that open sealed secrets; to seal, use [`Tx::sealing_key`](crate::store::Tx::sealing_key).
    ///
    /// # Errors
    /// `Config` before [`Store::unlock`].
    pub fn keys(&self) -> Result<&EncryptionKeys> {
        self.inner
            .keys
            .get()
            .ok_or_else(|| Error::config("the encryption key is not set: POSTRIDER_ENCRYPTION_KEY"))
    }

    /// Sets the keys, unless they are set already.
    pub(crate) fn keep_keys(&self, keys: EncryptionKeys) {
        let _ = self.inner.keys.set(keys);
    }

    /// Wakes the claimer of this process, because deliveries are due.
    pub fn wake(&self) {
        self.inner.due.notify_one();
    }

    /// Returns the `Notify` of [`Store::wake`].
    pub fn due(&self) -> &Arc<Notify> {
        &self.inner.due
    }

    /// Waits for the next [`Store::wake`]. Returns at once if there was one since the last wait.
    pub async fn woken(&self) {
        self.inner.due.notified().await;
    }

    /// Asks queue/notify.rs to announce to the other processes that deliveries are due.
    pub fn announce(&self) {
        self.inner.announced.notify_one();
    }

    /// Waits for the next [`Store::announce`]. Returns at once if there was one since the last wait.
    pub async fn announced(&self) {
        self.inner.announced.notified().await;
    }

    /// Returns how many batches of messages may be in flight. SQLite has one writer; on Postgres one batch is filled
    /// while another one commits.
    pub(crate) fn intake_workers(&self) -> usize {
        match self.inner.pools {
            Pools::Sqlite { .. } => 1,
            Pools::Postgres { intake, .. } => intake as usize,
        }
    }
}
